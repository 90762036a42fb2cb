"""What a decision of the KDC is made of: when, for whom, and what it causes."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import attrs

from kdc.store import Change, Record, Result

__all__ = ["Audit", "Connection", "Enrolment", "Now", "Others", "Output", "Permit", "Write"]

# Whether this client may have a key to that receiver.
Permit: TypeAlias = Callable[[str, str], bool]


class Enrolment(enum.Enum):
    """Who may register a new name."""

    OPEN = "open"
    INVITE = "invite"
    CLOSED = "closed"


@attrs.frozen
class Now:
    """The time of a decision: a clock that only goes forward, and the one on the wall."""

    milliseconds: int
    unix_seconds: int


class Audit(NamedTuple):
    """One line of the activity log; never a secret.  Each key makes one: a tuple is made sooner.

    ``unproven``: its cause is somebody who has proved nothing, so such lines
    must be limited by whoever writes them.
    """

    event: str
    principal: str
    address: str
    detail: str = ""
    unproven: bool = False


class Connection(Protocol):
    """A client's connection, as far as decisions on other connections concern it."""

    name: str  # its principal, once it is known
    address: str

    def expired(self, unix_seconds: int) -> bool:
        """Whether this client's time is over."""

    def outdated_by(self, record: Record) -> bool:
        """Whether this client would not be accepted any more with its record like this."""

    def spend(self) -> None:
        """Answer nothing from now on."""

    def superseded(self, epoch_id: bytes) -> Output:
        """Tell this client that its epoch ended because another began."""


@attrs.frozen
class Write:
    """A change that must be durable before ``then`` decides what to answer.

    ``then`` is given the store's result, or None if the store cannot write now.
    """

    change: Change
    then: Callable[[Result | None], Output]


@attrs.frozen
class Output:
    """What one frame causes, in this order: a write, bytes, the end, things elsewhere.

    ``rest_milliseconds``: how long to read nothing from this client, which has asked
    for more than its share.
    """

    data: bytes = attrs.field(default=b"", repr=False)
    close: bool = False
    write: Write | None = None
    others: Others = ()
    rest_milliseconds: int = 0


Others: TypeAlias = tuple[tuple[Connection, Output], ...]
