"""The journal: every change since (at least) the last pwd.txt, one batch after the other.

A batch is some principals' lines and a commit line whose MAC covers them and the
commit line before.  The file only ever grows; when something in it could be
wrong, another takes its place.  So a copy taken at any moment is a beginning of
the journal, and at most its last batch is torn.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hmac
import os
import re
from collections.abc import Callable, Sequence

import attrs

from kdc.protocol.crypto import same
from kdc.protocol.names import check_realm
from kdc.store.sealed.files import Files, write_all
from kdc.store.sealed.lines import generation_of
from kdc.store.sealed.masterkey import mac_key

__all__ = ["COMMIT", "Chain", "Journal", "JournalHeader", "Scan", "scan"]

_HEADER = re.compile(
    rb"kdc-journal:([12]):([A-Za-z0-9.-]{1,64}):([0-9a-f]{16}):([0-9a-f]{16}):(0|[1-9][0-9]{0,18}):\n"
)
COMMIT = re.compile(rb"commit:([1-9][0-9]{0,18}):([A-Za-z0-9+/]{43}=):\n")
_COMMIT_START = b"\ncommit:"
_COMMIT_BYTES = 80  # no commit line is longer
_PIECE = 1 << 20


@attrs.frozen
class JournalHeader:
    """The first line; ``after`` is the generation that the first change follows.

    ``format`` is 2 where there may be lines with a Kerberos part.
    """

    realm: str
    store_id: str
    key_id: str
    after: int
    format: int = 1

    def line(self) -> bytes:
        return (
            f"kdc-journal:{self.format}:{self.realm}:{self.store_id}:{self.key_id}:{self.after}:\n"
        ).encode()

    @classmethod
    def parse(cls, line: bytes) -> JournalHeader | None:
        match = _HEADER.fullmatch(line)
        if match is None:
            return None
        realm, store_id, key_id = (match[number].decode() for number in (2, 3, 4))
        return cls(check_realm(realm), store_id, key_id, int(match[5]), int(match[1]))


class Chain:
    """The MAC of each batch, over it and the MAC before."""

    def __init__(self, header: JournalHeader, master: bytes) -> None:
        self._key = mac_key(master, header.store_id, "journal")
        self._previous = hmac.digest(self._key, header.line(), "sha256")

    def next(self, batch: bytes, generation: int) -> bytes:
        """Return the commit line of ``batch``; `accept` it once it stands."""
        mac = hmac.digest(self._key, self._previous + b"%d:" % generation + batch, "sha256")
        return b"commit:%d:%s:\n" % (generation, base64.b64encode(mac))

    def accept(self, commit: bytes) -> None:
        self._previous = base64.b64decode(commit.split(b":")[2])


@attrs.frozen
class Scan:
    """What was found in a journal.

    ``valid_bytes`` is where the last good batch ends; behind it is nothing, or
    a batch that is torn or damaged.  ``broken_line`` is where that begins.
    """

    header: JournalHeader
    generation: int
    valid_bytes: int
    broken_line: int
    rest: bytes = attrs.field(repr=False)
    chain: Chain = attrs.field(repr=False)

    @property
    def could_be_torn(self) -> bool:
        """Whether ``rest`` can be what a crash leaves of one unacknowledged batch.

        Not if another batch follows: that is only written when the one before
        is durable.
        """
        commits = (b"\n" + self.rest).count(_COMMIT_START)
        last = self.rest[self.rest.rfind(b"\n", 0, -1) + 1 :]
        return commits == 0 or (commits == 1 and last.startswith(_COMMIT_START[1:]))


def scan(
    files: Files,
    fd: int,
    header: JournalHeader,
    master: bytes,
    after: int,
    take: Callable[[list[bytes]], None],
) -> Scan:
    """Check all batches up to the first that is not whole and authentic.

    Their lines with a generation above ``after`` are given to ``take``, batch by
    batch: a journal can be large.  Raises `OSError`.
    """
    chain = Chain(header, master)
    generation, newlines = header.after, 1
    at = len(header.line())
    window = _Window(files, fd, at)
    while (found := window.next()) is not None:
        batch, commit = found
        match = COMMIT.fullmatch(commit)
        if match is None or not same(chain.next(batch, int(match[1])), commit):
            break
        chain.accept(commit)
        if int(match[1]) > after:
            lines = batch.splitlines(keepends=True)
            take([line for line in lines if generation_of(line) > after])
        generation = int(match[1])
        newlines += batch.count(b"\n") + 1
        at += len(batch) + len(commit)
        window.drop(len(batch) + len(commit))
    return Scan(header, generation, at, newlines + 1, window.rest(), chain)


class _Window:
    """Reads a journal piece by piece, and finds whole batches."""

    def __init__(self, files: Files, fd: int, offset: int) -> None:
        self._files = files
        self._fd = fd
        self._offset = offset
        self._buffer = bytearray()
        self._searched = 0

    def next(self) -> tuple[bytes, bytes] | None:
        """Return the lines and the commit line that come next, if they are whole."""
        buffer = self._buffer
        while True:
            start = buffer.find(_COMMIT_START, self._searched) + 1
            end = buffer.find(b"\n", start) if start else -1
            if end >= 0:
                return bytes(buffer[:start]), bytes(buffer[start : end + 1])
            # What the next piece completes begins at most a commit line earlier.
            self._searched = max(0, len(buffer) - _COMMIT_BYTES)
            if not self._read():
                return None

    def drop(self, length: int) -> None:
        del self._buffer[:length]
        self._searched = 0

    def rest(self) -> bytes:
        while self._read():
            pass
        return bytes(self._buffer)

    def _read(self) -> bool:
        piece = self._files.pread(self._fd, _PIECE, self._offset)
        self._offset += len(piece)
        self._buffer += piece
        return bool(piece)


class Journal:
    """The journal while it is open for appending."""

    def __init__(
        self, files: Files, path: str, fd: int, size: int, generation: int, chain: Chain | None
    ) -> None:
        self.path = path
        self.size = size  # what is acknowledged; behind it the file may hold anything
        self.generation = generation
        self.sound = chain is not None
        self._files = files
        self._fd = fd
        self._chain = chain

    @classmethod
    def create(cls, files: Files, path: str, header: JournalHeader, master: bytes) -> Journal:
        """Begin a journal under the new name ``path``; not durable before `append` or `sync`.

        Raises `OSError`, and then leaves no file.
        """
        files.remove_if_there(path)
        fd = files.create(path)
        try:
            write_all(files, fd, header.line())
        except OSError:
            discard(files, path, fd)
            raise
        return cls(files, path, fd, len(header.line()), header.after, Chain(header, master))

    @classmethod
    def reopen(cls, files: Files, path: str, found: Scan) -> Journal:
        """Go on behind what `scan` found, which must be the whole file.  Raises `OSError`."""
        fd = files.open(path, os.O_RDWR | os.O_APPEND)
        return cls(files, path, fd, found.valid_bytes, found.generation, found.chain)

    @classmethod
    def missing(cls, files: Files, path: str, generation: int) -> Journal:
        """Stand for a journal that is not there, or ends in a torn batch.

        Nothing is ever appended behind a torn batch: a reader would take both
        for damage.
        """
        return cls(files, path, -1, 0, generation, None)

    def write(self, lines: Sequence[bytes], generation: int) -> None:
        """Append a batch, not yet durable.  If it raises `OSError`, the journal is unsound."""
        if self._chain is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        batch = b"".join(lines)
        commit = self._chain.next(batch, generation)
        self.sound = False
        write_all(self._files, self._fd, batch + commit)
        self.sound = True
        self._chain.accept(commit)
        self.size += len(batch) + len(commit)
        self.generation = generation

    def append(self, lines: Sequence[bytes], generation: int) -> None:
        """Append a batch and wait until it is durable.

        If it raises `OSError`, the journal is unsound: nothing may be appended
        to it any more, since after a failed fsync nobody knows what is on the
        disk.  What was acknowledged before is still its first ``size`` bytes.
        """
        size, last = self.size, self.generation
        try:
            self.write(lines, generation)
            self.sync(data_only=True)
        except OSError:
            self.sound = False
            self.size, self.generation = size, last
            # Best effort: a copy taken now should not show what was refused.
            with contextlib.suppress(OSError):
                self._files.ftruncate(self._fd, size)
            raise

    def sync(self, *, data_only: bool = False) -> None:
        if data_only:
            self._files.fdatasync(self._fd)
        else:
            self._files.fsync(self._fd)

    def discard(self) -> None:
        discard(self._files, self.path, self._fd)
        self._fd = -1

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._files.close(fd)


def discard(files: Files, path: str, fd: int) -> None:
    """Close and remove a file that came to nothing."""
    with contextlib.suppress(OSError):
        files.unlink(path)
    with contextlib.suppress(OSError):
        files.close(fd)
