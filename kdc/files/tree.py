"""A tree of files below one directory, out of which no link leads.  Blocking; no Twisted.

Each component is opened by itself, from the directory before it and never
through a link: whatever somebody plants there meanwhile, a path stays inside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator

from kdc.files.numbering import numbered
from kdc.files.opening import open_regular
from kdc.files.system import EXCHANGE, NOREPLACE, SYSTEM, UNSUPPORTED, System

__all__ = [
    "Tree",
    "exchange",
    "move_to_free_name",
    "remove_tree",
    "require_movable",
    "sync_all",
]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # follows no link either
_MAX_NUMBER = 10_000


class Tree:
    """Takes over the directory ``fd``.  Methods raise `OSError`; paths are components."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # Where we were last, and only that: descriptors are scarcer than calls.
        self._here: tuple[str, ...] = ()
        self._here_fd = -1

    def directory(self, parts: tuple[str, ...]) -> int:
        """Return a descriptor of a directory, good until the next call."""
        if parts[: len(self._here)] != self._here:
            self._leave()
        for part in parts[len(self._here) :]:
            below = os.open(part, _DIRECTORY, dir_fd=self._here_fd if self._here else self.fd)
            above = (*self._here, part)
            self._leave()
            self._here, self._here_fd = above, below
        return self._here_fd if self._here else self.fd

    def _leave(self) -> None:
        if self._here:
            os.close(self._here_fd)
        self._here, self._here_fd = (), -1

    def make_directory(self, parts: tuple[str, ...], mode: int = 0o700) -> None:
        """Of ``mode`` as far as the umask lets it, and open to its owner."""
        os.mkdir(parts[-1], mode & 0o777 | 0o700, dir_fd=self.directory(parts[:-1]))

    def create(self, parts: tuple[str, ...], mode: int = 0o600) -> int:
        """Return a descriptor of a new file; its mode is as for a directory."""
        mode = mode & 0o777 | 0o600
        return os.open(parts[-1], _NEW, mode, dir_fd=self.directory(parts[:-1]))

    def remove(self, parts: tuple[str, ...]) -> None:
        """Remove a file, or a link, but nothing that it leads to."""
        os.unlink(parts[-1], dir_fd=self.directory(parts[:-1]))

    def reopen(self, parts: tuple[str, ...]) -> int:
        """Return a descriptor of a file that is there: an ordinary one with one name."""
        fd = open_regular(parts[-1], os.O_RDWR, dir_fd=self.directory(parts[:-1]))
        if os.fstat(fd).st_nlink != 1:
            os.close(fd)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return fd

    def walk(self) -> Iterator[tuple[tuple[str, ...], int, list[str]]]:
        """Yield each directory: its path, a descriptor for now, and what in it is no directory.

        However deep it is, no more than one of them is open at a time.
        """
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            parts = waiting.pop()
            fd = self.directory(parts)
            others = []
            for name in sorted(os.listdir(fd)):
                if _is_directory(name, fd):
                    waiting.append((*parts, name))
                else:
                    others.append(name)
            yield parts, fd, others

    def sync_directories(self) -> None:
        """Make durable which names there are; the files' contents are their own matter."""
        for _, fd, _ in self.walk():
            os.fsync(fd)

    def close(self) -> None:
        self._leave()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def remove_tree(name: str, directory: int) -> None:
    """Remove a directory with all that is in it, and not what links in it lead to.

    What is deep in it is moved up first: so few descriptors are enough for any depth.
    """
    top = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        while below := _empty(top, top):
            for each in below:
                fd = os.open(each, _DIRECTORY, dir_fd=top)
                try:
                    _empty(fd, top)
                finally:
                    os.close(fd)
                os.rmdir(each, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)


def _empty(fd: int, top: int) -> list[str]:
    """Remove what is there, but what contains something: that is in ``top`` now, as returned."""
    moved = []
    for name in os.listdir(fd):
        if not _is_directory(name, fd):
            os.unlink(name, dir_fd=fd)
            continue
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            free = name if fd == top else f".{secrets.token_hex(8)}"
            os.rename(name, free, src_dir_fd=fd, dst_dir_fd=top)
            moved.append(free)
    return moved


def _is_directory(name: str, fd: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


def sync_all(tree: Tree, system: System = SYSTEM) -> None:
    """Make everything in ``tree`` durable: for many files at once, as that is much faster."""
    if system.sync(tree.fd):
        return
    for _, directory, names in tree.walk():
        for name in names:
            fd = open_regular(name, os.O_RDWR, dir_fd=directory)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        os.fsync(directory)


def move_to_free_name(source_fd: int, name: str, target_fd: int, system: System = SYSTEM) -> str:
    """Move a file or directory, under its own name or the next free one; return which.

    Nothing that is there is touched, and the name appears with all of it.
    """
    is_directory = _is_directory(name, source_fd)
    for number in range(_MAX_NUMBER):
        free = numbered(name, number, directory=is_directory)
        with contextlib.suppress(FileExistsError):
            if not system.rename(source_fd, name, target_fd, free, NOREPLACE):
                _move_the_old_way(source_fd, name, target_fd, free)
            return free
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def exchange(source_fd: int, name: str, target_fd: int, system: System = SYSTEM) -> bool:
    """Put a file or directory where another of that name was; what was there comes back here.

    False if there was nothing, and the name is simply taken.
    """
    try:
        if system.rename(source_fd, name, target_fd, name, EXCHANGE):
            return True
        # Not here: good for files, and an error that says so for directories.
        os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    except FileNotFoundError:
        os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    return False


def _move_the_old_way(source_fd: int, name: str, target_fd: int, free: str) -> None:
    """Where the file system cannot rename without replacing."""
    if _is_directory(name, source_fd):
        _move_directory_over_our_own(source_fd, name, target_fd, free)
        return
    try:
        os.link(name, free, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        _move_over_our_own(source_fd, name, target_fd, free)
    else:
        os.unlink(name, dir_fd=source_fd)


def _move_directory_over_our_own(source_fd: int, name: str, target_fd: int, free: str) -> None:
    """Take the name with an empty directory, which may be renamed over: only one can make it."""
    os.mkdir(free, 0o700, dir_fd=target_fd)
    try:
        os.rename(name, free, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    except OSError:
        # Not on every file system, it seems.  There it is taken by what it is for: renamed over
        # would be nothing but a directory that somebody has made since, and only an empty one.
        os.rmdir(free, dir_fd=target_fd)
        os.rename(name, free, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def _move_over_our_own(source_fd: int, name: str, target_fd: int, free: str) -> None:
    """Where there are no hard links either: take the name with nothing, then replace that.

    Whoever took the name at the same time has it, or fails: only one can make it.
    """
    os.close(os.open(free, _NEW, 0o600, dir_fd=target_fd))
    try:
        os.rename(name, free, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(free, dir_fd=target_fd)
        raise


def require_movable(source_fd: int, target_fd: int, system: System = SYSTEM) -> None:
    """Raises `OSError` if what is put together in one directory gets no name in the other.

    It is tried with an empty file and an empty directory: permissions, mounts and file systems
    are of too many kinds to be asked.
    """
    name = f".kdc-{secrets.token_hex(8)}"
    os.close(os.open(name, _NEW, 0o600, dir_fd=source_fd))
    _try_to_move(source_fd, name, target_fd, os.unlink, system)
    os.mkdir(name, 0o700, dir_fd=source_fd)
    _try_to_move(source_fd, name, target_fd, os.rmdir, system)


def _try_to_move(
    source_fd: int, name: str, target_fd: int, remove: Callable[..., None], system: System
) -> None:
    place = source_fd
    try:
        name, place = move_to_free_name(source_fd, name, target_fd, system), target_fd
    finally:
        remove(name, dir_fd=place)
