"""Makes docs/sample-run.md: types the three commands at three terminals, writes down what is seen.

Start it from anywhere; it needs ports 12345 and 60000 of this machine for some
seconds.  Each terminal is a real one with a shell in it.  What the shells and
the programs show is written down as it was, but for the directory, which is
called /tmp/kdc-tour.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "sample-run.md"
COMMANDS = Path(sys.executable).parent
PATIENCE_SECONDS = 60.0
SHELL_PROMPT = "$ "
SHOWN_DIRECTORY = "/tmp/kdc-tour"
ASKED = r"yes/no\)\? "

KDC = "kdc -p {kdc_port} -o out.txt -f pwd.txt"
BOB = "kdcclient -n bob -m R -s outenc -o outfile -a 127.0.0.1 -p {kdc_port}"
ALICE = "kdcclient -n alice -m S -r bob -i in.txt -a 127.0.0.1 -p {kdc_port}"

BOBS, ALICES, GUESS = "a quiet harbour at dusk", "correct horse battery staple", "12345678"


class Terminal:
    """A terminal with a shell, and somebody who types."""

    def __init__(self, directory: Path) -> None:
        self._text = ""
        self._read_upto = 0
        environment = {
            "HOME": str(directory / "home"),
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
def terminals(directory: Path) -> Iterator[tuple[Terminal, Terminal, Terminal]]:
    with contextlib.ExitStack() as stack:
        opened = [Terminal(directory) for _ in range(3)]
        for terminal in opened:
            stack.callback(terminal.close)
        yield opened[0], opened[1], opened[2]


def first_run(directory: Path, ports: dict[str, int], more: str) -> list[str]:
    """Both register, the file goes over; then somebody tries alice's name."""
    with terminals(directory) as (kdc, bob, alice):
        kdc.command("touch pwd.txt")
        kdc.command(KDC.format(**ports))
        kdc.expect(r"principals in .*\n")
        bob.command(BOB.format(**ports) + more.format(**ports))
        _register(bob, "bob", BOBS, asked=True)
        bob.expect("bob: receiving on .*\n")
        alice.command(ALICE.format(**ports))
        _register(alice, "alice", ALICES, asked=False)
        alice.ready()
        bob.ready()
        alice.command("echo $?")
        bob.command("sha256sum in.txt outfile")
        bob.command("od -A x -t x1z -N 48 outenc")
        bob.ready()
        alice.command(ALICE.format(**ports))
        alice.answer("passphrase of alice: ", GUESS)
        alice.answer("repeat it: ", GUESS)
        alice.ready()
        alice.command("echo $?")
        alice.ready()
        kdc.type("\x03")
        kdc.command("cut -c 1-96 pwd.txt")
        kdc.command("cat out.txt")
        kdc.ready()
        return [kdc.seen(), bob.seen(), alice.seen()]


def second_run(directory: Path, ports: dict[str, int], more: str) -> list[str]:
    """All three are started again; nobody registers, nobody is asked about the KDC."""
    with terminals(directory) as (kdc, bob, alice):
        kdc.command(KDC.format(**ports))
        kdc.expect(r"principals in .*\n")
        bob.command(BOB.format(**ports) + more.format(**ports))
        bob.answer("passphrase of bob: ", BOBS)
        bob.expect("bob: receiving on .*\n")
        alice.command("echo 'The second message.' >in.txt")
        alice.command(ALICE.format(**ports))
        alice.answer("passphrase of alice: ", ALICES)
        alice.ready()
        bob.command("cat outfile")
        bob.ready()
        kdc.type("\x03")
        kdc.ready()
        return [kdc.seen(), bob.seen(), alice.seen()]


def _register(terminal: Terminal, name: str, passphrase: str, *, asked: bool) -> None:
    if asked:
        terminal.answer(ASKED, "yes")
    terminal.answer(f"passphrase of {name}: ", passphrase)
    terminal.answer("repeat it: ", passphrase)


PAGE_TEXT = """\
# A sample run

Recorded by `etc/record_sample_run.py`, which types at three terminals; nothing that was seen there
has been changed, but for the name of the directory. What is typed stands behind `$` and behind the
questions. Passphrases were typed too: they are not echoed, so they are not here.

## The first message

in.txt is a binary file, a library of several MiB. pwd.txt is empty, and nobody is registered.

**Terminal 1, the KDC.** It prints its fingerprint. Ctrl-C ended it, when all that follows had
happened.

{0}

**Terminal 2, Bob.** He compares the fingerprint with the one in terminal 1 and says yes. His name
is new, so he is asked for the passphrase twice.

{1}

outenc begins with a record of 0x19 bytes; each record is its length and its ciphertext.

**Terminal 3, Alice.** She uses the same home directory as Bob, so she is not asked about the KDC
again. The second command is somebody who does not know her passphrase.

{2}

## The second message

All three were ended and are started again. Nobody registers.

**Terminal 1, the KDC.**

{3}

**Terminal 2, Bob.**

{4}

**Terminal 3, Alice.**

{5}
"""


def record(*, kdc_port: int = 12345, listen_port: int = 60000) -> str:
    """Do it, and return the page; other ports than the usual are shown as these."""
    from cryptography.hazmat.bindings import _rust

    ports = {"kdc_port": kdc_port, "listen_port": listen_port}
    more = "" if listen_port == 60000 else " --listen {listen_port}"
    with tempfile.TemporaryDirectory(prefix="kdc-tour-") as name:
        directory = Path(name)
        (directory / "home").mkdir()
        shutil.copyfile(str(_rust.__file__), directory / "in.txt")
        shown = first_run(directory, ports, more) + second_run(directory, ports, more)
    blocks = []
    for text in shown:
        usual = text.replace(name, SHOWN_DIRECTORY).replace(more.format(**ports) or "\0", "")
        usual = re.sub(rf"\b{kdc_port}\b", "12345", usual)
        usual = re.sub(rf"\b{listen_port}\b", "60000", usual)
        blocks.append("\n".join(f"    {line}".rstrip() for line in usual.split("\n")))
    return PAGE_TEXT.format(*blocks)


def main() -> None:
    PAGE.write_text(record(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
