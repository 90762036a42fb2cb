"""Somebody between two parties, who does one thing at one byte of a connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionLost

from tests.support.edge import Network, Wire

__all__ = ["ATTACKS", "DELAY_SECONDS", "Attack"]

DELAY_SECONDS = 1.0
# What an attack does with what was sent from its position on: (rest, other) -> what arrives,
# where ``other`` is what the same end sent on another connection.
_CHANGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "flip": lambda rest, other: bytes([rest[0] ^ 0x01]) + rest[1:],
    # In a length: a record that would take hours to arrive.
    "flip a high bit": lambda rest, other: bytes([rest[0] ^ 0x20]) + rest[1:],
    "drop": lambda rest, other: rest[1:],
    "drop some": lambda rest, other: rest[40:],
    "insert": lambda rest, other: b"\0" + rest,
    "duplicate": lambda rest, other: rest[:40] + rest,
    "splice": lambda rest, other: other,
}
ATTACKS = (*_CHANGES, "cut", "reset", "delay")


class Attack:
    """Do ``what`` to what ``wire`` sends, at the byte ``position`` of it.

    ``other`` is what was sent from there on in another exchange, for splicing.
    """

    def __init__(
        self, network: Network, wire: Wire, what: str, position: int, other: bytes
    ) -> None:
        self.done = False
        self._network, self._wire = network, wire
        self._what, self._left, self._other = what, position, other
        if what == "cut":
            wire.cut_after, self.done = position, True
        else:
            wire.tamper = self._tamper

    def _tamper(self, data: bytes) -> bytes:
        if self.done:
            return data
        if len(data) <= self._left:
            self._left -= len(data)
            return data
        self.done = True
        before, rest = data[: self._left], data[self._left :]
        if self._what == "reset":
            self._network.callLater(0, self._reset)
            return before
        if self._what == "delay":
            self._wire.waiting[:0] = rest
            self._wire.stalled = True
            self._network.callLater(DELAY_SECONDS, self._release)
            return before
        return before + _CHANGES[self._what](rest, self._other)

    def _reset(self) -> None:
        self._wire.finish(ConnectionLost())
        self._wire.peer.finish(ConnectionLost())

    def _release(self) -> None:
        self._wire.stalled = False
