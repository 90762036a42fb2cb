"""Stands before a member of etcd, and can lose an event of a watch, or everything."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import BinaryIO

from bench.cluster import Tls

__all__ = ["EtcdProxy"]

_SECONDS = 60.0


class EtcdProxy:
    """Passes requests on to ``member``, as HTTP in TLS on both sides, a thread for each client.

    ``lose``: of so many of the next messages of watches, those with events, nothing is passed on.
    """

    def __init__(self, tls: Tls, host: str, member: tuple[str, int]) -> None:
        self.lose = 0
        self.lost = 0
        self._member = member
        self._server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server.load_cert_chain(tls.certificate, tls.key)
        self._client = tls.settings(member).context()
        self._away = False
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server((host, 0))
        self.place: tuple[str, int] = (host, self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody gets through, and whoever was through is cut off."""
        self._away = True
        for each in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)
        try:
            yield
        finally:
            self._away = False

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(connection,), daemon=True).start()

    def _pass_on(self, plain: socket.socket) -> None:
        assert self._client is not None
        with contextlib.suppress(OSError, ValueError), plain:
            if self._away:
                return
            with (
                self._server.wrap_socket(plain, server_side=True) as near,
                socket.create_connection(self._member, 5.0) as onward,
                self._client.wrap_socket(onward, server_hostname=self._member[0]) as far,
            ):
                self._open |= {near, far}
                try:
                    near.settimeout(_SECONDS)
                    far.settimeout(_SECONDS)
                    with near.makefile("rb") as asked, far.makefile("rb") as answered:
                        while request := _message(asked):
                            far.sendall(request)
                            self._answer(answered, near)
                finally:
                    self._open -= {near, far}

    def _answer(self, answered: BinaryIO, near: ssl.SSLSocket) -> None:
        """Pass on one answer: as a whole, or what it consists of as it comes."""
        head = _head(answered)
        near.sendall(head)
        length = _length(head)
        if length is not None:
            near.sendall(answered.read(length))
            return
        while True:
            size = answered.readline()
            piece = answered.read(int(size, 16) + 2)
            if self.lose and b'"events"' in piece:
                self.lose -= 1
                self.lost += 1
                continue
            near.sendall(size + piece)
            if not int(size, 16):
                return


def _head(stream: BinaryIO) -> bytes:
    """As far as the empty line; nothing at the end of the stream."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline(65536)
        if not line:
            return b""
        head += line
    return head


def _length(head: bytes) -> int | None:
    """How long the body is; None if it comes in pieces."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return None


def _message(stream: BinaryIO) -> bytes:
    """The next request, as a whole."""
    head = _head(stream)
    return head + stream.read(_length(head) or 0) if head else b""
