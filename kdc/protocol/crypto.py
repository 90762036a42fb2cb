"""The few primitives, and every key derivation of docs/protocol.md section 2.

Keys are distinct types, so that mypy refuses a swap.  Each has one use.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NewType

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import InvalidTag as InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kdc.constant_time import same as same
from kdc.protocol.codec import enc
from kdc.protocol.names import check_name, check_realm

__all__ = [
    "AESGCM",
    "KEY_BYTES",
    "NONCE_BYTES",
    "ZERO_NONCE",
    "ChannelBinding",
    "Digest",
    "EpochSecret",
    "InvalidTag",
    "LongTermKeys",
    "ReplyCipher",
    "ReplyKey",
    "SessionKey",
    "TicketKey",
    "VerifyKey",
    "digest_of_passphrase",
    "hkdf",
    "invitation_proof",
    "long_term_keys",
    "reply_cipher",
    "same",
    "ticket_key",
    "verified",
]

KEY_BYTES = 32
NONCE_BYTES = 16
ZERO_NONCE = bytes(NONCE_BYTES)

Digest = NewType("Digest", bytes)
"""D_X: of passphrase and name, or the 32 random bytes of a key file."""
ReplyKey = NewType("ReplyKey", bytes)
"""K_X: the KDC holds it too; seals nothing itself."""
VerifyKey = NewType("VerifyKey", bytes)
"""vk_X: the public half of the principal's signing key."""
ChannelBinding = NewType("ChannelBinding", bytes)
"""cb: TLS exporter value of one connection (RFC 9266)."""
EpochSecret = NewType("EpochSecret", bytes)
"""E: made by the KDC for one epoch of a receiver; never on disk."""
TicketKey = NewType("TicketKey", bytes)
"""TK: seals the tickets of one epoch."""
SessionKey = NewType("SessionKey", bytes)
"""Ks: made by the KDC for one channel of one pair."""


def hkdf(salt: bytes, key_material: bytes, purpose: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869)."""
    return HKDF(hashes.SHA256(), length, salt, purpose).derive(key_material)


def digest_of_passphrase(passphrase: bytes, realm: str, name: str) -> Digest:
    """Return D_X of a normalised passphrase (RFC 9106): about 0.2 s and 64 MiB.

    The parameters are constants of version 1: a client that took them from the
    network would let an impostor lower them.  One lane: with more, two
    derivations at once in one process can hang.
    """
    salt = hashlib.sha256(enc(b"kdp/1 salt", realm.encode(), name.encode())).digest()
    derivation = Argon2id(salt=salt, length=KEY_BYTES, iterations=3, lanes=1, memory_cost=64 * 1024)
    return Digest(derivation.derive(passphrase))


@attrs.frozen
class LongTermKeys:
    """What a principal derives from its secret.  The digest itself is not kept."""

    realm: str
    name: str
    verify_key: VerifyKey = attrs.field(repr=False)
    reply_key: ReplyKey = attrs.field(repr=False)
    _signing_key: Ed25519PrivateKey = attrs.field(repr=False)

    def sign(self, *fields: bytes) -> bytes:
        """Sign the encoding of ``fields``; the first is the label."""
        return self._signing_key.sign(enc(*fields))


def long_term_keys(digest: Digest, realm: str, name: str) -> LongTermKeys:
    """Derive sk_X, vk_X and K_X: D_X is the salt, the names are the input."""
    if len(digest) != KEY_BYTES:
        raise ValueError(f"a digest has {KEY_BYTES} bytes, not {len(digest)}")
    owner = enc(check_realm(realm).encode(), check_name(name).encode())
    signing_key = Ed25519PrivateKey.from_private_bytes(hkdf(digest, owner, b"kdp/1 sign"))
    return LongTermKeys(
        realm=realm,
        name=name,
        verify_key=VerifyKey(signing_key.public_key().public_bytes_raw()),
        reply_key=ReplyKey(hkdf(digest, owner, b"kdp/1 reply")),
        signing_key=signing_key,
    )


def verified(verify_key: VerifyKey, signature: bytes, *fields: bytes) -> bool:
    """Whether ``signature`` over ``fields`` is by the holder of ``verify_key``."""
    try:
        Ed25519PublicKey.from_public_bytes(verify_key).verify(signature, enc(*fields))
    except (InvalidSignature, ValueError):
        return False
    return True


def invitation_proof(code: bytes, *fields: bytes) -> bytes:
    """HMAC-SHA256 under the invitation code over the encoding of ``fields``."""
    return hmac.digest(code, enc(*fields), "sha256")


class ReplyCipher:
    """Seals the KDC's replies on one connection, or opens them at the other end.

    AES-256-GCM under R_X; the nonce counts the sealed frames of the connection
    and is not sent, so a frame lost, repeated or moved does not open.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._count = 0

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        return self._aead.encrypt(self._nonce(), plaintext, associated)

    def open(self, ciphertext: bytes, associated: bytes) -> bytes:
        """Raises `InvalidTag`; the cipher is then of no more use."""
        return self._aead.decrypt(self._nonce(), ciphertext, associated)

    def _nonce(self) -> bytes:
        nonce = self._count.to_bytes(12, "big")
        self._count += 1
        return nonce


def reply_cipher(reply_key: ReplyKey, binding: ChannelBinding) -> ReplyCipher:
    """The cipher under R_X of the connection that ``binding`` belongs to."""
    return ReplyCipher(hkdf(binding, reply_key, b"kdp/1 replies"))


def ticket_key(
    reply_key: ReplyKey, secret: EpochSecret, realm: str, name: str, epoch_id: bytes
) -> TicketKey:
    """TK of one epoch of the receiver ``name``."""
    purpose = enc(b"kdp/1 ticket key", realm.encode(), name.encode(), epoch_id)
    return TicketKey(hkdf(reply_key, secret, purpose))
