"""Channels on which nothing happens for a long time, and peers that are no longer there."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone

from kdc.channel._channel import LINGER_SECONDS
from kdc.channel._liveness import ANSWER_SECONDS, PING_SECONDS
from kdc.errors import IntegrityError, PeerUnavailable
from kdc.protocol.records import AckStatus
from tests.support.edge import ChannelTestCase, HalfRecorder, Recorder, StreamRecorder

DAY = 24 * 3600
# Length, type and tag around nothing.
PING_BYTES = 2 + 1 + 16


class Counting(Recorder):
    """Counts how often it was called with data."""

    calls = 0

    def dataReceived(self, data: bytes) -> None:
        self.calls += 1


class _Pairs(ChannelTestCase):
    def open(self, one: Recorder | None = None, other: Recorder | None = None) -> None:
        self.one, self.other = one or Recorder(), other or Recorder()
        _, self.wire = self.pair(self.one, self.other)
        self.network.advance(PING_SECONDS)  # the handshake was something too
        self.before = self.sent

    @property
    def sent(self) -> tuple[int, int]:
        return len(self.wire.sent), len(self.wire.peer.sent)

    def pings(self) -> tuple[float, float]:
        """How much was sent each way since the channel was open, in pings."""
        here, there = (now - before for now, before in zip(self.sent, self.before, strict=True))
        return here / PING_BYTES, there / PING_BYTES


class IdleTests(_Pairs):
    def test_idle(self) -> None:
        """Nothing is said for a day: each side pings, no application sees it, all is well."""
        self.open(silent := Counting())
        self.network.advance(DAY)
        expected = DAY // PING_SECONDS
        self.assertEqual(self.pings(), (expected, expected))
        self.assertEqual(silent.calls, 0)
        self.one.out.write(b"good morning")
        self.one.out.loseConnection()
        self.network.settle()
        self.assertEqual(self.other.received, b"good morning")
        self.assertIsInstance(self.one.lost, ConnectionDone)
        self.assertIsInstance(self.other.lost, ConnectionDone)
        self.assert_quiet()

    def test_talkative(self) -> None:
        """A side that says something often enough does not ping; the other does."""
        self.open()
        for _ in range(100):
            self.one.out.write(b"")
            self.one.out.write(b"x")
            self.network.advance(PING_SECONDS / 2)
        here, there = self.pings()
        self.assertEqual(here, 100 * (PING_BYTES + 1) / PING_BYTES)
        self.assertEqual(there, 50)

    def test_silent_receiver(self) -> None:
        """A peer from which nothing comes is gone: the application is told within four minutes."""
        self.open()
        self.wire.peer.stalled = True
        self.network.advance(3 * PING_SECONDS)
        self.assertIsNone(self.one.lost)
        self.network.advance(PING_SECONDS)
        self.assertIsInstance(self.one.lost, PeerUnavailable)
        self.assert_quiet()

    def test_silent_sender(self) -> None:
        """The same seen from the other end."""
        self.open()
        self.wire.stalled = True
        self.network.advance(4 * PING_SECONDS)
        self.assertIsInstance(self.other.lost, PeerUnavailable)
        self.assert_quiet()

    def test_slow_talker(self) -> None:
        """A peer that speaks only now and then is no silent one."""
        self.open()
        for _ in range(20):
            self.wire.peer.stalled = True
            self.network.advance(2.5 * PING_SECONDS)
            self.wire.peer.stalled = False
            self.network.settle()
        self.assertIsNone(self.one.lost)

    def test_paused(self) -> None:
        """Who does not read for a day is not taken for gone, nor takes the peer for that."""
        self.open()
        self.one.out.pauseProducing()
        self.other.out.write(b"x" * 1_000_000)
        self.network.advance(DAY)
        self.assertEqual((self.one.lost, self.other.lost), (None, None))
        self.one.out.resumeProducing()
        self.network.settle()
        self.assertEqual(len(self.one.received), 1_000_000)

    def test_silent_once_it_is_read_again(self) -> None:
        """Having paused is no protection for a peer that has vanished meanwhile."""
        self.open()
        self.one.out.pauseProducing()
        self.wire.peer.stalled = True
        self.network.advance(DAY)
        self.assertIsNone(self.one.lost)
        self.one.out.resumeProducing()
        self.network.advance(5 * PING_SECONDS)
        self.assertIsInstance(self.one.lost, PeerUnavailable)

    def test_half_closed(self) -> None:
        """Who has ended says nothing, and is not missed; the other goes on pinging."""
        self.open(HalfRecorder(), HalfRecorder())
        self.one.out.loseWriteConnection()
        self.network.settle()
        self.before = self.sent
        self.network.advance(DAY)
        here, there = self.pings()
        self.assertEqual(here, 0)
        self.assertGreater(there, DAY // PING_SECONDS - 2)
        self.assertEqual((self.one.lost, self.other.lost), (None, None))
        self.other.out.write(b"at last")
        self.other.out.loseConnection()
        self.network.settle()
        self.assertEqual(self.one.received, b"at last")
        self.one.out.loseConnection()
        self.network.settle()
        self.assertIsInstance(self.one.lost, ConnectionDone)

    def test_half_closed_by_the_vanished(self) -> None:
        """We have ended and the peer vanishes before it has: that is noticed too."""
        self.open(HalfRecorder(), HalfRecorder())
        self.one.out.loseWriteConnection()
        self.network.settle()
        self.wire.peer.stalled = True
        self.network.advance(5 * PING_SECONDS)
        self.assertIsInstance(self.one.lost, PeerUnavailable)

    def test_peer_that_will_not_leave(self) -> None:
        """A peer that has all we sent, but goes on and on, is left after a while."""
        self.open(None, HalfRecorder())
        self.one.out.loseConnection()
        self.network.advance(LINGER_SECONDS - 1)
        self.other.out.write(b"and another thing")
        self.assertIsNone(self.one.lost)
        self.network.advance(1)
        self.assertIsInstance(self.one.lost, PeerUnavailable)
        self.assertIsInstance(self.other.lost, IntegrityError)
        self.network.settle()
        self.assert_quiet()

    def test_leaving_after_the_end_was_taken(self) -> None:
        """The same if our end had been sent, and acknowledged, long before."""
        self.open(HalfRecorder(), HalfRecorder())
        self.one.out.loseWriteConnection()
        self.network.advance(DAY)
        self.one.out.loseConnection()
        self.network.advance(LINGER_SECONDS)
        self.assertIsInstance(self.one.lost, PeerUnavailable)

    def test_linger_is_not_begun_again(self) -> None:
        """An application that says again that it is done does not lengthen the wait."""
        self.open(None, HalfRecorder())
        self.one.out.loseConnection()
        for _ in range(int(LINGER_SECONDS)):
            self.assertIsNone(self.one.lost)
            self.one.out.unregisterProducer()
            self.network.advance(1)
        self.assertIsInstance(self.one.lost, PeerUnavailable)
        self.assert_quiet()


class AnswerTests(_Pairs):
    """A peer that has ended cannot ping: how long its answer to our end is waited for."""

    def owe(self, one: Recorder) -> StreamRecorder:
        """Both have ended, and the other side has not answered yet."""
        other = StreamRecorder()
        self.open(one, other)
        other.out.loseWriteConnection()
        one.out.loseConnection()
        self.network.settle()
        self.assertEqual(other.ends, ["end"])
        return other

    def test_never(self) -> None:
        """It never comes: after an hour the channel ends, for an error, and leaves nothing."""
        self.owe(Recorder())
        self.network.advance(ANSWER_SECONDS - 1)
        self.assertIsNone(self.one.lost)
        self.network.advance(PING_SECONDS + 1)
        self.assertIsInstance(self.one.lost, PeerUnavailable)
        self.assertIsInstance(self.other.lost, IntegrityError)
        self.assert_quiet()

    def test_at_last(self) -> None:
        """A receiver that stores for most of an hour is not cut."""
        other = self.owe(Recorder())
        self.network.advance(ANSWER_SECONDS - 2 * PING_SECONDS)
        other.stored.callback(AckStatus.STORED)
        self.network.settle()
        self.assertIsInstance(self.one.lost, ConnectionDone)
        self.assertIsInstance(other.lost, ConnectionDone)
        self.assert_quiet()

    def test_pings_count(self) -> None:
        """One that has not ended shows that it is there, and may take as long as it likes."""
        other = StreamRecorder()
        self.open(Recorder(), other)
        self.one.out.loseConnection()
        self.network.advance(DAY)
        self.assertEqual((self.one.lost, other.lost), (None, None))
        other.stored.callback(AckStatus.STORED)
        other.out.loseConnection()
        self.network.settle()
        self.assertIsInstance(self.one.lost, ConnectionDone)

    def test_our_own_work(self) -> None:
        """While our application stores what the peer sent, the peer owes nothing."""
        one, other = StreamRecorder(), StreamRecorder()
        self.open(one, other)
        one.out.loseWriteConnection()
        self.network.settle()
        # Or the other side's own patience would end it.
        self.wire.stalled = True
        other.out.loseWriteConnection()
        self.network.advance(2 * ANSWER_SECONDS)
        self.assertEqual(one.ends, ["end"])
        self.assertIsNone(one.lost)
        one.stored.callback(AckStatus.STORED)
        self.network.advance(ANSWER_SECONDS + PING_SECONDS)
        self.assertIsInstance(one.lost, PeerUnavailable)

    def test_not_while_we_do_not_read(self) -> None:
        """The answer may be there: who has paused cannot know."""
        one, other = HalfRecorder(), StreamRecorder()
        self.open(one, other)
        other.out.loseWriteConnection()
        one.out.loseWriteConnection()
        self.network.settle()
        one.out.pauseProducing()
        self.network.advance(2 * ANSWER_SECONDS)
        self.assertIsNone(one.lost)
        one.out.resumeProducing()
        other.stored.callback(AckStatus.STORED)
        self.network.settle()
        self.assertIsInstance(one.lost, ConnectionDone)

    def test_one_who_reads_nothing(self) -> None:
        """All is answered, but our last word cannot leave: the connection ends all the same."""
        one, other = HalfRecorder(), HalfRecorder()
        self.open(one, other)
        one.out.loseWriteConnection()
        self.network.settle()
        self.wire.stalled = True
        other.out.loseConnection()
        self.network.advance(LINGER_SECONDS - 1)
        self.assertIsNone(one.lost)
        self.network.advance(1)
        self.assertIsInstance(one.lost, ConnectionDone)
        self.assert_quiet()
