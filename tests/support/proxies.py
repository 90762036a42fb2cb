"""What can stand between two programs: other services, and proxies that cut or change a stream."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

import attrs
from twisted.trial.unittest import SkipTest

__all__ = ["OTHER_LOOPBACK", "Cut", "OtherService", "Proxy", "require_other_loopback"]

OTHER_LOOPBACK = "127.0.0.2"


def require_other_loopback() -> None:
    """Skip a test that needs `OTHER_LOOPBACK`, where this system has no such address.

    Whether some port of it is free is another question, and no reason to skip.
    """
    try:
        socket.create_server((OTHER_LOOPBACK, 0)).close()
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        raise SkipTest(f"no second loopback address here: {error}") from None


class _Listener:
    """Accepts connections in a thread, as a context."""

    def __init__(self, host: str, port: int) -> None:
        self._listening = socket.create_server((host, port))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.close()

    def close(self) -> None:
        self._listening.close()

    def serve(self, connection: socket.socket) -> None:
        """Deal with one connection, which is closed afterwards."""
        raise NotImplementedError

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.serve(connection)


class OtherService(_Listener):
    """Answers every connection with the same bytes, and closes it."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("127.0.0.1", 0)
        self._answer = answer

    def serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self._answer)


@attrs.frozen
class Cut:
    """After how many bytes from the client (``up``) or to it (``down``) both sides are closed.

    ``flip``: no cut, but the last bit of that byte from the client is changed.
    ``times``: for so many connections; those after them are left alone.
    """

    up: int | None = None
    down: int | None = None
    flip: int | None = None
    times: int = 1_000_000


class Proxy(_Listener):
    """Passes connections on to ``target``, one at a time, as ``cut`` says.

    ``passed`` counts what the last connection has sent up and down.
    """

    def __init__(
        self, target: tuple[str, int], cut: Cut | None = None, *, at: tuple[str, int] | None = None
    ) -> None:
        super().__init__(*(at or ("127.0.0.1", 0)))
        self._target = target
        self.cut = cut or Cut()
        self.passed = (0, 0)
        self.connections = 0

    def serve(self, connection: socket.socket) -> None:
        self.connections += 1
        cut = self.cut if self.connections <= self.cut.times else Cut()
        with socket.create_connection(self._target) as onward, selectors.DefaultSelector() as both:
            up = _Direction(connection, onward, cut.up, cut.flip)
            down = _Direction(onward, connection, cut.down)
            for direction in (up, down):
                both.register(direction.source, selectors.EVENT_READ, direction)
            try:
                while not (up.cut or down.cut) and both.get_map():
                    for key, _ in both.select():
                        if not key.data.step():
                            both.unregister(key.fileobj)
            finally:
                self.passed = (up.passed, down.passed)


@attrs.define
class _Direction:
    source: socket.socket
    sink: socket.socket
    most: int | None
    flip: int | None = None
    passed: int = 0

    @property
    def cut(self) -> bool:
        return self.passed == self.most

    def step(self) -> bool:
        """Pass on what is there; return whether more can come."""
        room = 65536 if self.most is None else min(65536, self.most - self.passed)
        data = bytearray(self.source.recv(room) if room else b"")
        if self.flip is not None and self.passed <= self.flip < self.passed + len(data):
            data[self.flip - self.passed] ^= 1
        self.passed += len(data)
        if data:
            self.sink.sendall(data)
        else:
            self.sink.shutdown(socket.SHUT_WR)
        return bool(data)
