"""A limit on how fast bytes go, and what pauses a source for more than one reason."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

__all__ = ["Brake", "Pace"]

# So much may go at once after a rest, and so long is the longest pause between two pieces.
_MOMENT_SECONDS = 0.25


class Pace:
    """So many bytes a second, for all together that go by it: a bucket of tokens.

    It never waits itself: `take` says how long to.
    """

    def __init__(self, bytes_per_second: int, timers: IReactorTime) -> None:
        self._rate = bytes_per_second
        self._timers = timers
        # When all that was taken will have had its time.
        self._due = timers.seconds() - _MOMENT_SECONDS

    @property
    def piece(self) -> int:
        """How many bytes to take at a time, so that what is sent flows."""
        return max(1, int(self._rate * _MOMENT_SECONDS))

    def take(self, count: int) -> float:
        """Let ``count`` bytes go now; return for how many seconds none may follow."""
        now = self._timers.seconds()
        self._due = max(self._due, now - _MOMENT_SECONDS) + count / self._rate
        return max(0.0, self._due - now)


class Brake:
    """Pauses ``source`` as long as anybody who holds it wants that."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._pausing: set[_Hold] = set()

    def hold(self) -> IPushProducer:
        """Return one more that may be paused and resumed, whatever others do."""
        hold: IPushProducer = _Hold(self)
        return hold

    def change(self, hold: _Hold, *, paused: bool) -> None:
        before = bool(self._pausing)
        (self._pausing.add if paused else self._pausing.discard)(hold)
        if before is bool(self._pausing):
            return
        if before:
            self._source.resumeProducing()
        else:
            self._source.pauseProducing()


@implementer(IPushProducer)
class _Hold:
    def __init__(self, brake: Brake) -> None:
        self._brake = brake

    def pauseProducing(self) -> None:
        self._brake.change(self, paused=True)

    def resumeProducing(self) -> None:
        self._brake.change(self, paused=False)

    def stopProducing(self) -> None:
        """What the source is told at its end it is told by others."""
