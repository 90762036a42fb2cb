"""A sender presents itself to a receiver: what the receiver, and then the sender, must check."""

from __future__ import annotations

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kdc.errors import LocalProtocolError, Refusal, RemoteProtocolError
from kdc.protocol.codec import frame
from kdc.protocol.crypto import EpochSecret, SessionKey, ticket_key
from kdc.protocol.handshake import MAX_PRESENT, SECOND_BYTES, _prologue
from kdc.protocol.kdc_exchange import Grant
from kdc.protocol.messages import KeyReply
from kdc.protocol.noise import Responder
from kdc.protocol.records import AckStatus, Data, End
from kdc.protocol.tickets import Ticket, TicketCipher
from tests.support.core import (
    LOW_ORDER,
    PROPERTY,
    CoreTestCase,
    Realm,
    Receiver,
    SeededRandom,
    bodies,
    ephemeral_of,
    every_flipped_bit,
    forged_second,
    keys_of,
    opened,
    presentation_of,
)


def with_ticket(grant: Grant, ticket: bytes) -> Grant:
    return attrs.evolve(grant, reply=attrs.evolve(grant.reply, ticket=ticket))


class HandshakeCase(CoreTestCase):
    def setUp(self) -> None:
        self.realm = Realm()
        self.bob = self.realm.receiver("bob")
        self.alice = self.realm.login(keys_of("alice"))

    def grant(self) -> Grant:
        return self.alice.grant("bob")

    def refuses(
        self,
        present: bytes,
        refusal: Refusal = Refusal.NOT_AUTHENTIC,
        *,
        because: str = "",
        later: float = 0,
        receiver: Receiver | None = None,
    ) -> None:
        receiver = self.bob if receiver is None else receiver
        error = self.assert_refused(refusal, receiver.accept, present, later=later)
        self.assertIn(because, error.detail)

    def kdc_key(self, receiver: Receiver) -> TicketCipher:
        """What only the KDC and this receiver can seal with."""
        epoch = receiver.epochs.current
        if epoch is None:
            self.fail("no epoch")
        return epoch._tickets


class ChannelTests(HandshakeCase):
    def test_through(self) -> None:
        """Alice's file reaches bob, who knows it is alice's, and she knows that he has it."""
        a, b = self.realm.channel("alice", self.bob)
        self.assertEqual(opened(b, *a.send_data(b"file"), a.send_end())[-1], End(4, 1))
        opened(a, b.send_ack(AckStatus.STORED))
        self.assertEqual(opened(a, *b.send_data(b"back")), [Data(b"back")])

    def test_sizes(self) -> None:
        """A 309 fits its limit, whoever sends it; the answer has 48 bytes."""
        presentation = self.realm.login(keys_of("a" * 64)).grant("bob").presentation()
        present = presentation.present()
        self.assertLessEqual(len(present) - 2, MAX_PRESENT)
        answer = self.bob.accept(present).answer
        self.assertEqual(len(answer), 2 + SECOND_BYTES)

    def test_sender_is_named(self) -> None:
        """Bob learns the name from the ticket, and from nowhere else."""
        self.assertEqual(self.bob.accept(self.grant().presentation().present()).sender, "alice")

    def test_receiver_waits_for_the_first_record(self) -> None:
        """Protocol section 14: nothing is shown, or counts, before A's first record opened."""
        presentation = self.grant().presentation()
        accepted = self.bob.accept(presentation.present())
        self.assertEqual(opened(accepted.stream), [])
        stream = presentation.finish(*bodies(accepted.answer))
        self.assertEqual(opened(accepted.stream, *stream.send_data(b"")), [Data(b"")])

    def test_replayed_first_message_opens_nothing(self) -> None:
        """A copied m1, even if its ticket counted as unused, leads to a channel nobody can use."""
        present = self.grant().presentation().present()
        accepted = self.bob.accept(present)
        self.assert_refused(Refusal.NOT_AUTHENTIC, opened, accepted.stream, frame(bytes(17)))

    def test_sender_sends_nothing_before_the_answer(self) -> None:
        """There is no stream to send on before m2 has verified: the sender is given none."""
        presentation = self.grant().presentation()
        answer = self.bob.accept(presentation.present()).answer[2:]
        for changed in every_flipped_bit(answer)[::7]:
            grant = self.grant().presentation()
            grant.present()
            self.assert_refused(Refusal.NOT_AUTHENTIC, grant.finish, changed)
        self.assertEqual(presentation.finish(answer).sent_end, False)

    def test_new_keys_each_time(self) -> None:
        """Two channels of the same pair share no key, nor does a receiver's epoch with the next."""
        seen = set()
        for _ in range(2):
            for _ in range(2):
                a, _ = self.realm.channel("alice", self.bob)
                seen.add(b"".join(a.send_data(b"same")))
            self.bob.begin()
        self.assertEqual(len(seen), 4)
        grants = [self.grant() for _ in range(3)]
        for values in (
            [g.reply.session_key for g in grants],
            [g.reply.ticket for g in grants],
            [ephemeral_of(g).private_bytes_raw() for g in grants],
        ):
            self.assertEqual(len(set(values)), 3)


class PresentTests(HandshakeCase):
    def test_every_bit(self) -> None:
        """No bit of a 309 can be changed; the unchanged one still works afterwards."""
        present = self.grant().presentation().present()
        for changed in every_flipped_bit(present[2:]):
            error = self.assertRaises(RemoteProtocolError, self.bob.accept, frame(changed))
            self.assertIn(
                error.refusal, (Refusal.NOT_AUTHENTIC, Refusal.MALFORMED, Refusal.VERSION)
            )
        self.assertEqual(self.bob.accept(present).sender, "alice")

    def test_every_cut_and_tail(self) -> None:
        """One byte short or long anywhere is refused."""
        body = self.grant().presentation().present()[2:]
        for bad in (*(body[:at] for at in range(1, len(body))), body + b"\0"):
            self.assertRaises(RemoteProtocolError, self.bob.accept, frame(bad))
        self.assertEqual(self.bob.accept(frame(body)).sender, "alice")

    def test_version(self) -> None:
        """Another version is refused as such, before anything else of it is looked at."""
        body = self.grant().presentation().present()[2:]
        for version in (0, 2, 255):
            self.refuses(frame(body[:2] + bytes([version]) + body[3:]), Refusal.VERSION)
            self.refuses(frame(body[:2] + bytes([version])), Refusal.VERSION)

    def test_not_a_309(self) -> None:
        """Nothing else is taken in its place."""
        body = self.grant().presentation().present()[2:]
        for number in (0, 301, 308, 310, 0xFFFF):
            self.refuses(frame(number.to_bytes(2, "big") + body[2:]), Refusal.MALFORMED)

    @PROPERTY
    @given(st.binary(min_size=1, max_size=400), st.booleans())
    def test_any_bytes(self, data: bytes, typed: bool) -> None:
        """Any bytes are refused, and never with another error."""
        body = b"\x01\x35\x01" + data if typed else data
        self.assertRaises(RemoteProtocolError, self.bob.accept, frame(body))


class TicketTests(HandshakeCase):
    """Protocol section 14: tickets not sealed, of old epochs, of another receiver, used twice."""

    def test_not_sealed(self) -> None:
        """What merely looks like a ticket is refused, before any X25519 operation."""
        grant = self.grant()
        for ticket in (b"x", bytes(12), bytes(28), bytes(150), grant.reply.session_key * 4):
            presentation = with_ticket(grant, ticket).presentation()
            self.refuses(presentation.present(), because="the ticket does not open")

    def test_of_another_receiver(self) -> None:
        """A ticket for carol, taken to bob under either epoch id, opens nothing."""
        self.realm.receiver("carol")
        for_carol, for_bob = self.alice.grant("carol"), self.grant()
        self.refuses(for_carol.presentation().present(), because="epoch")
        mixed = with_ticket(for_bob, for_carol.reply.ticket)
        self.refuses(mixed.presentation().present(), because="the ticket does not open")

    def test_of_an_old_epoch(self) -> None:
        """Under the next epoch's id an old ticket does not open."""
        old = self.grant()
        self.bob.begin()
        mixed = with_ticket(self.grant(), old.reply.ticket)
        self.refuses(mixed.presentation().present(), because="the ticket does not open")

    def test_from_the_passphrase_alone(self) -> None:
        """Who knows bob's long-term keys, but not the epoch's secret, cannot make a ticket."""
        grant = self.grant()
        keys = self.bob.connection.keys
        key = ticket_key(
            keys.reply_key, EpochSecret(bytes(32)), "LOCAL", "bob", grant.reply.epoch_id
        )
        forged = TicketCipher(key, "LOCAL", "bob", grant.reply.epoch_id).seal(
            self.ticket(grant, sender="mallory"), bytes(12)
        )
        self.refuses(with_ticket(grant, forged).presentation().present())

    def ticket(self, grant: Grant, *, sender: str = "alice") -> Ticket:
        return Ticket(
            SessionKey(grant.reply.session_key),
            sender,
            ephemeral_of(grant).public_key().public_bytes_raw(),
            bytes(16),
            10**9,
        )

    def test_twice(self) -> None:
        """A ticket is good for one channel: the second time it is refused."""
        present = self.grant().presentation().present()
        self.bob.accept(present)
        self.refuses(present, because="replay")

    def test_twice_by_its_owner(self) -> None:
        """Neither can the sender itself open a second channel with one key."""
        grant = self.grant()
        self.bob.accept(presentation_of(grant).present())
        self.refuses(grant.presentation().present(), because="replay")
        self.assertRaises(LocalProtocolError, grant.presentation)

    def test_garbage_behind_a_copied_ticket(self) -> None:
        """Who copies a ticket and is faster uses nothing up: the true 309 still works."""
        present = self.grant().presentation().present()
        for garbage in (bytes(48), present[-48:-16] + bytes(16), b"\xff" * 48):
            self.refuses(present[:-48] + garbage)
        self.assertEqual(self.bob.accept(present).sender, "alice")

    def test_other_ephemeral(self) -> None:
        """Who learns Ks and holds the ticket cannot use an ephemeral of his own (section 14).

        Everything else of his 309 is right: only the ticket's e_A stops him.
        """
        thief = X25519PrivateKey.from_private_bytes(SeededRandom("thief")(32))
        presentation = presentation_of(self.grant(), ephemeral=thief)
        self.refuses(presentation.present(), because="the ephemeral key is not the one")

    def test_without_the_session_key(self) -> None:
        """Ticket and ephemeral without Ks: m1 fails."""
        grant = self.grant()
        wrong = attrs.evolve(grant.reply, session_key=bytes(32))
        self.refuses(presentation_of(grant, reply=wrong).present(), because="does not open")

    def test_wrong_receiver_key(self) -> None:
        """Right Ks, wrong G_B: m1 fails at the receiver."""
        grant = self.grant()
        other = X25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
        wrong = attrs.evolve(grant.reply, receiver_key=other.public_key().public_bytes_raw())
        self.refuses(presentation_of(grant, reply=wrong).present(), because="does not open")

    def test_prologue(self) -> None:
        """Both ends must mean the same realm, names, epoch and ticket."""
        grant = self.grant()
        for other in ({"realm": "OTHER"}, {"sender": "mallory"}, {"receiver": "carol"}):
            self.refuses(presentation_of(grant, **other).present(), because="does not open")

    def test_without_the_private_key(self) -> None:
        """m2 made by somebody who knows Ks, but not bob's private key, fails at the sender."""
        grant = self.grant()
        presentation = grant.presentation()
        first = presentation.present()[-48:]
        forged = forged_second(
            self.prologue(grant), grant.reply.session_key, grant.reply.receiver_key, first
        )
        self.assert_refused(Refusal.NOT_AUTHENTIC, presentation.finish, forged)

    def prologue(self, grant: Grant) -> bytes:
        return _prologue("LOCAL", "alice", "bob", grant.reply.epoch_id, grant.reply.ticket)

    def test_payload_of_the_first(self) -> None:
        """m1 carries nothing: what it carried would be read before anybody is known."""
        grant = self.grant()
        first = presentation_of(grant)._noise.write_first(b"early")
        with_payload = presentation_of(grant).present()[2:-48] + first
        self.refuses(frame(with_payload), Refusal.MALFORMED)

    def test_payload_of_the_second(self) -> None:
        """An answer that verifies but carries data is refused by the sender."""
        grant = self.grant()
        presentation = grant.presentation()
        first = presentation.present()[-48:]
        epoch = self.bob.epochs.current
        if epoch is None:
            self.fail("no epoch")
        noise = Responder(self.prologue(grant), grant.reply.session_key, epoch._static)
        noise.read_first(first)
        answer = noise.write_second(X25519PrivateKey.from_private_bytes(bytes(31) + b"\1"), b"x")
        self.assert_refused(Refusal.MALFORMED, presentation.finish, answer)


class OrderTests(HandshakeCase):
    def test_order(self) -> None:
        """Of two faults the one that is checked first is found: steps 3 to 8 in their order."""
        thief = X25519PrivateKey.from_private_bytes(SeededRandom("thief")(32))

        def nobody(sender: str) -> bool:
            return False

        grant, used = self.grant(), self.grant()
        self.bob.accept(used.presentation().present())
        other_ephemeral = presentation_of(grant, ephemeral=thief).present()
        replayed = presentation_of(used, ephemeral=thief).present()
        garbage = grant.presentation().present()[:-16] + bytes(16)
        for present, later, because in (
            (other_ephemeral[:40] + b"\xff" + other_ephemeral[41:], 301, "does not open"),
            (replayed, 301, "has expired"),
            (replayed, 0, "replay"),
            (other_ephemeral, 0, "ephemeral key"),
            (garbage, 0, "not allowed"),
        ):
            error = self.assertRaises(
                RemoteProtocolError, self.bob.accept, present, later=later, allow=nobody
            )
            self.assertIn(because, error.detail)


class PolicyTests(HandshakeCase):
    def test_receiver_decides(self) -> None:
        """Whom bob does not allow gets no channel, though the KDC issued a key."""
        present = self.grant().presentation().present()
        asked: list[str] = []

        def nobody(sender: str) -> bool:
            asked.append(sender)
            return False

        self.assert_refused(Refusal.NOT_ALLOWED, self.bob.accept, present, allow=nobody)
        self.assertEqual(asked, ["alice"])
        # It used nothing up: allowed meanwhile, the same 309 works.
        self.assertEqual(self.bob.accept(present).sender, "alice")

    def test_not_from_itself(self) -> None:
        """A ticket that names the receiver as its sender is refused (B != A), whoever sealed it."""
        grant = self.grant()
        ephemeral = ephemeral_of(grant)
        ticket = Ticket(
            SessionKey(grant.reply.session_key),
            "bob",
            ephemeral.public_key().public_bytes_raw(),
            bytes(16),
            10**6,
        )
        sealed = self.kdc_key(self.bob).seal(ticket, bytes(12))
        reply = attrs.evolve(grant.reply, ticket=sealed)
        present = presentation_of(grant, reply=reply, sender="bob").present()
        self.refuses(present, Refusal.NOT_ALLOWED)

    def test_low_order_ephemeral(self) -> None:
        """An ephemeral of low order, in ticket and m1 alike, is refused (section 14)."""
        grant = self.grant()
        for point in LOW_ORDER:
            ticket = Ticket(SessionKey(grant.reply.session_key), "alice", point, bytes(16), 10**6)
            sealed = self.kdc_key(self.bob).seal(ticket, bytes(12))
            present = with_ticket(grant, sealed).presentation().present()
            self.refuses(present[:-48] + point + bytes(16), because="low order")

    def test_low_order_receiver_key(self) -> None:
        """A sender does not present itself to a receiver's key of low order."""
        grant = self.grant()
        for point in LOW_ORDER:
            reply = attrs.evolve(grant.reply, receiver_key=point)
            presentation = presentation_of(grant, reply=reply)
            self.assert_refused(Refusal.NOT_AUTHENTIC, presentation.present)


class SecrecyTests(HandshakeCase):
    def test_reply_of_another_type(self) -> None:
        """A grant shows names only, and what a receiver accepted shows who it is."""
        grant = self.grant()
        self.assertIsInstance(grant.reply, KeyReply)
        self.assertEqual(repr(grant), "Grant(realm='LOCAL', sender='alice', receiver='bob')")
        accepted = self.bob.accept(grant.presentation().present())
        self.assertEqual(repr(accepted), "Accepted(sender='alice')")
