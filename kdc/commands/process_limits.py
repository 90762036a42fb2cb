"""Limits of our processes: no core files, and as many descriptors as the system lets us have."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable

__all__ = ["set_limits"]


def set_limits() -> None:
    """Have this process, if it crashes, leave no image of its memory, where all the keys are.

    Each client takes a descriptor, and 1,024, the usual soft limit, is not many.

    For programs of our own only: what becomes of another program that uses the
    library is not ours to decide.  Only soft limits are changed, so that a
    command that we run can have core files again.
    """
    _set(resource.RLIMIT_CORE, lambda hard: 0)
    _set(resource.RLIMIT_NOFILE, lambda hard: hard)


def _set(limit: int, soft: Callable[[int], int]) -> None:
    with contextlib.suppress(OSError, ValueError):  # a sandbox that allows no such call
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (soft(hard), hard))
