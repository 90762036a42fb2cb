"""Encryption types 17 to 20, and nothing weaker: RFC 3961 with RFC 3962, and RFC 8009.

Both are AES in CBC mode with ciphertext stealing (CTS) and an HMAC.  They differ in what
the HMAC is over, and in how keys are derived.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable

import attrs
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from kdc.constant_time import same
from kdc.kerberos.nfold import nfold

__all__ = [
    "BY_CHECKSUM",
    "PROFILES",
    "IntegrityFailure",
    "Key",
    "Profile",
    "combined",
    "random_key",
]

_BLOCK = 16
_NO_IV = bytes(_BLOCK)
# What a stranger may make us compute: twice the most that RFC 8009 names.
_MOST_ITERATIONS = 1 << 17


class IntegrityFailure(ValueError):
    """It was sealed under another key or for another use, or has been changed."""


def _chained(key: bytes) -> Cipher[CBC]:
    return Cipher(AES(key), CBC(_NO_IV))


def _blocks(key: bytes) -> Cipher[ECB]:
    """AES of single blocks: what CTS and the derivations of RFC 3961 are made of."""
    return Cipher(AES(key), ECB())  # noqa: S305 - no message is encrypted by it


def _xor(one: bytes, other: bytes) -> bytes:
    size = len(one)
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(size, "big")


class Stealing:
    """AES-CBC-CTS of RFC 3962 section 5 under one key.

    To make a cipher costs more than to use it, so they are kept: but not while one is at work,
    since another thread must not use the same at the same time.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._encryptors: list[tuple[CipherContext, bytes]] = []
        self._decryptors: list[CipherContext] = []

    def encrypt(self, plaintext: bytes) -> bytes:
        """The last two blocks are swapped, the last is cut."""
        try:
            encryptor, before = self._encryptors.pop()
        except IndexError:
            encryptor, before = _chained(self._key).encryptor(), _NO_IV
        length = len(plaintext)
        padded = plaintext + bytes(-length % _BLOCK) or _NO_IV
        # CBC goes on from the last block that it did: XORed in once more, that is gone.
        blocks = encryptor.update(_xor(padded[:_BLOCK], before) + padded[_BLOCK:])
        self._encryptors.append((encryptor, blocks[-_BLOCK:]))
        if length <= _BLOCK:
            return blocks
        last = (length - 1) % _BLOCK + 1
        return blocks[: -2 * _BLOCK] + blocks[-_BLOCK:] + blocks[-2 * _BLOCK : -_BLOCK][:last]

    def decrypt(self, ciphertext: bytes) -> bytes:
        """The inverse, for at least one block."""
        try:
            decryptor = self._decryptors.pop()
        except IndexError:
            decryptor = _blocks(self._key).decryptor()
        plaintext = _unstolen(decryptor, ciphertext)
        self._decryptors.append(decryptor)
        return plaintext


def _unstolen(decryptor: CipherContext, ciphertext: bytes) -> bytes:
    """All blocks at once; what CBC has before each of them is XORed afterwards."""
    length = len(ciphertext)
    if length == _BLOCK:
        return decryptor.update(ciphertext)
    last = (length - 1) % _BLOCK + 1
    cut = length - last - _BLOCK  # where the block that was swapped to the front begins
    drawn = decryptor.update(ciphertext[: cut + _BLOCK])
    # Its plaintext, before it is XORed, says what had been cut off the block before it.
    stolen = drawn[cut:]
    before = ciphertext[cut + _BLOCK :] + stolen[last:]
    plain = _xor(drawn[:cut] + decryptor.update(before), _NO_IV + ciphertext[:cut])
    return plain + _xor(stolen[:last], before[:last])


@attrs.frozen
class Profile:
    """One encryption type: its numbers, and its functions of keys that are bytes."""

    etype: int
    name: str
    key_size: int
    mac_size: int
    hash_name: str
    checksum_type: int
    iterations: int
    sha2: bool

    def string_to_key(self, password: str, salt: str, iterations: int | None = None) -> bytes:
        """RFC 3962 section 4, RFC 8009 section 4."""
        count = self.iterations if iterations is None else iterations
        if not 0 < count <= _MOST_ITERATIONS:
            raise ValueError(f"{count} iterations where there may be 1 to {_MOST_ITERATIONS}")
        salted = salt.encode("utf-8", "surrogateescape")
        if self.sha2:
            salted = self.name.encode() + b"\0" + salted
        drawn = hashlib.pbkdf2_hmac(self.hash_name, password.encode(), salted, count, self.key_size)
        if self.sha2:
            return self._kdf(drawn, b"kerberos", self.key_size)
        return self._dk(drawn, b"kerberos")[0]

    def _dk(self, key: bytes, *constants: bytes) -> list[bytes]:
        """DR and DK of RFC 3961 section 5.1: each constant, encrypted again and again."""
        encryptor = _blocks(key).encryptor()
        found = []
        for constant in constants:
            block = _folded(constant)
            drawn = b""
            while len(drawn) < self.key_size:
                block = encryptor.update(block)
                drawn += block
            found.append(drawn[: self.key_size])
        return found

    def _kdf(self, key: bytes, label: bytes, size: int, context: bytes = b"") -> bytes:
        """KDF-HMAC-SHA2 of RFC 8009 section 3; one block of it is always enough."""
        message = b"\0\0\0\1" + label + b"\0" + context + (8 * size).to_bytes(4, "big")
        return hmac.digest(key, message, self.hash_name)[:size]

    def derived(self, key: bytes, usage: int, *purposes: int) -> list[bytes]:
        """Ke (0xAA), Ki (0x55) or Kc (0x99) for one use of a key."""
        labels = [usage.to_bytes(4, "big") + bytes((purpose,)) for purpose in purposes]
        if not self.sha2:
            return self._dk(key, *labels)
        sizes = [self.key_size if purpose == 0xAA else self.mac_size for purpose in purposes]
        return [self._kdf(key, label, size) for label, size in zip(labels, sizes, strict=True)]

    def prf(self, key: bytes, octets: bytes) -> bytes:
        """RFC 3962 section 6 (by RFC 3961 section 5.3), RFC 8009 section 5."""
        if self.sha2:
            size = hashlib.new(self.hash_name).digest_size
            return self._kdf(key, b"prf", size, octets)
        block = hashlib.new(self.hash_name, octets).digest()[:_BLOCK]
        return _blocks(self._dk(key, b"prf")[0]).encryptor().update(block)


@functools.lru_cache(maxsize=256)
def _folded(constant: bytes) -> bytes:
    return nfold(constant, _BLOCK)


PROFILES = {
    profile.etype: profile
    for profile in (
        Profile(18, "aes256-cts-hmac-sha1-96", 32, 12, "sha1", 16, 4096, sha2=False),
        Profile(17, "aes128-cts-hmac-sha1-96", 16, 12, "sha1", 15, 4096, sha2=False),
        Profile(20, "aes256-cts-hmac-sha384-192", 32, 24, "sha384", 20, 32768, sha2=True),
        Profile(19, "aes128-cts-hmac-sha256-128", 16, 16, "sha256", 19, 32768, sha2=True),
    )
}
BY_CHECKSUM = {profile.checksum_type: profile for profile in PROFILES.values()}


@attrs.frozen
class Key:
    """A key of one encryption type.  Every use of it has a number (RFC 4120 section 7.5.1)."""

    etype: int
    content: bytes = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if self.etype not in PROFILES:
            raise ValueError(f"encryption type {self.etype} is not one of {sorted(PROFILES)}")
        if len(self.content) != self.profile.key_size:
            raise ValueError(f"a key of {len(self.content)} bytes for {self.profile.name}")

    @property
    def profile(self) -> Profile:
        return PROFILES[self.etype]

    def seal(self, usage: int, plaintext: bytes, confounder: bytes) -> bytes:
        """Return ``plaintext`` sealed; ``confounder`` is 16 random bytes."""
        profile = self.profile
        cipher, mac_key = _pair(self.etype, self.content, usage)
        whole = confounder + plaintext
        ciphertext = cipher.encrypt(whole)
        covered = _NO_IV + ciphertext if profile.sha2 else whole
        return ciphertext + hmac.digest(mac_key, covered, profile.hash_name)[: profile.mac_size]

    def open(self, usage: int, sealed: bytes) -> bytes:
        """Return what was sealed; raises `IntegrityFailure`."""
        profile = self.profile
        if len(sealed) < _BLOCK + profile.mac_size:
            raise IntegrityFailure("too short to have been sealed")
        cipher, mac_key = _pair(self.etype, self.content, usage)
        ciphertext, mac = sealed[: -profile.mac_size], sealed[-profile.mac_size :]
        if profile.sha2:  # encrypt, then MAC
            covered, whole = _NO_IV + ciphertext, b""
        else:
            covered = whole = cipher.decrypt(ciphertext)
        if not same(hmac.digest(mac_key, covered, profile.hash_name)[: profile.mac_size], mac):
            raise IntegrityFailure("it does not open under this key for this use")
        return (whole or cipher.decrypt(ciphertext))[_BLOCK:]

    def checksum(self, usage: int, covered: bytes) -> bytes:
        profile = self.profile
        key = _checksum_key(self.etype, self.content, usage)
        return hmac.digest(key, covered, profile.hash_name)[: profile.mac_size]

    def prf(self, octets: bytes) -> bytes:
        return self.profile.prf(self.content, octets)


# A long-term key is used again and again; a session key not for long.  Both are bounded.
@functools.lru_cache(maxsize=1024)
def _pair(etype: int, key: bytes, usage: int) -> tuple[Stealing, bytes]:
    """What encrypts under Ke, and Ki."""
    cipher_key, mac_key = PROFILES[etype].derived(key, usage, 0xAA, 0x55)
    return Stealing(cipher_key), mac_key


@functools.lru_cache(maxsize=1024)
def _checksum_key(etype: int, key: bytes, usage: int) -> bytes:
    """Kc."""
    return PROFILES[etype].derived(key, usage, 0x99)[0]


def random_key(etype: int, random: Callable[[int], bytes]) -> Key:
    return Key(etype, random(PROFILES[etype].key_size))


def combined(one: Key, other: Key, pepper: bytes, other_pepper: bytes) -> Key:
    """KRB-FX-CF2 of RFC 6113 section 5.1: a key of the first one's type, made of both."""
    size = one.profile.key_size
    left, right = _prf_plus(one, pepper, size), _prf_plus(other, other_pepper, size)
    return Key(one.etype, bytes(a ^ b for a, b in zip(left, right, strict=True)))


def _prf_plus(key: Key, pepper: bytes, size: int) -> bytes:
    drawn = b""
    count = 0
    while len(drawn) < size:
        count += 1
        drawn += key.prf(bytes((count,)) + pepper)
    return drawn[:size]
