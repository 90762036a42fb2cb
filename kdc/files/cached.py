"""Reading what is in memory already.  It never waits for a disk."""

from __future__ import annotations

import errno
import os

__all__ = ["read_cached"]

_NOT_HERE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def read_cached(fd: int, room: memoryview) -> int:
    """Read into ``room`` from where the file is read on, as `os.readv` does.

    Raises `BlockingIOError` if that would have to wait, or nobody can tell; and `OSError`.
    """
    no_wait = getattr(os, "RWF_NOWAIT", None)  # only Linux has it
    if no_wait is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    at = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        count = os.preadv(fd, [room], at, no_wait)
    except OSError as error:
        if error.errno in _NOT_HERE:  # not every file system has it either
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        raise
    os.lseek(fd, at + count, os.SEEK_SET)
    return count
