"""A principal that has an end: refused behind it, with the reason, and renewed before it."""

from __future__ import annotations

import attrs

from kdc.errors import Refusal
from kdc.issuing.decisions import Enrolment
from kdc.store import Record, Replace, Status
from tests.support.core import CoreTestCase, Realm, keys_of

ALICE = keys_of("alice")
CODE = b"an invitation code"


class ExpiryTestCase(CoreTestCase):
    def setUp(self) -> None:
        self.realm = Realm()
        self.realm.add(ALICE)
        self.begun = self.realm.now.unix_seconds

    def record(self, name: str = "alice") -> Record:
        record = self.realm.store.get(name)
        if record is None:
            self.fail(f"no {name}")
        return record

    def end(self, seconds: int, renewal_seconds: int = 0, name: str = "alice") -> None:
        """Let it end so many seconds after the beginning."""
        record = self.record(name)
        new = attrs.evolve(
            record, expiry_time=self.begun + seconds, renewal_seconds=renewal_seconds
        )
        self.realm.apply(Replace(new, record.generation))


class LoginTests(ExpiryTestCase):
    def test_to_the_second(self) -> None:
        """Good until its end, and not a second longer; the refusal is one of its own."""
        self.end(60)
        self.realm.advance(60)
        self.realm.login(ALICE)
        self.realm.advance(1)
        alice = self.realm.connect(ALICE)
        self.assertIs(alice.refusal(alice.exchange.authenticate()), Refusal.NOT_ALLOWED)
        self.assertFalse(alice.open)
        self.assertEqual(self.realm.audit[-1].detail, "NOT_ALLOWED alice: expired")

    def test_told_to_its_owner_only(self) -> None:
        """Who has not the key learns nothing: not even that there is such a name."""
        self.end(-1)
        for name in ("alice", "nobody"):
            stranger = self.realm.connect(keys_of(name, "guessed"))
            self.assertIs(stranger.refusal(stranger.exchange.authenticate()), Refusal.NOT_AUTHENTIC)

    def test_a_clock_that_was_wrong(self) -> None:
        """When it is right again the principal is let in: nothing was written down."""
        self.end(60)
        before = self.record()
        self.realm.advance(10**8)
        alice = self.realm.connect(ALICE)
        self.assertIs(alice.refusal(alice.exchange.authenticate()), Refusal.NOT_ALLOWED)
        self.realm.advance(-(10**8))
        self.realm.login(ALICE)
        self.assertEqual(self.record(), before)

    def test_renewed_by_the_operator(self) -> None:
        """A new end lets it in again, and none for ever."""
        self.end(-1)
        self.end(60)
        self.realm.login(ALICE)
        record = self.record()
        self.realm.apply(Replace(attrs.evolve(record, expiry_time=0), record.generation))
        self.realm.advance(10**9)
        self.realm.login(ALICE)


class ConnectedTests(ExpiryTestCase):
    """Whose time ends while it is connected."""

    def test_no_more_keys(self) -> None:
        """A sender that stays connected gets none, and its connections end."""
        self.realm.receiver("bob")
        self.end(60)
        alice, other = self.realm.login(ALICE), self.realm.login(ALICE)
        alice.grant("bob")
        self.realm.advance(61)
        sent, _ = alice.exchange.request_key("bob")
        self.assertIs(alice.refusal(sent), Refusal.NOT_ALLOWED)
        self.assertFalse(alice.open)
        self.assertFalse(other.open)

    def test_no_longer_received_for(self) -> None:
        """Nobody gets a key for a receiver whose time is over, though it is still connected."""
        bob = self.realm.receiver("bob")
        self.end(60, name="bob")
        self.assertFalse(bob.connection.open)  # what the operator changes ends what relied on it
        bob = self.realm.receiver("bob")
        alice = self.realm.login(ALICE)
        alice.grant("bob")
        self.realm.advance(61)
        sent, _ = alice.exchange.request_key("bob")
        self.assertIs(alice.refusal(sent), Refusal.NOT_RECEIVING)
        self.assertTrue(alice.open)
        self.assertFalse(bob.connection.open)
        self.assertEqual(self.realm.issuer.realm.receiving, [])


class RenewalTests(ExpiryTestCase):
    def change(self, old: str, new: str) -> Record:
        alice = self.realm.login(keys_of("alice", old))
        self.assertIsNone(alice.refusal(alice.exchange.change(keys_of("alice", new), "", 0)))
        return self.record()

    def test_by_other_keys(self) -> None:
        """An end so long after the last change begins anew with each."""
        self.end(100, 100)
        self.realm.advance(70)
        self.assertEqual(self.change("first", "second").expiry_time, self.begun + 170)
        self.realm.advance(70)
        record = self.change("second", "third")
        self.assertEqual((record.expiry_time, record.renewal_seconds), (self.begun + 240, 100))

    def test_not_if_the_operator_has_set_a_day(self) -> None:
        """Other keys do not move it."""
        self.end(100)
        self.realm.advance(70)
        self.assertEqual(self.change("first", "second").expiry_time, self.begun + 100)

    def test_not_afterwards(self) -> None:
        """Once it is over, a connection from before cannot renew it."""
        self.end(100, 100)
        alice = self.realm.login(ALICE)
        self.realm.advance(101)
        before = self.record()
        sent = alice.exchange.change(keys_of("alice", "second"), "", 0)
        self.assertIs(alice.refusal(sent), Refusal.NOT_ALLOWED)
        self.assertEqual(self.record(), before)

    def test_through_an_invitation(self) -> None:
        """What the operator has said of a name stays so when its owner is invited anew."""
        self.realm = Realm(enrolment=Enrolment.INVITE)
        record = self.realm.invite("carol", CODE, self.begun + 60)
        new = attrs.evolve(record, expiry_time=self.begun + 100, renewal_seconds=7)
        self.realm.apply(Replace(new, record.generation))
        carol = self.realm.connect(keys_of("carol"))
        self.assertIsNone(carol.refusal(carol.exchange.register("", 1, CODE)))
        found = self.record("carol")
        self.assertIs(found.status, Status.ACTIVE)
        self.assertEqual((found.expiry_time, found.renewal_seconds), (self.begun + 100, 7))
