"""Waiting for one thing, and time that runs out."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kdc.net.waiting import Deadline, Timers, Waiters


class WaitersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiters = Waiters()

    def wait(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.waiters.wait())

    def test_everybody_goes_on(self) -> None:
        """A release lets all go on who wait, and none of those who come later."""
        first, second = self.wait(), self.wait()
        self.assertNoResult(first)
        self.waiters.release()
        self.successResultOf(first)
        self.successResultOf(second)
        later = self.wait()
        self.assertNoResult(later)
        self.waiters.release()
        self.successResultOf(later)

    def test_who_waits_again_waits_for_the_next(self) -> None:
        """A release is one moment, also for who waits again in the middle of it."""
        rounds: list[int] = []

        async def twice() -> None:
            for number in range(2):
                await self.waiters.wait()
                rounds.append(number)
                self.waiters.release()

        done = Deferred.fromCoroutine(twice())
        other = self.wait()
        self.waiters.release()
        self.assertEqual(rounds, [0])
        self.successResultOf(other)
        self.waiters.release()
        self.assertEqual(rounds, [0, 1])
        self.successResultOf(done)

    def test_failed(self) -> None:
        """What there is no use in waiting for any more raises where it is waited for."""
        waiting = self.wait()
        self.waiters.fail(LookupError("gone"))
        self.failureResultOf(waiting, LookupError)

    def test_cancelled(self) -> None:
        """Who gives up is passed over; the others go on."""
        impatient, patient = self.wait(), self.wait()
        impatient.cancel()
        self.failureResultOf(impatient, CancelledError)
        self.waiters.release()
        self.successResultOf(patient)

    def test_cancelled_by_another(self) -> None:
        """One who goes on may make another give up, who was to go on with him."""

        async def cancels() -> None:
            await self.waiters.wait()
            other.cancel()

        first = Deferred.fromCoroutine(cancels())
        other = self.wait()
        self.waiters.release()
        self.successResultOf(first)
        self.failureResultOf(other, CancelledError)


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadline = Deadline(self.clock)
        self.late: list[str] = []

    def within(self, seconds: float, what: str) -> None:
        self.deadline.within(seconds, lambda: self.late.append(what))

    def test_reached(self) -> None:
        """It comes once, when it is due."""
        self.within(5, "a")
        self.clock.advance(4)
        self.assertEqual((self.late, self.deadline.running), ([], True))
        self.clock.advance(1)
        self.assertEqual((self.late, self.deadline.running), (["a"], False))

    def test_moved(self) -> None:
        """A new one takes the place of the one before."""
        self.within(5, "a")
        self.within(10, "b")
        self.clock.advance(9)
        self.assertEqual(self.late, [])
        self.clock.advance(1)
        self.assertEqual(self.late, ["b"])

    def test_cancelled(self) -> None:
        """What is cancelled leaves no timer, also if it was reached or cancelled before."""
        self.within(5, "a")
        self.deadline.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deadline.cancel()
        self.within(1, "b")
        self.clock.advance(1)
        self.deadline.cancel()
        self.assertEqual(self.late, ["b"])

    def test_set_again_when_reached(self) -> None:
        """What is late may set the next one."""
        self.deadline.within(1, lambda: self.within(1, "again"))
        self.clock.advance(1)
        self.assertTrue(self.deadline.running)
        self.clock.advance(1)
        self.assertEqual(self.late, ["again"])

    def test_ended(self) -> None:
        """What has ended cannot be late again, whoever sets it."""
        self.within(5, "a")
        self.deadline.end()
        self.within(5, "b")
        self.assertEqual((self.clock.getDelayedCalls(), self.deadline.running), ([], False))


class TimersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.timers = Timers(self.clock)
        self.late: list[str] = []
        self.one, self.other = self.timers.deadline(), self.timers.deadline()

    def test_each_by_itself(self) -> None:
        self.one.within(1, lambda: self.late.append("one"))
        self.other.within(2, lambda: self.late.append("other"))
        self.clock.advance(1)
        self.assertEqual(self.late, ["one"])
        self.clock.advance(1)
        self.assertEqual(self.late, ["one", "other"])

    def test_cancelled(self) -> None:
        """All of it is cancelled at once, and may be set again."""
        self.one.within(1, self.fail)
        self.other.within(2, self.fail)
        self.timers.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.one.within(1, lambda: self.late.append("one"))
        self.clock.advance(1)
        self.assertEqual(self.late, ["one"])

    def test_ended(self) -> None:
        """At the end nothing is left, and nothing can be set."""
        self.one.within(1, self.fail)
        self.timers.end()
        self.other.within(1, self.fail)
        self.assertEqual(self.clock.getDelayedCalls(), [])
