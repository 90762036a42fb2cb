"""Clients inside ``asyncio.run``: Twisted as a guest of asyncio's loop.

    async def main():
        async with running_reactor() as reactor:
            client = await wait(Client.open(reactor, name="alice"))

Import this before anything that imports ``twisted.internet.reactor``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.main import installReactor

__all__ = ["running_reactor", "wait"]

T = TypeVar("T")


class _Guest(AsyncioSelectorReactor):
    """Ends without stopping the loop, which belongs to ``asyncio.run``."""

    def crash(self) -> None:
        super(AsyncioSelectorReactor, self).crash()


@contextlib.asynccontextmanager
async def running_reactor() -> AsyncIterator[Any]:
    """Run Twisted's reactor on the running loop, until the block is left.

    Once in a process, as Twisted's reactors are; raises
    ``ReactorAlreadyInstalledError`` if there is one already.
    """
    loop = asyncio.get_running_loop()
    reactor: Any = _Guest(loop)
    installReactor(reactor)
    # The loop runs already, and the signals are asyncio's.
    reactor.startRunning(installSignalHandlers=False)
    try:
        yield reactor
    finally:
        stopped = loop.create_future()
        reactor.addSystemEventTrigger("after", "shutdown", stopped.set_result, None)
        reactor.stop()
        await stopped


def wait(work: Coroutine[Any, Any, T] | Deferred[T]) -> asyncio.Future[T]:
    """Make what Twisted's side waits for something that asyncio's side can wait for."""
    deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
    return deferred.asFuture(asyncio.get_running_loop())
