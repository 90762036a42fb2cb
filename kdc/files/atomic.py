"""Files that appear under their name only when they are whole.  Blocking; no Twisted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from kdc.errors import local_error
from kdc.files.write_behind import WriteBehind

__all__ = [
    "PartialFile",
    "end_here",
    "hashed",
    "sha256_of",
    "sync_directory",
    "write_pieces",
    "write_with_holes",
]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # follows no link either
_MAX_PIECES = 512  # of one writev; the system's limit is 1024
_HASH_BYTES = 1 << 20
_HOLE_BYTES = 1 << 16  # less is not worth a call to the system


def write_pieces(fd: int, pieces: Sequence[bytes | memoryview]) -> int:
    """Append ``pieces`` to a file, all of them; return how many bytes that were."""
    written = 0
    for at in range(0, len(pieces), _MAX_PIECES):
        some = pieces[at : at + _MAX_PIECES]
        total = sum(map(len, some))
        done = os.writev(fd, some)
        if done < total:  # near the end of the disk: the next write tells why
            rest = memoryview(b"".join(some))[done:]
            while rest:
                rest = rest[os.write(fd, rest) :]
        written += total
    return written


def write_with_holes(fd: int, pieces: Sequence[bytes | memoryview]) -> int:
    """As `write_pieces`, but blocks of zeros become holes.

    The file may be shorter afterwards than where it is written on: see `end_here`.
    """
    for piece in pieces:
        for at in range(0, len(piece), _HOLE_BYTES):
            block = bytes(piece[at : at + _HOLE_BYTES])
            if block.strip(b"\0"):
                write_pieces(fd, [block])
            else:
                os.lseek(fd, len(block), os.SEEK_CUR)
    return sum(map(len, pieces))


def end_here(fd: int) -> None:
    """Let a file reach to where it is written on, if there is a hole before it."""
    os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))


def sha256_of(fd: int, count: int) -> str | None:
    """Return the digest of the next ``count`` bytes in hexadecimal, None if there are fewer."""
    digest = hashed(fd, count)
    return None if digest is None else digest.hexdigest()


def hashed(fd: int, count: int, digest: hashlib._Hash | None = None) -> hashlib._Hash | None:
    """As `sha256_of`, to go on with; or going on with ``digest``."""
    digest = hashlib.sha256() if digest is None else digest
    while count:
        data = os.read(fd, min(count, _HASH_BYTES))
        if not data:
            return None
        digest.update(data)
        count -= len(data)
    return digest


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` durable; raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class PartialFile:
    """Writes beside ``path`` and moves there in the end.

    The temporary name is fresh, never a link, and readable by its owner only.
    All methods raise `LocalIOError`; after one that failed, call `discard`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self._behind = WriteBehind()
        self._temporary = path.with_name(f".kdc-{secrets.token_hex(8)}.part")
        try:
            if os.path.isdir(path):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._fd: int | None = os.open(self._temporary, _NEW, 0o600)
        except OSError as error:
            raise local_error(path, error) from None

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append ``pieces``, all of them."""
        try:
            self.written += write_pieces(self._open_fd, pieces)
        except OSError as error:
            raise local_error(self.path, error) from None
        self._behind.wrote(self._open_fd, self.written)

    def begin_again(self) -> None:
        """What was written was nothing."""
        try:
            os.ftruncate(self._open_fd, 0)
            os.lseek(self._open_fd, 0, os.SEEK_SET)
        except OSError as error:
            raise local_error(self.path, error) from None
        self.written = 0
        self._behind = WriteBehind()

    def finish(self) -> None:
        """Make what was written durable under its temporary name."""
        try:
            os.fsync(self._open_fd)
            os.close(self._open_fd)
        except OSError as error:
            raise local_error(self.path, error) from None
        finally:
            self._fd = None

    def show(self) -> None:
        """Give the finished file its name, durably, in the place of what has it."""
        try:
            self._temporary.replace(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise local_error(self.path, error) from None

    def show_new(self) -> None:
        """The same, where nothing has that name yet; otherwise it fails, and that stays."""
        try:
            os.link(self._temporary, self.path)
            self._temporary.unlink()
            sync_directory(self.path.parent)
        except OSError as error:
            raise local_error(self.path, error) from None

    def discard(self) -> None:
        """Leave nothing behind.  For a file that was shown it does nothing."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    @property
    def _open_fd(self) -> int:
        if self._fd is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._fd
