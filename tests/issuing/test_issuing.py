"""Who gets a session key for whom, and who can be reached."""

from __future__ import annotations

import gc
import weakref

import attrs

from kdc.errors import Refusal
from kdc.protocol.messages import EpochEnded, KeyReply, KeyRequest, Receiving
from kdc.store import Replace, Status
from tests.support.core import Connection, CoreTestCase, Realm, Receiver, keys_of

ALICE = keys_of("alice")


class RealmCase(CoreTestCase):
    def setUp(self) -> None:
        self.realm = Realm()

    def bob(self) -> Receiver:
        return self.realm.receiver("bob")


class KeyTests(RealmCase):
    def refusal(self, peer: str, client: str = "alice") -> Refusal | None:
        connection = self.realm.login(keys_of(client))
        return connection.refusal(connection.exchange.request_key(peer)[0])

    def test_issued(self) -> None:
        """Key, epoch, address and ticket, for who asked and whom he asked for."""
        bob = self.bob()
        alice = self.realm.login(ALICE)
        reply = alice.grant("bob").reply
        self.assertEqual((reply.address, reply.port), ("192.0.2.1", 60000))
        self.assertEqual(reply.lifetime_seconds, 300)
        current = bob.epochs.current
        self.assertEqual(reply.epoch_id, current.epoch_id if current else None)

    def test_sender_is_the_connections_principal(self) -> None:
        """Protocol section 14: 305 in another's name is not expressible; nothing in it is a name
        but the peer's, and the ticket names who authenticated."""
        bob = self.bob()
        self.assertEqual([f.name for f in attrs.fields(KeyRequest)], ["peer", "ephemeral", "nonce"])
        grant = self.realm.login(keys_of("mallory")).grant("bob")
        self.assertEqual(bob.accept(grant.presentation().present()).sender, "mallory")

    def test_not_for_oneself(self) -> None:
        """A = B is not allowed, whether receiving or not."""
        self.bob()
        self.assertIs(self.refusal("bob", "bob"), Refusal.NOT_ALLOWED)
        self.assertIs(self.refusal("alice", "alice"), Refusal.NOT_ALLOWED)

    def test_policy(self) -> None:
        """Whom the realm's policy forbids a peer does not learn whether that peer exists."""
        self.realm = Realm(permits=lambda client, receiver: (client, receiver) == ("alice", "bob"))
        self.bob()
        self.assertIsNone(self.refusal("bob"))
        for peer in ("bob", "unknown"):
            self.assertIs(self.refusal(peer, "carol"), Refusal.NOT_ALLOWED)

    def test_unknown_and_not_receiving(self) -> None:
        """A peer that does not exist, has gone, or merely does not receive now."""
        self.realm.add(keys_of("bob"))
        off = self.realm.add(keys_of("off"))
        self.realm.apply(Replace(attrs.evolve(off, status=Status.DISABLED), off.generation))
        self.realm.invite("invited", b"c" * 16, 2**40)
        self.assertIs(self.refusal("bob"), Refusal.NOT_RECEIVING)
        for name in ("nobody", "off", "invited"):
            self.assertIs(self.refusal(name), Refusal.UNKNOWN_PRINCIPAL)

    def test_connection_goes_on(self) -> None:
        """A refused request for a key costs its sender nothing else."""
        self.bob()
        alice = self.realm.login(ALICE)
        for _ in range(3):
            alice.refusal(alice.exchange.request_key("nobody")[0])
        self.assertIsInstance(alice.grant("bob").reply, KeyReply)

    def test_every_key_is_new(self) -> None:
        """No two answers share a session key, a ticket id or a ticket nonce."""
        bob = self.bob()
        alice = self.realm.login(ALICE)
        replies = [alice.grant("bob").reply for _ in range(20)]
        epoch = bob.epochs.current
        if epoch is None:
            self.fail("no epoch")
        tickets = [epoch._tickets.open(reply.ticket) for reply in replies]
        for values in (
            [reply.session_key for reply in replies],
            [ticket.ticket_id for ticket in tickets],
            [reply.ticket[:12] for reply in replies],
        ):
            self.assertEqual(len(set(values)), 20)
        self.assertEqual(
            [ticket.session_key for ticket in tickets], [r.session_key for r in replies]
        )


class EpochTests(RealmCase):
    def reply_to_307(self, connection: Connection, address: str = "") -> Receiving:
        message = connection.ask(connection.exchange.receive_under(bytes(32), address, 7)).message
        if not isinstance(message, Receiving):
            self.fail(f"{message}")
        return message

    def test_begins(self) -> None:
        """A receiver can be reached from its 307 on, and its secrets are new each time."""
        bob = self.realm.login(keys_of("bob"))
        self.assertEqual(self.realm.issuer.realm.receiving, [])
        one, two = self.reply_to_307(bob), self.reply_to_307(bob)
        self.assertEqual(self.realm.issuer.realm.receiving, ["bob"])
        self.assertTrue(bob.session.holds_epoch)
        self.assertNotEqual(one.epoch_id, two.epoch_id)
        self.assertNotEqual(one.secret, two.secret)

    def test_each_end_is_logged(self) -> None:
        """An epoch that gives way to the next of the same receiver has ended, too."""
        bob = self.realm.login(keys_of("bob"))
        self.reply_to_307(bob)
        self.reply_to_307(bob)
        bob.session.closed()
        lines = [(line.event, line.detail) for line in self.realm.audit if "epoch" in line.event]
        self.assertEqual(
            [line if "ended" in line[0] else line[0] for line in lines],
            [
                "epoch-begun",
                ("epoch-ended", "renewed"),
                "epoch-begun",
                ("epoch-ended", "disconnected"),
            ],
        )

    def test_address(self) -> None:
        """The address a receiver gives, or else the one the KDC sees, if others can use it."""
        for seen, said, expected in (
            ("192.0.2.5", "", "192.0.2.5"),
            ("192.0.2.5", "198.51.100.1", "198.51.100.1"),
            ("2001:db8::5", "", "2001:db8::5"),
            ("fe80::1%eth0", "", ""),
            ("::ffff:192.0.2.5", "", ""),
            ("", "", ""),
        ):
            self.realm = Realm()
            self.reply_to_307(self.realm.login(keys_of("bob"), seen), said)
            self.assertEqual(self.realm.login(ALICE).grant("bob").reply.address, expected)

    def test_the_wall_clock_steps(self) -> None:
        """A step of the wall clock during an epoch, either way, changes no ticket's end."""
        bob = self.bob()
        for step in (10**8, -(10**9)):
            self.realm.now = attrs.evolve(
                self.realm.now, unix_seconds=self.realm.now.unix_seconds + step
            )
            grant = self.realm.login(ALICE).grant("bob")
            epoch = bob.epochs.current
            ticket = None if epoch is None else epoch._tickets.open(grant.reply.ticket)
            self.assertEqual(ticket and ticket.end_milliseconds, 300_000)
            self.assertEqual(bob.accept(grant.presentation().present()).sender, "alice")

    def test_its_keys_go_with_its_connection(self) -> None:
        """Nothing in the KDC holds the key of an epoch whose receiver has gone."""
        bob = self.bob()
        epoch = self.realm.issuer.realm.epoch_of("bob")
        if epoch is None:
            self.fail("no epoch")
        tickets = weakref.ref(epoch.tickets)
        del epoch
        bob.connection.lose()
        gc.collect()
        self.assertIsNone(tickets())

    def test_ends_with_its_connection(self) -> None:
        """A receiver whose connection broke cannot be reached."""
        bob = self.bob()
        alice = self.realm.login(ALICE)
        bob.connection.lose()
        self.assertIs(alice.refusal(alice.exchange.request_key("bob")[0]), Refusal.NOT_RECEIVING)
        self.assertEqual(set(self.realm.issuer.realm._connections), {"alice"})
        self.assertFalse(bob.connection.session.holds_epoch)

    def test_another_connection_of_its_owner(self) -> None:
        """The epoch is tied to the one connection that began it."""
        bob = self.bob()
        self.realm.login(bob.connection.keys).lose()
        self.assertEqual(self.realm.issuer.realm.receiving, ["bob"])

    def test_in_memory_only(self) -> None:
        """Protocol section 14: restarted, the KDC knows of no receiver until it is back."""
        self.bob()
        alice = self.realm.login(ALICE)
        alice.grant("bob")
        after = Realm(store=self.realm.store)
        alice = after.login(ALICE)
        request = alice.exchange.request_key
        self.assertIs(alice.refusal(request("bob")[0]), Refusal.NOT_RECEIVING)
        after.receiver("bob")
        self.assertIsNone(alice.refusal(request("bob")[0]))

    def test_superseded(self) -> None:
        """Protocol section 14: a second 307 for bob: the first connection gets 313, at once."""
        first = self.bob()
        second = self.bob()
        answer = first.connection.answer()
        self.assertIsNone(answer.nonce)
        epoch = first.epochs.current
        self.assertEqual(answer.message, EpochEnded(epoch.epoch_id if epoch else b""))
        self.assertFalse(first.connection.session.holds_epoch)
        grant = self.realm.login(ALICE).grant("bob")
        self.assertEqual(second.accept(grant.presentation().present()).sender, "alice")
        # That the first one goes away does not end the second one's epoch.
        first.connection.lose()
        self.assertEqual(self.realm.issuer.realm.receiving, ["bob"])

    def test_renewed_on_its_own_connection(self) -> None:
        """Whoever begins a new epoch himself is not told that he was superseded."""
        bob = self.bob()
        bob.begin()
        self.assertEqual(bob.connection.inbox, [])

    def test_lasts(self) -> None:
        """A ticket issued late in an epoch lives as long as any other."""
        bob = self.bob()
        self.realm.advance(10_000)
        ticket = self.realm.login(ALICE).grant("bob").reply.ticket
        epoch = bob.epochs.current
        if epoch is None:
            self.fail("no epoch")
        self.assertEqual(epoch._tickets.open(ticket).end_milliseconds, 10_000_000 + 300_000)
