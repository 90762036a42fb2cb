"""A channel that has ended leaves no timer behind, wherever in an exchange it ended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from twisted.internet.error import ConnectionDone, ConnectionLost

from kdc.channel._channel import LINGER_SECONDS
from kdc.channel._liveness import PING_SECONDS
from kdc.errors import PeerUnavailable
from kdc.protocol.records import AckStatus
from tests.support.edge import ChannelTestCase, HalfRecorder, StreamRecorder, Wire

_STEPS = 13


class LeftTimersTests(ChannelTestCase):
    def begin(self) -> None:
        """One end has dialled the other; nothing has moved yet."""
        self.setUp()
        self.one, self.other = HalfRecorder(), StreamRecorder()
        self.offer(self.other)
        self.channel = self.sender(self.one)
        _ = self.channel.opened.addErrback(lambda _: None)
        self.wire: Wire = self.dial(self.channel)

    def exchange(self) -> Iterator[None]:
        """A long one, step by step, with each kind of wait in it."""
        self.wire.step()
        yield
        self.wire.peer.step()
        yield
        self.network.settle()
        yield
        self.network.advance(PING_SECONDS)
        yield
        self.other.out.pauseProducing()
        self.one.out.write(b"x" * 100_000)
        yield
        self.one.out.loseConnection()
        yield
        self.network.advance(3 * PING_SECONDS)
        yield
        self.other.out.resumeProducing()
        yield
        self.network.advance(3 * PING_SECONDS)
        yield
        self.other.stored.callback(AckStatus.STORED)
        yield
        # All that is missing now is the other end, and there is little patience left.
        self.network.advance(LINGER_SECONDS / 2)
        yield
        self.other.out.loseConnection()
        yield
        self.network.settle()

    def cut(self) -> None:
        self.wire.finish(ConnectionLost())
        self.wire.peer.finish(ConnectionLost())

    def abort(self) -> None:
        self.wire.abortConnection()

    def test_every_step(self) -> None:
        """Cut or aborted after any step, from either side: no delayed call is left at once."""
        ends: tuple[Callable[[], object], ...] = (
            self.cut,
            self.abort,
            lambda: self.channel.fail(PeerUnavailable("enough")),
            lambda: self.wire.peer.protocol.fail(PeerUnavailable("enough")),
        )
        for (how, end), steps in itertools.product(enumerate(ends), range(_STEPS)):
            where = f"end {how} after {steps} steps"
            self.begin()
            for _ in itertools.islice(self.exchange(), steps):
                pass
            end()
            self.network.settle()
            self.assertEqual(self.network.wires, [], where)
            self.assertEqual(self.network.getDelayedCalls(), [], where)
            # Nor can what is still on its way begin one.
            if not self.other.stored.called:
                self.other.stored.callback(AckStatus.STORED)
            for each in (self.one, self.other):
                if each.made:
                    each.out.resumeProducing()
                    each.out.loseConnection()
                    each.out.unregisterProducer()
            self.assertEqual(self.network.getDelayedCalls(), [], where)

    def test_every_byte(self) -> None:
        """Cut behind any byte of the handshake and of the first records, either way."""
        self.begin()
        self.network.settle()
        lengths = (len(self.wire.sent), len(self.wire.peer.sent))
        self.assertTrue(self.one.made and self.other.made)
        for side, length in enumerate(lengths):
            for position in range(1, length + 1):
                self.begin()
                (self.wire, self.wire.peer)[side].cut_after = position
                self.network.settle()
                self.assert_quiet()

    def test_to_the_end(self) -> None:
        """The whole of it, without an accident."""
        self.begin()
        self.assertEqual(sum(1 for _ in self.exchange()), _STEPS - 1)
        self.assertIsInstance(self.one.lost, ConnectionDone)
        self.assert_quiet()
