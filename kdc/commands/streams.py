"""The standard streams of a process, when whoever started it has closed some."""

from __future__ import annotations

import os
import sys

__all__ = ["open_standard_streams"]


def open_standard_streams() -> None:
    """Have all three open: the first file or socket would take the place of one that is not.

    Before anything else is opened.  What is asked for of a closed standard input
    is at its end; what is written to a closed standard output fails, as an
    answer that nobody gets is no answer; what is said to a closed standard
    error is said to nobody.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            _open_null(fd, flags)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        # For writing, though its descriptor is not: each flush says so.
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _open_null(fd: int, flags: int) -> None:
    found = os.open(os.devnull, flags)
    if found != fd:
        os.dup2(found, fd)
        os.close(found)
