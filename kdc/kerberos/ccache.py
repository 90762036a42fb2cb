"""Credential caches, MIT's FILE format 0x0504: tickets with their session keys."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import attrs

from kdc.kerberos.der import DERError
from kdc.kerberos.messages import TICKET, Ticket
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import Key

__all__ = ["Credential", "ccache", "read_ccache"]

_VERSION = b"\x05\x04"
_MOST = 1 << 24
_CONFIGURATION = "X-CACHECONF:"


@attrs.frozen
class Credential:
    """One ticket, and what its client knows of it."""

    client: Principal
    server: Principal
    key: Key = attrs.field(repr=False)
    auth_time: int
    start_time: int
    end_time: int
    renew_till: int
    flags: int
    ticket: Ticket


def _counted(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _principal(principal: Principal, name_type: int = 1) -> bytes:
    return b"".join(
        (
            struct.pack(">II", name_type, len(principal.components)),
            _counted(principal.realm.encode()),
            *(_counted(part.encode()) for part in principal.components),
        )
    )


def ccache(client: Principal, credentials: Iterable[Credential]) -> bytes:
    """Return the whole file."""
    # A header without fields: no offset between the clocks is known.
    parts = [_VERSION, struct.pack(">H", 0), _principal(client)]
    for each in credentials:
        times = (each.auth_time, each.start_time, each.end_time, each.renew_till)
        parts += (
            _principal(each.client),
            _principal(each.server),
            struct.pack(">H", each.key.etype),
            _counted(each.key.content),
            struct.pack(">IIIIBIII", *times, 0, each.flags, 0, 0),
            _counted(TICKET.encode(each.ticket)),
            _counted(b""),
        )
    return b"".join(parts)


class _Reader:
    """Takes one thing after another off the front; raises `ValueError` at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at == len(self._data)

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise ValueError("the credential cache is cut short")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, length: int = 4) -> int:
        return int.from_bytes(self.take(length), "big")

    def counted(self) -> bytes:
        return self.take(self.number())

    def principal(self) -> tuple[str, tuple[str, ...]]:
        self.number()
        count = self.number()
        if count > 64:
            raise ValueError("a principal of too many components")
        realm = self.counted().decode()
        return realm, tuple(self.counted().decode() for _ in range(count))

    def pairs(self) -> None:
        for _ in range(self.number()):
            self.number(2)
            self.counted()


def read_ccache(data: bytes) -> tuple[Principal, list[Credential]]:
    """Return whose it is and what is in it, without what clients note there for themselves.

    Raises `ValueError` for what is no credential cache.
    """
    reader = _Reader(data)
    if len(data) > _MOST or reader.take(2) != _VERSION:
        raise ValueError("not a credential cache of version 0x0504")
    reader.take(reader.number(2))
    realm, components = reader.principal()
    client = Principal(components, realm)
    credentials = []
    while not reader.is_empty:
        found = _credential(reader)
        if found is not None:
            credentials.append(found)
    return client, credentials


def _credential(reader: _Reader) -> Credential | None:
    client_realm, client = reader.principal()
    server_realm, server = reader.principal()
    etype, content = reader.number(2), reader.counted()
    auth_time, start_time, end_time, renew_till = (reader.number() for _ in range(4))
    reader.number(1)
    flags = reader.number()
    reader.pairs()
    reader.pairs()
    ticket = reader.counted()
    reader.counted()
    if server_realm == _CONFIGURATION:
        return None
    try:
        decoded = TICKET.decode(ticket)
    except DERError as error:
        raise ValueError(f"the credential cache holds no ticket: {error}") from None
    return Credential(
        Principal(client, client_realm),
        Principal(server, server_realm),
        Key(etype, content),
        auth_time,
        start_time,
        end_time,
        renew_till,
        flags,
        decoded,
    )
