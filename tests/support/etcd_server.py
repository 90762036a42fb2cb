"""Real etcd members, where Debian's etcd-server is installed; one is enough for most tests."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.processes import PATIENCE_SECONDS, ends_with_us, reserved_port

__all__ = ["EtcdCluster", "installed"]

# What goes wrong is told by then; what is slow is not wrong.
_SECONDS = PATIENCE_SECONDS


def installed() -> str | None:
    """Where etcd is, or None."""
    return shutil.which("etcd")


class EtcdCluster:
    """``count`` members on this machine, in a directory of their own.

    With ``tls``, the files of an authority, of a certificate from it and of its key, they
    speak TLS with each other and with clients, and want a certificate of everybody.
    """

    def __init__(
        self, count: int = 1, *options: str, tls: tuple[Path, Path, Path] | None = None
    ) -> None:
        self._tls = tls
        self._directory = Path(tempfile.mkdtemp(prefix="kdc-etcd-"))
        self._options = options
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ports = [reserved_port() for _ in range(count)]
        self.peers = [reserved_port() for _ in range(count)]
        self.processes = [self._start(number) for number in range(count)]
        if not self._answers():
            log = self._directory / "0.log"
            text = log.read_text(encoding="utf-8", errors="replace")
            self.end()
            raise RuntimeError(f"etcd does not start: {text[-2000:]}")

    @property
    def members(self) -> tuple[tuple[str, int], ...]:
        return tuple(("127.0.0.1", port) for port in self.ports)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        start = "http://127.0.0.1:" if self._tls is None else "https://127.0.0.1:"
        client, peer = (f"{start}{ports[number]}" for ports in (self.ports, self.peers))
        every = ",".join(f"m{n}={start}{port}" for n, port in enumerate(self.peers))
        command = [
            *(
                str(installed()),
                "--name",
                f"m{number}",
                "--data-dir",
                str(self._directory / f"d{number}"),
            ),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", every, "--auto-compaction-retention", "0"),
            *self._tls_options(),
            *self._options,
        ]
        parent = os.getpid()
        with (self._directory / f"{number}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: ends_with_us(parent),  # noqa: PLW1509 - it takes no lock
            )

    def _tls_options(self) -> tuple[str, ...]:
        if self._tls is None:
            return ()
        ca, certificate, key = map(str, self._tls)
        files = [("trusted-ca-file", ca), ("cert-file", certificate), ("key-file", key)]
        return (
            *("--client-cert-auth", "--peer-client-cert-auth"),
            *(f"--{name}={file}" for name, file in files),
            *(f"--peer-{name}={file}" for name, file in files),
        )

    def _connection(self, number: int) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.ports[number], timeout=_SECONDS)
        ca, certificate, key = self._tls
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(certificate, key)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.ports[number], timeout=_SECONDS, context=context
        )

    def _answers(self) -> bool:
        """Whether every member comes to answer; not if one has ended."""
        until = time.monotonic() + _SECONDS
        for number in range(len(self.ports)):
            while not self._read(number):
                if self.processes[number].poll() is not None or time.monotonic() > until:
                    return False
                time.sleep(0.05)
        return True

    def _read(self, number: int) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            return "header" in self.post("/v3/kv/range", {"key": "YQ=="}, number)
        return False

    def post(
        self, path: str, body: dict[str, Any], number: int = 0, *, token: str = ""
    ) -> dict[str, Any]:
        headers = {"Authorization": token} if token else {}
        with contextlib.closing(self._connection(number)) as connection:
            connection.request("POST", path, json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read())
        if not isinstance(answer, dict):
            raise ValueError("not an object")
        return answer

    def empty(self) -> None:
        """Remove every key of ours, as soon as there is a leader that can."""
        first, last = (base64.b64encode(key).decode() for key in (b"/kdc", b"/kdc~"))
        until = time.monotonic() + _SECONDS
        while not self._removed({"key": first, "range_end": last}):
            if time.monotonic() > until:
                raise AssertionError("etcd does not remove the keys of the test before")
            time.sleep(0.05)

    def _removed(self, keys: dict[str, Any]) -> bool:
        # A refusal, while there is no leader, is an object too, but without a header.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            return "header" in self.post("/v3/kv/deleterange", keys)
        return False

    def kill(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number].wait()

    def restart(self, number: int) -> None:
        self.processes[number] = self._start(number)

    def stop(self, number: int) -> None:
        os.kill(self.processes[number].pid, signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        os.kill(self.processes[number].pid, signal.SIGCONT)

    def leader(self) -> int:
        """Which member leads, once one that answers does."""
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            for number in range(len(self.ports)):
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    status = self.post("/v3/maintenance/status", {}, number)
                    if status.get("leader") == status["header"]["member_id"]:
                        return number
            time.sleep(0.05)
        raise RuntimeError("no member leads")

    def _kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def end(self) -> None:
        self._kill()
        shutil.rmtree(self._directory, ignore_errors=True)
