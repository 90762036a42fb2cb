"""Calls that Linux has and most of its file systems understand, but not all."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

__all__ = ["EXCHANGE", "NOREPLACE", "SYSTEM", "UNSUPPORTED", "System"]

NOREPLACE, EXCHANGE = 1, 2
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)


class System:
    """What the C library ``libc`` has of them."""

    def __init__(self, libc: Any) -> None:
        self._libc = libc

    def rename(self, source_fd: int, source: str, target_fd: int, target: str, flags: int) -> bool:
        """False if the system or the file system has no such thing; raises `OSError`."""
        call = getattr(self._libc, "renameat2", None)
        if call is None:
            return False
        if call(source_fd, os.fsencode(source), target_fd, os.fsencode(target), flags) == 0:
            return True
        number = ctypes.get_errno()
        if number in UNSUPPORTED:
            return False
        raise OSError(number, os.strerror(number), target)

    def sync(self, fd: int) -> bool:
        """Make the whole file system durable that ``fd`` is on; False if that was not done."""
        call = getattr(self._libc, "syncfs", None)
        return call is not None and call(fd) == 0


SYSTEM = System(ctypes.CDLL(None, use_errno=True))
