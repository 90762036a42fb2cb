"""Two connections joined: the same bytes in the same order, whatever the system takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from kdc.net.splice import SpliceEnd, StraightEnd
from tests.support.some_socket import EVERYTHING, SomeSocket


class _System(SomeSocket):
    """One whose system can be asked at once, too; ``reading``: what is read there is wanted."""

    reading = True

    def getHandle(self) -> _System:
        return self

    def send(self, data: bytes | memoryview) -> int:
        taken = self.writeSomeData(bytes(data))
        if not taken or not isinstance(taken, int):
            raise BlockingIOError
        return taken

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True


class StraightTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source, self.system = StringTransport(), _System()
        self.one, self.two = SpliceEnd(), StraightEnd()
        self.one.makeConnection(self.source)
        self.two.makeConnection(self.system)
        self.one.join(self.two)

    def test_at_once(self) -> None:
        """What the system takes waits for nothing, and nobody is held up."""
        self.one.dataReceived(b"one")
        self.one.dataReceived(memoryview(b"two"))
        self.assertEqual((self.system.sent, self.system.ours.waiting), (b"onetwo", False))
        self.assertEqual(self.source.producerState, "producing")

    def test_held_up(self) -> None:
        """One byte that has to wait holds up where it came from, until nothing waits."""
        self.system.takes = [2]
        self.one.dataReceived(memoryview(b"one"))
        self.assertEqual(self.system.sent, b"on")
        self.assertEqual(self.source.producerState, "paused")
        self.system.turn()
        self.assertEqual(self.system.sent, b"one")
        self.assertEqual(self.source.producerState, "producing")

    @given(
        st.lists(st.tuples(st.binary(max_size=200), st.booleans(), st.booleans()), max_size=8),
        st.lists(st.sampled_from([0, 1, 7, 100, EVERYTHING]), max_size=20),
    )
    def test_whatever_is_taken(
        self, pieces: list[tuple[bytes, bool, bool]], takes: list[int]
    ) -> None:
        """Bytes and views leave once and in their order, however little is taken at a time."""
        self.setUp()
        self.system.takes = list(takes)
        for piece, as_view, turn in pieces:
            self.one.dataReceived(memoryview(piece) if as_view else piece)
            if turn:
                self.system.turn()
        self.system.turn()
        whole = b"".join(piece for piece, _, _ in pieces)
        self.assertEqual(self.system.sent, whole)
        self.assertEqual((self.one.received, self.two.sent), (len(whole), len(whole)))
        self.assertEqual(self.source.producerState, "producing")

    def test_others_are_given_bytes(self) -> None:
        """A transport that is not asked at once is given what it may keep."""
        target = StringTransport()
        two = StraightEnd()
        two.makeConnection(target)
        one = SpliceEnd()
        one.makeConnection(StringTransport())
        one.join(two)
        one.dataReceived(memoryview(b"a view"))  # a StringTransport takes nothing but bytes
        self.assertEqual(target.value(), b"a view")
