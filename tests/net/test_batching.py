"""What arrives reaches a worker thread in large steps, and never too much of it waits."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kdc.net.batching import PILE_SECONDS, Handover

MIB = 1 << 20


@implementer(IPushProducer)
class Source:
    """Notes whether it may go on."""

    paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        raise AssertionError("nobody asked for this")


class HandoverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Source()
        self.taken: list[list[int]] = []
        self.busy: Deferred[None] | None = None
        self.handover: Handover[int] = Handover(self.take, self.source, self.clock)

    async def take(self, pile: list[int]) -> None:
        self.taken.append(pile)
        if self.busy is not None:
            await self.busy

    def arrive(self, *things: int, size: int = 1) -> None:
        for thing in things:
            self.handover.add(thing)
            self.handover.arrived(size)

    def done(self) -> None:
        busy, self.busy = self.busy, None
        assert busy is not None
        busy.callback(None)

    def drain(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.handover.drained())

    def test_little_waits_for_more(self) -> None:
        """What comes in small pieces goes together, after a moment at the latest."""
        self.handover.open()
        self.arrive(1, 2, 3)
        self.assertEqual(self.taken, [])
        self.clock.advance(PILE_SECONDS)
        self.assertEqual(self.taken, [[1, 2, 3]])
        self.arrive(4)
        self.clock.advance(PILE_SECONDS)
        self.assertEqual(self.taken, [[1, 2, 3], [4]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_much_goes_at_once(self) -> None:
        """Nobody waits with a pile that is large enough."""
        self.handover.open()
        self.arrive(1, 2, size=MIB // 2)
        self.assertEqual(self.taken, [[1, 2]])

    def test_one_at_a_time(self) -> None:
        """What comes meanwhile is the next pile, taken when it is large, or after a moment."""
        self.handover.open()
        self.busy = Deferred()
        self.arrive(1, 2, 3, size=MIB)
        self.assertEqual(self.taken, [[1]])
        self.done()
        self.assertEqual(self.taken, [[1], [2, 3]])
        self.busy = Deferred()
        self.arrive(4, size=MIB)
        self.arrive(5)
        self.clock.advance(PILE_SECONDS)
        self.done()
        self.assertEqual(self.taken, [[1], [2, 3], [4]])
        self.clock.advance(PILE_SECONDS)
        self.assertEqual(self.taken, [[1], [2, 3], [4], [5]])

    def test_too_much(self) -> None:
        """A source that is faster than what takes its things has to wait."""
        self.handover.open()
        self.busy = Deferred()
        self.arrive(1, 2, 3, 4, 5, size=MIB)
        self.assertFalse(self.source.paused)
        self.arrive(6)
        self.assertTrue(self.source.paused)
        self.done()
        self.assertFalse(self.source.paused)
        self.assertEqual(self.taken, [[1], [2, 3, 4, 5, 6]])

    def test_not_before_it_is_open(self) -> None:
        """Nothing is taken before it may be, and much that comes until then is held up."""
        self.arrive(1, 2, 3, 4, 5, size=MIB)
        self.clock.advance(PILE_SECONDS)
        self.assertEqual(self.taken, [])
        self.assertTrue(self.source.paused)
        self.handover.open()
        self.assertEqual(self.taken, [[1, 2, 3, 4, 5]])
        self.assertFalse(self.source.paused)

    def test_drained(self) -> None:
        """At the end everything is taken at once, and no timer is left."""
        self.handover.open()
        self.busy = Deferred()
        self.arrive(1, size=MIB)
        self.arrive(2)
        drained = self.drain()
        self.assertNoResult(drained)
        self.done()
        self.successResultOf(drained)
        self.assertEqual(self.taken, [[1], [2]])
        self.arrive(3)
        self.successResultOf(self.drain())
        self.assertEqual(self.taken[2:], [[3]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drained_unopened(self) -> None:
        """What may not be taken is not, in the end either."""
        self.arrive(1)
        self.successResultOf(self.drain())
        self.assertEqual(self.taken, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_first(self) -> None:
        """The end waits for what had to be done first."""
        before: Deferred[str] = Deferred()
        first = Deferred.fromCoroutine(self.handover.first(before))
        drained = self.drain()
        self.assertNoResult(drained)
        before.callback("ready")
        self.assertEqual(self.successResultOf(first), "ready")
        self.successResultOf(drained)
