"""What is sent, as the stream of bytes that the receiver cuts into items.

Blocking; no Twisted.  Directories are walked while they are sent: however much
there is, little of it is in memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path

from kdc.errors import LocalIOError, local_error
from kdc.files.atomic import sha256_of
from kdc.hostile_text import shown
from kdc.protocol.records import EVEN_DATA
from kdc.transfer.messages import Held, Item, Kind
from kdc.transfer.survey import STDIN, Entry, Survey, Thing, walk

__all__ = ["CHUNK_BYTES", "Outgoing"]

# A multiple, so that no small records are left over; many, as each chunk is a change of threads.
CHUNK_BYTES = 16 * EVEN_DATA
_LOOK_SECONDS = 0.2


class Outgoing:
    """The stream behind the offer; `read` and `close` in a worker thread, one at a time.

    ``held``: what the receiver says that it has already.  ``done`` counts the
    bytes of content that were read or need not be sent, ``spared`` the latter.
    """

    def __init__(self, things: Sequence[Thing], surveyed: Survey, held: Mapping[str, Held]) -> None:
        self.done = 0
        self.spared = 0
        self._things = things
        self._offer = surveyed.offer
        self._sizes = surveyed.sizes
        self._held = held
        self._promised = 0
        self._items = 0
        # Used again and again: memory that is given back and taken anew costs more than reading.
        self._chunks = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(2)]
        self._room = self._chunks[0]
        self._hurry = False
        self._stopped = False
        self._stream = self._pieces()

    def read(self) -> memoryview:
        """Return the next chunk, empty at the end; raises `LocalIOError`.

        It is good until the call after the next one: while one chunk is sent,
        another can be read.
        """
        self._chunks.reverse()
        chunk = self._chunks[0]
        self._room, self._hurry = chunk, False
        for _ in self._stream:
            if not self._room or self._hurry:
                break
        return chunk[: len(chunk) - len(self._room)]

    def stop(self) -> None:
        """Let a `read` that waits for input return; from any thread."""
        self._stopped = True

    def close(self) -> None:
        self._stream.close()

    # Each of these puts something into the chunk, at most what there is room for, and yields.

    def _pieces(self) -> Generator[None, None, None]:
        for thing in self._things:
            if thing.text is not None:
                yield from self._text(thing.name, thing.text)
            for entry in walk(thing, []):
                if entry.kind == stat.S_IFDIR:
                    self._promise(0, entry.name)
                    yield from self._put(Item(Kind.DIRECTORY, entry.name, 0).encode())
                else:
                    yield from self._file(entry, follow=entry.name == thing.name)

    def _text(self, name: str, text: bytes) -> Iterator[None]:
        self._promise(len(text), name)
        held = self._held.get(name)
        known = held is not None and (held.size, held.sha256) == (
            len(text),
            hashlib.sha256(text).hexdigest(),
        )
        start = len(text) if known else 0
        yield from self._put(Item(Kind.TEXT, name, len(text), start=start).encode())
        self.done += len(text)
        yield from self._put(text[start:])

    def _file(self, entry: Entry, *, follow: bool) -> Iterator[None]:
        try:
            with _opened(entry.path, follow=follow) as file:
                status = os.fstat(file.fileno())
                if stat.S_ISREG(status.st_mode):
                    yield from self._regular(file, entry.name, status)
                elif follow:
                    self._promise(0, entry.name)
                    yield from self._put(Item(Kind.FILE, entry.name, None).encode())
                    yield from self._to_its_end(file)
                else:
                    raise OSError(errno.EINVAL, "it is no file any more")
        except OSError as error:
            raise local_error(entry.path, error) from None

    def _regular(self, file: FileIO, name: str, status: os.stat_result) -> Iterator[None]:
        # A log that grows is sent as long as it was.
        size = min(status.st_size, self._sizes.get(name, status.st_size))
        self._promise(size, name)
        start = self._start(file, name, size)
        item = Item(Kind.FILE, name, size, bool(status.st_mode & 0o100), start)
        yield from self._put(item.encode())
        self.done += start
        self.spared += start
        left = size - start
        while left:
            count = self._read_from(file, left)
            if not count:
                raise LocalIOError(
                    f"{shown(name)} became shorter while it was sent", hint="send it again"
                )
            left -= count
            yield

    def _to_its_end(self, file: FileIO) -> Iterator[None]:
        while not self._stopped:
            if not select.select([file], [], [], _LOOK_SECONDS)[0]:
                continue
            if not self._read_from(file, CHUNK_BYTES):
                return
            self._hurry = True  # somebody may be typing it
            yield

    def _read_from(self, file: FileIO, most: int) -> int:
        count = file.readinto(self._room[:most]) or 0
        self._room = self._room[count:]
        self.done += count
        return count

    def _put(self, data: bytes) -> Iterator[None]:
        while data:
            count = min(len(data), len(self._room))
            self._room[:count] = data[:count]
            self._room = self._room[count:]
            data = data[count:]
            yield

    def _start(self, file: FileIO, name: str, size: int) -> int:
        """How much of it the receiver has, which it must have proved."""
        held = self._held.get(name)
        if held is not None and held.size <= size:
            if sha256_of(file.fileno(), held.size) == held.sha256:
                return held.size
            file.seek(0)
        return 0

    def _promise(self, size: int, name: str) -> None:
        """Send no more than was offered: it would be refused, and rightly."""
        self._items += 1
        self._promised += size
        items, most = self._offer.items, self._offer.size
        if (items is not None and self._items > items) or (
            most is not None and self._promised > most
        ):
            raise LocalIOError(f"{shown(name)} came to it while it was sent", hint="send it again")


def _opened(path: Path, *, follow: bool) -> FileIO:
    if path == STDIN:  # we may have it without being allowed to open it again
        return FileIO(os.dup(0))
    # What was a file may have become a link.  To open a pipe would be to wait until somebody
    # writes to it, which nothing could end: whoever reads it looks first whether there is more.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    file = FileIO(os.open(path, flags))
    os.set_blocking(file.fileno(), True)
    return file
