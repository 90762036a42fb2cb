"""A disk in memory that fails on command and loses power.

It stands for `kdc.store.sealed.files.Files`.  What was written is there for every
reader at once, as in a page cache; what survives a power cut is only what an
fsync has covered, and perhaps more.  After a failed fsync the page is clean but
not on the disk, and a later fsync that succeeds does not bring it there: that
is how Linux does it.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import stat
from collections.abc import Callable, Iterable

from kdc.store.flatfile import FlatFileStore
from kdc.store.sealed.files import Files

__all__ = ["Disk", "PowerCut", "abandon"]


class PowerCut(BaseException):
    """The machine stops in the middle of a call."""


class _Inode:
    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.number = next(self._numbers)
        self.content = b""
        self.durable = b""
        self.lost = False  # an fsync failed: nobody knows any more
        self.locked = False


class Disk(Files):
    """``before`` is called with the name of each call and may raise, or say "short"."""

    def __init__(self, seed: int = 0) -> None:
        self.names: dict[str, _Inode] = {}
        self.durable_names: dict[str, _Inode] = {}
        self.pending: list[Callable[[dict[str, _Inode]], None]] = []
        self.fds: dict[int, _Inode] = {}
        self.before: Callable[[str], str | None] = lambda call: None
        self.random = random.Random(seed)
        self._next_fd = 1000  # never a real one

    def open(self, path: str, flags: int) -> int:
        self.before("open")
        if path not in self.names:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            inode = _Inode()
            self._change_names(lambda names: names.update({path: inode}))
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._next_fd += 1
        self.fds[self._next_fd] = self.names[path]
        return self._next_fd

    def fchmod(self, fd: int) -> None:
        self.before("fchmod")

    def create(self, path: str) -> int:
        fd = self.open(path, os.O_CREAT | os.O_EXCL)
        try:
            self.fchmod(fd)
        except OSError:
            del self.fds[fd]
            raise
        return fd

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self.before("pread")
        return self.fds[fd].content[offset : offset + length]

    def write(self, fd: int, content: bytes | memoryview) -> int:
        if self.before("write") == "short":
            content = content[: max(1, len(content) // 2)]
        self.fds[fd].content += bytes(content)
        return len(content)

    def pwrite(self, fd: int, content: bytes, offset: int) -> int:
        self.before("pwrite")
        inode = self.fds[fd]
        inode.content = (
            inode.content[:offset].ljust(offset, b"\0")
            + content
            + inode.content[offset + len(content) :]
        )
        return len(content)

    def ftruncate(self, fd: int, length: int) -> None:
        self.before("ftruncate")
        self.fds[fd].content = self.fds[fd].content[:length].ljust(length, b"\0")

    def fsync(self, fd: int) -> None:
        inode = self.fds[fd]
        try:
            self.before("fsync")
        except OSError:
            inode.lost = True
            raise
        if not inode.lost:
            inode.durable = inode.content

    def fdatasync(self, fd: int) -> None:
        self.fsync(fd)

    def rename(self, old: str, new: str) -> None:
        self.before("rename")
        inode = self.names[old]
        self._change_names(lambda names: names.update({new: inode}) or names.pop(old, None))

    def unlink(self, path: str) -> None:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self.before("unlink")
        self._change_names(lambda names: names.pop(path, None))

    def close(self, fd: int) -> None:
        inode = self.fds.pop(fd)
        inode.locked = False
        self.before("close")

    def fstat(self, fd: int) -> os.stat_result:
        self.before("fstat")
        return self._status(self.fds[fd])

    def statuses(self, paths: Iterable[str]) -> list[os.stat_result | None]:
        self.before("lstat")
        return [self._status(self.names[path]) if path in self.names else None for path in paths]

    def _status(self, inode: _Inode) -> os.stat_result:
        mode = stat.S_IFREG | 0o600
        return os.stat_result((mode, inode.number, 0, 1, 0, 0, len(inode.content), 0, 0, 0))

    def lock(self, fd: int) -> bool:
        self.before("lock")
        inode = self.fds[fd]
        was, inode.locked = inode.locked, True
        return not was

    def mounted_alone(self, path: str) -> bool:
        return False

    def exists(self, path: str) -> bool:
        return path in self.names

    def sync_directory(self, path: str) -> None:
        self.before("sync_directory")
        self.durable_names = dict(self.names)
        self.pending.clear()

    def _change_names(self, change: Callable[[dict[str, _Inode]], object]) -> None:
        change(self.names)
        self.pending.append(change)  # type: ignore[arg-type]

    def after_kill(self) -> Disk:
        """Return the disk as it is when the process has died: all is there."""
        return self._restarted(dict(self.names), lambda inode: inode.content)

    def after_power_cut(self, luck: str) -> Disk:
        """Return what is on the disk after a power cut.

        ``luck`` is "none": only what was synced; "all": everything; "some":
        any of the names that changed, of each file any beginning of what was added,
        or a hole of zeros where its last sectors did not come.
        """
        if luck == "all":
            return self.after_kill()
        names = dict(self.durable_names)
        if luck == "some":
            # Not only a beginning: nothing promises that names reach the disk in order.
            for change in self.pending:
                if self.random.random() < 0.5:
                    change(names)
        return self._restarted(
            names, lambda inode: inode.durable if luck == "none" else self._some(inode)
        )

    def _some(self, inode: _Inode) -> bytes:
        if not inode.content.startswith(inode.durable):
            return self.random.choice([inode.content, inode.durable])
        cut = self.random.randint(len(inode.durable), len(inode.content))
        if self.random.random() < 0.3:
            return inode.content[:cut].ljust(len(inode.content), b"\0")
        return inode.content[:cut]

    def _restarted(self, names: dict[str, _Inode], of: Callable[[_Inode], bytes]) -> Disk:
        disk = Disk(self.random.randrange(1 << 30))
        for path, inode in names.items():
            disk.names[path] = fresh = _Inode()
            fresh.content = fresh.durable = of(inode)
        disk.durable_names = dict(disk.names)
        return disk


def abandon(store: FlatFileStore) -> None:
    """Give up the lock of a store on the real disk without closing, as a killed process does."""
    disk = store._disk
    os.close(disk._lock)
    disk._lock = os.open(os.devnull, os.O_RDONLY)
