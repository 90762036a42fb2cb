"""Keytabs, MIT's format 0x0502: the keys of services, for their machines."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import attrs

from kdc.kerberos.names import Principal
from kdc.kerberos.profile import Key

__all__ = ["KeytabEntry", "keytab", "read_keytab"]

_VERSION = b"\x05\x02"
_MOST = 1 << 20


@attrs.frozen
class KeytabEntry:
    principal: Principal
    kvno: int
    key: Key = attrs.field(repr=False)
    moment: int = 0
    name_type: int = 1


def _counted(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def keytab(entries: Iterable[KeytabEntry]) -> bytes:
    """Return the whole file."""
    return _VERSION + b"".join(map(record, entries))


def record(entry: KeytabEntry) -> bytes:
    """Return one entry, as it can be put behind a keytab that is there."""
    components = [part.encode() for part in entry.principal.components]
    content = b"".join(
        (
            struct.pack(">H", len(components)),
            _counted(entry.principal.realm.encode()),
            *map(_counted, components),
            struct.pack(">IIB", entry.name_type, entry.moment, entry.kvno & 0xFF),
            struct.pack(">H", entry.key.etype) + _counted(entry.key.content),
            struct.pack(">I", entry.kvno),
        )
    )
    return struct.pack(">i", len(content)) + content


def read_keytab(data: bytes) -> list[KeytabEntry]:
    """Return the entries; those of other encryption types are passed over.

    Raises `ValueError` for what is no keytab.
    """
    if data[:2] != _VERSION or len(data) > _MOST:
        raise ValueError("not a keytab of version 0x0502")
    entries = []
    at = 2
    while at < len(data):
        (length,) = _unpack(">i", data, at)
        at += 4
        if length > 0:
            found = _entry(data[at : at + length], length)
            if found is not None:
                entries.append(found)
        elif length == 0:
            break
        at += abs(length)  # a hole where an entry was deleted has a negative length
    return entries


def _unpack(layout: str, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, at)
    except struct.error:
        raise ValueError("the keytab is cut short") from None


def _entry(data: bytes, length: int) -> KeytabEntry | None:
    if len(data) != length:
        raise ValueError("the keytab is cut short")
    (count,) = _unpack(">H", data, 0)
    texts = []
    at = 2
    for _ in range(count + 1):
        content, at = _taken(data, at)
        texts.append(content.decode("utf-8"))  # UnicodeDecodeError is a ValueError
    name_type, moment, short = _unpack(">IIB", data, at)
    (etype,) = _unpack(">H", data, at + 9)
    content, at = _taken(data, at + 11)
    kvno = _unpack(">I", data, at)[0] if len(data) - at >= 4 else 0
    principal = Principal(tuple(texts[1:]), texts[0])
    try:
        key = Key(etype, content)
    except ValueError:
        return None
    return KeytabEntry(principal, kvno or short, key, moment, name_type)


def _taken(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _unpack(">H", data, at)
    content = data[at + 2 : at + 2 + length]
    if len(content) != length:
        raise ValueError("the keytab is cut short")
    return content, at + 2 + length
