"""The system calls of a store's files, in one place so that a test can fail each.

Nothing here follows a symbolic link in the last component of a path: whoever can
write the directory must not be able to point the store at another file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kdc.files.directory import mounted_alone
from kdc.files.opening import open_regular

__all__ = ["Files", "TimedFiles", "pieces_of", "read_all", "read_whole", "replace", "write_all"]

_MODE = 0o600
_PIECE = 1 << 20


class Files:
    """Thin: one method is one system call (two where the mode must be forced)."""

    def open(self, path: str, flags: int) -> int:
        return open_regular(path, flags, _MODE)

    def create(self, path: str) -> int:
        """Open a file that did not exist, 0600 whatever the umask."""
        fd = self.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            self.fchmod(fd)
        except OSError:
            os.close(fd)
            raise
        return fd

    def fchmod(self, fd: int) -> None:
        os.fchmod(fd, _MODE)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def write(self, fd: int, content: bytes | memoryview) -> int:
        return os.write(fd, content)

    def pwrite(self, fd: int, content: bytes, offset: int) -> int:
        return os.pwrite(fd, content, offset)

    def ftruncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def close(self, fd: int) -> None:
        os.close(fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def statuses(self, paths: Iterable[str]) -> list[os.stat_result | None]:
        """Return what is at each of ``paths``; None where nothing is."""
        found: list[os.stat_result | None] = []
        for path in paths:
            try:
                found.append(os.lstat(path))
            except FileNotFoundError:
                found.append(None)
        return found

    def lock(self, fd: int) -> bool:
        """Take the whole-file lock; False if another open file has it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True

    def mounted_alone(self, path: str) -> bool:
        return mounted_alone(Path(path))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def sync_directory(self, path: str) -> None:
        """Make the names in the directory of ``path`` durable."""
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(fd)
        finally:
            os.close(fd)

    def remove_if_there(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.unlink(path)


class TimedFiles(Files):
    """Tells how many seconds each wait for the disk took, in the thread that waited."""

    def __init__(self, synced: Callable[[float], None]) -> None:
        self._synced = synced

    def fdatasync(self, fd: int) -> None:
        began = time.perf_counter()
        super().fdatasync(fd)
        self._synced(time.perf_counter() - began)


def write_all(files: Files, fd: int, content: bytes) -> None:
    """Write the whole of ``content``, however few bytes each call takes."""
    with memoryview(content) as rest:
        done = 0
        while done < len(content):
            written = files.write(fd, rest[done:])
            if written <= 0:
                raise OSError(errno.EIO, "the file takes no more bytes")
            done += written


def read_whole(files: Files, path: str) -> bytes:
    """Return the content of a regular file; raises `OSError`."""
    fd = files.open(path, os.O_RDONLY)
    try:
        return read_all(files, fd)
    finally:
        files.close(fd)


def read_all(files: Files, fd: int) -> bytes:
    _require_regular(files, fd)
    return b"".join(_pieces(files, fd))


def pieces_of(files: Files, path: str) -> Iterator[bytes]:
    """Yield the content of a regular file, of which only a piece is in memory; raises `OSError`."""
    fd = files.open(path, os.O_RDONLY)
    try:
        _require_regular(files, fd)
        yield from _pieces(files, fd)
    finally:
        files.close(fd)


def _require_regular(files: Files, fd: int) -> None:
    if not stat.S_ISREG(files.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def _pieces(files: Files, fd: int) -> Iterator[bytes]:
    offset = 0
    while piece := files.pread(fd, _PIECE, offset):
        yield piece
        offset += len(piece)


def replace(
    files: Files,
    path: str,
    content: bytes | Iterable[bytes],
    rename: Callable[[str, str], None] | None = None,
) -> None:
    """Make ``content`` the whole of ``path``, readable by its owner only.

    When this returns, the new content survives a power cut.  If it raises
    before the rename, ``path`` is untouched and no temporary file is left.
    Hold the store's lock: the temporary name is always the same.  ``rename`` gives
    the new file its name.
    """
    new = path + ".new"
    files.remove_if_there(new)
    fd = files.create(new)
    try:
        try:
            for piece in (content,) if isinstance(content, bytes) else content:
                write_all(files, fd, piece)
            files.fsync(fd)
        finally:
            files.close(fd)
        (rename or files.rename)(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(new)
        raise
    files.sync_directory(path)
