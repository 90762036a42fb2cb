"""twistd's pid file, which says nothing of a foreground process, or of a number used again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from kdc.errors import KDCError
from kdc.files.private import read_small

__all__ = ["see_to_pid_file"]

_DEFAULT = "twistd.pid"
_MOST_BYTES = 1 << 22  # of a command line, which has no end of its own
_TWISTD = ("twistd", "twistd3", "twisted")


def see_to_pid_file(twistd: Any, proc: Path = Path("/proc")) -> None:
    """Keep ``twistd``, its own options, from minding a pid file that says nothing.

    In the foreground none is needed unless it was asked for, and two programs in one directory
    would mind each other's.  One that is left over names a process that is gone, whose
    number may be another's by now: in a container it is the same small one at each start.
    """
    path = twistd["pidfile"]
    if twistd["nodaemon"] and path == _DEFAULT:
        twistd["pidfile"] = ""
    elif path and _is_stale(Path(path), proc):
        with contextlib.suppress(OSError):
            os.unlink(path)


def _is_stale(path: Path, proc: Path) -> bool:
    """Whether it is certain that the process it names is another program, or ourselves.

    A process that is gone is twistd's own to find out.
    """
    try:
        number = int(read_small(path, 100))
        if number == os.getpid():
            return True
        line = read_small(proc / str(number) / "cmdline", _MOST_BYTES)
    except (ValueError, OSError, KDCError):
        return False
    words = line.split(b"\0")[:4]  # twistd, python3 twistd, python3 -m twisted
    return not any(os.path.basename(os.fsdecode(word)) in _TWISTD for word in words)
