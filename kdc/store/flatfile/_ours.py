"""Whether the files of an open store are still those under their names.

A lock keeps nobody out once its file has been removed: another process makes a
new one, locks that, and each of the two would undo what the other acknowledges.
So whoever writes looks first, and looks again before it acknowledges.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TypeAlias

import attrs

from kdc.store.sealed.files import Files

__all__ = ["Ours"]

_Identity: TypeAlias = tuple[int, ...]


def _identity_of(status: os.stat_result, written_once: bool) -> _Identity:
    """What tells a file from any other, and if it is ``written_once`` from itself edited."""
    if written_once:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return status.st_dev, status.st_ino


@attrs.define
class Ours:
    """The files that a store goes by.  One thread at a time.

    ``written_once``: the paths of files that are only ever replaced, so that
    one that was overwritten in place is another one, too.  ``lost`` says what
    happened to the first that was found to be another's; that is final.
    """

    _files: Files
    _written_once: frozenset[str]
    lost: str = attrs.field(init=False, default="")
    _known: dict[str, _Identity | None] = attrs.field(init=False, factory=dict)
    # Kept open, so that no other file gets its number once it has lost its name.
    _held: dict[str, int] = attrs.field(init=False, factory=dict)
    _replaced: list[int] = attrs.field(init=False, factory=list)

    def know(self, path: str, fd: int) -> None:
        """Go by what is open as ``fd``, which the caller keeps open.  Raises `OSError`."""
        self._known[path] = self._identity(path, self._files.fstat(fd))

    def hold(self, path: str) -> None:
        """Go by what is at ``path`` now, be it nothing.  Raises `OSError`."""
        try:
            fd, identity = self._open(path, path)
        except FileNotFoundError:
            self._known[path] = None
            return
        self._keep(path, fd, identity)

    def rename(self, new: str, path: str) -> None:
        """Give our file ``new`` its name, unless what has it is another's.  Raises `OSError`."""
        # All that can fail comes before the rename: after it there is no way back.
        fd, identity = self._open(new, path)
        try:
            self.check()
            self._files.rename(new, path)
        except BaseException:
            self._close(fd)
            raise
        self._keep(path, fd, identity)

    def check(self, path: str = "", size: int = 0) -> None:
        """Raise `OSError` if a file is no longer ours, now or at any time before.

        That at ``path`` must have ``size`` bytes: who has it open, too, could
        have made it longer or shorter.
        """
        if not self.lost:
            known = self._known
            found = dict(zip(known, self._files.statuses(known), strict=True))
            for at, status in found.items():
                is_now = None if status is None else self._identity(at, status)
                if is_now != known[at] or (at == path and status and status.st_size != size):
                    self.lost = f"{at} was removed, replaced or changed by somebody else"
                    break
        if self.lost:
            raise OSError(errno.ESTALE, self.lost)

    @contextlib.contextmanager
    def letting_go(self) -> Iterator[None]:
        """Free what was replaced when this ends: that takes a twentieth of a second for 200 MB."""
        try:
            yield
        finally:
            self._let_go()

    def _let_go(self) -> None:
        while self._replaced:
            self._close(self._replaced.pop())

    def close(self) -> None:
        self._let_go()
        while self._held:
            self._close(self._held.popitem()[1])

    def _identity(self, path: str, status: os.stat_result) -> _Identity:
        return _identity_of(status, path in self._written_once)

    def _open(self, at: str, path: str) -> tuple[int, _Identity]:
        fd = self._files.open(at, os.O_RDONLY)
        try:
            return fd, self._identity(path, self._files.fstat(fd))
        except BaseException:
            self._close(fd)
            raise

    def _keep(self, path: str, fd: int, identity: _Identity) -> None:
        before = self._held.pop(path, None)
        self._held[path], self._known[path] = fd, identity
        if before is not None:
            self._replaced.append(before)

    def _close(self, fd: int) -> None:
        with contextlib.suppress(OSError):  # it was open for reading only
            self._files.close(fd)
