"""How far a transfer has got, on a terminal; silence in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from kdc.terminal import amount

__all__ = ["Progress"]

_EVERY_SECONDS = 0.2
# What is done before anybody wonders how far it is needs no line.
_FIRST_SECONDS = 1.0
_BAR = 24


class Progress:
    """One line that is drawn over and over: what, how far, how fast, how long still."""

    def __init__(
        self,
        what: str,
        total: int | None,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._what = what
        self._total = total
        self._now = now
        self._began = now()
        self._next = self._began + _FIRST_SECONDS
        self._drawn = False
        self._shown = self._stream.isatty()

    def update(self, done: int) -> None:
        now = self._now()
        if not self._shown or now < self._next:
            return
        self._drawn = True
        self._next = now + _EVERY_SECONDS
        rate = done / max(now - self._began, 1e-6)
        self._stream.write(f"\r\x1b[K{self._what} {self._bar(done, rate)}")
        self._stream.flush()

    def close(self) -> None:
        """Leave the line empty for what is said next."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _bar(self, done: int, rate: float) -> str:
        if not self._total:
            return f"{amount(done)}  {amount(rate)}/s"
        share = min(done / self._total, 1.0)
        left = max(self._total - done, 0) / max(rate, 1.0)
        bar = "#" * int(share * _BAR)
        return (
            f"{share:4.0%} [{bar:<{_BAR}}] {amount(done)} of {amount(self._total)}"
            f"  {amount(rate)}/s  {int(left) // 60}:{int(left) % 60:02d} left"
        )
