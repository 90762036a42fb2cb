"""The one way to open a file by its path, where somebody may have put something else.

Where the system's own call is used instead, `tests/project/test_openings.py` says why.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from pathlib import Path

__all__ = ["is_stream", "open_regular", "open_stream"]

_OPENED_FOR_US = re.compile("/dev/null|/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")
_DESCRIPTOR = re.compile("/proc/(?P<process>[0-9]+)/(task/[0-9]+/)?fd/(?P<number>[0-9]{1,9})")
_MAX_LINKS = 40


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


def is_stream(path: Path) -> bool:
    """Whether what is written there is passed on: a FIFO or a device such as a terminal.

    So is what leads to something that we were started with, as ``/dev/stderr`` does, whatever
    that is: a file of that name would take its place.  Raises `OSError`, ENXIO for what is
    neither that nor a regular file, nor missing: for sockets, for disks, where it would be
    written over everything, and for what another process has open.
    """
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def open_stream(path: Path) -> int:
    """Return a descriptor to write to a FIFO, a device or what was opened for us.

    Raises `OSError`, ENXIO if nobody reads from the FIFO: that is not waited for.
    """
    ours = _descriptor(path)
    if ours is not None:
        return os.dup(ours)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        os.close(fd)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    os.set_blocking(fd, True)
    return fd


def _descriptor(path: Path) -> int | None:
    """Which of our own descriptors a path leads to, by however many links; None if to none.

    Raises `OSError`: EBADF if it is not open for writing, ENXIO if it is another process's.
    """
    for _ in range(_MAX_LINKS):
        path = Path(os.path.realpath(path.parent), path.name)
        found = _DESCRIPTOR.fullmatch(str(path))
        if found is not None:
            if int(found["process"]) != os.getpid():
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            number = int(found["number"])
            if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return number
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None
