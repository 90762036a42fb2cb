"""What arrives, on its way to a worker thread: many things in one step, never too many waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IPushProducer

from kdc.net.background import background
from kdc.net.waiting import Deadline, Waiters

__all__ = ["Handover"]

# A change of threads costs as much as storing some tens of KiB: so not one for every record,
# unless there is nothing more for a moment.
_PILE_BYTES = 1 << 20
PILE_SECONDS = 0.05
_HIGH_WATER = 4 << 20
T = TypeVar("T")
R = TypeVar("R")


class Handover(Generic[T]):
    """Collects things until ``take`` is called with them, one pile at a time.

    ``take`` must not fail.  Nothing is taken before `open`.  ``source`` is
    paused while too much is waiting.
    """

    def __init__(
        self,
        take: Callable[[list[T]], Awaitable[None]],
        source: IPushProducer,
        timers: Any,
    ) -> None:
        self._take = take
        self._source = source
        self._pile: list[T] = []
        self._bytes = 0
        self._opened = False
        self._paused = False
        self._working = False
        self._draining = False
        self._idle = Waiters()
        self._moment = Deadline(timers)

    def add(self, thing: T) -> None:
        """Take ``thing`` along; `arrived` tells when to do so."""
        self._pile.append(thing)

    def arrived(self, count: int) -> None:
        """So many bytes have come, and what they mean was added."""
        self._bytes += count
        if self._bytes > _HIGH_WATER and not self._paused:
            self._paused = True
            self._source.pauseProducing()
        if self._bytes >= _PILE_BYTES:
            self._start()
        else:
            self._wait()

    async def first(self, work: Awaitable[R]) -> R:
        """Do what has to be done before anything is taken; `drained` waits for that, too."""
        self._working = True
        try:
            return await work
        finally:
            self._rest()

    def open(self) -> None:
        """From now on take what comes; what has come already, too."""
        self._opened = True
        self._start()

    async def drained(self) -> None:
        """Return when all that was added has been taken, or will not be: more may not come."""
        self._moment.cancel()
        self._start()
        if self._working:
            self._draining = True
            await self._idle.wait()

    def _wait(self) -> None:
        if not self._moment.running and self._pile:
            self._moment.within(PILE_SECONDS, self._start)

    def _start(self) -> None:
        if self._opened and self._pile and not self._working:
            self._working = True
            background(self._work(), "taking what has arrived")

    async def _work(self) -> None:
        while self._pile:
            pile, self._pile, self._bytes = self._pile, [], 0
            await self._take(pile)
            if self._paused:
                self._paused = False
                self._source.resumeProducing()
            if self._bytes < _PILE_BYTES and not self._draining:
                self._wait()
                break
        self._rest()

    def _rest(self) -> None:
        self._working = False
        self._draining = False
        self._idle.release()
