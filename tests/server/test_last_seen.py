"""When each principal was with the KDC last."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kdc.issuing.decisions import Audit
from kdc.server._last_seen import LastSeen
from kdc.server._listeners import Listeners


class LastSeenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = 100.5
        self.seen = LastSeen(lambda: self.time)
        self.passed: list[Audit] = []
        self.listeners = Listeners(self.passed.append)
        self.seen.hear(self.listeners)

    def note(self, event: str, *, unproven: bool = False) -> int | None:
        self.time += 1
        line = Audit(event, "bob", "192.0.2.1", "", unproven)
        self.listeners.tell(line)
        self.assertIs(self.passed[-1], line)
        return self.seen.of("bob")

    def test_seen(self) -> None:
        """Who has logged in was there, and until what he received with ended."""
        self.assertIsNone(self.seen.of("bob"))
        self.assertEqual(self.note("authenticated"), 101)
        self.assertEqual(self.note("issued"), 101)
        self.assertEqual(self.note("epoch-ended"), 103)
        self.assertIsNone(self.seen.of("alice"))

    def test_strangers(self) -> None:
        """Nobody is seen by what a stranger does in his name."""
        self.assertIsNone(self.note("authenticated", unproven=True))
        self.assertIsNone(self.note("refused", unproven=True))

    def test_new_owner(self) -> None:
        """A name that is taken anew has not been there before."""
        self.note("authenticated")
        self.assertIsNone(self.note("registered"))
