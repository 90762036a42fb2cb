"""Real processes for end-to-end tests: a scratch directory, an empty home, programs that end.

Nothing here sleeps for a while and hopes: a wait is for a line that a program
prints, or for its end, and gives up after `PATIENCE_SECONDS`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import functools
import itertools
import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

__all__ = [
    "CLIENT",
    "KDC",
    "KEY_FILES",
    "PATIENCE_SECONDS",
    "TOP",
    "TWISTD",
    "Program",
    "ProgramTestCase",
    "RunningKDC",
    "bytes_below",
    "ends_with_us",
    "key_lines",
    "reserved_port",
]

TOP = Path(__file__).parent.parent.parent
# A busy machine is slow; what takes longer than this does not come at all.
PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "180"))

# What the console scripts do, in whatever environment runs the tests.
KDC = (sys.executable, "-c", "from kdc.commands.main import kdc_main; kdc_main()")
CLIENT = (sys.executable, "-c", "from kdc.commands.main import kdcclient_main; kdcclient_main()")
TWISTD = (
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()",
)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_numbers = itertools.count(1)
_reserved: list[socket.socket] = []
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As shells start what is in the background; our programs would inherit it, and not end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def reserved_port(host: str = "127.0.0.1", kind: int = socket.SOCK_STREAM) -> int:
    """A port that is nobody else's until this process ends, and that nobody listens on yet.

    It stays bound here: a program that sets SO_REUSEADDR, as servers do, can
    still listen on it.  Where ``0`` can be given instead, give that.
    """
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, 0))
    _reserved.append(holder)
    return int(holder.getsockname()[1])


def bytes_below(top: Path) -> int:
    """How much is in files there just now, though they come, go and are renamed meanwhile."""
    found = 0
    for where, _, names in os.walk(top):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += os.lstat(Path(where, name)).st_size
    return found


def ends_with_us(parent: int) -> None:
    """In a new process: end when ``parent`` does, whatever it dies of."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", "COV_"))
    }
    path = [*filter(None, [extra.get("PYTHONPATH"), str(TOP), os.environ.get("PYTHONPATH")])]
    return {
        **inherited,
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **extra,
        "PYTHONPATH": os.pathsep.join(path),
    }


class Program:
    """A process, what it has said so far, and its end.

    ``said`` is what came on stderr or, with ``terminal``, on the terminal that
    it has to itself; ``printed`` what came on stdout, unless the two are
    ``merged``.  Whatever becomes of the tests, it is killed with them.
    """

    def __init__(
        self,
        argv: Iterable[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        terminal: bool = False,
        merged: bool = False,
        file_limit: int | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.argv = list(argv)
        self.terminal = terminal
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._printed = ""
        self._text = bytearray()
        self._seen = 0
        self._more = threading.Condition()
        self._ended = False
        if terminal:
            self._fd, theirs = pty.openpty()
            modes = termios.tcgetattr(theirs)
            modes[1] &= ~termios.OPOST  # line breaks as they are written
            termios.tcsetattr(theirs, termios.TCSANOW, modes)
            streams: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        else:
            self._fd, theirs = os.pipe()
            streams = {"stdin": subprocess.DEVNULL, "stderr": theirs}
            streams["stdout"] = theirs if merged else self._stdout
        parent = os.getpid()

        def prepare() -> None:
            ends_with_us(parent)
            if terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        try:
            # A session of its own: without a terminal there is none to be found
            # by opening /dev/tty either.
            self.process = subprocess.Popen(
                self.argv,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - it takes no lock that a thread could hold
                pass_fds=pass_fds,
                **streams,
            )
        finally:
            os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        with self._more:
            return self._text.decode(errors="replace")

    @property
    def printed(self) -> str:
        if self._stdout.closed:
            return self._printed
        size = os.fstat(self._stdout.fileno()).st_size
        return os.pread(self._stdout.fileno(), size, 0).decode(errors="replace")

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until it says ``pattern``, after what was expected before."""
        wanted = re.compile(pattern.encode())
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._more:
            while (found := wanted.search(self._text, self._seen)) is None:
                left = deadline - time.monotonic()
                if self._ended or not self._more.wait(max(left, 0)):
                    why = "ended" if self._ended else "is silent"
                    raise AssertionError(f"{self} {why} without {pattern!r}")
            self._seen = found.end()
            text = re.search(pattern, found.group().decode())
        if text is None:
            raise AssertionError(f"{pattern!r} matches bytes, but not the text they are")
        return text

    def type(self, text: str) -> None:
        """Type ``text`` at its terminal: end a line with a line break."""
        os.write(self._fd, text.encode())

    def answer(self, prompt: str, text: str) -> None:
        """Wait for ``prompt`` and type a line."""
        self.expect(prompt)
        self.type(text + "\n")

    def wait(self) -> int:
        """Wait for its end; return its exit status, negative for a signal."""
        try:
            status = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} does not end") from None
        self._reader.join(PATIENCE_SECONDS)
        return status

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ask it to end."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Kill it if need be, and keep what it said."""
        self.kill()
        self._reader.join(PATIENCE_SECONDS)
        os.close(self._fd)
        self._printed = self.printed
        self._stdout.close()

    def transcript(self) -> str:
        status = self.process.poll()
        state = "still running" if status is None else f"exit status {status}"
        return f"--- {self} ({state})\n{self.said}{self.printed[-4000:]}"

    def __str__(self) -> str:
        start, arguments = tuple(self.argv[:3]), " ".join(self.argv[3:])
        for name, program in (("kdc", KDC), ("kdcclient", CLIENT), ("twistd", TWISTD)):
            if start == program:
                return f"{name} {arguments}"
        return " ".join(self.argv)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # a terminal that nobody has open any more
                data = b""
            with self._more:
                self._text += data
                self._ended = not data
                self._more.notify_all()
            if not data:
                return


class Daemon:
    """A process that is nobody's child any more, held by a descriptor: its number may be reused."""

    def __init__(self, pid_file: Path) -> None:
        self.pid = int(pid_file.read_text())
        self._fd = os.pidfd_open(self.pid)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        signal.pidfd_send_signal(self._fd, signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        if not select.select([self._fd], [], [], PATIENCE_SECONDS)[0]:
            raise AssertionError(f"the daemon {self.pid} does not end")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)
        os.close(self._fd)


class RunningKDC:
    """A KDC that listens, and what a client has to be told of it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.host = "127.0.0.1"
        listening = program.expect(r"listening on (\S+) port (\d+)\n")
        self.host, self.port = listening[1], int(listening[2])
        self.fingerprint = program.expect(r"kdc: fingerprint (sha256:[0-9a-f]{64})\n")[1]
        program.expect(r"kdc: \d+ principals? in .*\n")

    @property
    def place(self) -> tuple[str, ...]:
        return ("-a", self.host, "-p", str(self.port))

    @property
    def options(self) -> tuple[str, ...]:
        """Where it is and who it is."""
        return (*self.place, "--kdc-fingerprint", self.fingerprint)


class Scratch:
    """A directory with a home in it, and the programs that were started there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        self.programs: list[Program] = []
        self.daemons: list[Daemon] = []

    def start(
        self, *argv: str, environment: Mapping[str, str] | None = None, **how: Any
    ) -> Program:
        program = Program(
            argv,
            environment=_environment(self.home, environment or {}),
            **{"directory": self.directory, **how},
        )
        self.programs.append(program)
        return program

    def end(self) -> None:
        for program in self.programs:
            program.end()
        for daemon in self.daemons:
            daemon.end()

    def transcript(self) -> str:
        logs = [
            f"--- {path}\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.directory.rglob("*.log"))
        ]
        return "\n".join([*(program.transcript() for program in self.programs), *logs])


# Where tests come by the thousand, the limits for strangers would be in their own way.
UNLIMITED = (
    *("--limit", "registrations-per-minute=1000000"),
    *("--limit", "failures-per-minute=1000000"),
    *("--limit", "failures-per-minute-per-name=1000000"),
)


@functools.cache
def _shared() -> tuple[Scratch, RunningKDC]:
    """One KDC for all tests of this process that do no harm to theirs."""
    scratch = Scratch(Path(tempfile.mkdtemp(prefix="kdc-tests-")))
    atexit.register(shutil.rmtree, scratch.directory, ignore_errors=True)
    atexit.register(scratch.end)
    return scratch, RunningKDC(scratch.start(*KDC, "-p", "0", "-o", "out.txt", *UNLIMITED))


KEY_FILES = (b"kdc-master-key:1:", b"-----BEGIN PRIVATE KEY-----")


def key_lines(text: bytes) -> Iterator[bytes]:
    """What is secret in a file of a KDC's keys: its master key or its TLS key."""
    private, _, _ = text.partition(b"-----END PRIVATE KEY-----")
    for line in private.splitlines():
        if line.startswith(b"kdc-master-key:"):
            yield line.split(b":")[3]
        elif len(line) >= 40 and not line.startswith(b"-----"):
            yield line


def _explained(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """A test that shows what all programs said, if it fails."""

    @functools.wraps(method)
    def test(self: ProgramTestCase) -> None:
        try:
            method(self)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.scratch.transcript()}") from error

    return test


class ProgramTestCase(SynchronousTestCase):
    """A test of programs as people start them.

    After each test, whatever it was about: no program has shown a traceback,
    and none of the ``secrets`` that people typed or kept in a file is to be
    found in what was said, printed or written.
    """

    def again_until(self, start: Callable[[], Program], said: str) -> Program:
        """Start a program, and again and again, until one that ends well has said that.

        What a KDC has done is in its log a moment later.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            program = start()
            self.assertEqual(program.wait(), 0)
            if said in program.printed:
                return program
            self.assertLess(time.monotonic(), deadline, f"never said {said!r}")

    def __init_subclass__(cls) -> None:
        for name, method in list(vars(cls).items()):
            if name.startswith("test_"):
                setattr(cls, name, _explained(method))

    def setUp(self) -> None:
        self.secrets: dict[Path | None, list[str]] = {}
        self.scratch = Scratch(Path(self.mktemp()).absolute())
        self.directory = self.scratch.directory
        self.addCleanup(self._nothing_leaks)
        self.addCleanup(self.scratch.end)

    # programs

    def kdc(self, *options: str, port: int = 0, **how: Any) -> RunningKDC:
        """Start a KDC of this test's own, with pwd.txt and out.txt here.

        Its port is nobody else's either when it has ended: another can be started there.
        """
        place = () if "-p" in options else ("-p", str(port or reserved_port()))
        argv = (*KDC, *place, "-o", "out.txt", "-f", "pwd.txt", *UNLIMITED, *options)
        return RunningKDC(self.scratch.start(*argv, **how))

    def shared_kdc(self) -> RunningKDC:
        """The KDC of many tests, to be left as it was found; take names by `name`."""
        scratch, kdc = _shared()
        self.assertIs(kdc.program.process.poll(), None, scratch.transcript())
        return kdc

    def client(self, *options: str, **how: Any) -> Program:
        return self.scratch.start(*CLIENT, *options, **how)

    def twistd(self, *options: str, **how: Any) -> Program:
        """Its log is on stdout, with ``-n``, and so are the lines of ours on stderr."""
        return self.scratch.start(*TWISTD, *options, **{"merged": True, **how})

    def daemon(self, directory: Path) -> Daemon:
        """The process whose pid file is in ``directory``, to be killed in the end."""
        daemon = Daemon(directory / "twistd.pid")
        self.scratch.daemons.append(daemon)
        return daemon

    def receiver(self, kdc: RunningKDC, name: str, *options: str, **how: Any) -> Program:
        """A receiver that can be reached, on a port of its own, with a key file."""
        program = self.client(
            *("receive", "-n", name, *kdc.options, *self.key(name), "--listen", "0", *options),
            **how,
        )
        program.expect(rf"{name}: receiving on \S+ port \d+\n")
        return program

    def register(self, kdc: RunningKDC, name: str) -> None:
        """Take ``name`` with its key file."""
        program = self.client("register", "-n", name, *kdc.options, *self.key(name))
        self.assert_ends(program, 0, f"registered {name} with the KDC at")

    def send(
        self, kdc: RunningKDC, name: str, receiver: str, path: Path | str, *options: str, **how: Any
    ) -> Program:
        """Start a sender with a key file."""
        secret = () if {"--key-file", "--passphrase-file"} & {*options} else self.key(name)
        return self.client(
            *("-n", name, "-m", "S", "-r", receiver, "-i", str(path)),
            *(*kdc.options, *secret, *options),
            **how,
        )

    def one_transfer(self, kdc: RunningKDC) -> None:
        """The service still works: a receiver and a sender that nobody has met before."""
        receiver, sender = self.name("bob"), self.name("alice")
        content = os.urandom(70_000)
        path, output = self.file(f"{sender}.bin", content), self.directory / f"{receiver}.out"
        receiving = self.receiver(kdc, receiver, "-o", str(output), "--once")
        self.assert_ends(self.send(kdc, sender, receiver, path), 0, "who has it on disk")
        self.assert_ends(receiving, 0)
        self.assertEqual(output.read_bytes(), content)

    # files and names

    def name(self, stem: str) -> str:
        """A name that no other test uses."""
        return f"{stem}-{next(_numbers)}"

    def file(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def passphrase_file(self, name: str, passphrase: str) -> tuple[str, str]:
        path = self.directory / f"{name}.passphrase"
        path.touch(mode=0o600)
        path.write_text(passphrase + "\n", encoding="utf-8")
        self.secrets.setdefault(path, []).append(passphrase)
        return ("--passphrase-file", str(path))

    def key(self, name: str) -> tuple[str, str]:
        """The option for a key file of ``name``, made now if there is none."""
        from kdc.client.secret import write_key_file

        path = self.directory / f"{name}.key"
        if not path.exists():
            write_key_file(path)
            self.secrets[path] = [path.read_text().strip().rpartition(":")[2]]
        return ("--key-file", str(path))

    # what is true

    def assert_ends(self, program: Program, status: int, *patterns: str) -> None:
        """It ends with ``status`` and has said each of ``patterns``."""
        self.assertEqual(program.wait(), status, str(program))
        for pattern in patterns:
            self.assertRegex(program.said, pattern, str(program))

    def assert_brief(self, program: Program, status: int, *patterns: str) -> None:
        """It ends with ``status``, for a reason that it gives in one or two lines, or three
        where one of them is to be copied."""
        self.assert_ends(program, status, *patterns)
        self.assertIn(len(program.said.splitlines()), (1, 2, 3), str(program))

    def assert_nothing_kept(self, *names: str) -> None:
        """There are no such files here, nor parts of any."""
        left = {path.name for path in self.directory.rglob("*")}
        self.assertEqual([name for name in left if name in names or ".part" in name], [])

    def eventually(self, what: str, true: Callable[[], bool]) -> None:
        """For what happens elsewhere than on a program's stderr."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            if time.monotonic() > deadline:
                self.fail(f"still not: {what}")
            time.sleep(0.02)

    def _nothing_leaks(self) -> None:
        everything = [*self._everything(), *self._shared_too()]
        secrets = [(path, each.encode()) for path, many in self.secrets.items() for each in many]
        # Keys that a KDC has made for itself: their own files are known by how they begin.
        kept = {text for _, text in everything if text.startswith(KEY_FILES)}
        secrets += [(None, line) for text in kept for line in key_lines(text)]
        for where, text in everything:
            self.assertNotIn(b"Traceback (most recent", text, f"{where}\n{text.decode('latin-1')}")
            self.assertNotIn(b"Unhandled", text, f"{where}\n{text.decode('latin-1')}")
            for path, secret in secrets:
                if where != path and text not in kept:
                    self.assertNotIn(secret, text, str(where))

    def _shared_too(self) -> Iterator[tuple[object, bytes]]:
        if _shared.cache_info().currsize:
            scratch, kdc = _shared()
            yield kdc.program, (kdc.program.said + kdc.program.printed).encode()
            for name in ("out.txt", "pwd.txt.key", "pwd.txt.tls"):
                yield f"{name} of the shared KDC", (scratch.directory / name).read_bytes()

    def _everything(self) -> Iterator[tuple[object, bytes]]:
        for program in self.scratch.programs:
            yield program, (program.said + program.printed).encode()
        for path in self.directory.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()
