"""Our KDC as a process, and the load generators for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.population import fill
from bench.processes import Failed, Scratch, cpu_of, free_port, run, until

__all__ = ["KDC", "UNLIMITED", "load"]

# The limits protect from strangers; here everybody comes from one address.  How many may be
# at their handshake in all stays as it is, 256: with it all of a crowd come through in turn.
UNLIMITED = {
    "keys-per-second": 10_000_000,
    "keys-burst": 10_000_000,
    "registrations-per-minute": 10_000_000,
    "unauthenticated-per-address": 256,
    "connections-per-principal": 10_000_000,
    "arrivals-per-second": 10_000_000,
    "arrivals-per-second-per-address": 10_000_000,
}


class KDC:
    """A KDC with a store of ``principals``, of whom `population.able` can log in."""

    def __init__(
        self,
        scratch: Scratch,
        principals: int,
        everybody: bool = False,
        limits: dict[str, int] = UNLIMITED,
        options: Sequence[str] = (),
        room: str = "",
    ) -> None:
        self.scratch = scratch
        self._limits = limits
        self._options = options
        self.principals = principals
        self.room = scratch.room(room or f"kdc-{principals}{'-all' if everybody else ''}")
        self.port = free_port()
        if not (self.room / "pwd.txt").exists():
            fill(self.room / "pwd.txt", principals, everybody)
        self.start()

    def start(self) -> None:
        options = [f"--limit={name}={value}" for name, value in self._limits.items()]
        options += self._options
        program = Path(sys.executable).parent / "kdc"
        log = self.room / "log"
        log.unlink(missing_ok=True)
        self._child = self.scratch.start(
            [program, "-p", str(self.port), "-f", "pwd.txt", "-o", "out.txt", *options],
            cwd=self.room,
            log=log,
        )

        def said() -> re.Match[str] | None:
            if self._child.poll() is not None:
                raise Failed(f"the KDC ended: {log.read_text()[-500:]}")
            return re.search(r"fingerprint (sha256:[0-9a-f]{64})", log.read_text())

        until(said, f"a KDC of {self.principals:,} principals starts", 120)
        self.pin = said()[1]  # type: ignore[index] # just seen

    @property
    def said(self) -> str:
        """What it has told its operator."""
        return (self.room / "log").read_text()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def cpu(self) -> float:
        return cpu_of(self.pid)

    def stop(self) -> None:
        self.scratch.stop(self._child)

    def where(self) -> dict[str, Any]:
        return {
            "port": self.port,
            "pid": self.pid,
            "pin": self.pin,
            "principals": self.principals,
        }


def load(kind: str, settings: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]:
    """Run a load generator in a process of its own; it checks every answer, or raises `Failed`."""
    done = run(
        [sys.executable, "-m", "bench.loads", kind, json.dumps(settings)],
        stdout=subprocess.PIPE,
        seconds=seconds,
    )
    result: dict[str, Any] = json.loads(done.output)
    return result
