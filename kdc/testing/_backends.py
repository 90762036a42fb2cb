"""Where a realm runs: in a process of its own, or in a thread of this one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Protocol

import attrs

from kdc.errors import ConfigurationError, KDCError, KDCUnreachable
from kdc.testing import _child
from kdc.testing._host import Host, HostSettings

__all__ = ["Backend", "Child", "Thread"]

_END_SECONDS = 30.0


class Backend(Protocol):
    """Does what `Host.call` does, somewhere."""

    @property
    def pid(self) -> int: ...
    def call(self, name: str, values: dict[str, Any]) -> Any: ...
    def close(self) -> None: ...


class Thread:
    """The realm in this process.  A process that is killed leaves ``directory`` behind."""

    def __init__(self, settings: HostSettings, directory: Path | None) -> None:
        self._directory = directory
        try:
            self._host = Host(settings)
        except KDCError:
            self._remove()
            raise

    @property
    def pid(self) -> int:
        return os.getpid()

    def call(self, name: str, values: dict[str, Any]) -> Any:
        return self._host.call(name, values)

    def close(self) -> None:
        self._host.close()
        self._remove()

    def _remove(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


class Child:
    """The realm in a process of its own, which ends when its input does.

    Even if this process is killed: then the system closes the pipe.  ``directory`` goes with it.
    """

    def __init__(self, settings: HostSettings, directory: Path | None) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own Python
            [sys.executable, _child.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What we import it imports, and nothing from its own directory by a short name.
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PYTHONSAFEPATH": "1",
            },
        )
        self._commands, self._answers = self._process.stdin, self._process.stdout
        self._write({**attrs.asdict(settings), "directory": directory and str(directory)})

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, values: dict[str, Any]) -> Any:
        with self._lock:
            self._write({"call": name, "values": values})
            line = self._answers.readline() if self._answers else b""
        if not line:
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise ConfigurationError(answer["error"], hint=answer["hint"])
        return answer["result"]

    def _write(self, values: dict[str, Any]) -> None:
        try:
            if self._commands is None:
                raise self._ended()
            self._commands.write(json.dumps(values).encode() + b"\n")
            self._commands.flush()
        except (BrokenPipeError, ValueError):  # it has ended, or been closed
            raise self._ended() from None

    def _ended(self) -> KDCUnreachable:
        text = "the process of the realm has ended"
        return KDCUnreachable(text, hint="see what it wrote to standard error")

    def close(self) -> None:
        if os.getpid() != self._owner:
            return  # a copy made by fork: the realm is not its own
        for pipe in (self._commands, self._answers):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait(_END_SECONDS)
