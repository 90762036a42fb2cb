"""A store's files, read line by line: what is looked at, and what is said of it.

However large they are, no more than a piece of them is in memory at a time.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs

from kdc.store.sealed.files import Files
from kdc.store.sealed.lines import BadLine, Entry, Sealer

__all__ = ["Line", "Problem", "Source", "Take", "line_of", "opened"]

_PIECE = 1 << 18
_NAME = re.compile(rb":([a-z0-9][a-z0-9._-]{0,63}):")


@attrs.frozen
class Problem:
    """One thing that is wrong.  ``line`` is 0 where it is the file as a whole.

    A harmless one does not keep the store from being opened.
    """

    file: str
    line: int
    text: str
    harmless: bool = False

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.text}"


@attrs.frozen
class Line:
    """One line of a file; ``entry`` is None if it is not authentic."""

    file: str
    number: int
    raw: bytes = attrs.field(repr=False)
    entry: Entry | None = attrs.field(repr=False)

    def name(self) -> str | None:
        """Return the name that can still be read, authentic or not."""
        match = _NAME.match(self.raw)
        return match[1].decode() if match else None


Take: TypeAlias = Callable[[Line], None]


class Source:
    """An open file, as long as it was then: what somebody appends meanwhile does not count."""

    def __init__(self, files: Files, fd: int, path: str) -> None:
        self.path = path
        self._files = files
        self._fd = fd
        status = files.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        self.size = status.st_size

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield all lines with their numbers; raises `OSError`."""
        return enumerate(io.BufferedReader(_Raw(self._files, self._fd, self.size), _PIECE), 1)

    def first_line(self) -> bytes:
        return next((raw for _, raw in self.lines()), b"")


class _Raw(io.RawIOBase):
    def __init__(self, files: Files, fd: int, size: int) -> None:
        self._files = files
        self._fd = fd
        self._at = 0
        self._size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as room:
            most = min(len(room), self._size - self._at)
            piece = self._files.pread(self._fd, most, self._at) if most else b""
            room[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


@contextlib.contextmanager
def opened(files: Files, path: str) -> Iterator[Source]:
    """Raises `OSError`."""
    fd = files.open(path, os.O_RDONLY)
    try:
        yield Source(files, fd, path)
    finally:
        files.close(fd)


def line_of(problems: list[Problem], path: str, number: int, raw: bytes, sealer: Sealer) -> Line:
    """Read one line; if it is not authentic, that is one of the ``problems``."""
    try:
        return Line(path, number, raw, sealer.entry(raw))
    except BadLine as error:
        text = str(error)
        if not raw.endswith(b"\n"):
            text = "is torn: it ends in the middle"
        problems.append(Problem(path, number, text))
        return Line(path, number, raw, None)
