"""The files of the activity log: the one that is written, and those that were put aside.

logrotate calls them ``out.txt.1`` or ``out.txt-20261123``, with ``.gz`` or ``.bz2`` behind
it when it has compressed them.  They are read line by line, oldest first, however long they are.
Blocking.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from kdc.admin.log_lines import Entry, parse
from kdc.errors import LocalIOError, local_error
from kdc.files.opening import open_regular

__all__ = ["LogReader", "Wanted"]

_MAX_LINE = 8192
_BUFFER = 1 << 16
_TRIES = 10
_HEAD = 100  # lines that are looked at for the first with a time
_NEAR = 1 << 16  # bytes: a search for a time ends so near before it
_LOOK_SECONDS = 0.25
_UNPACK: dict[str, Callable[[Any], Any]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file),
    "bz2": bz2.BZ2File,
}
# What can need more memory than there is, and what there is not everywhere.
_NOT_UNPACKED = ("xz", "zst")
_BROKEN = (OSError, EOFError, zlib.error)


@attrs.frozen
class Wanted:
    """Which lines; what is empty is no matter.  ``since`` is a time as it stands in the log."""

    since: str = ""
    client: str = ""
    events: frozenset[str] = frozenset()

    def find(self, line: bytes) -> Entry | None:
        """What a line says, if it is one that is wanted; raises `ValueError` if it says nothing."""
        # Before it is taken apart, which costs more.
        if self.client.encode() not in line:
            return None
        if self.events and not any(event.encode() in line for event in self.events):
            return None
        entry = parse(line)
        if entry is None:
            raise ValueError("no line of the log")
        wanted = (
            entry.time >= self.since
            and self.client in ("", entry.principal)
            and (not self.events or entry.event in self.events)
        )
        return entry if wanted else None


@attrs.define(eq=False)
class _File:
    """One file, open.  It may be renamed, packed or removed meanwhile: it is read all the same."""

    path: Path
    plain: BinaryIO
    lines_of: BinaryIO
    identity: tuple[int, int]
    changed: float
    first: str = ""  # the time of its first line that has one
    begun: bytes = attrs.field(default=b"", repr=False)  # a line whose end is not there yet
    too_long: bool = False
    strange: int = 0

    @classmethod
    def open(cls, path: Path) -> _File:
        fd = open_regular(path)
        status = os.fstat(fd)
        plain = os.fdopen(fd, "rb", _BUFFER)
        unpack = _UNPACK.get(path.suffix[1:], lambda file: file)
        file = cls(path, plain, unpack(plain), _identity(status), status.st_mtime)
        with contextlib.suppress(*_BROKEN):  # whoever reads on meets it again
            file.first = file.next_time()
        return file

    def rewind(self) -> None:
        self.lines_of.seek(0)
        self.begun = b""
        self.too_long = False

    def lines(self) -> Iterator[bytes]:
        """Whole lines as far as there are any now; what is too long for one is empty."""
        while piece := self.lines_of.readline(_MAX_LINE):
            self.begun += piece
            if not piece.endswith(b"\n"):
                self.too_long = self.too_long or len(self.begun) > _MAX_LINE
                self.begun = b"" if self.too_long else self.begun
                continue
            line, self.begun = self.begun[:-1], b""
            self.strange += self.too_long
            if not self.too_long:
                yield line
            self.too_long = False

    def next_time(self) -> str:
        """The time of the next line that has one, among some."""
        for _ in range(_HEAD):
            entry = parse(self.lines_of.readline(_MAX_LINE).rstrip(b"\n"))
            if entry is not None and entry.time:
                return entry.time
        return ""

    def go_near(self, since: str) -> None:
        """Skip most of what is older.  Of a packed file nothing can be skipped."""
        self.rewind()
        if self.lines_of is not self.plain or not since:
            return
        low, high = 0, os.fstat(self.plain.fileno()).st_size
        while high - low > _NEAR:
            middle = (low + high) // 2
            self.plain.seek(middle)
            self.plain.readline(_MAX_LINE)
            found = self.next_time()
            # Where nothing has a time it is read from before.
            low, high = (middle, high) if found and found < since else (low, middle)
        self.plain.seek(low)
        if low:
            self.plain.readline(_MAX_LINE)

    def close(self) -> None:
        self.lines_of.close()
        self.plain.close()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@attrs.define
class LogReader:
    """Reads the log that is written at ``path``.  ``tell`` is told what cannot be read."""

    path: Path
    wanted: Wanted
    tell: Callable[[str], None]

    def entries(self, pause: Callable[[float], None] | None = None) -> Iterator[Entry | None]:
        """Yield what is wanted, oldest first; raises `LocalIOError`.

        With ``pause`` it goes on with what is written from then on, whatever becomes of the
        file, and yields None whenever there is nothing new.
        """
        files = self._open()
        try:
            for file in self._not_too_old(files):
                file.go_near(self.wanted.since)
                yield from self._read(file)
                if pause is None or file is not files[-1]:
                    self._leave(file)
            while pause is not None:
                yield None
                pause(_LOOK_SECONDS)
                yield from self._read_on(files, pause)
        finally:
            for file in files:
                file.close()

    def _not_too_old(self, files: list[_File]) -> list[_File]:
        """Without those of which all is older: the next one begins before that time."""
        since = self.wanted.since
        begin = 0
        for number, file in enumerate(files[1:], 1):
            if since and file.first and file.first < since:
                begin = number
        return files[begin:]

    def _read(self, file: _File) -> Iterator[Entry]:
        try:
            for line in file.lines():
                if not line:
                    continue
                try:
                    entry = self.wanted.find(line)
                except ValueError:
                    file.strange += 1
                    continue
                if entry is not None:
                    yield entry
        except _BROKEN as error:
            self.tell(f"{file.path}: it is damaged, and not all of it was read: {error}")

    def _leave(self, file: _File) -> None:
        if file.strange:
            lines = "1 line is" if file.strange == 1 else f"{file.strange} lines are"
            self.tell(f"{file.path}: {lines} none of the log's, and passed over")
        if file.begun or file.too_long:
            self.tell(f"{file.path}: the last line has no end, and was passed over")

    def _read_on(self, files: list[_File], pause: Callable[[float], None]) -> Iterator[Entry]:
        """What is new in the last file, and in those that have come after it."""
        file = files[-1]
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:  # moved away; who writes it does not know yet
            yield from self._read(file)
            return
        except OSError as error:
            raise local_error(self.path, error) from None
        if _identity(there) == file.identity:
            if there.st_size < file.plain.tell():
                self.tell(f"{file.path}: it was cut, and is read from its beginning")
                file.rewind()
            yield from self._read(file)
            return
        # Who writes it may still have a line for the old one.
        pause(_LOOK_SECONDS)
        yield from self._read(file)
        self._leave(file)
        files[:] = self._after(file)
        for newer in files:
            newer.rewind()
            yield from self._read(newer)
            if newer is not files[-1]:
                self._leave(newer)

    def _after(self, file: _File) -> list[_File]:
        """Those that came after it, open; it is closed, as are the others."""
        found = self._open()
        known = [each.identity for each in found]
        if file.identity in known:
            newer = found[known.index(file.identity) + 1 :]
        else:  # packed meanwhile
            file.rewind()
            began = file.next_time()
            newer = [each for each in found[:-1] if each.first > began] + found[-1:]
        for each in (file, *found):
            if each not in newer:
                each.close()
        return newer

    def _open(self) -> list[_File]:
        """Open all of them, oldest first: what is done to their names then does not matter."""
        for _ in range(_TRIES):
            paths = self._paths()
            files: dict[tuple[int, int], _File] = {}
            try:
                for path in paths:
                    file = self._opened(path)
                    if file is not None:
                        files.setdefault(file.identity, file)
                same = [_identity(os.stat(each.path)) == each.identity for each in files.values()]
            except FileNotFoundError:
                same = [False]  # rotated in this moment
            if all(same) and paths == self._paths():
                if not files:
                    raise LocalIOError(
                        f"{self.path}: there is no such log", hint="name the file that it is in"
                    )
                return sorted(
                    files.values(),
                    key=lambda each: (each.path == self.path, each.first, each.changed),
                )
            for each in files.values():
                each.close()
        raise LocalIOError(f"{self.path}: it is rotated all the time", hint="try again")

    def _opened(self, path: Path) -> _File | None:
        if path.suffix[1:] in _NOT_UNPACKED and path != self.path:
            self.tell(f"{path}: it was not read; unpack it first")
            return None
        try:
            return _File.open(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            trouble = local_error(path, error)
            if path == self.path or isinstance(error, PermissionError):
                raise trouble from None
            self.tell(f"{trouble}; it was passed over")
            return None

    def _paths(self) -> list[Path]:
        """The file itself and whatever is called as if it had been put aside."""
        name = re.compile(
            rf"({re.escape(self.path.name)}(?:[.-][0-9]{{1,14}}(?:-[0-9]{{1,10}}){{0,3}})?)"
            rf"(?:\.({'|'.join((*_UNPACK, *_NOT_UNPACKED))}))?"
        )
        try:
            there = {
                found[0]: found[1]
                for each in os.listdir(self.path.parent)
                if (found := name.fullmatch(each))
            }
        except OSError as error:
            raise local_error(self.path.parent, error) from None
        # While one is packed it is there twice, and the packed one is not whole.
        return sorted(
            self.path.with_name(each)
            for each, plain in there.items()
            if each == plain or plain not in there
        )
