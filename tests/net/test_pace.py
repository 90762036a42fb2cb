"""How fast bytes go, and what holds them up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kdc.net.pace import Brake, Pace
from tests.support.core import PROPERTY


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def test_steady(self) -> None:
        """What is taken piece by piece takes as long as the limit says, and not longer."""
        pace = Pace(1000, self.clock)
        self.assertEqual(pace.piece, 250)
        for _ in range(40):
            self.clock.advance(pace.take(250))
        # A quarter of a second's worth may go at once.
        self.assertAlmostEqual(self.clock.seconds(), 10 - 0.25)

    def test_shared(self) -> None:
        """All that go by it have the limit together."""
        pace = Pace(1000, self.clock)
        waits = [pace.take(500) for _ in range(8)]
        self.assertAlmostEqual(waits[-1], 4 - 0.25)
        self.assertEqual(waits, sorted(waits))

    def test_rest(self) -> None:
        """However long nothing was sent, no more than a moment's worth goes at once."""
        pace = Pace(1000, self.clock)
        self.clock.advance(1000)
        self.assertEqual(pace.take(250), 0)
        self.assertAlmostEqual(pace.take(1000), 1.0)

    def test_slowest(self) -> None:
        """One byte a second is sent one byte at a time."""
        pace = Pace(1, self.clock)
        self.assertEqual(pace.piece, 1)
        pace.take(1)
        self.assertAlmostEqual(pace.take(1), 2 - 0.25)

    @PROPERTY
    @given(st.integers(1, 10**12), st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 10))))
    def test_never_faster(self, rate: int, steps: list[tuple[int, float]]) -> None:
        """Whoever waits as he is told is never above the limit by more than a moment's worth."""
        clock = Clock()
        pace = Pace(rate, clock)
        total = 0
        for count, rest in steps:
            wait = pace.take(count)
            total += count
            self.assertGreaterEqual(
                (clock.seconds() + wait + 0.25) * rate * (1 + 1e-9) + 1, total, (rate, steps)
            )
            clock.advance(wait + rest)


class Source:
    def __init__(self) -> None:
        self.done: list[str] = []

    def pauseProducing(self) -> None:
        self.done.append("pause")

    def resumeProducing(self) -> None:
        self.done.append("resume")


class BrakeTests(SynchronousTestCase):
    def test_two_reasons(self) -> None:
        """Who is paused for two reasons goes on when both are gone, and is told once."""
        source = Source()
        brake = Brake(source)
        one, two = brake.hold(), brake.hold()
        verifyObject(IPushProducer, one)
        one.resumeProducing()
        self.assertEqual(source.done, [])
        one.pauseProducing()
        two.pauseProducing()
        one.pauseProducing()
        one.resumeProducing()
        self.assertEqual(source.done, ["pause"])
        two.resumeProducing()
        two.resumeProducing()
        self.assertEqual(source.done, ["pause", "resume"])
        two.stopProducing()
        self.assertEqual(source.done, ["pause", "resume"])
