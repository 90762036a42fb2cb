"""A transport of Twisted's whose system takes as much at a time as a test says."""

from __future__ import annotations

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

__all__ = ["EVERYTHING", "SomeSocket"]

EVERYTHING = 1 << 20


class _Reactor:
    """Notes whether anybody waits until it can write."""

    waiting = False

    def addWriter(self, writer: object) -> None:
        self.waiting = True

    def removeWriter(self, writer: object) -> None:
        self.waiting = False

    def removeReader(self, reader: object) -> None:
        pass


class SomeSocket(FileDescriptor):
    """Takes as many bytes at each call as ``takes`` says, everything after that."""

    def __init__(self) -> None:
        self.ours = _Reactor()
        super().__init__(self.ours)  # type: ignore[arg-type]
        self.connected = 1
        self.takes: list[int | Exception] = []
        self.sent = b""

    def writeSomeData(self, data: bytes) -> int | BaseException:
        takes = self.takes.pop(0) if self.takes else EVERYTHING
        if isinstance(takes, Exception):
            return takes
        self.sent += bytes(data[:takes])
        return min(takes, len(data))

    def abortConnection(self) -> None:
        self.connectionLost(Failure(ConnectionDone()))

    def turn(self) -> None:
        """What the reactor does for who waits, until nobody does."""
        while self.ours.waiting:
            self.doWrite()
