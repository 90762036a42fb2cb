"""Takes changes to the store off the reactor thread, and together; passes on what was changed.

Group commit: what arrives while the disk is busy waits, and shares the next
wait for the disk.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from kdc.net.background import background
from kdc.net.waiting import Deadline, Waiters
from kdc.store import Change, Record, Result, Store, StoreLost

__all__ = ["StoreWatch", "StoreWriter"]

# A pwd.txt of this many principals is written in a few milliseconds; in a second of many changes,
# no more than so many lines of it are.
_MOST_TROUBLES = 20  # of one time of trouble
_FOLD_RECORDS = 10_000
_LINES_PER_SECOND = 1000


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


class StoreWatch:
    """Passes on each change of the store, folds a small one, and looks how it is.

    ``troubled`` hears each thing that is wrong with it once, and nothing when all is well again.

    ``run`` runs a call in the thread of the store's writer, and sees to what a
    `StoreLost` means; ``told`` is called in the reactor's.  A fold is for those
    who read the store's file; it comes ``fold_seconds`` after the first change
    that it is for, so that many changes cost one, and not so soon after the one
    before that writing it costs more than the changes.
    """

    def __init__(
        self,
        store: Store,
        run: Callable[[Callable[[], object]], Deferred[Any]],
        reactor: Any,
        told: Callable[[Record], None],
        fold_seconds: float,
        look_seconds: float,
        troubled: Callable[[str], None] = lambda trouble: None,
    ) -> None:
        self._store = store
        self._run = run
        self._reactor = reactor
        self._told = told
        self._fold_seconds = fold_seconds
        self._look_seconds = look_seconds
        self._troubled = troubled
        self._troubles: set[str] = set()
        self._folding = Deadline(reactor)
        self._looking = Deadline(reactor)
        self._watching = False
        self._folded_time = -math.inf
        self._unwatch: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._watching = True
        self._unwatch = self._store.watch(
            lambda record: self._reactor.callFromThread(self._changed, record)
        )
        self._look_later()

    def stop(self) -> None:
        """Tell no more, look no more, and begin no fold."""
        self._watching = False
        self._folding.cancel()
        self._looking.cancel()
        self._unwatch()

    def _changed(self, record: Record) -> None:
        # First, so that a defect in what follows from a change does not keep it from readers.
        if not self._folding.running and len(self._store) <= _FOLD_RECORDS:
            self._folding.within(self._until_fold(), self._fold)
        self._told(record)

    def _until_fold(self) -> float:
        rested = self._folded_time + len(self._store) / _LINES_PER_SECOND
        now: float = self._reactor.seconds()
        return max(self._fold_seconds, rested - now)

    def _fold(self) -> None:
        self._folded_time = self._reactor.seconds()
        background(self._folded(), "folding the journal")

    async def _folded(self) -> None:
        with contextlib.suppress(StoreLost):
            await self._run(self._store.fold)

    def _look_later(self) -> None:
        if self._watching:
            self._looking.within(self._look_seconds, self._look)

    def _look(self) -> None:
        background(self._looked(), "looking whether the store is still ours")

    async def _looked(self) -> None:
        self._see_trouble()
        try:
            await self._run(self._store.check_ours)
        except StoreLost:
            return  # for ever
        self._look_later()

    def _see_trouble(self) -> None:
        trouble = self._store.trouble
        if not trouble and self._troubles:
            self._troubles.clear()
            self._troubled("")
        elif trouble and trouble not in self._troubles and len(self._troubles) < _MOST_TROUBLES:
            # Whoever is cut off may fail otherwise each time; who finds forgeries then, says so.
            self._troubles.add(trouble)
            self._troubled(trouble)
