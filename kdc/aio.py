"""Clients inside ``asyncio.run``: Twisted as a guest of asyncio's loop.

Import this before anything that imports ``twisted.internet.reactor``.  A program
that is whole is in docs/api.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.main import installReactor

from kdc.net.reactor import Reactor

__all__ = ["running_reactor", "wait"]

T = TypeVar("T")


class _Guest(AsyncioSelectorReactor):
    """Ends without stopping the loop, which belongs to ``asyncio.run``."""

    def crash(self) -> None:
        super(AsyncioSelectorReactor, self).crash()


@contextlib.asynccontextmanager
async def running_reactor() -> AsyncIterator[Reactor]:
    """Run Twisted's reactor on the running loop, until the block is left.

    Once in a process, as Twisted's reactors are.  Raises
    ``ReactorAlreadyInstalledError`` if there is one already.
    """
    loop = asyncio.get_running_loop()
    guest = _Guest(loop)
    reactor = cast(Reactor, guest)
    installReactor(guest)
    # The loop runs already, and the signals are asyncio's.
    guest.startRunning(installSignalHandlers=False)
    try:
        yield reactor
    finally:
        stopped = loop.create_future()
        reactor.addSystemEventTrigger("after", "shutdown", stopped.set_result, None)
        reactor.stop()
        await stopped


def wait(work: Coroutine[Deferred[object], object, T] | Deferred[T]) -> asyncio.Future[T]:
    """Make ``work``, which Twisted's side waits for, something that asyncio's side can await.

    To be called in a coroutine of the running loop.  What ``work`` raises is raised
    there; to cancel one is to cancel the other.  Raises ``RuntimeError`` if no loop runs.
    """
    deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
    return deferred.asFuture(asyncio.get_running_loop())
