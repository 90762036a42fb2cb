"""How far one transfer is at its receiver, and what can happen to it: the table.  Pure."""

from __future__ import annotations

import enum

__all__ = ["ENDED", "ENDING", "LISTENING", "TRANSITIONS", "Phase", "Step"]


class Phase(enum.Enum):
    """How far one transfer is at its receiver."""

    AWAITING_OFFER = enum.auto()
    DECIDING = enum.auto()
    TAKING = enum.auto()
    REFUSED = enum.auto()  # the sender is told, and has to leave
    STORING = enum.auto()  # all has come
    CUT = enum.auto()  # what has come is still taken, and may be kept
    CLEANING = enum.auto()
    STORED = enum.auto()
    OVER = enum.auto()


class Step(enum.Enum):
    """What happens to it."""

    OFFER = enum.auto()
    READY = enum.auto()  # it is wanted, and there is a place for it
    CONTENT = enum.auto()
    WRONG = enum.auto()  # what came, or our disk, or it is not wanted
    END = enum.auto()
    LOST = enum.auto()
    SPOILED = enum.auto()  # lost because of something that was not what was sent
    SHOWN = enum.auto()
    CLEANED = enum.auto()


# Every step there is.  What a sender says that is not here is malformed.
TRANSITIONS: dict[tuple[Phase, Step], Phase] = {
    (Phase.AWAITING_OFFER, Step.OFFER): Phase.DECIDING,
    (Phase.AWAITING_OFFER, Step.WRONG): Phase.REFUSED,
    (Phase.AWAITING_OFFER, Step.LOST): Phase.CUT,
    (Phase.AWAITING_OFFER, Step.SPOILED): Phase.CLEANING,
    (Phase.DECIDING, Step.READY): Phase.TAKING,
    (Phase.DECIDING, Step.WRONG): Phase.REFUSED,
    (Phase.DECIDING, Step.LOST): Phase.CUT,
    (Phase.DECIDING, Step.SPOILED): Phase.CLEANING,
    (Phase.TAKING, Step.CONTENT): Phase.TAKING,
    (Phase.TAKING, Step.WRONG): Phase.REFUSED,
    (Phase.TAKING, Step.END): Phase.STORING,
    (Phase.TAKING, Step.LOST): Phase.CUT,
    (Phase.TAKING, Step.SPOILED): Phase.CLEANING,
    (Phase.REFUSED, Step.WRONG): Phase.REFUSED,
    (Phase.REFUSED, Step.END): Phase.CLEANING,
    (Phase.REFUSED, Step.LOST): Phase.CLEANING,
    (Phase.REFUSED, Step.SPOILED): Phase.CLEANING,
    (Phase.STORING, Step.WRONG): Phase.CLEANING,
    (Phase.STORING, Step.SHOWN): Phase.STORED,
    (Phase.CUT, Step.WRONG): Phase.CLEANING,
    (Phase.CUT, Step.CLEANED): Phase.OVER,
    (Phase.CLEANING, Step.WRONG): Phase.CLEANING,
    (Phase.CLEANING, Step.CLEANED): Phase.OVER,
    (Phase.OVER, Step.WRONG): Phase.OVER,
}
LISTENING = (Phase.AWAITING_OFFER, Phase.DECIDING, Phase.TAKING)
ENDING = (Phase.STORING, Phase.CUT, Phase.CLEANING)
ENDED = (Phase.STORED, Phase.OVER)
