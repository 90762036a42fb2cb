"""What of broken transfers goes: what is too old or too much, and what there is no room for.

Blocking; no Twisted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable

from kdc.errors import NoRoom
from kdc.files.tree import Tree, remove_tree
from kdc.transfer._parts import DIRECTORY_FLAGS, existing_root, lock

__all__ = ["KEEP_SECONDS", "free_bytes", "make_room", "tidy"]

KEEP_SECONDS = 7 * 24 * 3600.0
_MAX_KEPT_OF_ONE_SENDER = 8
_RESERVE_BYTES = 64 << 20


def tidy(inbox: int, sender: str = "", *, now: float | None = None) -> None:
    """Remove what is too old, and of ``sender`` what is too much; raises `OSError`."""
    now = time.time() if now is None else now
    with existing_root(inbox) as root:
        if root is None:
            return
        oldest_first = _oldest_first(root)
        own = _of_sender(oldest_first, sender)
        surplus = set(own[:-_MAX_KEPT_OF_ONE_SENDER])
        for changed, name in oldest_first:
            # A clock that was set back must not keep things for years.
            if abs(now - changed) > KEEP_SECONDS or name in surplus:
                _remove(root, name)


def make_room(
    inbox: int, sender: str, wanted: int, free: Callable[[int], int] | None = None
) -> None:
    """Make room for ``wanted`` bytes: of what is kept of the same sender the oldest goes first.

    What is kept of others stays: nobody can know whether what is offered will
    ever come.  Raises `LocalIOError`, and removes nothing, if it is not enough.
    """
    missing = wanted - (free or free_bytes)(inbox)
    if missing <= 0:
        return
    going = []
    with existing_root(inbox) as root:
        for name in [] if root is None else _of_sender(_oldest_first(root), sender):
            if missing > 0 and root is not None:
                size = _size_of(root, name)
                missing -= size
                going += [name] if size else []
        if missing > 0:
            raise NoRoom(why := os.strerror(errno.ENOSPC), why=why)
        for name in going:
            if root is not None:
                _remove(root, name)


def _of_sender(names: Iterable[tuple[float, str]], sender: str) -> list[str]:
    return [name for _, name in names if name.rpartition("-")[0] == sender]


def _size_of(root: int, name: str) -> int:
    """How much would be free without it: nothing while somebody is using it."""
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=root)
    except OSError:
        return 0
    tree = Tree(fd)
    try:
        if not lock(fd):
            return 0
        return sum(
            os.stat(each, dir_fd=directory, follow_symlinks=False).st_blocks * 512
            for _, directory, names in tree.walk()
            for each in names
        )
    except OSError:
        return 0
    finally:
        tree.close()


def _oldest_first(root: int) -> list[tuple[float, str]]:
    found = []
    for name in os.listdir(root):
        with contextlib.suppress(FileNotFoundError):
            found.append((os.stat(name, dir_fd=root, follow_symlinks=False).st_mtime, name))
    return sorted(found)


def _remove(root: int, name: str) -> None:
    """Unless somebody is using it."""
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=root)
    except OSError:
        return
    try:
        if lock(fd):
            with contextlib.suppress(OSError):
                remove_tree(name, root)
    finally:
        os.close(fd)


def free_bytes(directory: int) -> int:
    """How much may be stored there: a full disk stops more than a receiver, so not all of it."""
    status = os.fstatvfs(directory)
    reserve = min(_RESERVE_BYTES, status.f_blocks * status.f_frsize // 100)
    return max(status.f_bavail * status.f_frsize - reserve, 0)
