"""How far a transfer has got, on a terminal; silence in a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from kdc.terminal import amount, columns_of, shown

__all__ = ["Progress"]

_EVERY_SECONDS = 0.2
# What is done before anybody wonders how far it is needs no line.
_FIRST_SECONDS = 1.0
_BAR = 24
_LEAST_NAME = 12
_ERASE = "\r\x1b[K"


def _columns(stream: TextIO) -> int:
    try:
        return columns_of(stream.fileno())
    except (OSError, ValueError):
        return 80


class Progress:
    """One line that is drawn over and over: what, how far, how fast, how long still.

    It is as long as the terminal is wide at that moment: what does not fit is left out.  What
    was done before the first `update`, and the time until then, say nothing of how fast it is.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
        columns: Callable[[TextIO], int] = _columns,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._what = what
        self._total = total
        self._now = now
        self._columns = columns
        self._start: tuple[float, int] | None = None
        self._next = 0.0
        self._drawn = False
        # A dumb terminal goes to no beginning of a line and erases nothing.
        self.shown = self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def wait(self, what: str) -> None:
        """Show what is waited for, at once; how fast it goes is found out anew."""
        self._start = None
        if self.shown:
            self._draw(what[: self._columns(self._stream) - 1])

    def update(self, done: int, name: str = "") -> None:
        """So many bytes are done; ``name`` is what is at work now."""
        now = self._now()
        if self._start is None:
            self._start = now, done
            self._next = now + _FIRST_SECONDS
        if not self.shown or now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        began, before = self._start
        rate = max(done - before, 0) / max(now - began, 1e-6)
        self._draw(self._line(done, rate, name, self._columns(self._stream) - 1))

    def close(self) -> None:
        """Leave the line empty for what is said next."""
        if self._drawn:
            self._drawn = False
            self._write(_ERASE)

    def _draw(self, line: str) -> None:
        self._drawn = True
        self._write(_ERASE + line)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
            self._stream.write(text)
            self._stream.flush()

    def _line(self, done: int, rate: float, name: str, columns: int) -> str:
        """The fullest that fits."""
        line = ""
        for figures in self._figures(done, rate):
            line = f"{self._what} {figures}"
            room = columns - len(line) - 1
            if name and room >= _LEAST_NAME:
                return f"{self._what} {shown(name, room)} {figures}"
            if not name and room >= -1:
                return line
        return line[:columns]

    def _figures(self, done: int, rate: float) -> Iterator[str]:
        """How far it is: all that can be said of it, then less and less."""
        if not self._total:
            yield f"{amount(done)}  {amount(rate)}/s"
            yield amount(done)
            return
        share = min(done / self._total, 1.0)
        seconds = int(max(self._total - done, 0) / max(rate, 1.0))
        bar = "#" * int(share * _BAR)
        of = f"{amount(done)} of {amount(self._total)}"
        speed = f"{amount(rate)}/s  {seconds // 60}:{seconds % 60:02d} left"
        yield f"{share:4.0%} [{bar:<{_BAR}}] {of}  {speed}"
        yield f"{share:4.0%} {of}  {speed}"
        yield f"{share:4.0%}  {speed}"
        yield f"{share:4.0%}"
