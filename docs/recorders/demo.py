"""A KDC, a receiver and a sender on this machine, and what each of them shows.

`make demo` runs it.  Only the commands that everybody uses are started, in a
temporary directory and with an empty home; nothing is left behind.  The exit
status is 0 only if everything was as it should be.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.bindings import _rust

COMMANDS = Path(sys.executable).parent
PATIENCE_SECONDS = 180.0
PASSPHRASES = {"alice": "correct horse battery staple", "bob": "a quiet harbour at dusk"}
MESSAGE = """\
Dear Bob,
the library arrived, I hope.  This second message needs no new registration:
the KDC knows both of us already.
Alice
"""
# The columns of a hexdump, how much of it, and in how many places to look for what was sent.
ROW, ROWS, SAMPLES, SAMPLE_BYTES = 16, 4, 64, 32
WIDTH = 88

_screen = threading.Lock()


class DemoError(Exception):
    """Something was not as it should be; the text says what."""


def show(line: str = "") -> None:
    with _screen:
        print(line, flush=True)


def heading(text: str) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    show(f"\n{bold}{text}{plain}")


def check(right: bool, fact: str) -> None:
    """Show ``fact`` if it is one; raises `DemoError` if not."""
    if not right:
        raise DemoError(f"this should hold, and does not: {fact}")
    show(f"  ok: {fact}")


def wrapped(command: str) -> list[str]:
    """Return ``command`` as one types it, in lines of a bearable length."""
    together = re.sub(r"(?<= )(--\S+) (?=[^-])", "\\1\0", command)  # an option and its value
    lines = textwrap.wrap(together, WIDTH, break_long_words=False, break_on_hyphens=False)
    lines = [line.replace("\0", " ") for line in lines]
    first, *rest = [f"{line} \\" for line in lines[:-1]] + lines[-1:]
    return [f"$ {first}", *(f"    {line}" for line in rest)]


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """What is begun in here is done before a signal counts: so all that runs can be ended."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


class Program:
    """One of our commands; each line that it prints is shown behind its title, if at all."""

    def __init__(
        self, title: str, home: Path, *command: str, typed: bool = True, shown: bool = True
    ) -> None:
        self.title = title
        self._shown = shown
        self.lines: list[str] = []
        self._news = threading.Condition()
        # The home is empty and nobody's: the demo neither reads nor changes what the user has.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
        for line in wrapped(shlex.join(command)) if typed else ():
            self._say(line)
        self._process = subprocess.Popen(
            [str(COMMANDS / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**kept, "HOME": str(home)},
            start_new_session=True,  # Ctrl-C is ours: `stop` ends them in order
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _say(self, line: str) -> None:
        if self._shown:
            show(f"  {self.title:>5} | {line}")

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._say(line.rstrip("\n"))
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in what it prints; raises `DemoError` if it does not come."""

        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self._news:
            self._news.wait_for(
                lambda: found() or self._process.poll() is not None, PATIENCE_SECONDS
            )
        if self._process.poll() is not None:
            self._reader.join(PATIENCE_SECONDS)
        match = found()
        if match is None:
            raise DemoError(f"{self.title} never said {pattern!r}")
        return match

    def end(self) -> None:
        """Wait until it has ended by itself; raises `DemoError` unless that was success."""
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.title} does not come to an end") from None
        self._reader.join(PATIENCE_SECONDS)
        self._say(f"(exit status {status})")
        if status:
            raise DemoError(f"{self.title} ended with exit status {status}")

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._process.send_signal(signal.SIGTERM)
        self.end()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Realm:
    """The three parties; the current directory holds their files."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._started: list[Program] = []

    def start_kdc(self) -> None:
        """Port 0: one that is free.  The KDC says which, and how it is known."""
        self._kdc = self._start("kdc", "kdc", "-p", "0", "-o", "out.txt", "-f", "pwd.txt")
        port = self._kdc.wait_for(r"listening on \S+ port (\d+)")[1]
        fingerprint = self._kdc.wait_for(r"fingerprint (sha256:[0-9a-f]{64})")[1]
        self._kdc.wait_for(r"principals? in")
        self._where = ("-a", "127.0.0.1", "-p", port, "--kdc-fingerprint", fingerprint)

    def stop_kdc(self) -> None:
        self._kdc.stop()

    def send(self, file: str, sender: tuple[str, ...], *flags: str) -> tuple[Program, Program]:
        """Let bob wait for one message and alice send ``file``; return both when they ended."""
        receive = ("-m", "R", "-s", "outenc", "-o", "outfile", "--listen", "0")
        bob = self._client("bob", ("kdcclient",), receive)
        bob.wait_for(r"bob: receiving on")
        send = ("-r", "bob", "-i", file)
        alice = self._client("alice", sender, (*flags, *send))
        alice.end()
        bob.end()
        return bob, alice

    def _client(self, name: str, command: tuple[str, ...], flags: tuple[str, ...]) -> Program:
        secret = ("--passphrase-file", f"{name}.passphrase")
        return self._start(name, *command, "-n", name, *flags, *self._where, *secret)

    def _start(self, title: str, *command: str) -> Program:
        with undivided():
            program = Program(title, self._home, *command)
            self._started.append(program)
        return program

    def close(self) -> None:
        for program in self._started:
            program.kill()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Work in a directory that is gone afterwards; yields an empty home in it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="kdc-demo-") as directory:
        os.chdir(directory)
        try:
            home = Path(directory, "home")
            home.mkdir()
            yield home
        finally:
            os.chdir(before)


def prepare() -> None:
    """Make what there is before anything starts: an empty pwd.txt, passphrases, a real file."""
    Path("pwd.txt").touch(mode=0o600)
    for name, passphrase in PASSPHRASES.items():
        path = Path(f"{name}.passphrase")
        path.touch(mode=0o600)
        path.write_text(passphrase + "\n", encoding="utf-8")
    shutil.copyfile(str(_rust.__file__), "in.txt")
    Path("message.txt").write_text(MESSAGE, encoding="utf-8")
    size = Path("in.txt").stat().st_size
    show(f"pwd.txt is empty; in.txt is a binary file of {size} bytes: {Path(_rust.__file__).name}")


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def compare(sent: str) -> None:
    """Raises `DemoError` unless outfile is ``sent``, bit by bit."""
    for path in (sent, "outfile"):
        show(f"  sha256 {sha256(path)}  {path}")
    same = Path(sent).read_bytes() == Path("outfile").read_bytes()
    check(same, f"outfile equals {sent}")


def samples_of(content: bytes) -> list[bytes]:
    """Pieces from all over ``content`` that could not be in another file by chance."""
    step = max(len(content) // SAMPLES, 1)
    pieces = [content[at : at + SAMPLE_BYTES] for at in range(0, len(content), step)]
    return [piece for piece in pieces if len(set(piece)) > SAMPLE_BYTES // 4]


def look_for(sent: str) -> None:
    """Raises `DemoError` if a file that anybody may see holds what nobody may know."""
    pieces = samples_of(Path(sent).read_bytes())
    stores = sorted(path for path in Path().glob("pwd.txt*") if path.is_file())
    kept = {path: path.read_bytes() for path in (*stores, Path("outenc"), Path("out.txt"))}
    if not pieces or not stores:
        raise DemoError("there is nothing to look for, or nowhere to look")
    secrets = [passphrase.encode() for passphrase in PASSPHRASES.values()]
    for path, content in kept.items():
        if any(piece in content for piece in (*pieces, *secrets)):
            raise DemoError(f"{path} holds a part of {sent}, or a passphrase")
    show(f"  ok: no passphrase and none of {len(pieces)} pieces of {sent} is in any of")
    show(f"      {' '.join(str(path) for path in kept)}")


def hexdump(path: str) -> None:
    with Path(path).open("rb") as file:
        for at in range(0, ROW * ROWS, ROW):
            row = file.read(ROW)
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            show(f"  {at:08x}  {row.hex(' '):{3 * ROW}} |{text}|")


def listing(path: str) -> None:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        show(f"  {line if len(line) <= 100 else line[:97] + '...'}")


def demonstrate(home: Path) -> None:
    heading("Before anything is started")
    prepare()
    realm = Realm(home)
    try:
        realm.start_kdc()
        _first_message(realm)
        _second_message(realm)
    finally:
        realm.close()


def _first_message(realm: Realm) -> None:
    heading("Alice sends a binary file to Bob; both names are new")
    bob, alice = realm.send("in.txt", ("kdcclient",), "-m", "S")
    for program in (bob, alice):
        program.wait_for(f"registered {program.title}")
    compare("in.txt")
    heading("outenc: what came over the wire, here its first bytes")
    show("  (a length of 2 bytes, then one sealed record; the keys are gone, nothing opens it)")
    hexdump("outenc")
    check(Path("outenc").stat().st_size > Path("in.txt").stat().st_size, "outenc is complete")
    look_for("in.txt")


def _second_message(realm: Realm) -> None:
    heading("The KDC is stopped and started again; it still knows both")
    realm.stop_kdc()
    realm.start_kdc()
    heading("Alice sends a text, this time with twistd")
    bob, alice = realm.send("message.txt", ("twistd", "kdcclient", "sender"))
    new = [line for program in (bob, alice) for line in program.lines if "registered" in line]
    check(not new, "nobody had to register again")
    compare("message.txt")
    listing("outfile")
    realm.stop_kdc()
    look_for("message.txt")
    heading("pwd.txt: one line a principal; the long field holds its keys, sealed")
    listing("pwd.txt")
    names = re.findall(r"^:(\w+):", Path("pwd.txt").read_text(encoding="utf-8"), re.MULTILINE)
    check(names == ["alice", "bob"], "alice and bob are registered, once each")
    heading("out.txt: what the KDC did")
    listing("out.txt")


def _terminated(*_: object) -> None:
    raise DemoError("stopped by a signal")


def run(demonstrate: Callable[[Path], None], good: str) -> int:
    """Do it in a directory of its own; say that it was ``good``, or why not; return the status."""
    signal.signal(signal.SIGTERM, _terminated)
    began = time.monotonic()
    try:
        with scratch() as home:
            demonstrate(home)
    except DemoError as error:
        show(f"\ndemo: {error}")
        return 1
    except KeyboardInterrupt:
        show("\ndemo: interrupted")
        return 130
    show(f"\n{good} ({time.monotonic() - began:.1f} s).")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(demonstrate, "Everything was as it should be"))
