"""What a person is told on stderr.  Without Twisted, which takes longer to load than to speak."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import sys
import termios
from collections.abc import Iterator

from kdc.errors import ConfigurationError, KDCError

__all__ = ["amount", "ask", "complain", "has_terminal", "interruptible", "say"]


def say(line: str) -> None:
    """One line for the person; a closed terminal or pipe is not our concern."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def complain(program: str, error: KDCError) -> int:
    """Say what went wrong and what to do next; return the exit status."""
    say(f"{program}: {error}" + (f"\n  {error.hint}" if error.hint else ""))
    return int(error.exit_status)


def amount(count: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ask(prompt: str, what: str, instead: str) -> str:
    """Return what is typed without echo; ``instead``: what to do where there is no terminal."""
    if not has_terminal():
        raise ConfigurationError(f"no terminal to ask for the {what} on", hint=instead)
    with interruptible():
        try:
            return getpass.getpass(prompt)
        except (EOFError, termios.error):
            raise ConfigurationError(f"no {what} was typed") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"the {what} that was typed is not UTF-8") from None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a question, and the program with it, by `SystemExit`.

    A running reactor would only take note of them; the default action of SIGTERM
    would leave the terminal without its echo.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, _leave)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)
