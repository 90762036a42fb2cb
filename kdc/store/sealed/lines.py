"""One principal as one line of text, sealed; the formats are in docs/store.md."""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Callable, Sequence

import attrs

from kdc.protocol.codec import enc
from kdc.protocol.crypto import AESGCM, InvalidTag, hkdf
from kdc.store import KerberosPart, Record, Status

__all__ = [
    "PURGED",
    "BadLine",
    "Entry",
    "Sealer",
    "foreign_digest",
    "generation_of",
    "has_part",
    "name_of",
    "status_of",
]

PURGED = "purged"  # in a journal only: from here on the name has no record

_NONCE_BYTES = 12
_END = struct.Struct(">QQ")  # expiry_time, renewal_seconds
_NUMBER = rb"(0|[1-9][0-9]{0,18})"
_LONGEST_WITHOUT_PART = 500  # of 427: a name, an address and numbers as long as they can be
_LINE = re.compile(
    rb":([a-z0-9][a-z0-9._-]{0,63})"
    rb":(\[[0-9a-f:.]{2,45}\]|[0-9.]{0,15})"
    rb":(0|[1-9][0-9]{0,4})"
    rb":([A-Za-z0-9+/]{32,6000}={0,2})"
    rb":(active|disabled|invited|deleted|purged)"
    rb":" + _NUMBER + rb":" + _NUMBER + rb":" + _NUMBER + rb":\n"
)


class BadLine(ValueError):
    """The line is not what the store wrote; the text says how, and holds no secret."""


@attrs.frozen
class Entry:
    """What one line says: a record, the token that made it, or that it is purged."""

    record: Record
    token: bytes = attrs.field(default=b"", repr=False)
    purged: bool = False


def name_of(line: bytes) -> bytes:
    """Return the name in a line that has been authenticated."""
    return line[1 : line.index(b":", 1)]


def generation_of(line: bytes) -> int:
    """Return the generation in a line that has been authenticated."""
    return int(line.rsplit(b":", 4)[1])


def status_of(line: bytes) -> str:
    """Return the status in a line that has been authenticated."""
    return line.rsplit(b":", 5)[1].decode()


def has_part(line: bytes) -> bool:
    """Whether there is a Kerberos part in a line that has been authenticated."""
    return len(line) > _LONGEST_WITHOUT_PART


class Sealer:
    """Writes and reads the lines of one store under its master key.

    The key that seals is derived from the master key, the realm and the store's
    identity, so a line of another store does not open here even where two
    stores were given one master key.  Nonces are random: 2**32 lines may be
    sealed under one master key before it should be rotated.
    """

    def __init__(
        self, master: bytes, realm: str, store_id: str, random: Callable[[int], bytes]
    ) -> None:
        self._realm = realm.encode()
        self._random = random
        purpose = enc(b"kdp/1 store seal", self._realm, store_id.encode())
        self._aead = AESGCM(hkdf(b"", master, purpose))

    def lines(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return the line of each entry, with its newline."""
        # All nonces at once: each call of the system gives other threads the
        # interpreter, and a batch would wait for it as often as it has lines.
        nonces = self._random(_NONCE_BYTES * len(entries))
        return [
            self._line(entry, nonces[at : at + _NONCE_BYTES])
            for entry, at in zip(
                entries, range(0, _NONCE_BYTES * len(entries), _NONCE_BYTES), strict=True
            )
        ]

    def _line(self, entry: Entry, nonce: bytes) -> bytes:
        record = entry.record
        plain = _plain_fields(record, PURGED if entry.purged else record.status.value)
        # The end is a field only if there is one: who does not know it refuses the line then.
        ends: tuple[bytes, ...] = ()
        if record.expiry_time or record.kerberos:
            ends = (_END.pack(record.expiry_time, record.renewal_seconds),)
        if record.kerberos:
            ends += (record.kerberos.encoded(),)
        secrets = enc(record.verify_key, record.reply_key, record.invitation, entry.token, *ends)
        sealed = nonce + self._aead.encrypt(nonce, secrets, self._associated(plain))
        name, address, port, *rest = plain
        digest = binascii.b2a_base64(sealed, newline=False)
        return b":" + b":".join((name, address, port, digest, *rest)) + b":\n"

    def entry(self, line: bytes) -> Entry:
        """Read a line; raises `BadLine`."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadLine("is not a principal's line")
        name, address, port, digest, *rest = match.groups()
        try:
            sealed = binascii.a2b_base64(digest)
        except binascii.Error:
            raise BadLine("has a digest that is not base64") from None
        # The tag covers the bytes: spare bits of the text need this.
        if binascii.b2a_base64(sealed, newline=False) != digest:
            raise BadLine("has a digest that is not canonical base64")
        try:
            secrets = self._aead.decrypt(
                sealed[:_NONCE_BYTES],
                sealed[_NONCE_BYTES:],
                self._associated((name, address, port, *rest)),
            )
        except InvalidTag:
            raise BadLine(
                "is not authentic: changed by hand, damaged, or of another store"
            ) from None
        verify_key, reply_key, invitation, token, (expiry_time, renewal_seconds), part = _split(
            secrets
        )
        status, generation, changed_time, invitation_end_time = rest
        purged = status == PURGED.encode()
        try:
            record = Record(
                name=name.decode(),
                status=Status.DELETED if purged else Status(status.decode()),
                address=address.strip(b"[]").decode(),
                port=int(port),
                verify_key=verify_key,
                reply_key=reply_key,
                invitation=invitation,
                invitation_end_time=int(invitation_end_time),
                changed_time=int(changed_time),
                expiry_time=expiry_time,
                renewal_seconds=renewal_seconds,
                generation=int(generation),
                kerberos=part,
            )
        except ValueError as error:
            raise BadLine(f"says what no record may say: {error}") from None
        return Entry(record, token, purged)

    def _associated(self, plain: tuple[bytes, ...]) -> bytes:
        # Every field that people can read is bound: without the name a writer
        # could swap two principals' keys, without the generation bring an old
        # key back, without the rest enable or move somebody.
        name, address, port, status, generation, *times = plain
        return enc(b"kdp/1 store", self._realm, name, generation, address, port, status, *times)


def foreign_digest(sealer: Sealer, line: bytes, other: bytes) -> bool:
    """Whether the digest in ``line`` is the one that belongs to ``other``."""
    one, two = _LINE.fullmatch(line), _LINE.fullmatch(other)
    if one is None or two is None:
        return False
    start, end = two.span(4)
    try:
        sealer.entry(other[:start] + one[4] + other[end:])
    except BadLine:
        return False
    return True


def _plain_fields(record: Record, status: str) -> tuple[bytes, ...]:
    address = f"[{record.address}]" if ":" in record.address else record.address
    numbers = (record.generation, record.changed_time, record.invitation_end_time)
    return (
        record.name.encode(),
        address.encode(),
        b"%d" % record.port,
        status.encode(),
        *[b"%d" % number for number in numbers],
    )


def _split(
    secrets: bytes,
) -> tuple[bytes, bytes, bytes, bytes, tuple[int, int], KerberosPart | None]:
    fields = []
    at = 0
    while at < len(secrets):
        end = at + 4 + int.from_bytes(secrets[at : at + 4], "big")
        fields.append(secrets[at + 4 : end])
        at = end
    strange = BadLine("holds something else than this version writes")
    if at != len(secrets) or not 4 <= len(fields) <= 6:
        raise strange
    ends, part = (0, 0), None
    if len(fields) > 4:
        if len(fields[4]) != _END.size:
            raise strange
        ends = _END.unpack(fields[4])
    if len(fields) > 5:
        try:
            part = KerberosPart.decoded(fields[5])
        except ValueError:
            raise strange from None
    elif len(fields) == 5 and not ends[0]:
        raise strange
    return fields[0], fields[1], fields[2], fields[3], ends, part
