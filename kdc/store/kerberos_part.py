"""What a record holds for Kerberos, where the realm has it: keys of its own, and service names.

A part is good only beside the key that it was made with: whoever gets another
passphrase, or a name that was somebody else's, has no Kerberos keys yet.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import attrs

from kdc.constant_time import same

__all__ = ["RESERVED", "KerberosKey", "KerberosPart", "part_owner"]

# Names of the realm's own: nobody registers them where there is Kerberos.
RESERVED = frozenset(("krbtgt", "kadmin"))

_OWNER_BYTES = 16
_MAX_BYTES = 4096
# A line with a part is longer than any without one: so they are found without being opened.
_MIN_BYTES = 320
_MAX_KEY_BYTES = 64
_MAX_NAME = 255
_HEAD = struct.Struct(">IIB")  # kvno, flags, whether there is an owner
_KEY = struct.Struct(">IHQB")  # kvno, encryption type, when it was made, length


def part_owner(verify_key: bytes) -> bytes:
    """Return what a part says of the key that it was made beside."""
    return hashlib.sha256(verify_key).digest()[:_OWNER_BYTES]


def _whole(low: int, high: int) -> Callable[[object, object, int], None]:
    def check(_: object, attribute: object, value: int) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} is not from {low} to {high}")  # type: ignore[attr-defined]

    return check


@attrs.frozen
class KerberosKey:
    """One key: ``kvno`` is its version, ``etype`` its encryption type."""

    kvno: int = attrs.field(validator=_whole(1, 0xFFFF_FFFF))
    etype: int = attrs.field(validator=_whole(1, 0xFFFF))
    content: bytes = attrs.field(repr=False)
    made_time: int = attrs.field(default=0, validator=_whole(0, 10**18 - 1))

    @content.validator
    def _check(self, _: object, value: bytes) -> None:
        if not 0 < len(value) <= _MAX_KEY_BYTES:
            raise ValueError(f"a Kerberos key has {len(value)} bytes")


def _service(text: str) -> str:
    if not text or len(text) > _MAX_NAME or not text.isascii() or not text.isprintable():
        raise ValueError("a service's name is 1 to 255 printable ASCII characters")
    return text


def _services(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({_service(name) for name in names}))


@attrs.frozen
class KerberosPart:
    """``kvno`` is the number of the latest keys, which a part can outlive; 0: there were none.

    ``flags`` are the realm's business.  ``services``: names such as ``HTTP/web1.example.org``,
    each of one owner in the whole store.  ``owner``: see `part_owner`; empty if the part is
    of no use any more, but for its number.
    """

    kvno: int = attrs.field(default=0, validator=_whole(0, 0xFFFF_FFFF))
    keys: tuple[KerberosKey, ...] = attrs.field(default=(), repr=False)
    salt: str = ""
    flags: int = attrs.field(default=0, validator=_whole(0, 0xFFFF_FFFF))
    services: tuple[str, ...] = attrs.field(default=(), converter=_services)
    owner: bytes = attrs.field(default=b"", repr=False)

    def __attrs_post_init__(self) -> None:
        if len(self.owner) not in (0, _OWNER_BYTES):
            raise ValueError("a Kerberos part has an owner of another length")
        if any(key.kvno > self.kvno for key in self.keys):
            raise ValueError("a Kerberos key is newer than the newest")
        if len(self._plain()) > _MAX_BYTES:
            raise ValueError(f"a Kerberos part of more than {_MAX_BYTES} bytes")

    def is_of(self, verify_key: bytes) -> bool:
        """Whether it was made beside this key."""
        return same(self.owner, part_owner(verify_key))

    def encoded(self) -> bytes:
        """Return it as it stands in a store: docs/store.md."""
        return self._plain().ljust(_MIN_BYTES, b"\0")

    def _plain(self) -> bytes:
        pieces = [_HEAD.pack(self.kvno, self.flags, bool(self.owner)), self.owner]
        pieces.append(bytes((len(self.keys),)) if len(self.keys) < 256 else bytes(_MAX_BYTES))
        for key in self.keys:
            pieces += (_KEY.pack(key.kvno, key.etype, key.made_time, len(key.content)), key.content)
        salt = self.salt.encode()
        pieces += (struct.pack(">H", min(len(salt), 0xFFFF)), salt)
        pieces.append(struct.pack(">H", min(len(self.services), 0xFFFF)))
        for service in self.services:
            pieces += (bytes((len(service),)), service.encode())
        return b"".join(pieces)

    @classmethod
    def decoded(cls, data: bytes) -> KerberosPart:
        """Return what `encoded` was given; raises `ValueError`, which quotes nothing."""
        part = None
        if len(data) <= _MAX_BYTES:
            try:
                part = cls._read(_Reader(data))
            except (ValueError, struct.error):
                part = None
        # Each part has one form, and only that is read.
        if part is None or part.encoded() != data:
            raise ValueError("not a Kerberos part")
        return part

    @classmethod
    def _read(cls, reader: _Reader) -> KerberosPart:
        kvno, flags, owned = _HEAD.unpack(reader.take(_HEAD.size))
        owner = reader.take(_OWNER_BYTES if owned else 0)
        keys = []
        for _ in range(reader.number(1)):
            version, etype, made, length = _KEY.unpack(reader.take(_KEY.size))
            keys.append(KerberosKey(version, etype, reader.take(length), made))
        salt = reader.take(reader.number(2)).decode()
        services = [reader.take(reader.number(1)).decode() for _ in range(reader.number(2))]
        return cls(kvno, tuple(keys), salt, flags, tuple(services), owner)


@attrs.define
class _Reader:
    """Takes one thing after another off the front."""

    _data: bytes = attrs.field(repr=False)
    _at: int = 0

    def take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) != length:
            raise ValueError("it ends early")
        self._at += length
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")
