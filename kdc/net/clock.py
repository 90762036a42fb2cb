"""The clocks: one that only goes forward and counts sleep, and the reactor's timers."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["milliseconds", "use_monotonic_timers"]

# Tickets expire while a machine sleeps, too; where there is no such clock, the
# ordinary monotonic one is the nearest thing.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def milliseconds() -> int:
    """Time since some fixed moment; no step of the wall clock moves it."""
    return time.clock_gettime_ns(_CLOCK) // 1_000_000


def use_monotonic_timers(reactor: Any) -> None:
    """Make the reactor's timers follow a clock that nobody sets.

    Twisted's follow the wall clock: a step back by an hour would stretch every
    deadline by an hour.  Call it before anything has been scheduled.
    """
    reactor.seconds = time.monotonic
