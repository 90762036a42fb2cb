"""Very many lines in memory, sorted by name, in little more than their own bytes.

A list of chunks, each some lines in one `bytes`: as a Python object of its own
every line would cost several times its text.  Chunks are never changed, only
replaced, so a snapshot is a copy of the list.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from kdc.store.sealed.lines import has_part, name_of

__all__ = ["CHUNK_BYTES", "Table", "lines_of"]

CHUNK_BYTES = 8 * 1024  # one search runs through half of it; 8 KiB: about a microsecond


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield from chunk.splitlines(keepends=True)


class Table:
    """Lines by name.  `get` may run in any thread while one other changes the table.

    ``parts``: the names whose lines have a Kerberos part.
    """

    def __init__(self) -> None:
        self.parts: set[bytes] = set()
        self._chunks: list[bytes] = []
        self._firsts: list[bytes] = []
        self._count = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def extend(self, text: bytes, count: int, *, parts: bool = True) -> None:
        """Add ``count`` whole lines that sort after all that are there.

        Without ``parts`` none of them has one.
        """
        if parts:
            lines = text.splitlines(keepends=True)
            self.parts.update(name_of(line) for line in lines if has_part(line))
        self._count += count
        self._bytes += len(text)
        at = 0
        while at < len(text):
            end = text.find(b"\n", min(at + CHUNK_BYTES, len(text) - 1)) + 1
            self._chunks.append(text[at:end])
            self._firsts.append(name_of(self._chunks[-1]))
            at = end

    def get(self, name: bytes) -> bytes | None:
        with self._lock:
            if not self._chunks:
                return None
            chunk = self._chunks[self._index(name)]
        start = _find(chunk, name)
        return None if start < 0 else chunk[start : chunk.index(b"\n", start) + 1]

    def put(self, line: bytes) -> None:
        """Add ``line``, in the place of the one with its name if there is one."""
        name = name_of(line)
        with self._lock:
            if not self._chunks:
                self._chunks, self._firsts = [b""], [name]
            index = self._index(name)
            chunk = self._chunks[index]
            start = _find(chunk, name)
            if start < 0:
                start = end = _place(chunk, name)
                self._count += 1
            else:
                end = chunk.index(b"\n", start) + 1
            self._bytes += len(line) - (end - start)
            self._note(name, has_part(line))
            self._replace(index, chunk[:start] + line + chunk[end:])

    def remove(self, name: bytes) -> None:
        """Forget the line of ``name``; raises `KeyError`."""
        with self._lock:
            index = self._index(name) if self._chunks else 0
            start = _find(self._chunks[index], name) if self._chunks else -1
            if start < 0:
                raise KeyError(name)
            chunk = self._chunks[index]
            end = chunk.index(b"\n", start) + 1
            self._count -= 1
            self._bytes -= end - start
            self._note(name, False)
            self._replace(index, chunk[:start] + chunk[end:])

    def snapshot(self, first: bytes = b"") -> list[bytes]:
        """Return the chunks as they are now, from the one with ``first``.

        Later changes do not show in them.
        """
        with self._lock:
            return self._chunks[self._index(first) if first else 0 :]

    def __len__(self) -> int:
        return self._count

    @property
    def total_bytes(self) -> int:
        return self._bytes

    def _index(self, name: bytes) -> int:
        return max(0, bisect_right(self._firsts, name) - 1)

    def _note(self, name: bytes, part: bool) -> None:
        if part:
            self.parts.add(name)
        else:
            self.parts.discard(name)

    def _replace(self, index: int, chunk: bytes) -> None:
        pieces = [chunk]
        if len(chunk) > 2 * CHUNK_BYTES:
            half = chunk.index(b"\n", len(chunk) // 2) + 1
            pieces = [chunk[:half], chunk[half:]]
        pieces = [piece for piece in pieces if piece]
        self._chunks[index : index + 1] = pieces
        self._firsts[index : index + 1] = [name_of(piece) for piece in pieces]


def _find(chunk: bytes, name: bytes) -> int:
    """Return where the line of ``name`` begins, or -1."""
    start = b":" + name + b":"
    if chunk.startswith(start):
        return 0
    # With the newline: a principal may be called "active", as a status is.
    return chunk.find(b"\n" + start) + 1 or -1


def _place(chunk: bytes, name: bytes) -> int:
    """Return where a line of ``name``, which is not there, belongs."""
    lines = chunk.splitlines(keepends=True)
    return sum(map(len, lines[: bisect_left(lines, name, key=name_of)]))
