"""Tickets: only what the KDC sealed for this epoch opens, and each is used once."""

from __future__ import annotations

import attrs
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from kdc.errors import Refusal
from kdc.protocol.codec import enc
from kdc.protocol.crypto import EpochSecret, ReplyKey, SessionKey, TicketKey, ticket_key
from kdc.protocol.messages import MAX_TICKET
from kdc.protocol.tickets import Ticket, TicketCipher, UsedTickets
from tests.support.core import PROPERTY, CoreTestCase, every_flipped_bit
from tests.support.samples import names

KEY = TicketKey(b"k" * 32)
EPOCH = b"e" * 16
NONCE = b"n" * 12
TICKET = Ticket(SessionKey(b"s" * 32), "alice", b"a" * 32, b"t" * 16, 300_000)


def cipher(
    key: bytes = KEY, realm: str = "LOCAL", receiver: str = "bob", epoch_id: bytes = EPOCH
) -> TicketCipher:
    return TicketCipher(TicketKey(key), realm, receiver, epoch_id)


class SealTests(CoreTestCase):
    """Protocol section 14: ticket not sealed, of an old epoch, another B's, trailing bytes, cut."""

    sealed = cipher().seal(TICKET, NONCE)

    def refuses(self, sealed: bytes, refusal: Refusal = Refusal.NOT_AUTHENTIC) -> None:
        self.assert_refused(refusal, cipher().open, sealed)

    def plain(self, fields: bytes) -> bytes:
        """Any bytes, sealed as only the KDC could."""
        associated = enc(b"kdp/1 ticket", b"LOCAL", b"bob", EPOCH)
        return NONCE + AESGCM(KEY).encrypt(NONCE, fields, associated)

    def test_opens(self) -> None:
        """What the KDC sealed is what the receiver reads."""
        self.assertEqual(cipher().open(self.sealed), TICKET)

    @PROPERTY
    @given(names, st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1))
    def test_any_ticket(self, sender: str, ephemeral: bytes, end_milliseconds: int) -> None:
        """Any ticket comes through whole, and fits into its field."""
        ticket = attrs.evolve(
            TICKET, sender=sender, ephemeral=ephemeral, end_milliseconds=end_milliseconds
        )
        sealed = cipher().seal(ticket, NONCE)
        self.assertEqual(cipher().open(sealed), ticket)
        fields = (ticket.session_key, sender, ephemeral, ticket.ticket_id, end_milliseconds)
        self.assertEqual(cipher().seal_new(*fields, NONCE), sealed)
        self.assertLessEqual(len(sealed), MAX_TICKET)

    def test_every_bit(self) -> None:
        """No bit of a ticket can be changed."""
        for changed in every_flipped_bit(self.sealed):
            self.refuses(changed)

    def test_every_cut_and_tail(self) -> None:
        """A ticket is whole, with nothing behind it; none at all is no ticket."""
        for at in range(len(self.sealed)):
            self.refuses(self.sealed[:at])
        self.refuses(self.sealed + b"\0")

    def test_not_sealed(self) -> None:
        """The fields in clear are no ticket."""
        self.refuses(NONCE + TICKET.session_key + b"\5alice" + bytes(56))

    def test_other_epoch_receiver_or_realm(self) -> None:
        """A ticket is for one receiver of one realm in one epoch, key and associated data both."""
        for other in (
            cipher(b"l" * 32),
            cipher(realm="OTHER"),
            cipher(receiver="carol"),
            cipher(epoch_id=b"f" * 16),
        ):
            self.refuses(other.seal(TICKET, NONCE))

    def test_passphrase_key_alone(self) -> None:
        """A ticket sealed without the epoch's secret does not open: no guessing oracle."""
        reply_key, secret = ReplyKey(b"r" * 32), EpochSecret(b"E" * 32)
        real = cipher(ticket_key(reply_key, secret, "LOCAL", "bob", EPOCH))
        for guess in (
            reply_key,
            ticket_key(reply_key, EpochSecret(bytes(32)), "LOCAL", "bob", EPOCH),
        ):
            self.assert_refused(Refusal.NOT_AUTHENTIC, real.open, cipher(guess).seal(TICKET, NONCE))

    def test_canonical(self) -> None:
        """Even what is truly sealed must be one ticket: no trailing byte, no cut, no such name."""
        good = TICKET.session_key + b"\5alice" + TICKET.ephemeral + TICKET.ticket_id
        good += (300_000).to_bytes(8, "big")
        self.assertEqual(cipher().open(self.plain(good)), TICKET)
        for bad in (
            good + b"\0",
            good[:-1],
            b"",
            good.replace(b"\5alice", b"\5Alice"),
            good.replace(b"\5alice", b"\0"),
            good.replace(b"\5alice", b"\5al\xffce"),
        ):
            self.refuses(self.plain(bad), Refusal.MALFORMED)

    def test_secrets_are_not_shown(self) -> None:
        """Session key and ticket id are in no repr."""
        self.assertNotIn("sss", repr(TICKET))
        self.assertNotIn("ttt", repr(TICKET))
        self.assertIn("alice", repr(TICKET))


class UsedTicketsTests(CoreTestCase):
    def ticket(self, number: int, end_milliseconds: int) -> Ticket:
        return attrs.evolve(
            TICKET, ticket_id=number.to_bytes(16, "big"), end_milliseconds=end_milliseconds
        )

    def test_remembered(self) -> None:
        """A ticket that was used is known as long as it could be used again."""
        used = UsedTickets(2)
        ticket = self.ticket(1, 1000)
        self.assertNotIn(ticket.ticket_id, used)
        used.add(ticket)
        self.assertFalse(used.full(1000))
        self.assertIn(ticket.ticket_id, used)

    def test_full(self) -> None:
        """No more than the limit is remembered, and none is forgotten while it is valid."""
        used = UsedTickets(2)
        for number in (1, 2):
            self.assertFalse(used.full(0))
            used.add(self.ticket(number, 1000))
        self.assertTrue(used.full(0))
        self.assertTrue(used.full(1000))
        self.assertIn(self.ticket(1, 0).ticket_id, used)

    def test_ended_ones_make_room(self) -> None:
        """Tickets whose end has passed are forgotten, the others kept."""
        used = UsedTickets(2)
        used.add(self.ticket(1, 1000))
        used.add(self.ticket(2, 2000))
        self.assertFalse(used.full(1001))
        self.assertNotIn(self.ticket(1, 0).ticket_id, used)
        self.assertIn(self.ticket(2, 0).ticket_id, used)
        self.assertEqual(len(used), 1)

    def test_filled(self) -> None:
        """How full it is tells when the next epoch is due."""
        used = UsedTickets(4)
        self.assertEqual(used.filled, 0)
        for number in range(3):
            used.add(self.ticket(number, 1))
        self.assertEqual(used.filled, 0.75)

    def test_limit(self) -> None:
        """At most 65,536 are remembered per epoch (protocol section 5)."""
        self.assertEqual(UsedTickets()._limit, 65_536)
