"""A long file goes to the disk while more of it comes, and then out of memory.  Blocking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

__all__ = ["WriteBehind", "forget"]

# So much is begun to be written at a time; a file that is shorter is left to the system.
_STEP_BYTES = 8 << 20
# What is still on its way to the disk cannot be forgotten yet: it is asked for again so long.
_LOOK_BACK_BYTES = 32 << 20


def forget(fd: int, start: int, count: int) -> None:
    """Have the system write that part of a file, and forget what of it is on the disk already.

    It is a hint: where there is no such call, or not for that file, nothing happens.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, start, count, os.POSIX_FADV_DONTNEED)


class WriteBehind:
    """For one file that is written from ``at`` on.

    Otherwise all of it waits for the fsync, which then takes as long as the disk; and it fills
    memory that nothing has used before, which costs more than to use the same again and again.
    """

    def __init__(self, at: int = 0, *, forget: Callable[[int, int, int], None] = forget) -> None:
        self._at = at
        self._forget = forget

    def wrote(self, fd: int, size: int) -> None:
        """The file ``fd`` has been written up to ``size``."""
        if size - self._at >= _STEP_BYTES:
            start = max(0, self._at - _LOOK_BACK_BYTES)
            self._at = size
            self._forget(fd, start, size - start)
