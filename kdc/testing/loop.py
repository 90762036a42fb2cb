"""UDP and TCP in front of functions of bytes: one thread, `selectors`, and no framework.

TCP is that of RFC 4120 section 7.2.2: four bytes of length, of which the highest bit is
reserved.  Who is slow or comes in crowds is dropped; nobody is waited for.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable

import attrs

__all__ = ["Loop", "Service", "free_port"]

_MOST_CONNECTIONS = 200
_IDLE_SECONDS = 30.0
_TRIES = 50


@attrs.frozen
class Service:
    """``answer`` is given a message and whether it came as a datagram; None is no answer.

    ``refusal`` is the answer to a length beyond ``longest``: nothing of that is read.
    """

    answer: Callable[[bytes, bool], bytes | None]
    refusal: Callable[[], bytes | None]
    longest: int = 65_535


@attrs.define(eq=False)
class _Connection:
    socket: socket.socket
    service: Service
    heard: float
    received: bytearray = attrs.field(factory=bytearray, repr=False)
    to_send: bytearray = attrs.field(factory=bytearray, repr=False)
    ends: bool = False


class Loop:
    """Serves until `close`, in a thread of its own."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        self._servers: dict[socket.socket, Service] = {}
        self._waker, self._wakes = socket.socketpair()
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._runs = True
        self._paused = False
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kdc.testing", daemon=True)

    def bind(self, host: str, port: int, service: Service) -> int:
        """Listen on one port for UDP and TCP, a free one if it is 0; return which.

        Only before `start`.  Raises `OSError` if the port is in use.
        """
        for attempt in range(_TRIES):
            try:
                pair = _bound(host, port)
                break
            except OSError:
                # The port that was free for TCP need not be free for UDP.
                if port or attempt == _TRIES - 1:
                    raise
        for server in pair:
            server.setblocking(False)
            self._servers[server] = service
            self._selector.register(server, selectors.EVENT_READ)
        number: int = pair[0].getsockname()[1]
        return number

    def start(self) -> None:
        self._thread.start()

    def pause(self, paused: bool) -> None:
        """Leave what comes unread, or go on with it; it is so when this returns."""
        self._settled.clear()
        self._paused = paused
        if self._thread.is_alive():
            self._wake()
            self._settled.wait()

    def close(self) -> None:
        """Free the ports; nothing is answered any more when this returns."""
        self._runs = False
        self._wake()
        if self._thread.ident is not None:
            self._thread.join()
        for each in (*self._servers, *self._connections, self._waker, self._wakes):
            each.close()
        self._selector.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    def _run(self) -> None:
        waiting = False
        while self._runs:
            if waiting != self._paused:
                waiting = self._paused
                self._listen(not waiting)
            self._settled.set()
            for key, events in self._selector.select(_IDLE_SECONDS if self._connections else None):
                self._ready(key.fileobj, events)  # type: ignore[arg-type]
            self._drop_idle()

    def _listen(self, listening: bool) -> None:
        for each in (*self._servers, *self._connections):
            if listening:
                self._selector.register(each, selectors.EVENT_READ)
            else:
                self._selector.unregister(each)

    def _ready(self, ready: socket.socket, events: int) -> None:
        if ready is self._wakes:
            ready.recv(64)
        elif ready in self._servers:
            # A peer that is gone again, or cannot be reached, is no error of ours.
            with contextlib.suppress(OSError):
                self._serve(ready, self._servers[ready])
        elif ready in self._connections:
            connection = self._connections[ready]
            try:
                if events & selectors.EVENT_READ:
                    self._read(connection)
                self._write(connection)
            except OSError:
                self._drop(connection)

    def _serve(self, server: socket.socket, service: Service) -> None:
        if server.type == socket.SOCK_STREAM:
            accepted, _ = server.accept()
            accepted.setblocking(False)
            if len(self._connections) >= _MOST_CONNECTIONS:
                self._drop(min(self._connections.values(), key=lambda each: each.heard))
            self._connections[accepted] = _Connection(accepted, service, time.monotonic())
            self._selector.register(accepted, selectors.EVENT_READ)
            return
        message, address = server.recvfrom(service.longest + 1)
        answer = service.answer(message, True)
        if answer is not None:
            server.sendto(answer, address)

    def _read(self, connection: _Connection) -> None:
        chunk = connection.socket.recv(65_536)
        connection.heard = time.monotonic()
        connection.received += chunk
        connection.ends = connection.ends or not chunk
        while len(connection.received) >= 4 and not connection.ends:
            length = int.from_bytes(connection.received[:4], "big")
            if length > connection.service.longest:  # the reserved bit included
                self._queue(connection, connection.service.refusal())
                connection.ends = True
                return
            if len(connection.received) < 4 + length:
                return
            message = bytes(connection.received[4 : 4 + length])
            del connection.received[: 4 + length]
            self._queue(connection, connection.service.answer(message, False))

    def _queue(self, connection: _Connection, answer: bytes | None) -> None:
        if answer is not None:
            connection.to_send += len(answer).to_bytes(4, "big") + answer

    def _write(self, connection: _Connection) -> None:
        if connection.to_send:
            try:
                sent = connection.socket.send(connection.to_send)
            except BlockingIOError:
                sent = 0
            del connection.to_send[:sent]
        if not connection.to_send and connection.ends:
            self._drop(connection)
            return
        # Who does not read is not read from: nothing piles up.
        events = selectors.EVENT_WRITE if connection.to_send else selectors.EVENT_READ
        self._selector.modify(connection.socket, events)

    def _drop_idle(self) -> None:
        oldest = time.monotonic() - _IDLE_SECONDS
        for connection in [c for c in self._connections.values() if c.heard < oldest]:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.socket]
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.socket)
        connection.socket.close()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody had a moment ago, neither for UDP nor TCP."""
    loop = Loop()
    try:
        return loop.bind(host, 0, Service(lambda _, __: None, lambda: None))
    finally:
        loop.close()


def _bound(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    stream = socket.socket(family, socket.SOCK_STREAM)
    datagram = socket.socket(family, socket.SOCK_DGRAM)
    try:
        # A port that this realm has had a moment ago is free again, unless somebody listens.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stream.bind((host, port))
        stream.listen(128)
        datagram.bind((host, stream.getsockname()[1]))
    except OSError:
        stream.close()
        datagram.close()
        raise
    return stream, datagram
