"""Processes under measurement: started in a scratch directory, their CPU time, and their end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import attrs

__all__ = [
    "HERE",
    "Failed",
    "Ran",
    "Scratch",
    "cpu_of",
    "free_port",
    "memory_of",
    "run",
    "tree_cpu_of",
    "until",
]

HERE = Path(__file__).parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2


class Failed(Exception):
    """What was to be measured did not do its work, so there is no figure."""


def cpu_of(pid: int) -> float:
    """CPU seconds of one process, all its threads, to the nanosecond."""
    # The clock id of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def tree_cpu_of(root: int) -> float:
    """CPU seconds of a process, of those it has started, and of those that have ended; to 10 ms."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_bytes()
                fields = stat[stat.rindex(b")") + 2 :].split()
                children.setdefault(int(fields[1]), []).append(int(entry))
                ticks[int(entry)] = sum(map(int, fields[11:15]))
    found, total = [root], 0
    while found:
        pid = found.pop()
        total += ticks.get(pid, 0)
        found += children.get(pid, [])
    return total / _TICKS


def memory_of(pid: int, field: str = "VmRSS") -> float:
    """Resident memory in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise Failed(f"no {field} of {pid}")


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


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


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
    begun, usage = time.monotonic(), os.times()
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
    ended, after = time.monotonic(), os.times()
    if check and child.returncode:
        said = (errors or output or b"").decode(errors="replace").strip()[-1000:]
        raise Failed(f"{' '.join(map(str, argv))[:200]}: status {child.returncode}: {said}")
    cpu = after.children_user + after.children_system - usage.children_user - usage.children_system
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
                until(lambda: child.poll() is not None or answers(port), f"{argv[0]} listens")
                if child.poll() is not None:
                    raise Failed("it ended")
            except Failed as error:
                said = log.read_bytes()[-600:].decode(errors="replace")
                raise Failed(f"{argv[0]}: {error}: {said}") from None
        return child

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        _end(child)
        self._running.remove(child)

    @contextlib.contextmanager
    def running(self, argv: Sequence[str | Path], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
        child = self.start(argv, **how)
        try:
            yield child
        finally:
            self.stop(child)
