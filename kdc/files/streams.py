"""What passes on what is written to it: pipes, devices, and what we were started with.

Nothing can be taken back there, and nothing takes its place.  Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from kdc.files.atomic import write_pieces

__all__ = ["is_stream", "open_stream", "own_stream", "write_stream"]

_DESCRIPTOR = re.compile("/proc/(?P<process>[0-9]+)/(task/[0-9]+/)?fd/(?P<number>[0-9]{1,9})")
_MAX_LINKS = 40
_LOOK_MILLISECONDS = 200


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
        return own_stream(ours)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        os.close(fd)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    if not stat.S_ISFIFO(mode):
        os.set_blocking(fd, True)
    return fd


def own_stream(number: int) -> int:
    """Return a descriptor of our own for one that others write to as well; raises `OSError`.

    A pipe is opened anew: then it need not be waited for, and theirs stays as it is.
    """
    if stat.S_ISFIFO(os.fstat(number).st_mode):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
            return os.open(f"/proc/self/fd/{number}", flags)
    return os.dup(number)


def write_stream(
    fd: int, pieces: Sequence[bytes | memoryview], given_up: Callable[[], bool]
) -> int:
    """Write all of it; return how much that is.  Raises `OSError`.

    Whoever reads a pipe may take his time: until all is written, or it is ``given_up``.
    """
    if os.get_blocking(fd):
        return write_pieces(fd, pieces)
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            if given_up():
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            if poll.poll(_LOOK_MILLISECONDS):
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(fd, rest) :]
    return sum(map(len, pieces))


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
