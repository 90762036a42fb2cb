"""Tunnels between real processes, and something to put at either end."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

from tests.support.processes import Program, ProgramTestCase, RunningKDC

__all__ = ["TunnelTestCase", "dialogue", "digest_server", "shout_server"]


class _Digest(socketserver.BaseRequestHandler):
    """Answers a whole stream with its digest, and then as many bytes as it says."""

    def handle(self) -> None:
        connection: socket.socket = self.request
        first = connection.recv(16)
        digest = hashlib.sha256()
        while data := connection.recv(1 << 16):
            digest.update(data)
        connection.sendall(digest.digest() + b"z" * int(first))


class _Shout(socketserver.StreamRequestHandler):
    """Answers each line at once, in capitals."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _TCP(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that is cut is what some tests are about."""


class _TCP6(_TCP):
    address_family = socket.AF_INET6


def digest_server(case: ProgramTestCase, host: str = "127.0.0.1", path: Path | None = None) -> int:
    """Start a server that lives as long as the test; return its port."""
    if path is not None:
        return _serve(case, _Unix(str(path), _Digest))
    return _serve(case, (_TCP6 if ":" in host else _TCP)((host, 0), _Digest))


def shout_server(case: ProgramTestCase) -> int:
    """The same for one that is talked to line by line."""
    return _serve(case, _TCP(("127.0.0.1", 0), _Shout))


def _serve(case: ProgramTestCase, server: Any) -> int:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    case.addCleanup(server.server_close)
    case.addCleanup(thread.join)
    case.addCleanup(server.shutdown)
    return int(server.server_address[1]) if isinstance(server, _TCP) else 0


def dialogue(connection: socket.socket, content: bytes, answer_bytes: int) -> bytes:
    """Send all, end, and return all that comes back."""
    with contextlib.closing(connection):
        connection.settimeout(60)
        connection.sendall(b"%16d" % answer_bytes + content)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


class TunnelTestCase(ProgramTestCase):
    """Programs that expose and forward, with key files, under names of each test's own."""

    def exposer(self, kdc: RunningKDC, name: str, *options: str, listen: str = "0") -> Program:
        """Expose services under ``name``; returns when they can be reached."""
        program = self.client(
            *("expose", "-n", name, *kdc.options, *self.key(name), "--listen", listen, *options)
        )
        program.expect(rf"{name}: receiving on \S+ port \d+\n")
        return program

    def forwarder(
        self,
        kdc: RunningKDC,
        name: str,
        peer: str,
        service: str,
        listen: str = "0",
        options: tuple[str, ...] = (),
    ) -> tuple[Program, int]:
        """Forward to a peer's service; returns the port, if it is one."""
        program = self.client(
            *("forward", "-n", name, *kdc.options, *self.key(name)),
            *("--to", peer, service, "--listen", listen, *options),
        )
        found = program.expect(rf"{service} of {peer} is at (?:\S+ port (\d+)|\S+)\n")
        return program, int(found[1] or 0)

    def tunnel(self, kdc: RunningKDC, service: str, endpoint: str) -> int:
        """A tunnel from a new alice to a new bob; returns the port that leads to ``endpoint``."""
        alice, bob = self.name("alice"), self.name("bob")
        self.exposer(kdc, bob, f"{service}={endpoint}", "--allow", alice)
        return self.forwarder(kdc, alice, bob, service)[1]

    def assert_passes(
        self, address: Any, size: int = 300_000, family: int = socket.AF_INET
    ) -> None:
        """What goes through a tunnel to a digest server arrives whole, both ways."""
        connection = socket.socket(family)
        connection.settimeout(60)
        connection.connect(address)
        content = bytes(range(256)) * (size // 256)
        answer = dialogue(connection, content, size)
        self.assertEqual(answer[:32], hashlib.sha256(content).digest())
        self.assertEqual(answer[32:], b"z" * size)
