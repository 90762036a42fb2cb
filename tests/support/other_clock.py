"""A program of ours with another clock: ``python -m tests.support.other_clock``, see `main`."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable
from typing import Any, Self

__all__ = ["main", "shift"]

_BOOT_CLOCKS = {
    getattr(time, name) for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC") if hasattr(time, name)
}


def shift(seconds: int, up_seconds: int) -> None:
    """Let everything in this process see a wall clock ``seconds`` ahead (or behind).

    To be called before anybody has taken ``time.time`` or ``datetime`` for
    himself.  The machine was started ``up_seconds`` earlier than this one: no
    two have the same clock of that kind either.
    """
    real: dict[str, Callable[..., Any]] = {
        name: getattr(time, name)
        for name in ("time", "time_ns", "gmtime", "localtime", "strftime", "clock_gettime_ns")
    }

    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(time.time(), tz)

    def clock_gettime_ns(clock: int) -> int:
        more = up_seconds if clock in _BOOT_CLOCKS else seconds
        return int(real["clock_gettime_ns"](clock)) + more * 10**9

    for name, replacement in (
        ("time", lambda: real["time"]() + seconds),
        ("time_ns", lambda: real["time_ns"]() + seconds * 10**9),
        ("gmtime", lambda at=None: real["gmtime"](time.time() if at is None else at)),
        ("localtime", lambda at=None: real["localtime"](time.time() if at is None else at)),
        ("strftime", lambda form, at=None: real["strftime"](form, at or time.localtime())),
        ("clock_gettime_ns", clock_gettime_ns),
        ("clock_gettime", lambda clock: time.clock_gettime_ns(clock) / 1e9),
    ):
        setattr(time, name, replacement)
    dt.datetime = Shifted  # type: ignore[misc]


def main() -> None:
    """YEARS PROGRAM ARGUMENT...: run ``kdc`` or ``kdcclient`` with a clock so many years ahead."""
    years, program, *arguments = sys.argv[1:]
    shift(round(float(years) * 365.25 * 86400), abs(round(float(years) * 1_000_000)))
    from kdc.commands.main import kdc_main, kdcclient_main

    sys.argv = [program, *arguments]
    {"kdc": kdc_main, "kdcclient": kdcclient_main}[program]()


if __name__ == "__main__":
    main()
