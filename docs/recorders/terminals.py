"""Terminals with a shell in them, and somebody who types: for the recorded runs in docs/."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

COMMANDS = Path(sys.executable).parent
PATIENCE_SECONDS = 180.0
SHELL_PROMPT = "$ "


class Terminal:
    """A terminal with a shell, and somebody who types."""

    def __init__(self, directory: Path, home: Path) -> None:
        self._text = ""
        self._read_upto = 0
        environment = {
            "HOME": str(home),
            "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
            "PS1": SHELL_PROMPT,
            "TERM": "dumb",
            "LANG": "C.UTF-8",
        }
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            with contextlib.suppress(OSError):
                os.chdir(directory)
                os.execve("/bin/sh", ["sh", "-i"], environment)
            os._exit(127)

    def expect(self, pattern: str) -> str:
        """Read until ``pattern`` is seen, and return it; raises `TimeoutError` with what was."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := re.compile(pattern).search(self._text, self._read_upto)) is None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._fd], [], [], left)[0]:
                raise TimeoutError(f"no {pattern!r} in {self._text[self._read_upto :]!r}")
            self._text += os.read(self._fd, 65536).decode(errors="replace").replace("\r\n", "\n")
        self._read_upto = found.end()
        return found[0]

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def answer(self, prompt: str, text: str) -> None:
        self.expect(prompt)
        self.type(text + "\n")

    def command(self, line: str) -> None:
        """Type ``line`` when the shell is ready for it."""
        self.answer(r"(^|\n|\^C)\$ ", line)

    def ready(self) -> None:
        """Wait until the shell asks for the next command; it may still be typed."""
        self.expect(r"(?=(\n|\^C)\$ )")

    def forget(self) -> None:
        """What is on the screen now will not have been seen."""
        self._text, self._read_upto = self._text[self._read_upto :].lstrip(), 0

    def seen(self) -> str:
        """What a person would have before them."""
        lines = self._text.rstrip().removesuffix(SHELL_PROMPT.rstrip()).rstrip().split("\n")
        # A progress line is drawn over: what was drawn last is what remains.
        return "\n".join(line.split("\r")[-1].replace("\x1b[K", "") for line in lines)

    def close(self) -> None:
        """End whatever runs there: a server takes the end of its terminal for a wish to reload."""
        for group in (os.tcgetpgrp(self._fd), self._pid):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        os.close(self._fd)
        os.waitpid(self._pid, 0)


@contextlib.contextmanager
def terminals(*places: tuple[Path, Path]) -> Iterator[list[Terminal]]:
    """One for each pair of a directory to begin in and a home."""
    with contextlib.ExitStack() as stack:
        opened = []
        for directory, home in places:
            opened.append(Terminal(directory, home))
            stack.callback(opened[-1].close)
        yield opened


def block(text: str, shown_as: Mapping[str, str]) -> str:
    """What was seen as a block of a page, with some words replaced."""
    for word, instead in shown_as.items():
        if word:
            before = r"\b" if word[0].isalnum() else ""
            text = re.sub(rf"{before}{re.escape(word)}\b", instead, text)
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))
