"""Noise_NKpsk0 against the published vectors, and every way it must fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kdc.errors import Refusal, RemoteProtocolError
from kdc.protocol.noise import REKEY_EVERY, CipherState, Initiator, Responder
from tests.support.core import (
    LOW_ORDER,
    CoreTestCase,
    SeededRandom,
    every_flipped_bit,
    forged_second,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "noise.json"
PROLOGUE = b"prologue"
PSK = b"p" * 32


def private(name: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(SeededRandom(name)(32))


def public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


def initiator(
    *,
    prologue: bytes = PROLOGUE,
    psk: bytes = PSK,
    static: bytes = public("static"),
    ephemeral: str = "initiator",
) -> Initiator:
    return Initiator(prologue, psk, static, private(ephemeral))


def responder(static: str = "static") -> Responder:
    return Responder(PROLOGUE, PSK, private(static))


def at_counter(key: bytes, count: int) -> CipherState:
    """A direction that has already sealed, or opened, ``count`` records."""
    state = CipherState(key)
    state._count = count
    return state


class PublishedVectorTests(CoreTestCase):
    """Protocol section 14: Noise equals vectors/noise.json."""

    def test_published(self) -> None:
        """Both ends make and read exactly the published bytes, and agree on the hash."""
        vectors = json.loads(VECTORS.read_text())["vectors"]
        ours = [v for v in vectors if v["protocol_name"] == "Noise_NKpsk0_25519_AESGCM_SHA256"]
        self.assertEqual(len(ours), 1)
        for vector in ours:
            self._check(vector)

    def _check(self, vector: dict[str, Any]) -> None:
        def raw(field: str) -> bytes:
            return bytes.fromhex(vector[field])

        def key(field: str) -> X25519PrivateKey:
            return X25519PrivateKey.from_private_bytes(raw(field))

        psks = [bytes.fromhex(vector[f"{end}_psks"][0]) for end in ("init", "resp")]
        ours = Initiator(
            raw("init_prologue"), psks[0], raw("init_remote_static"), key("init_ephemeral")
        )
        theirs = Responder(raw("resp_prologue"), psks[1], key("resp_static"))
        (one, sealed_one), (two, sealed_two), *records = [
            (bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"]))
            for m in vector["messages"]
        ]
        self.assertEqual(ours.write_first(one), sealed_one)
        self.assertEqual(theirs.read_first(sealed_one), one)
        self.assertEqual(theirs.write_second(key("resp_ephemeral"), two), sealed_two)
        self.assertEqual(ours.read_second(sealed_two), two)
        self.assertEqual(ours.handshake_hash, raw("handshake_hash"))
        self.assertEqual(theirs.handshake_hash, raw("handshake_hash"))
        self.assertEqual(len(records), 4)
        sending, receiving = ours.split()
        their_sending, their_receiving = theirs.split()
        turns = [(sending, their_receiving), (their_sending, receiving)] * 2
        for (plain, sealed), (seals, opens) in zip(records, turns, strict=True):
            self.assertEqual(seals.seal(plain), sealed)
            self.assertEqual(opens.open(sealed), plain)


class HandshakeTests(CoreTestCase):
    def refuses_first(self, message: bytes, static: str = "static") -> None:
        self.assert_refused(Refusal.NOT_AUTHENTIC, responder(static).read_first, message)

    def second(self) -> tuple[Initiator, bytes]:
        ours, theirs = initiator(), responder()
        theirs.read_first(ours.write_first())
        return ours, theirs.write_second(private("responder"))

    def test_both_ends_agree(self) -> None:
        """After two messages of 48 bytes both ends have the same keys, one per direction."""
        ours, theirs = initiator(), responder()
        first = ours.write_first()
        self.assertEqual(theirs.read_first(first), b"")
        second = theirs.write_second(private("responder"))
        self.assertEqual(ours.read_second(second), b"")
        self.assertEqual((len(first), len(second)), (48, 48))
        (a_sends, a_receives), (b_sends, b_receives) = ours.split(), theirs.split()
        self.assertEqual(b_receives.open(a_sends.seal(b"there")), b"there")
        self.assertEqual(a_receives.open(b_sends.seal(b"back")), b"back")

    def test_own_key_for_each_direction(self) -> None:
        """What one end sends cannot be reflected to it."""
        ours, second = self.second()
        ours.read_second(second)
        sends, receives = ours.split()
        self.assert_refused(Refusal.NOT_AUTHENTIC, receives.open, sends.seal(b"mine"))

    def test_every_bit_of_the_first(self) -> None:
        """No bit of message 1 can be changed (the unused bit of the point included)."""
        for changed in every_flipped_bit(initiator().write_first()):
            self.refuses_first(changed)

    def test_every_bit_of_the_second(self) -> None:
        """No bit of message 2 can be changed."""
        _, second = self.second()
        for changed in every_flipped_bit(second):
            ours = initiator()
            ours.write_first()
            self.assert_refused(Refusal.NOT_AUTHENTIC, ours.read_second, changed)

    def test_what_both_must_know(self) -> None:
        """Another prologue, session key or receiver's key: message 1 fails at the receiver."""
        self.refuses_first(initiator(prologue=b"other").write_first())
        self.refuses_first(initiator(psk=b"q" * 32).write_first())
        self.refuses_first(initiator(static=public("other")).write_first())
        self.refuses_first(initiator().write_first(), static="other")

    def test_second_needs_the_private_key(self) -> None:
        """Who knows the session key and all that was sent, but not the receiver's private key,
        cannot answer in its place."""
        ours = initiator()
        forged = forged_second(PROLOGUE, PSK, public("static"), ours.write_first())
        self.assert_refused(Refusal.NOT_AUTHENTIC, ours.read_second, forged)

    def test_second_belongs_to_the_first(self) -> None:
        """An answer to one message 1 is no answer to another."""
        _, second = self.second()
        ours = initiator(ephemeral="later")
        ours.write_first()
        self.assert_refused(Refusal.NOT_AUTHENTIC, ours.read_second, second)

    def test_too_short(self) -> None:
        """Cut messages are refused like forged ones."""
        first = initiator().write_first()
        ours, second = self.second()
        for at in range(48):
            for read, message in ((responder().read_first, first), (ours.read_second, second)):
                error = self.assert_refused(Refusal.NOT_AUTHENTIC, read, message[:at])
                self.assertIn("too short", error.detail)

    def test_ephemerals_make_the_keys(self) -> None:
        """With other ephemerals everything else equal gives other keys: forward secrecy."""
        seen = set()
        for name in ("initiator", "another"):
            for reply in ("responder", "another"):
                ours, theirs = initiator(ephemeral=name), responder()
                theirs.read_first(ours.write_first())
                ours.read_second(theirs.write_second(private(reply)))
                seen.add(ours.split()[0].seal(b"same"))
        self.assertEqual(len(seen), 4)


class LowOrderTests(CoreTestCase):
    """Protocol section 14: low-order G_B, e_A, e."""

    def test_receiver_key(self) -> None:
        """A sender does not begin with a receiver's key of low order."""
        for point in LOW_ORDER:
            sender = initiator(static=point)
            self.assert_refused(Refusal.NOT_AUTHENTIC, sender.write_first)

    def test_ephemeral_of_the_first(self) -> None:
        """A receiver refuses an ephemeral of low order, by its result and not by its tag."""
        for point in LOW_ORDER:
            error = self.assert_refused(
                Refusal.NOT_AUTHENTIC, responder().read_first, point + bytes(16)
            )
            self.assertIn("low order", error.detail)

    def test_ephemeral_of_the_second(self) -> None:
        """A sender refuses an answer with an ephemeral of low order."""
        for point in LOW_ORDER:
            ours = initiator()
            ours.write_first()
            error = self.assert_refused(Refusal.NOT_AUTHENTIC, ours.read_second, point + bytes(16))
            self.assertIn("low order", error.detail)


class CipherStateTests(CoreTestCase):
    key = b"k" * 32

    def next_key(self, key: bytes) -> bytes:
        """Noise 11.3, by hand."""
        return AESGCM(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]

    def test_counter_is_the_nonce(self) -> None:
        """Four zero bytes and the u64 counter."""
        state = CipherState(self.key)
        for count in range(3):
            nonce = bytes(4) + count.to_bytes(8, "big")
            self.assertEqual(state.seal(b"x"), AESGCM(self.key).encrypt(nonce, b"x", b""))

    def test_order(self) -> None:
        """A record that is missing, repeated or swapped does not open."""
        state = CipherState(self.key)
        sealed = [state.seal(bytes([at])) for at in range(3)]
        for good, bad in (([], 1), ([0], 0), ([0], 2), ([0, 1], 0)):
            receiving = CipherState(self.key)
            for at in good:
                receiving.open(sealed[at])
            self.assert_refused(Refusal.NOT_AUTHENTIC, receiving.open, sealed[bad])

    def test_every_bit(self) -> None:
        """No bit can be changed, and nothing shorter than a tag opens."""
        sealed = CipherState(self.key).seal(b"data")
        for changed in every_flipped_bit(sealed):
            self.assert_refused(Refusal.NOT_AUTHENTIC, CipherState(self.key).open, changed)
        for at in range(len(sealed)):
            self.assert_refused(Refusal.NOT_AUTHENTIC, CipherState(self.key).open, sealed[:at])

    def test_rekey(self) -> None:
        """Protocol section 14: record 65,536 under the old key is refused, and sent under the new.

        The record before it still has the old key; the counter goes on.
        """
        new_key = self.next_key(self.key)
        self.assertEqual(REKEY_EVERY, 65_536)
        before, at = ((n).to_bytes(12, "big") for n in (65_535, 65_536))
        state = at_counter(self.key, 65_535)
        self.assertEqual(state.seal(b"x"), AESGCM(self.key).encrypt(before, b"x", b""))
        self.assertEqual(state.seal(b"x"), AESGCM(new_key).encrypt(at, b"x", b""))
        old = AESGCM(self.key).encrypt(at, b"x", b"")
        receiving = at_counter(self.key, 65_536)
        self.assert_refused(Refusal.NOT_AUTHENTIC, receiving.open, old)
        receiving = at_counter(self.key, 65_536)
        self.assertEqual(receiving.open(AESGCM(new_key).encrypt(at, b"x", b"")), b"x")

    def test_rekeyed_again(self) -> None:
        """The same before record 131,072, from the second key to the third; not in between."""
        second = self.next_key(self.key)
        third = self.next_key(second)
        state = at_counter(self.key, 65_536)
        state.seal(b"")
        for count, key in ((65_537, second), (131_071, second), (131_072, third)):
            state._count = count
            expected = AESGCM(key).encrypt(count.to_bytes(12, "big"), b"x", b"")
            self.assertEqual(state.seal(b"x"), expected)

    def test_rekeyed_while_busy(self) -> None:
        """What is kept of a key while large records pass goes when the key goes."""
        large = bytes(50_000)
        sending, receiving = at_counter(self.key, 65_530), at_counter(self.key, 65_530)
        for at in range(65_530, 65_540):
            key = self.key if at < 65_536 else self.next_key(self.key)
            expected = AESGCM(key).encrypt(at.to_bytes(12, "big"), large, b"")
            self.assertEqual(sending.seal(large), expected)
            self.assertEqual(receiving.open(expected), large)

    def test_at_rest(self) -> None:
        """Small records leave nothing behind but the key; large ones do, until the state rests."""
        state = CipherState(self.key)
        state.seal(b"small")
        self.assertIsNone(state._aead)
        state.seal(bytes(50_000))
        self.assertIsNotNone(state._aead)
        state.rest()
        self.assertIsNone(state._aead)
        expected = AESGCM(self.key).encrypt((2).to_bytes(12, "big"), b"x", b"")
        self.assertEqual(state.seal(b"x"), expected)

    def test_both_ends_across_the_change(self) -> None:
        """A channel does not notice that its keys change."""
        sending, receiving = at_counter(self.key, 65_530), at_counter(self.key, 65_530)
        for at in range(12):
            self.assertEqual(receiving.open(sending.seal(bytes([at]))), bytes([at]))

    def test_end_of_the_counter(self) -> None:
        """A counter is never used twice: at its end the channel closes."""
        state = at_counter(self.key, 2**63 - 1)
        self.assertRaises(RemoteProtocolError, state.seal, b"x")
        self.assertRaises(RemoteProtocolError, state.open, bytes(17))
