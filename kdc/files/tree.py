"""A tree of files below one directory, out of which no link leads.  Blocking; no Twisted.

Each component is opened by itself, from the directory before it and never
through a link: whatever somebody plants there meanwhile, a path stays inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator

__all__ = ["Tree", "exchange", "move_to_free_name", "sync_all"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)
_MAX_NUMBER = 10_000


class Tree:
    """Takes over the directory ``fd``.  Methods raise `OSError`; paths are components."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._open: list[tuple[str, int]] = []  # from the top down: where we were last

    def directory(self, parts: tuple[str, ...]) -> int:
        """Return a descriptor of a directory, good until the next call."""
        common = 0
        for (name, _), part in zip(self._open, parts, strict=False):
            if name != part:
                break
            common += 1
        while len(self._open) > common:
            os.close(self._open.pop()[1])
        for part in parts[common:]:
            above = self._open[-1][1] if self._open else self.fd
            self._open.append((part, os.open(part, _DIRECTORY, dir_fd=above)))
        return self._open[-1][1] if self._open else self.fd

    def make_directory(self, parts: tuple[str, ...]) -> None:
        os.mkdir(parts[-1], 0o700, dir_fd=self.directory(parts[:-1]))

    def create(self, parts: tuple[str, ...], *, executable: bool = False) -> int:
        """Return a descriptor of a new file, which is its owner's alone."""
        mode = 0o700 if executable else 0o600
        return os.open(parts[-1], _NEW, mode, dir_fd=self.directory(parts[:-1]))

    def reopen(self, parts: tuple[str, ...]) -> int:
        """Return a descriptor of a file that is there: an ordinary one with one name."""
        fd = os.open(parts[-1], _OLD, dir_fd=self.directory(parts[:-1]))
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(fd)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return fd

    def files(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield the path and size of each ordinary file in it."""
        with contextlib.suppress(FileNotFoundError):
            for root, _, names, fd in os.fwalk(".", dir_fd=self.fd, follow_symlinks=False):
                parts = tuple(root.split("/")[1:])
                for name in sorted(names):
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield (*parts, name), status.st_size

    def sync_directories(self) -> None:
        """Make durable which names there are; the files' contents are their own matter."""
        for _, _, _, fd in os.fwalk(".", dir_fd=self.fd, follow_symlinks=False):
            os.fsync(fd)

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop()[1])
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def sync_all(tree: Tree) -> None:
    """Make everything in ``tree`` durable: for many files at once, as that is much faster."""
    syncfs = getattr(_LIBC, "syncfs", None)
    if syncfs is not None and syncfs(tree.fd) == 0:
        return
    for parts, _ in tree.files():
        fd = tree.reopen(parts)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    tree.sync_directories()


def move_to_free_name(source_fd: int, name: str, target_fd: int) -> str:
    """Move a file or directory, under its own name or the next free one; return which.

    Nothing that is there is touched, and the name appears with all of it.
    """
    for number in range(_MAX_NUMBER):
        free = name if not number else f"{name}.{number}"
        with contextlib.suppress(FileExistsError):
            if not _renameat2(source_fd, name, target_fd, free, _RENAME_NOREPLACE):
                _move_the_old_way(source_fd, name, target_fd, free)
            return free
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def exchange(source_fd: int, name: str, target_fd: int) -> bool:
    """Put a file or directory where another of that name was; what was there comes back here.

    False if there was nothing, and the name is simply taken.
    """
    try:
        if _renameat2(source_fd, name, target_fd, name, _RENAME_EXCHANGE):
            return True
        # Not here: good for files, and an error that says so for directories.
        os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    except FileNotFoundError:
        os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    return False


def _move_the_old_way(source_fd: int, name: str, target_fd: int, free: str) -> None:
    """Where the file system cannot rename without replacing."""
    if stat.S_ISDIR(os.stat(name, dir_fd=source_fd, follow_symlinks=False).st_mode):
        os.mkdir(free, 0o700, dir_fd=target_fd)  # an empty directory may be renamed over
        os.rename(name, free, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    else:
        os.link(name, free, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        os.unlink(name, dir_fd=source_fd)


def _renameat2(source_fd: int, source: str, target_fd: int, target: str, flags: int) -> bool:
    """False if the system or the file system has no such thing."""
    call = getattr(_LIBC, "renameat2", None)
    if call is None:
        return False
    if call(source_fd, os.fsencode(source), target_fd, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), target)
