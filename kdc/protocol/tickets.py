"""Tickets: what the KDC seals for the receiver, and which of them were used."""

from __future__ import annotations

import struct

import attrs

from kdc.errors import Refusal, RemoteProtocolError
from kdc.protocol.codec import NAME, Layout, enc, fixed, uint
from kdc.protocol.crypto import AESGCM, InvalidTag, SessionKey, TicketKey

__all__ = [
    "MAX_USED",
    "TICKET_ID_BYTES",
    "TICKET_NONCE_BYTES",
    "Ticket",
    "TicketCipher",
    "UsedTickets",
]

TICKET_NONCE_BYTES = 12
TICKET_ID_BYTES = 16
MAX_USED = 65_536


@attrs.frozen
class Ticket:
    """What the receiver learns from the KDC through the sender."""

    session_key: SessionKey = fixed(32).field(secret=True)
    sender: str = NAME.field()
    ephemeral: bytes = fixed(32).field()
    ticket_id: bytes = fixed(TICKET_ID_BYTES).field(secret=True)
    end_milliseconds: int = uint(8).field()  # since the epoch began


_LAYOUT = Layout(Ticket)
_AFTER_SENDER = struct.Struct(">32s16sQ")


class TicketCipher:
    """Seals the tickets of one epoch (the KDC), or opens them (the receiver)."""

    def __init__(self, key: TicketKey, realm: str, receiver: str, epoch_id: bytes) -> None:
        self._aead = AESGCM(key)
        self._associated = enc(b"kdp/1 ticket", realm.encode(), receiver.encode(), epoch_id)

    def seal(self, ticket: Ticket, nonce: bytes) -> bytes:
        """``nonce``: `TICKET_NONCE_BYTES` fresh random bytes."""
        return self._seal(_LAYOUT.join(ticket), nonce)

    def seal_new(
        self,
        session_key: SessionKey,
        sender: str,
        ephemeral: bytes,
        ticket_id: bytes,
        end_milliseconds: int,
        nonce: bytes,
    ) -> bytes:
        """As `seal`, of what the KDC has just made or checked: that is not done twice."""
        rest = _AFTER_SENDER.pack(ephemeral, ticket_id, end_milliseconds)
        name = sender.encode("ascii")
        return self._seal(b"".join((session_key, bytes((len(name),)), name, rest)), nonce)

    def _seal(self, fields: bytes, nonce: bytes) -> bytes:
        return nonce + self._aead.encrypt(nonce, fields, self._associated)

    def open(self, sealed: bytes) -> Ticket:
        """Raises `RemoteProtocolError` for anything the KDC did not seal for this epoch."""
        nonce, ciphertext = sealed[:TICKET_NONCE_BYTES], sealed[TICKET_NONCE_BYTES:]
        try:
            fields = self._aead.decrypt(nonce, ciphertext, self._associated)
        except (InvalidTag, ValueError):
            raise RemoteProtocolError(Refusal.NOT_AUTHENTIC, "the ticket does not open") from None
        return _LAYOUT.split(fields)


class UsedTickets:
    """The ticket ids of one epoch that have been used; bounded.

    Ids whose ticket has ended are forgotten: the ticket would be refused for
    its age before anybody looks here.
    """

    def __init__(self, limit: int = MAX_USED) -> None:
        self._limit = limit
        self._end: dict[bytes, int] = {}

    def __contains__(self, ticket_id: bytes) -> bool:
        return ticket_id in self._end

    def __len__(self) -> int:
        return len(self._end)

    def full(self, now_milliseconds: int) -> bool:
        """Whether nothing more can be remembered, the ended ones forgotten."""
        if len(self._end) >= self._limit:
            self._end = {i: end for i, end in self._end.items() if end >= now_milliseconds}
        return len(self._end) >= self._limit

    @property
    def filled(self) -> float:
        """How much of the room is taken, from 0 to 1."""
        return len(self._end) / self._limit

    def add(self, ticket: Ticket) -> None:
        self._end[ticket.ticket_id] = ticket.end_milliseconds
