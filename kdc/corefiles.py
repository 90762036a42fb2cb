"""Core files of our programs: none, since all the keys would be in them."""

from __future__ import annotations

import contextlib
import resource

__all__ = ["no_core_file"]


def no_core_file() -> None:
    """Have this process, if it crashes, leave no image of its memory.

    For programs of our own only: what becomes of another program that uses the
    library is not ours to decide.  Only the soft limit is changed, so that a
    command that we run can have core files again.
    """
    with contextlib.suppress(OSError, ValueError):  # a sandbox that allows no such call
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
