"""A KDC, receivers and senders as processes of their own, for measurements.

Everything is in one temporary directory, which is removed in the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from kdc.client.secret import write_key_file

__all__ = ["PATIENCE_SECONDS", "Process", "Realm", "realm"]

KDC = (sys.executable, "-c", "from kdc.commands.main import kdc_main; kdc_main()")
CLIENT = (sys.executable, "-c", "from kdc.commands.main import kdcclient_main; kdcclient_main()")
PATIENCE_SECONDS = 600.0


class Process:
    """One command, what it says, and what it has used."""

    def __init__(self, directory: Path, *argv: str) -> None:
        top = str(Path(__file__).parent.parent)
        self._process = subprocess.Popen(
            argv,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "HOME": str(directory), "PYTHONPATH": top},
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.status: int | None = None
        self.peak_bytes = 0
        self.cpu_seconds = 0.0
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stderr or ():
            with self._news:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._news.notify_all()
        _, status, usage = os.wait4(self._process.pid, 0)
        with self._news:
            self.status = os.waitstatus_to_exitcode(status)
            self._process.returncode = self.status
            self.peak_bytes = usage.ru_maxrss * 1024
            self.cpu_seconds = usage.ru_utime + usage.ru_stime
            self._news.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in what it says; raises `RuntimeError` if there is none."""

        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self._news:
            self._news.wait_for(lambda: found() or self.status is not None, PATIENCE_SECONDS)
            match = found()
        if match is None:
            raise RuntimeError(f"never said {pattern!r}: {self.lines}")
        return match

    def wait(self) -> int:
        """Wait for its end; return its exit status, negative for a signal."""
        with self._news:
            if not self._news.wait_for(lambda: self.status is not None, PATIENCE_SECONDS):
                raise RuntimeError(f"does not end: {self.lines}")
        return int(self.status or 0)

    def signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait()


class Realm:
    """A KDC, and a way to start clients of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Process] = []
        self.kdc = self.start(*KDC, "-p", "0", "-o", "out.txt", "-f", "pwd.txt")
        port = self.kdc.wait_for(r"listening on \S+ port (\d+)")[1]
        fingerprint = self.kdc.wait_for(r"fingerprint (sha256:[0-9a-f]{64})")[1]
        self._place = ("-a", "127.0.0.1", "-p", port, "--kdc-fingerprint", fingerprint)

    def start(self, *argv: str) -> Process:
        process = Process(self.directory, *argv)
        self.started.append(process)
        return process

    def client(self, command: str, name: str, *options: str) -> Process:
        key = self.directory / f"{name}.key"
        if not key.exists():
            write_key_file(key)
        return self.start(
            *(*CLIENT, command, "-n", name, *self._place, "--key-file", str(key), *options)
        )

    def receiver(self, name: str, *options: str) -> Process:
        """A receiver that can be reached."""
        process = self.client("receive", name, "--listen", "0", *options)
        process.wait_for("receiving on")
        return process

    def end(self) -> None:
        for process in self.started:
            process.kill()


@contextlib.contextmanager
def realm(where: str | None = None) -> Iterator[Realm]:
    """A realm in a fresh directory below ``where``."""
    directory = Path(tempfile.mkdtemp(prefix="kdc-bench-", dir=where))
    running = None
    try:
        running = Realm(directory)
        yield running
    finally:
        if running is not None:
            running.end()
        time.sleep(0.1)
        shutil.rmtree(directory, ignore_errors=True)
