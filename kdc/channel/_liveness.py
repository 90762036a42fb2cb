"""Whether the other end of a channel is still there, and how it sees that we are.

docs/protocol.md sections 6.2 and 10.  A beat a minute: who has said nothing since
the last one says something, and what the other side owes us is counted in beats.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from kdc.errors import KDCError, PeerUnavailable
from kdc.net.waiting import Timers

__all__ = ["ANSWER_SECONDS", "PING_SECONDS", "Expected", "Liveness"]

PING_SECONDS = 60.0
# As long as a person may take to answer.
ANSWER_SECONDS = 3600.0


class Expected(enum.Enum):
    """What the other side owes us, and for how many beats it may go on owing it."""

    NOTHING = 0
    # Its pings are up to two beats apart: it counts from its own.
    WORD = 3
    # It has ended, so it cannot ping; it may be busy with what we sent.
    ANSWER = int(ANSWER_SECONDS / PING_SECONDS) - 1


_LOST = {
    Expected.WORD: "the peer has fallen silent: not even a ping came from it",
    Expected.ANSWER: "the peer has ended, but never confirmed what it got",
}


class Liveness:
    """``ping`` says something that means nothing, if anything may still be said.

    ``expected`` is asked at each beat; ``lost`` is told when it was owed for too long.
    """

    def __init__(
        self,
        timers: Timers,
        *,
        ping: Callable[[], None],
        expected: Callable[[], Expected],
        lost: Callable[[KDCError], None],
    ) -> None:
        self._beat = timers.deadline()
        self._ping = ping
        self._expected = expected
        self._lost = lost
        self._spoke = False
        self._owed = Expected.NOTHING
        self._beats = 0

    def begin(self) -> None:
        self._beat.within(PING_SECONDS, self._on_beat)

    def end(self) -> None:
        """It is over: nobody is asked any more, nor held by what would be."""
        self._beat.end()
        del self._ping, self._expected, self._lost

    def spoke(self) -> None:
        """We have said something."""
        self._spoke = True

    def heard(self) -> None:
        """The peer has, and it was authentic."""
        self._beats = 0

    def _on_beat(self) -> None:
        self.begin()
        if not self._spoke:
            self._ping()
        self._spoke = False
        before, self._owed = self._owed, self._expected()
        self._beats = self._beats + 1 if self._owed is before else 1
        if self._owed is not Expected.NOTHING and self._beats > self._owed.value:
            self._lost(PeerUnavailable(_LOST[self._owed]))
