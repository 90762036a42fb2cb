"""The one way to open a file by its path, where somebody may have put something else.

Where the system's own call is used instead, `tests/project/test_openings.py` says why.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

__all__ = ["open_regular"]

_OPENED_FOR_US = re.compile("/dev/null|/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")


def open_regular(
    path: Path | str,
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    *,
    dir_fd: int | None = None,
    follow: bool = False,
) -> int:
    """Return a descriptor of a regular file; raises `OSError`, ENXIO for anything else.

    It never waits: not for who might open a FIFO's other end, not for a device.
    ``flags`` and ``mode`` are those of open(2).  ``follow``: for paths that the
    user has typed or configured.  There a link is as good as what it leads to, and what
    has been opened for us on purpose, as ``<(command)`` in a shell does, is read whatever
    it is, and waited for.
    """
    flags |= os.O_CLOEXEC | os.O_NOCTTY
    if follow and flags & os.O_ACCMODE == os.O_RDONLY and _OPENED_FOR_US.fullmatch(str(path)):
        return os.open(path, flags)
    flags |= os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, flags, mode, dir_fd=dir_fd)
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(kind):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    except BaseException:
        os.close(fd)
        raise
    return fd
