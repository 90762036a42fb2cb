"""Noise_NKpsk0_25519_AESGCM_SHA256 (Noise Protocol Framework, revision 34).

Sections of the framework are given as [5.2].  The handshake authenticates the
receiver by its epoch key (NK) and both ends by the session key (psk0), and is
forward secret by its two ephemerals.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)

from kdc.errors import Refusal, RemoteProtocolError
from kdc.protocol.crypto import AESGCM, InvalidTag, hkdf

__all__ = ["REKEY_EVERY", "TAG_BYTES", "CipherState", "Initiator", "Responder"]

_PROTOCOL = b"Noise_NKpsk0_25519_AESGCM_SHA256"
_PUBLIC_BYTES = 32
TAG_BYTES = 16
REKEY_EVERY = 65_536
_LAST_NONCE = (1 << 63) - 1
_LARGE_RECORD = 4096


def _not_authentic(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(Refusal.NOT_AUTHENTIC, what)


class CipherState:
    """One direction of a channel: a key and a counter [5.1], rekeyed on schedule.

    Before record n, for every n > 0 divisible by 65,536, the key is replaced
    [11.3]; the counter goes on.  A failed `open` leaves the state unusable.

    What OpenSSL makes of the key takes 2.4 KiB, and a microsecond to make: it is
    kept while large records pass, and not for the many channels that are idle.
    """

    __slots__ = ("_aead", "_count", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aead: AESGCM | None = None
        self._count = 0

    def seal(self, plaintext: bytes | bytearray | memoryview, associated: bytes = b"") -> bytes:
        # The nonce first: taking it may replace the key.
        nonce = self._next_nonce()
        return self._cipher(len(plaintext)).encrypt(nonce, plaintext, associated)

    def seal_into(self, plaintext: memoryview, room: memoryview) -> None:
        """As `seal`, into ``room``, which is as long as what comes out and no part of the other."""
        nonce = self._next_nonce()
        self._cipher(len(plaintext)).encrypt_into(nonce, plaintext, b"", room)

    def open(self, ciphertext: bytes | memoryview, associated: bytes = b"") -> bytes:
        """Raises `RemoteProtocolError` if the record is not the next one of this key."""
        nonce = self._next_nonce()
        try:
            return self._cipher(len(ciphertext)).decrypt(nonce, ciphertext, associated)
        except InvalidTag:
            raise _not_authentic(f"record {self._count - 1} does not open") from None

    def rest(self) -> None:
        """Keep the key only, until there is much to do again."""
        self._aead = None

    def _cipher(self, length: int) -> AESGCM:
        aead = self._aead
        if aead is None:
            aead = AESGCM(self._key)
            if length >= _LARGE_RECORD:
                self._aead = aead
        return aead

    def _next_nonce(self) -> bytes:
        count = self._count
        if count >= _LAST_NONCE:
            raise RemoteProtocolError(Refusal.MALFORMED, "the channel has used up its counter")
        if count and count % REKEY_EVERY == 0:
            self._rekey()
        self._count = count + 1
        return count.to_bytes(12, "big")

    def _rekey(self) -> None:
        last = bytes(4) + b"\xff" * 8
        self._key = AESGCM(self._key).encrypt(last, bytes(32), b"")[:32]
        self._aead = None


class _SymmetricState:
    """Chaining key and transcript hash [5.2]."""

    def __init__(self, prologue: bytes, responder_static: bytes, psk: bytes) -> None:
        # The protocol's name is exactly one hash long, so it is the first hash.
        self._chaining_key = self.hash = _PROTOCOL
        self._cipher: CipherState  # of the latest key; the psk gives the first
        self.mix_hash(prologue)
        self.mix_hash(responder_static)
        self._mix_key_and_hash(psk)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, key_material: bytes) -> None:
        self._chaining_key, key = self._derive(key_material, 2)
        self._cipher = CipherState(key)

    def mix_dh(self, private: X25519PrivateKey, public: bytes) -> None:
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # the all-zero result of a low-order point
            raise _not_authentic("a public key of low order") from None
        self.mix_key(shared)

    def mix_ephemeral(self, public: bytes) -> None:
        self.mix_hash(public)
        self.mix_key(public)  # because a psk is used [9.2]

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.seal(plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.open(ciphertext, self.hash)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = self._derive(b"", 2)
        return CipherState(first), CipherState(second)

    def _mix_key_and_hash(self, key_material: bytes) -> None:
        self._chaining_key, mixed, key = self._derive(key_material, 3)
        self.mix_hash(mixed)
        self._cipher = CipherState(key)

    def _derive(self, key_material: bytes, outputs: int) -> list[bytes]:
        # Noise's HKDF [4.3] is RFC 5869's with an empty info.
        out = hkdf(self._chaining_key, key_material, b"", 32 * outputs)
        return [out[at : at + 32] for at in range(0, len(out), 32)]


class Initiator:
    """The sender's half: write message 1, read message 2, split."""

    def __init__(
        self, prologue: bytes, psk: bytes, responder_static: bytes, ephemeral: X25519PrivateKey
    ) -> None:
        self._state = _SymmetricState(prologue, responder_static, psk)
        self._responder_static = responder_static
        self._ephemeral = ephemeral

    def write_first(self, payload: bytes = b"") -> bytes:
        public = self._ephemeral.public_key().public_bytes_raw()
        self._state.mix_ephemeral(public)
        self._state.mix_dh(self._ephemeral, self._responder_static)
        return public + self._state.encrypt_and_hash(payload)

    def read_second(self, message: bytes) -> bytes:
        """Return the payload; raises `RemoteProtocolError` if it is not the receiver's."""
        public, sealed = message[:_PUBLIC_BYTES], message[_PUBLIC_BYTES:]
        if len(message) < _PUBLIC_BYTES + TAG_BYTES:
            raise _not_authentic("handshake message 2 is too short")
        self._state.mix_ephemeral(public)
        self._state.mix_dh(self._ephemeral, public)
        return self._state.decrypt_and_hash(sealed)

    def split(self) -> tuple[CipherState, CipherState]:
        """Return (sending, receiving)."""
        return self._state.split()

    @property
    def handshake_hash(self) -> bytes:
        return self._state.hash


class Responder:
    """The receiver's half: read message 1, write message 2, split."""

    def __init__(self, prologue: bytes, psk: bytes, static: X25519PrivateKey) -> None:
        public = static.public_key().public_bytes_raw()
        self._state = _SymmetricState(prologue, public, psk)
        self._static = static
        self._peer_ephemeral = b""

    def read_first(self, message: bytes) -> bytes:
        """Return the payload; raises `RemoteProtocolError` if it is not the sender's."""
        if len(message) < _PUBLIC_BYTES + TAG_BYTES:
            raise _not_authentic("handshake message 1 is too short")
        self._peer_ephemeral = message[:_PUBLIC_BYTES]
        self._state.mix_ephemeral(self._peer_ephemeral)
        self._state.mix_dh(self._static, self._peer_ephemeral)
        return self._state.decrypt_and_hash(message[_PUBLIC_BYTES:])

    def write_second(self, ephemeral: X25519PrivateKey, payload: bytes = b"") -> bytes:
        public = ephemeral.public_key().public_bytes_raw()
        self._state.mix_ephemeral(public)
        self._state.mix_dh(ephemeral, self._peer_ephemeral)
        return public + self._state.encrypt_and_hash(payload)

    def split(self) -> tuple[CipherState, CipherState]:
        """Return (sending, receiving)."""
        first, second = self._state.split()
        return second, first

    @property
    def handshake_hash(self) -> bytes:
        return self._state.hash
