"""Takes changes to the store off the reactor thread, and together.

Group commit: what arrives while the disk is busy waits, and shares the next
wait for the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from kdc.net.background import background
from kdc.net.waiting import Waiters
from kdc.store import Change, Result, Store

__all__ = ["StoreWriter"]


class StoreWriter:
    """The only one who calls ``store.apply``, one batch at a time, in order.

    ``run`` runs a call in a worker thread and returns its Deferred.
    """

    def __init__(
        self,
        store: Store,
        run: Callable[
            [Callable[[Sequence[Change]], list[Result]], Sequence[Change]],
            Deferred[list[Result]],
        ],
    ) -> None:
        self._store = store
        self._run = run
        self._waiting: list[tuple[Change, Deferred[Result]]] = []
        self._busy = False
        self._idle = Waiters()

    def submit(self, change: Change) -> Deferred[Result]:
        """Fire when ``change`` is durable or refused; fail with `StoreError`."""
        done: Deferred[Result] = Deferred()
        self._waiting.append((change, done))
        self._start()
        return done

    async def drain(self) -> None:
        """Return when nothing is waiting or under way."""
        while self._busy:
            await self._idle.wait()

    def _start(self) -> None:
        if not self._busy:
            self._busy = True
            background(self._write(), "writing to the store")

    async def _write(self) -> None:
        while self._waiting:
            most = self._store.most_changes
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            try:
                results = await self._run(self._store.apply, [change for change, _ in batch])
            except Exception as error:  # noqa: BLE001 - each who waits is told, and decides
                for _, done in batch:
                    done.errback(error)
            else:
                for (_, done), result in zip(batch, results, strict=True):
                    done.callback(result)
        self._busy = False
        self._idle.release()
