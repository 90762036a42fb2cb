"""Who is asked whether something is wanted."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import RefusedByPolicy
from kdc.transfer.consent import Consent
from kdc.transfer.messages import Offer


class _Reactor(Clock):
    """Threads that never come to it."""

    def getThreadPool(self) -> ThreadPool:
        return ThreadPool(0, 0)

    def callFromThread(self, *call: Any) -> None:
        raise AssertionError("nothing runs")


class SlowReactor(Clock):
    """One whose threads do what they are told when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Any] = []

    def getThreadPool(self) -> Any:
        return self

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any) -> None:
        self.questions.append(done)

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)

    def answer(self, yes: bool) -> None:
        """End the first question."""
        self.questions.pop(0)(True, yes)


class ConsentTests(SynchronousTestCase):
    def asked(self, consent: Consent, sender: str) -> Deferred[None]:
        return Deferred.fromCoroutine(consent(sender, Offer(("a",))))

    def test_only_these(self) -> None:
        """Whoever is not named is refused, and nobody is asked about it."""
        consent = Consent(_Reactor(), frozenset(("alice",)), ask=True)
        error = self.failureResultOf(self.asked(consent, "mallory"), RefusedByPolicy).value
        self.assertIn("takes nothing from you", str(error))
        waiting = self.asked(consent, "alice")
        self.assertNoResult(waiting)
        _ = waiting.addErrback(lambda _: None)
        waiting.cancel()

    def test_everybody(self) -> None:
        """Without rules and without a person everything is taken."""
        self.successResultOf(self.asked(Consent(_Reactor()), "mallory"))

    def test_one_at_a_time(self) -> None:
        """A second sender waits for the first one's answer."""
        consent = Consent(_Reactor(), ask=True)
        first, second = self.asked(consent, "alice"), self.asked(consent, "bob")
        self.assertEqual((consent._lock.locked, len(consent._lock.waiting)), (True, 1))
        for each in (second, first):
            _ = each.addErrback(lambda _: None)
            each.cancel()
