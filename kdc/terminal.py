"""What a person is told on stderr.  Without Twisted, which takes longer to load than to speak."""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from io import FileIO
from typing import BinaryIO

from kdc.errors import ConfigurationError, ErrorKind, KDCError
from kdc.hostile_text import harmless as harmless
from kdc.hostile_text import shown as shown

__all__ = [
    "AnswerLost",
    "amount",
    "answer",
    "ask",
    "ask_pasted",
    "columns_of",
    "complain",
    "confirm",
    "counted",
    "date",
    "end_line",
    "harmless",
    "has_terminal",
    "interruptible",
    "say",
    "shown",
    "span",
    "wait_shown",
]

_MOST_TYPED = 4096
_QUIET_SECONDS = 0.1  # no piece of a paste comes so long after the one before
_LOOK_SECONDS = 0.2
_MAX_ANSWER = 1000


def say(line: str) -> None:
    """Tell the person; a closed terminal or pipe is not our concern.

    Whatever is in it, a terminal obeys nothing of it but the line breaks, which are ours:
    what may hold others comes through `shown` or `harmless`.
    """
    with contextlib.suppress(OSError, ValueError):
        print("\n".join(map(harmless, line.split("\n"))), file=sys.stderr, flush=True)


class AnswerLost(OSError):
    """Standard output does not take what was asked for: it is full, closed, or nobody reads it."""


def answer(line: str) -> None:
    """What was asked for, on standard output; as in `say` only its line breaks count.

    Raises `AnswerLost`, out of the middle of whatever has the answer.
    """
    try:
        print("\n".join(map(harmless, line.split("\n"))))
    except OSError as error:
        raise AnswerLost(error.errno, error.strerror) from None


def complain(program: str, error: KDCError, hint: str | None = None) -> int:
    """Say what went wrong and what to do next; return the exit status.

    ``hint`` is said instead of the error's own.
    """
    hint = error.hint if hint is None else hint
    say(f"{program}: {harmless(str(error))}" + (f"\n  {hint}" if hint else ""))
    return int(error.exit_status)


def amount(count: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def counted(count: int, one: str, several: str = "") -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def date(unix_time: int) -> str:
    """In UTC, as the log has it; the number itself if it is no date of ours."""
    try:
        return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(unix_time))
    except (OverflowError, ValueError, OSError):
        return str(unix_time)


def span(seconds: float) -> str:
    """A time as people say it: ``9 days``, ``1 hour``; never more of it than there is."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return counted(int(seconds // length), unit)
    return counted(int(seconds), "second")


def wait_shown(seconds: int, what: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait; a person at a terminal sees how long yet."""
    shown_there = sys.stderr.isatty()
    for left in range(seconds, 0, -1):
        if shown_there:
            _redraw(f"{left} s {what}")
        sleep(1)
    if shown_there and seconds:
        _redraw("")


def _redraw(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def columns_of(fd: int) -> int:
    """How wide the terminal is; 80 where none says."""
    with contextlib.suppress(OSError):
        return os.get_terminal_size(fd).columns or 80
    return 80


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ask(prompt: str, what: str, instead: str = "", kind: ErrorKind | None = None) -> str:
    """Return what is typed without echo; ``instead``: what to do where there is no terminal."""
    if not has_terminal():
        raise ConfigurationError(f"no terminal to ask for the {what} on", hint=instead, kind=kind)
    with interruptible():
        try:
            return getpass.getpass(prompt)
        except (EOFError, termios.error):
            end_line()
            raise ConfigurationError(f"no {what} was typed") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"the {what} that was typed is not UTF-8") from None


def confirm(
    question: Callable[[int], str], given_up: Callable[[], bool], taken_back: str = ""
) -> bool | None:
    """Ask for a yes at the terminal; None if nobody is there to be asked.

    ``question`` makes it for so many columns.  When it is ``given_up``, it is ``taken_back``
    in a line of its own.  Meant for a thread: whoever waits for this can do so elsewhere.
    """
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # In the background, reading would stop us.
        if os.tcgetpgrp(fd) != os.getpgrp():
            return None
        termios.tcflush(fd, termios.TCIFLUSH)  # what was typed before answers nothing
        os.write(fd, question(columns_of(fd)).encode())
        while not given_up():
            if select.select([fd], [], [], _LOOK_SECONDS)[0]:
                typed = os.read(fd, _MAX_ANSWER)
                if not typed.endswith(b"\n"):
                    os.write(fd, b"\n")
                return typed.strip().lower() in (b"y", b"yes")
        os.write(fd, f"\n{taken_back}\n".encode())
    except (OSError, termios.error):
        return False
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    return False


def _opened(tty: str) -> FileIO:
    """A terminal to read from and write to, which does not become that of a process without one."""

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOCTTY)

    return open(tty, "r+b", buffering=0, opener=opener)


def ask_pasted(
    prompt: str,
    what: str,
    more: Callable[[str], bool],
    *,
    kind: ErrorKind | None = None,
    tty: str = "/dev/tty",
) -> str:
    """As `ask`, for what a window may have broken into lines: read on while ``more`` of it is due.

    An empty line ends it, too.  What comes behind it is dropped: it may be the
    rest of a secret, and would be a command for the shell.
    """
    try:
        with interruptible(), _opened(tty) as terminal, _hidden(terminal):
            terminal.write(prompt.encode())
            text = line = _line(terminal)
            while line.strip() and more(text):
                terminal.write(b"\nThat is not all of it.  Paste the rest: ")
                line = _line(terminal)
                text += line
            terminal.write(b"\n")
    except (OSError, termios.error):
        raise ConfigurationError(f"no terminal to ask for the {what} on", kind=kind) from None
    if not text.strip():
        raise ConfigurationError(f"no {what} was typed")
    return text


def _line(terminal: BinaryIO) -> str:
    return terminal.readline(_MOST_TYPED).decode("ascii", "replace")


@contextlib.contextmanager
def _hidden(terminal: BinaryIO) -> Iterator[None]:
    """Without echo; in the end everything that was typed and not read is gone."""
    before = termios.tcgetattr(terminal)
    without = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(terminal, termios.TCSAFLUSH, without)
    try:
        yield
    finally:
        # A long paste comes in pieces.  Letter by letter: its last line may have no end.
        by_letters = [*before[:3], without[3] & ~termios.ICANON, *before[4:]]
        termios.tcsetattr(terminal, termios.TCSAFLUSH, by_letters)
        while select.select([terminal], [], [], _QUIET_SECONDS)[0] and terminal.read(_MOST_TYPED):
            pass
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


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
    end_line()
    raise SystemExit(128 + number)


def end_line() -> None:
    """What is said next is not to stand behind a question that was not answered."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_WRONLY | os.O_NOCTTY)
        os.write(terminal, b"\n")
        os.close(terminal)
