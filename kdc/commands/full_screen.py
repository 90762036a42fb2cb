"""The whole terminal, drawn again and again, and given back as it was."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Any

from kdc.hostile_text import cut
from kdc.terminal import interruptible

__all__ = ["FullScreen", "full_screen"]

# The other screen of the terminal, without a cursor; and back.
_ENTER, _LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


class FullScreen:
    """``out`` is a terminal; ``keys`` is one too, or None if nobody can type."""

    def __init__(self, out: int, keys: int | None) -> None:
        self._out = out
        self._keys = keys

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows as they are now."""
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self._out)
            if size.columns and size.lines:
                return size.columns, size.lines
        return 80, 24

    def draw(self, lines: Sequence[str]) -> None:
        """Show as many as there is room for; whatever is in them, the terminal obeys none of it."""
        columns, rows = self.size
        shown = [cut(line, columns) for line in lines[:rows]]
        text = f"{_REST_OF_LINE}\r\n".join(shown)
        self._write(f"{_HOME}{text}{_REST_OF_LINE}{_REST}".encode())

    def key(self, seconds: float) -> str:
        """What is typed within this time; empty if it is nothing, or the window has changed."""
        if self._keys is None:
            select.select([], [], [], seconds)
            return ""
        if not select.select([self._keys], [], [], seconds)[0]:
            return ""
        typed = os.read(self._keys, 100)
        return typed.decode("ascii", "replace") or "q"  # nobody is there any more

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]


@contextlib.contextmanager
def full_screen() -> Iterator[FullScreen]:
    """Take the terminal of standard output; on every way out it is as it was."""
    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    screen = FullScreen(sys.stdout.fileno(), keys)
    with interruptible(), _letter_by_letter(keys):
        try:
            screen._write(_ENTER)
            yield screen
        finally:
            screen._write(_LEAVE)


@contextlib.contextmanager
def _letter_by_letter(keys: int | None) -> Iterator[None]:
    """Without echo, each key at once, Ctrl-C as ever; Ctrl-Z would leave the other screen there."""
    if keys is None:
        yield
        return
    before = termios.tcgetattr(keys)
    modes: list[Any] = [*before[:6], [*before[6]]]
    modes[tty.LFLAG] &= ~(termios.ECHO | termios.ICANON)
    modes[tty.CC][termios.VSUSP] = b"\x00"
    termios.tcsetattr(keys, termios.TCSADRAIN, modes)
    try:
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
