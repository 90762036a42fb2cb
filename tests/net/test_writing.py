"""Writing at once: the same bytes in the same order, whatever the system takes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from kdc.net.writing import fits, is_bare, write_at_once
from tests.support.some_socket import EVERYTHING, SomeSocket


class WritingTests(SynchronousTestCase):
    def test_twisted_is_what_it_was(self) -> None:
        """It is used.  If not, Twisted has changed: look what it relies on."""
        self.assertTrue(fits())
        self.assertTrue(fits(SomeSocket()))
        names = ("dataBuffer", "_tempDataLen", "writeSomeData", "connected", "disconnecting")
        for missing in names:
            fewer = types.SimpleNamespace(**{name: 0 for name in names if name != missing})
            self.assertFalse(fits(fewer), missing)

    def test_bare(self) -> None:
        """A transport that does something to what it is given is not passed by."""
        socket: Any = SomeSocket()
        self.assertTrue(is_bare(socket))
        socket.TLS = True
        self.assertFalse(is_bare(socket))
        self.assertFalse(is_bare(StringTransport()))

    def test_at_once(self) -> None:
        """What the system takes waits for no turn of the reactor."""
        socket = SomeSocket()
        write_at_once(socket, [b"one", b"two"], bare=True)
        self.assertEqual((socket.sent, socket.ours.waiting), (b"onetwo", False))

    def test_otherwise(self) -> None:
        """Any other transport is given all of it, as ever."""
        socket, other = SomeSocket(), StringTransport()
        write_at_once(socket, [b"one", b"two"], bare=False)
        self.assertEqual((socket.sent, socket.ours.waiting), (b"", True))
        write_at_once(other, iter([b"one", b"two"]), bare=False)
        self.assertEqual(other.value(), b"onetwo")

    @given(
        st.lists(st.lists(st.binary(max_size=200), max_size=4), min_size=1, max_size=6),
        st.lists(st.sampled_from([0, 1, 7, 100, EVERYTHING]), max_size=20),
        st.lists(st.booleans(), min_size=6, max_size=6),
    )
    def test_whatever_is_taken(
        self, writes: list[list[bytes]], takes: list[int], turns: list[bool]
    ) -> None:
        """All of it goes out once and in its order."""
        socket = SomeSocket()
        socket.takes = list(takes)
        for pieces, turn in zip(writes, turns, strict=False):
            write_at_once(socket, pieces, bare=True)
            if turn:
                socket.turn()
        socket.turn()
        self.assertEqual(socket.sent, b"".join(piece for pieces in writes for piece in pieces))

    def test_pieces_in_the_same_memory(self) -> None:
        """What has to wait is not changed by what comes after it."""

        def pieces() -> Iterator[memoryview]:
            memory = bytearray(3)
            for piece in (b"one", b"two", b"six"):
                memory[:] = piece
                yield memoryview(memory)

        for bare, takes in ((True, []), (True, [2]), (True, [3, 0]), (True, [0]), (False, [])):
            socket = SomeSocket()
            socket.takes = [*takes]
            write_at_once(socket, pieces(), bare=bare)
            socket.turn()
            self.assertEqual(socket.sent, b"onetwosix")

    def test_nothing_passes_what_waits(self) -> None:
        """Once a byte has to wait, everything after it does."""
        socket = SomeSocket()
        socket.takes = [2]
        write_at_once(socket, [b"one", b"two"], bare=True)
        write_at_once(socket, [b"three"], bare=True)
        self.assertEqual((socket.sent, socket.ours.waiting), (b"on", True))
        socket.turn()
        self.assertEqual(socket.sent, b"onetwothree")

    def test_lost(self) -> None:
        """A connection that is lost meanwhile is found lost by the reactor."""
        socket = SomeSocket()
        lost = ConnectionLost()
        socket.takes = [lost, lost]
        write_at_once(socket, [b"nobody reads this"], bare=True)
        self.assertTrue(socket.ours.waiting)
        self.assertIs(socket.doWrite(), lost)

    def test_closed(self) -> None:
        """What is written after the end goes nowhere."""
        socket = SomeSocket()
        socket.connected = 0
        write_at_once(socket, [b"late"], bare=True)
        socket.turn()
        self.assertEqual(socket.sent, b"")
