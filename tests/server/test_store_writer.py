"""Changes to the store: in order, together, and each answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kdc.server._store_writer import StoreWatch, StoreWriter
from kdc.store import Change, Create, Outcome, Record, Result, Status, StoreUnavailable
from kdc.store.memory import MemoryStore


def create(name: str) -> Create:
    keys = bytes(32)
    return Create(Record(name, Status.ACTIVE, verify_key=keys, reply_key=keys), bytes(16))


class StoreWriterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = MemoryStore()
        self.batches: list[Sequence[Change]] = []
        self.pending: list[Deferred[Any]] = []
        self.writer = StoreWriter(self.store, self.run_later)

    def run_later(self, call: Any, changes: Sequence[Change]) -> Deferred[list[Result]]:
        """A worker thread that the test controls."""
        self.batches.append(changes)
        done: Deferred[Any] = Deferred()
        _ = done.addCallback(lambda _: call(changes))
        self.pending.append(done)
        return done

    def work(self) -> None:
        self.pending.pop(0).callback(None)

    def test_no_more_than_the_store_takes(self) -> None:
        """A batch is never longer than the store allows, and none is left out."""
        self.store.most_changes = 2
        done = [self.writer.submit(create(name)) for name in "abcdef"]
        while self.pending:
            self.work()
        self.assertEqual([len(batch) for batch in self.batches], [1, 2, 2, 1])
        for each in done:
            self.assertIs(self.successResultOf(each).outcome, Outcome.DONE)

    def test_answered_when_done(self) -> None:
        """Nobody is told of a change before the store has it."""
        done = self.writer.submit(create("alice"))
        self.assertNoResult(done)
        self.work()
        self.assertIs(self.successResultOf(done).outcome, Outcome.DONE)
        self.assertIsNotNone(self.store.get("alice"))

    def test_together(self) -> None:
        """What comes while the disk is busy waits, and goes in one batch, in order."""
        first = self.writer.submit(create("a"))
        rest = [self.writer.submit(create(name)) for name in ("b", "c", "b")]
        self.assertEqual([len(batch) for batch in self.batches], [1])
        self.work()
        self.successResultOf(first)
        self.assertEqual([len(batch) for batch in self.batches], [1, 3])
        self.assertNoResult(rest[0])
        self.work()
        outcomes = [self.successResultOf(each).outcome for each in rest]
        self.assertEqual(outcomes, [Outcome.DONE] * 3, "the same token again is the same change")
        self.assertEqual(self.pending, [])

    def test_batches_are_bounded(self) -> None:
        """A batch has a thousand changes at most."""
        done = [self.writer.submit(create(f"user{n}")) for n in range(2500)]
        for _ in range(4):
            self.work()
        self.assertEqual([len(batch) for batch in self.batches], [1, 1000, 1000, 499])
        self.assertEqual(len([self.successResultOf(each) for each in done]), 2500)

    def test_a_failed_batch(self) -> None:
        """Each who waits is told that the store is not available; the next batch is tried anew."""
        done = [self.writer.submit(create(name)) for name in ("a", "b", "c")]
        self.pending.pop(0).errback(StoreUnavailable("no space"))
        self.failureResultOf(done[0], StoreUnavailable)
        self.assertNoResult(done[1])
        self.pending.pop(0).errback(StoreUnavailable("no space"))
        for each in done[1:]:
            self.failureResultOf(each, StoreUnavailable)
        later = self.writer.submit(create("d"))
        self.work()
        self.assertIs(self.successResultOf(later).outcome, Outcome.DONE)

    def test_drain(self) -> None:
        """Who waits for the end waits for all that was begun, and for no longer."""
        idle = Deferred.fromCoroutine(self.writer.drain())
        self.successResultOf(idle)
        done = [self.writer.submit(create(name)) for name in ("a", "b")]
        waiting = [Deferred.fromCoroutine(self.writer.drain()) for _ in range(2)]
        self.work()
        self.assertNoResult(waiting[0])
        self.work()
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(len([self.successResultOf(each) for each in done]), 2)

    def test_from_an_answer(self) -> None:
        """A change may be the answer to another."""
        first = self.writer.submit(create("a"))
        second: list[Deferred[Result]] = []
        _ = first.addCallback(lambda _: second.append(self.writer.submit(create("b"))))
        self.work()
        self.work()
        self.assertIs(self.successResultOf(second[0]).outcome, Outcome.DONE)


class Folded(MemoryStore):
    """Of so many records, whatever is in it; remembers when it was folded."""

    def __init__(self, count: int, clock: Clock) -> None:
        super().__init__()
        self.count = count
        self.clock = clock
        self.folds: list[float] = []

    def __len__(self) -> int:
        return self.count

    def fold(self) -> bool:
        self.folds.append(self.clock.seconds())
        return True


class StoreWatchTests(SynchronousTestCase):
    def watched(self, count: int) -> Folded:
        self.clock = Clock()
        self.clock.callFromThread = lambda call, *args: call(*args)  # type: ignore[attr-defined]
        store = Folded(count, self.clock)
        watch = StoreWatch(
            store, lambda call: succeed(call()), self.clock, lambda record: None, 1.0, 5.0
        )
        watch.start()
        self.addCleanup(watch.stop)
        return store

    def busy(self, store: Folded, seconds: int) -> list[float]:
        """Two changes a second; return when it was folded."""
        for number in range(2 * seconds):
            store.apply([create(f"{len(store.folds)}-{store.generation}-{number}")])
            self.clock.advance(0.5)
        return store.folds

    def test_trouble(self) -> None:
        """Each is told of once, however often it comes back, and that it is over."""
        clock: Any = Clock()
        clock.callFromThread = lambda call, *args: call(*args)
        store = Folded(1, clock)
        told: list[str] = []
        watch = StoreWatch(
            store,
            lambda call: succeed(call()),
            clock,
            lambda record: None,
            1.0,
            5.0,
            told.append,
        )
        watch.start()
        self.addCleanup(watch.stop)
        for trouble in ("", "slow", "gone", "slow", "gone", "forged", "", "", "slow", ""):
            store.trouble = trouble
            clock.advance(5.0)
        self.assertEqual(told, ["slow", "gone", "forged", "", "slow", ""])
        for number in range(100):
            store.trouble = str(number)
            clock.advance(5.0)
        self.assertEqual(len(told), 26)

    def test_a_small_store(self) -> None:
        """A second after a change people can read it, however many follow."""
        self.assertEqual(self.busy(self.watched(10), 10), [float(n) for n in range(1, 11)])

    def test_the_pause_grows(self) -> None:
        """A larger one is not written anew each second while changes go on."""
        folds = self.busy(self.watched(10_000), 60)
        self.assertEqual(folds, [1.0, 11.0, 21.0, 31.0, 41.0, 51.0])

    def test_after_a_rest(self) -> None:
        """Then the first change of a larger one shows after a second, too."""
        store = self.watched(10_000)
        self.busy(store, 1)
        self.clock.pump([5.0] * 12)
        store.apply([create("alice")])
        self.clock.advance(1.0)
        self.assertEqual(store.folds, [1.0, 62.0])

    def test_a_large_store(self) -> None:
        """It is folded for people when the KDC stops, and otherwise when it is worth it."""
        self.assertEqual(self.busy(self.watched(10_001), 60), [])
