"""The clock by which tickets end."""

from __future__ import annotations

import time

from twisted.internet.base import ReactorBase
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.net import clock


class _Reactor(ReactorBase):
    """Timers alone."""

    def installWaker(self) -> None:
        pass


class TimerTests(SynchronousTestCase):
    def test_timers(self) -> None:
        """The reactor's timers follow a clock that nobody sets; Twisted's own is the wall's."""
        reactor = _Reactor()
        clock.use_monotonic_timers(reactor)
        self.assertIs(reactor.seconds, time.monotonic)
        before = time.monotonic()
        reactor.callLater(60, lambda: None)
        (call,) = reactor.getDelayedCalls()
        self.assertGreaterEqual(call.getTime(), before + 60)
        self.assertLessEqual(call.getTime(), time.monotonic() + 60)
        call.cancel()


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        if not hasattr(time, "CLOCK_BOOTTIME"):
            raise SkipTest("this system has no clock that counts sleep")
        self.clocks = {
            time.CLOCK_REALTIME: 1_800_000_000_000,
            time.CLOCK_MONOTONIC: 5_000,
            time.CLOCK_BOOTTIME: 5_000,
        }
        self.patch(time, "clock_gettime_ns", lambda number: self.clocks[number] * 1_000_000)
        self.patch(time, "time", lambda: self.clocks[time.CLOCK_REALTIME] / 1000)

    def test_counts_sleep(self) -> None:
        """An hour in which the machine slept has passed for tickets, too."""
        before = clock.milliseconds()
        self.clocks[time.CLOCK_BOOTTIME] += 3_600_000
        self.assertEqual(clock.milliseconds() - before, 3_600_000)

    def test_nobody_sets_it(self) -> None:
        """A step of the wall clock, either way, is no time."""
        before = clock.milliseconds()
        for step in (10**11, -(10**12)):
            self.clocks[time.CLOCK_REALTIME] += step
            self.assertEqual(clock.milliseconds(), before)
