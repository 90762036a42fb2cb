"""How a channel comes to its end: a table (docs/protocol.md section 6).

Only the two wishes of the application, what has become of our own END, and
whether something came that nobody reads any more.  The peer's END is counted
by the `RecordStream`, which also refuses what must not arrive.
"""

from __future__ import annotations

import enum

from kdc.errors import LocalProtocolError

__all__ = ["LINGERS", "LOST", "TRANSITIONS", "UNREAD", "WRITABLE", "Ending", "Step", "after"]


class Ending(enum.Enum):
    """Where our end of a channel can be."""

    OPEN = enum.auto()
    # The application wants to end its direction, but its producer is at work.
    ENDING = enum.auto()
    ENDED = enum.auto()
    # The peer has acknowledged our end; the application still reads.
    CONFIRMED = enum.auto()
    # The same three for an application that has left: it reads nothing more.
    LEAVING = enum.auto()
    LEFT = enum.auto()
    LINGERING = enum.auto()
    # And again after data came that was not read: the peer's end must not be called stored.
    LEAVING_UNREAD = enum.auto()
    LEFT_UNREAD = enum.auto()
    LINGERING_UNREAD = enum.auto()


class Step(enum.Enum):
    """What can happen to it."""

    END = enum.auto()
    LEAVE = enum.auto()
    END_SENT = enum.auto()
    END_CONFIRMED = enum.auto()
    DATA_NOT_READ = enum.auto()


# Every legal step, and nothing else.  Asking again for what was asked for changes nothing.
TRANSITIONS: dict[tuple[Ending, Step], Ending] = {
    (Ending.OPEN, Step.END): Ending.ENDING,
    (Ending.OPEN, Step.LEAVE): Ending.LEAVING,
    (Ending.ENDING, Step.END): Ending.ENDING,
    (Ending.ENDING, Step.LEAVE): Ending.LEAVING,
    (Ending.ENDING, Step.END_SENT): Ending.ENDED,
    (Ending.ENDED, Step.END): Ending.ENDED,
    (Ending.ENDED, Step.LEAVE): Ending.LEFT,
    (Ending.ENDED, Step.END_CONFIRMED): Ending.CONFIRMED,
    (Ending.CONFIRMED, Step.END): Ending.CONFIRMED,
    (Ending.CONFIRMED, Step.LEAVE): Ending.LINGERING,
    (Ending.LEAVING, Step.END): Ending.LEAVING,
    (Ending.LEAVING, Step.LEAVE): Ending.LEAVING,
    (Ending.LEAVING, Step.END_SENT): Ending.LEFT,
    (Ending.LEAVING, Step.DATA_NOT_READ): Ending.LEAVING_UNREAD,
    (Ending.LEFT, Step.END): Ending.LEFT,
    (Ending.LEFT, Step.LEAVE): Ending.LEFT,
    (Ending.LEFT, Step.END_CONFIRMED): Ending.LINGERING,
    (Ending.LEFT, Step.DATA_NOT_READ): Ending.LEFT_UNREAD,
    (Ending.LINGERING, Step.END): Ending.LINGERING,
    (Ending.LINGERING, Step.LEAVE): Ending.LINGERING,
    (Ending.LINGERING, Step.DATA_NOT_READ): Ending.LINGERING_UNREAD,
    (Ending.LEAVING_UNREAD, Step.END): Ending.LEAVING_UNREAD,
    (Ending.LEAVING_UNREAD, Step.LEAVE): Ending.LEAVING_UNREAD,
    (Ending.LEAVING_UNREAD, Step.END_SENT): Ending.LEFT_UNREAD,
    (Ending.LEAVING_UNREAD, Step.DATA_NOT_READ): Ending.LEAVING_UNREAD,
    (Ending.LEFT_UNREAD, Step.END): Ending.LEFT_UNREAD,
    (Ending.LEFT_UNREAD, Step.LEAVE): Ending.LEFT_UNREAD,
    (Ending.LEFT_UNREAD, Step.END_CONFIRMED): Ending.LINGERING_UNREAD,
    (Ending.LEFT_UNREAD, Step.DATA_NOT_READ): Ending.LEFT_UNREAD,
    (Ending.LINGERING_UNREAD, Step.END): Ending.LINGERING_UNREAD,
    (Ending.LINGERING_UNREAD, Step.LEAVE): Ending.LINGERING_UNREAD,
    (Ending.LINGERING_UNREAD, Step.DATA_NOT_READ): Ending.LINGERING_UNREAD,
}
# Our END is not out: data may still go.
WRITABLE = frozenset({Ending.OPEN, Ending.ENDING, Ending.LEAVING, Ending.LEAVING_UNREAD})
# Something came that nobody read.
LOST = frozenset({Ending.LEAVING_UNREAD, Ending.LEFT_UNREAD, Ending.LINGERING_UNREAD})
# The application has left.
UNREAD = LOST | {Ending.LEAVING, Ending.LEFT, Ending.LINGERING}
# All that is missing is the peer's end: it has a limited time.
LINGERS = frozenset({Ending.LINGERING, Ending.LINGERING_UNREAD})


def after(state: Ending, step: Step) -> Ending:
    """Where ``step`` leads; one that is in no row is a fault of this program."""
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise LocalProtocolError(f"{step.name} in state {state.name}") from None
