"""pwd.txt itself: a header line, the principals in the order of their names, an end line."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import stat
from collections.abc import Iterable

import attrs

from kdc.protocol.crypto import same
from kdc.protocol.names import check_realm
from kdc.store.sealed.files import Files, write_all
from kdc.store.sealed.masterkey import mac_key
from kdc.store.sealed.table import Table

__all__ = [
    "WITH_PARTS",
    "DamagedBase",
    "Header",
    "end_line",
    "first_line",
    "format_of",
    "read_base",
    "write_base",
]

# Versions that know nothing of Kerberos refuse what they would not keep.
WITH_PARTS = 2
_HEADER = re.compile(
    rb"kdc-principals:([12]):([A-Za-z0-9.-]{1,64}):([0-9a-f]{16}):([0-9a-f]{16})"
    rb":(0|[1-9][0-9]{0,18}):(0|[1-9][0-9]{0,18}):\n"
)
_END = re.compile(rb"end:([A-Za-z0-9+/]{43}=):\n")
_END_BYTES = len("end::\n") + 44
_MAX_HEADER_BYTES = 300
_PIECE = 1 << 20
_PIECES_BEFORE_SYNC = 8


class DamagedBase(Exception):
    """pwd.txt is not what the store wrote; `kdc.store.flatfile._store.check` finds out where."""


@attrs.frozen
class Header:
    """The first line.  ``format`` is 2 where there are lines with a Kerberos part."""

    realm: str
    store_id: str
    key_id: str
    generation: int
    count: int
    format: int = 1

    def line(self) -> bytes:
        return (
            f"kdc-principals:{self.format}:{self.realm}:{self.store_id}:{self.key_id}"
            f":{self.generation}:{self.count}:\n"
        ).encode()

    @classmethod
    def parse(cls, line: bytes) -> Header | None:
        match = _HEADER.fullmatch(line)
        if match is None:
            return None
        realm, store_id, key_id = (match[number].decode() for number in (2, 3, 4))
        numbers = (int(match[number]) for number in (5, 6, 1))
        return cls(check_realm(realm), store_id, key_id, *numbers)

    def now(self, table: Table, generation: int) -> Header:
        """Return the first line for what is in ``table``."""
        form = format_of(table)
        return attrs.evolve(self, generation=generation, count=len(table), format=form)


def format_of(table: Table) -> int:
    return WITH_PARTS if table.parts else 1


def end_line(mac: bytes) -> bytes:
    return b"end:" + base64.b64encode(mac) + b":\n"


def first_line(files: Files, fd: int) -> bytes:
    """Return the first line, or the beginning of one that is too long."""
    first, newline, _ = files.pread(fd, _MAX_HEADER_BYTES, 0).partition(b"\n")
    return first + newline


def read_base(files: Files, fd: int, header: Header, master: bytes) -> Table:
    """Return the lines, authenticated as a whole; raises `DamagedBase` or `OSError`.

    One MAC over the file costs a tenth of a second for a million principals;
    each line's own seal is checked when it is first needed.
    """
    status = files.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise DamagedBase("not a regular file")
    start, end = len(header.line()), status.st_size - _END_BYTES
    table = Table()
    mac = hmac.new(mac_key(master, header.store_id, "base"), header.line(), hashlib.sha256)
    rest = b""
    at = start
    while at < end:
        piece = files.pread(fd, min(_PIECE, end - at), at)
        if not piece:
            raise DamagedBase("ends early")
        mac.update(piece)
        at += len(piece)
        text = rest + piece
        cut = text.rfind(b"\n") + 1
        # What is parsed before the MAC has been compared is only cut at newlines.
        _extend(table, text[:cut], parts=header.format >= WITH_PARTS)
        rest = text[cut:]
    match = _END.fullmatch(files.pread(fd, _END_BYTES + 1, end)) if end >= start else None
    if match is None or not same(base64.b64encode(mac.digest()), match[1]):
        raise DamagedBase("does not match its own end line")
    if len(table) != header.count:
        raise DamagedBase("holds another number of principals than its first line says")
    return table


def _extend(table: Table, text: bytes, *, parts: bool) -> None:
    try:
        table.extend(text, text.count(b"\n"), parts=parts)
    except ValueError:  # a line without a name: not ours, whatever the MAC would say
        raise DamagedBase("has lines that are not principals") from None


def write_base(
    files: Files, path: str, header: Header, master: bytes, chunks: Iterable[bytes]
) -> None:
    """Write a whole pwd.txt under the new name ``path``, durably.

    Raises `OSError`, and then leaves no file.  The caller renames it.
    """
    files.remove_if_there(path)
    fd = files.create(path)
    try:
        mac = hmac.new(mac_key(master, header.store_id, "base"), digestmod=hashlib.sha256)
        for number, piece in enumerate(_gathered(header.line(), chunks), 1):
            mac.update(piece)
            write_all(files, fd, piece)
            if number % _PIECES_BEFORE_SYNC == 0:
                # In slices: the file system makes other files' fsyncs wait for ours.
                files.fdatasync(fd)
        write_all(files, fd, end_line(mac.digest()))
        files.fsync(fd)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(path)
        raise
    finally:
        files.close(fd)


def _gathered(first: bytes, chunks: Iterable[bytes]) -> Iterable[bytes]:
    pieces, size = [first], len(first)
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            yield b"".join(pieces)
            pieces, size = [], 0
    yield b"".join(pieces)
