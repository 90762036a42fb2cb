"""Processes under measurement: started in a scratch directory, their CPU time, and their end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, Protocol, TypeVar

import attrs

__all__ = [
    "HERE",
    "Failed",
    "Late",
    "Ran",
    "Scratch",
    "cpu_of",
    "cpu_of_all",
    "free_port",
    "go_on",
    "memory_of",
    "own_memory_of",
    "run",
    "said",
    "until",
]

HERE = Path(__file__).parent.parent
_CPUCLOCK_SCHED = 2


class Failed(Exception):
    """What was to be measured did not do its work, so there is no figure."""


def cpu_of(pid: int) -> float:
    """CPU seconds of one process, all its threads, to the nanosecond."""
    # The clock id of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def cpu_of_all(pid: int) -> float:
    """The same of a process and all that it has started, ended ones (in hundredths) included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = cpu_of(pid) + sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread, or a process that its parent counts by now
            for child in (task / "children").read_text().split():
                total += cpu_of_all(int(child))
    return total


def _reaped() -> float:
    """CPU seconds of all children that have ended, with theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def memory_of(pid: int, field: str = "VmRSS") -> float:
    """Resident memory in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise Failed(f"no {field} of {pid}")


def said(child: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """The next line that it prints, which is JSON; raises `Failed`."""
    assert child.stdout is not None
    if not select.select([child.stdout], [], [], seconds)[0]:
        raise Failed(f"nothing was said within {seconds:.0f} s")
    line = child.stdout.readline()
    if not line:
        raise Failed("a process has ended")
    words: dict[str, Any] = json.loads(line)
    return words


def go_on(child: subprocess.Popen[bytes]) -> None:
    """Send it a line, for which it waits."""
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()


def own_memory_of(pid: int) -> int:
    """Bytes that no other process shares, of whatever kind; the kernel's are not among them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except ProcessLookupError:
        raise Failed("a process has ended") from None
    return sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)) << 10


def free_port() -> int:
    """A port nobody listens at; not given out twice, as far as the system can help it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(true: Any, what: str, seconds: float = 30.0) -> None:
    """Wait until ``true()``; raises `Failed`."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def listening(port: int) -> bool:
    """Whether somebody listens there; found out without connecting."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    return any(
        f":{port:04X} 0" in line and " 0A " in line for t in tables for line in t.splitlines()
    )


@attrs.frozen
class Ran:
    """A command that has ended well."""

    output: bytes
    seconds: float
    cpu_seconds: float


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | int | None = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.PIPE,
    cwd: Path | None = None,
    seconds: float = 300.0,
    check: bool = True,
) -> Ran:
    """Run to the end, with the CPU time of it and of all it has waited for; raises `Failed`."""
    begun, reaped = time.monotonic(), _reaped()
    child = subprocess.Popen(
        [str(word) for word in argv],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        cwd=cwd or HERE,
        start_new_session=True,
    )
    try:
        output, errors = child.communicate(timeout=seconds)
    except BaseException as error:
        _end(child, 0)
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"{argv[0]}: not done within {seconds:.0f} s") from None
        raise
    ended, cpu = time.monotonic(), _reaped() - reaped
    if check and child.returncode:
        said = (errors or output or b"").decode(errors="replace").strip()[-1000:]
        name = " ".join(word for word in map(str, argv[:4]) if not word.startswith("{"))
        last = said.splitlines()[-1] if said else "nothing was said"
        raise Failed(f"{name}: status {child.returncode}: {last}\n{said}")
    return Ran(output or b"", ended - begun, cpu)


def _end(child: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """End it and whatever it has started in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            # What it has started may be still there.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            return
        patience = 5.0


class Scratch:
    """A directory, and the servers started in it; leaving it ends and removes all of them."""

    def __init__(self, parent: Path | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kdc-bench-", dir=parent))
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._running:
            _end(self._running.pop())
        shutil.rmtree(self.directory, ignore_errors=True)

    def room(self, name: str) -> Path:
        """A directory in it, made if need be."""
        path = self.directory / name
        path.mkdir(exist_ok=True, mode=0o700)
        return path

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        port: int | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        log: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a server, and wait until it answers at ``port`` if one is given."""
        log = log or self.directory / f"{Path(str(argv[0])).name}.log"
        with log.open("ab") as errors:
            child = subprocess.Popen(
                [str(word) for word in argv],
                bufsize=0,  # `said` must not read ahead: what is in a buffer, select does not see
                stdin=stdin,
                stdout=errors if stdout is None else stdout,
                stderr=errors,
                env={**os.environ, **(env or {})},
                cwd=cwd or HERE,
                start_new_session=True,
            )
        self._running.append(child)
        if port is not None:
            try:
                until(lambda: child.poll() is not None or listening(port), f"{argv[0]} listens")
                if child.poll() is not None:
                    raise Failed("it ended")
            except Failed as error:
                said = log.read_bytes()[-600:].decode(errors="replace")
                raise Failed(f"{argv[0]}: {error}: {said}") from None
        return child

    def stop(self, child: subprocess.Popen[bytes]) -> float:
        """End it; return the CPU seconds of all its life, and of those it has waited for."""
        reaped = _reaped()
        _end(child)
        if child.stdout is not None:
            child.stdout.close()
        self._running.remove(child)
        return _reaped() - reaped

    @contextlib.contextmanager
    def running(self, argv: Sequence[str | Path], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
        child = self.start(argv, **how)
        try:
            yield child
        finally:
            self.stop(child)


class _Stops(Protocol):
    def stop(self) -> None: ...


Server = TypeVar("Server", bound=_Stops)


class Late(Generic[Server]):
    """A server that is started once somebody needs it; if it cannot be, each of them is told."""

    def __init__(self, start: Callable[[], Server]) -> None:
        self._start = start
        self._server: Server | None = None
        self._failed: Failed | None = None

    def __call__(self) -> Server:
        if self._failed is not None:
            raise Failed(str(self._failed))
        if self._server is None:
            try:
                self._server = self._start()
            except Failed as error:
                self._failed = error
                raise
        return self._server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
