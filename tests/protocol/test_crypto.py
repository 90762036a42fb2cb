"""Key derivations and the two small ciphers, against published and independent values."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from kdc.protocol.application import ApplicationKeys
from kdc.protocol.codec import enc
from kdc.protocol.crypto import (
    ChannelBinding,
    Digest,
    EpochSecret,
    InvalidTag,
    ReplyKey,
    VerifyKey,
    digest_of_passphrase,
    hkdf,
    invitation_proof,
    long_term_keys,
    reply_cipher,
    same,
    ticket_key,
    verified,
)
from kdc.protocol.names import normal_passphrase
from tests.support.core import PROPERTY, CoreTestCase, every_flipped_bit, keys_of

BINDING = ChannelBinding(b"c" * 32)


class DerivationTests(CoreTestCase):
    def test_hkdf(self) -> None:
        """RFC 5869, test cases 1 and 3."""
        self.assertEqual(
            hkdf(bytes(range(13)), b"\x0b" * 22, bytes(range(0xF0, 0xFA)), 42).hex(),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        )
        self.assertEqual(
            hkdf(b"", b"\x0b" * 22, b"", 42).hex(),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        )

    def test_passphrase(self) -> None:
        """The same words give different digests to different people and in different realms."""
        words = normal_passphrase("correct horse")
        digests = {
            digest_of_passphrase(words, realm, name)
            for realm, name in (("LOCAL", "alice"), ("LOCAL", "bob"), ("OTHER", "alice"))
        }
        self.assertEqual(len(digests), 3)
        self.assertEqual({len(digest) for digest in digests}, {32})

    def test_long_term_keys(self) -> None:
        """K_X is HMAC of realm and name under D_X, expanded: computed here by hand."""
        digest = hashlib.sha256(b"d").digest()
        owner = b"\0\0\0\x05LOCAL\0\0\0\5alice"
        extracted = hmac.digest(digest, owner, "sha256")
        keys = long_term_keys(Digest(digest), "LOCAL", "alice")
        self.assertEqual(keys.reply_key, hmac.digest(extracted, b"kdp/1 reply\1", "sha256"))

    def test_one_use_each(self) -> None:
        """Name, realm and secret each change both keys; the two are never one."""
        digest, other = Digest(bytes(32)), Digest(bytes(31) + b"\1")
        found = [
            long_term_keys(*inputs)
            for inputs in (
                (digest, "LOCAL", "alice"),
                (other, "LOCAL", "alice"),
                (digest, "OTHER", "alice"),
                (digest, "LOCAL", "bob"),
            )
        ]
        values = [keys.verify_key for keys in found] + [keys.reply_key for keys in found]
        self.assertEqual(len(set(values)), 8)

    def test_digest_length(self) -> None:
        """A key file of another length is no key."""
        for length in (0, 31, 33, 64):
            self.assertRaises(ValueError, long_term_keys, Digest(bytes(length)), "LOCAL", "alice")

    def test_only_for_real_names(self) -> None:
        """No key is ever derived for a name or realm that is none."""
        self.assertRaises(ValueError, long_term_keys, Digest(bytes(32)), "LOCAL", "Alice")
        self.assertRaises(ValueError, long_term_keys, Digest(bytes(32)), "LO CAL", "alice")

    def test_ticket_keys(self) -> None:
        """Another receiver's key, epoch secret, realm, name or epoch: another ticket key."""
        base = (ReplyKey(bytes(32)), EpochSecret(bytes(32)), "LOCAL", "bob", bytes(16))
        others = (
            (ReplyKey(b"1" * 32), *base[1:]),
            (base[0], EpochSecret(b"1" * 32), *base[2:]),
            (*base[:2], "OTHER", *base[3:]),
            (*base[:3], "carol", base[4]),
            (*base[:4], b"1" * 16),
        )
        found = {ticket_key(*inputs) for inputs in (base, *others)}
        self.assertEqual(len(found), 6)
        # The epoch secret is input, the stored key the salt: neither alone opens a ticket.
        extracted = hmac.digest(bytes(32), bytes(32), "sha256")
        info = enc(b"kdp/1 ticket key", b"LOCAL", b"bob", bytes(16))
        self.assertEqual(ticket_key(*base), hmac.digest(extracted, info + b"\1", "sha256"))

    def test_exported_keys(self) -> None:
        """An application's keys depend on its label, and differ from root and proof."""
        keys = ApplicationKeys(b"r" * 32)
        found = {keys.derive(label) for label in ("", "a", "b", "proof")}
        self.assertEqual(len(found | {keys.proof, b"r" * 32}), 6)
        self.assertNotIn("rrrr", repr(keys))

    def test_keys_are_not_shown(self) -> None:
        """Keys are in no repr."""
        keys = keys_of("alice")
        self.assertEqual(repr(keys), "LongTermKeys(realm='LOCAL', name='alice')")


class ProofTests(CoreTestCase):
    fields = (b"label", b"one", b"two")

    def test_signature(self) -> None:
        """A signature is its owner's, over exactly these fields."""
        keys = keys_of("alice")
        signature = keys.sign(*self.fields)
        self.assertTrue(verified(keys.verify_key, signature, *self.fields))
        self.assertFalse(verified(keys_of("bob").verify_key, signature, *self.fields))
        for fields in ((b"label", b"onet", b"wo"), self.fields[:2], (*self.fields, b"")):
            self.assertFalse(verified(keys.verify_key, signature, *fields))

    def test_every_bit_of_a_signature(self) -> None:
        """No bit of a signature can be changed."""
        keys = keys_of("alice")
        for signature in every_flipped_bit(keys.sign(*self.fields)):
            self.assertFalse(verified(keys.verify_key, signature, *self.fields))

    def test_nonsense_is_not_verified(self) -> None:
        """A key or signature of the wrong length, or no point at all: not verified, no error."""
        keys = keys_of("alice")
        signature = keys.sign(*self.fields)
        for key, sig in (
            (b"", signature),
            (b"\xff" * 32, signature),
            (bytes(31), signature),
            (keys.verify_key, b""),
            (keys.verify_key, signature + b"\0"),
            (keys.verify_key, bytes(64)),
        ):
            self.assertFalse(verified(VerifyKey(key), sig, *self.fields))

    def test_invitation(self) -> None:
        """HMAC-SHA256 under the code over the injective encoding."""
        proof = invitation_proof(b"code" * 4, *self.fields)
        self.assertEqual(proof, hmac.new(b"code" * 4, enc(*self.fields), hashlib.sha256).digest())
        self.assertNotEqual(proof, invitation_proof(b"Code" * 4, *self.fields))
        self.assertNotEqual(proof, invitation_proof(b"code" * 4, b"label", b"onetwo"))

    @PROPERTY
    @given(st.binary(max_size=40), st.binary(max_size=40))
    def test_same(self, one: bytes, other: bytes) -> None:
        """Comparison of secrets says what == says."""
        self.assertEqual(same(one, other), one == other)
        self.assertTrue(same(one, bytes(one)))


class ReplyCipherTests(CoreTestCase):
    """Protocol section 14: a reply of another connection, lost, repeated, moved or changed."""

    key = ReplyKey(b"k" * 32)

    def sealed(self, count: int) -> list[bytes]:
        cipher = reply_cipher(self.key, BINDING)
        return [cipher.seal(at.to_bytes(2, "big"), b"ad") for at in range(count)]

    def test_in_order(self) -> None:
        """In order, with the same associated data, each opens."""
        cipher = reply_cipher(self.key, BINDING)
        for at, sealed in enumerate(self.sealed(300)):
            self.assertEqual(int.from_bytes(cipher.open(sealed, b"ad"), "big"), at)

    def test_lost_repeated_or_swapped(self) -> None:
        """A reply opens at its own place only."""
        one, two, three = self.sealed(3)
        for good, bad in (([], two), ([one], one), ([one], three), ([one, two], one)):
            cipher = reply_cipher(self.key, BINDING)
            for sealed in good:
                cipher.open(sealed, b"ad")
            self.assertRaises(InvalidTag, cipher.open, bad, b"ad")

    def test_other_connection(self) -> None:
        """The key belongs to one connection: the same reply on the next one does not open."""
        (sealed,) = self.sealed(1)
        other = reply_cipher(self.key, ChannelBinding(b"d" * 32))
        self.assertRaises(InvalidTag, other.open, sealed, b"ad")

    def test_every_bit(self) -> None:
        """No bit of a reply, and nothing it is bound to, can be changed."""
        (sealed,) = self.sealed(1)
        for changed in every_flipped_bit(sealed):
            self.assertRaises(InvalidTag, reply_cipher(self.key, BINDING).open, changed, b"ad")
        for associated in (b"", b"ae", b"ad\0"):
            self.assertRaises(InvalidTag, reply_cipher(self.key, BINDING).open, sealed, associated)

    def test_too_short(self) -> None:
        """Less than a tag is not authentic either, rather than another error."""
        for length in range(16):
            self.assertRaises(
                InvalidTag, reply_cipher(self.key, BINDING).open, bytes(length), b"ad"
            )
