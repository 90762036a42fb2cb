"""Who waits for one thing to happen, and time that runs out."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

__all__ = ["Deadline", "Timers", "Waiters"]


class Waiters:
    """Any number of coroutines that wait for the same moment.

    Who is cancelled meanwhile is passed over, and who waits again when the
    moment comes waits for the next one.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    async def wait(self) -> None:
        """Return at the next `release`; raise what the next `fail` is given."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:  # cancelled
                self._waiting.remove(waiter)

    def release(self) -> None:
        """Let everybody go on who waits now."""
        # What is let go may call anything of ours: so nothing is left to be released twice.
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)

    def fail(self, error: Failure | Exception) -> None:
        """Raise ``error`` where anybody waits now."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.errback(error)


class Deadline:
    """One moment at which something is to be done; the next `within` moves it.

    Whoever owns it cancels it at his own end: then nothing happens to what is gone.
    """

    def __init__(self, timers: IReactorTime) -> None:
        self._timers = timers
        self._call: IDelayedCall | None = None
        self._ended = False

    @property
    def running(self) -> bool:
        """Whether it is still to come."""
        return self._call is not None

    def within(self, seconds: float, late: Callable[[], object]) -> None:
        """Call ``late`` in so many seconds, unless it is cancelled or moved before."""
        self.cancel()
        if self._ended:
            return

        def reached() -> None:
            self._call = None
            late()

        self._call = self._timers.callLater(seconds, reached)

    def cancel(self) -> None:
        """Nothing will be late any more."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def end(self) -> None:
        """Cancel it for good: whatever is still on its way can set it no more."""
        self.cancel()
        self._ended = True


class Timers:
    """All that is still to happen to one thing, so that its end ends all of it."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._deadlines: list[Deadline] = []

    def deadline(self) -> Deadline:
        """Return one more moment of it."""
        deadline = Deadline(self._reactor)
        self._deadlines.append(deadline)
        return deadline

    def cancel(self) -> None:
        """Nothing of what was set happens; more may be set."""
        for deadline in self._deadlines:
            deadline.cancel()

    def end(self) -> None:
        """Nothing happens to it any more, whatever somebody still sets."""
        for deadline in self._deadlines:
            deadline.end()
