"""The secure channel: who may speak when, what leaves, what ends it, and how that is told."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer, ITransport
from twisted.logger import capturedLogs, eventAsText
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kdc.channel._channel import LINGER_SECONDS, ClosedEarly
from kdc.channel._sender import SenderChannel
from kdc.channel.services import Service
from kdc.channel.transport import ChannelTransport, IStreamProtocol, PrincipalAddress
from kdc.errors import IntegrityError, PeerUnavailable, RefusedByPolicy, RemoteProtocolError
from kdc.net.views import ITakesViews
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.records import EVEN_DATA, MAX_DATA, AckStatus, RecordStream
from tests.support.edge import (
    RECEIVER_HOST,
    ChannelTestCase,
    HalfRecorder,
    Recorder,
    StreamRecorder,
    Wire,
    factory_of,
)

SECRET = b"the plaintext that must not be seen "


class Captured(Recorder):
    """Keeps the sealed records that reached it."""

    def __init__(self) -> None:
        super().__init__()
        self.sealed = bytearray()

    def connectionMade(self) -> None:
        super().connectionMade()
        self.out.capture(self.sealed.extend)


def records_of(data: bytes) -> list[bytes]:
    """The records of one direction, each with its length before it."""
    frames = FrameBuffer(65_535, 17)
    frames.feed(data)
    return [len(body).to_bytes(2, "big") + body for body in iter(frames.next, None)]


def behind_handshake(wire: Wire) -> bytes:
    """What was sent here behind the one frame of the handshake."""
    first = 2 + int.from_bytes(wire.sent[:2], "big")
    return bytes(wire.sent[first:])


class OpeningTests(ChannelTestCase):
    def test_who_is_there(self) -> None:
        """Both ends know the other by its name, and where its packets come from."""
        one, other = Recorder(), Recorder()
        self.pair(one, other)
        self.assertEqual((one.made, other.made), (1, 1))
        self.assertEqual(one.out.principal, "bob")
        self.assertEqual(other.out.principal, "alice")
        self.assertEqual(str(other.out.getPeer()), "alice@LOCAL")
        self.assertIsInstance(one.out.getPeer(), PrincipalAddress)
        self.assertEqual(other.out.getPeer().host, "192.0.2.1")
        self.assertEqual(one.out.getPeer().host, RECEIVER_HOST)
        self.assertEqual(one.out.getHost().host, "192.0.2.1")

    def test_both_ways(self) -> None:
        """What one writes the other reads, whatever the sizes."""
        one, other = Recorder(), Recorder()
        self.pair(one, other)
        sizes = (1, MAX_DATA - 1, MAX_DATA, MAX_DATA + 1, 3 * MAX_DATA, 5)
        for size, (writer, reader) in itertools.product(sizes, ((one, other), (other, one))):
            before = len(reader.received)
            writer.out.write(bytes([size % 251]) * size)
            writer.out.writeSequence([b"", b"and ", b"more"])
            writer.out.write(b"")
            self.network.settle()
            expected = bytes([size % 251]) * size + b"and more"
            self.assertEqual(bytes(reader.received[before:]), expected)

    def test_nothing_before_the_answer(self) -> None:
        """A sends 309 and nothing else, and has no application, until B's answer has verified."""
        one = Recorder()
        self.offer(Recorder())
        wire = self.dial(self.sender(one))
        wire.peer.stalled = True
        self.network.settle()
        self.assertEqual(len(wire.sent), 2 + int.from_bytes(wire.sent[:2], "big"))
        self.assertEqual(one.made, 0)
        self.assertEqual(len(wire.peer.sent), 50)

    def test_nothing_before_the_first_record(self) -> None:
        """B sends m2 and nothing else, and has no application, until A's first record opens."""
        other = Recorder()
        self.offer(other)
        wire = self.dial(channel := self.sender(Recorder()))
        wire.cut_after = 2 + int.from_bytes(wire.sent[:2], "big")
        answered = wire.peer
        self.network.settle()
        self.failureResultOf(channel.opened, ClosedEarly)
        self.assertEqual(len(answered.sent), 50)
        self.assertEqual(other.made, 0)
        self.assert_well()

    def test_a_forged_answer(self) -> None:
        """An m2 that is not B's own, in any bit, ends it; A has sent nothing more."""
        for at in range(50):
            channel = self.sender(Recorder())
            self.offer(Recorder())
            wire = self.dial(channel)
            wire.peer.tamper = _flip(at)
            self.network.settle()
            if at >= 2:
                error = self.failureResultOf(channel.opened, RemoteProtocolError).value
                self.assertNotIn("alice", str(error))
            self.assertEqual(len(wire.sent), 2 + int.from_bytes(wire.sent[:2], "big"))
            self.network.advance(20)
            self.assert_quiet()
            if at < 2:
                self.failureResultOf(channel.opened)

    def test_a_forged_presentation(self) -> None:
        """A 309 that was changed in any byte is met with silence."""
        length = len(self.present())
        for at in range(length):
            channel = self.sender(Recorder())
            self.offer(never := Recorder())
            wire = self.dial(channel)
            wire.tamper = _flip(at)
            answered = wire.peer
            self.network.advance(6)
            self.failureResultOf(channel.opened)
            self.assertEqual((bytes(answered.sent), never.made), (b"", 0), at)
        self.assert_quiet()
        self.assert_well()

    def test_a_first_record_that_was_changed(self) -> None:
        """A first record that does not open ends it: B has shown nothing and said nothing."""
        for at in range(19):
            self.offer(never := Recorder())
            channel = self.sender(Recorder())
            wire = self.dial(channel)
            answered = wire.peer
            wire.step()
            wire.tamper = _flip(at)
            self.network.advance(6)
            self.assertEqual((len(answered.sent), never.made), (50, 0))
            self.failureResultOf(channel.opened)
        self.assert_quiet()
        self.assert_well()

    def test_replay(self) -> None:
        """Everything that A sent, sent again by somebody else, is met with silence."""
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other)
        one.out.write(SECRET)
        one.out.loseConnection()
        self.network.settle()
        again = Recorder()
        self.offer(never := Recorder())
        replay = self.dial(again, address="198.51.100.66")
        replay.write(bytes(wire.sent))
        self.network.settle()
        self.assertEqual((bytes(again.received), never.made), (b"", 0))
        self.assertIsNotNone(again.lost)
        self.assert_quiet()
        self.assert_well()

    def test_a_copied_first_message(self) -> None:
        """Whoever presents a copied 309 first gets m2 and nothing more; the place is freed."""
        wire = self.dial(channel := self.sender(Recorder()))
        wire.stalled = True
        self.offer(never := Recorder())
        thief = Recorder()
        copied = self.dial(thief)
        copied.write(bytes(wire.sent))
        self.network.settle()
        self.assertEqual(len(thief.received), 50)
        copied.write(bytes(100))
        self.network.advance(6)
        self.assertIsNotNone(thief.lost)
        self.assertEqual((len(thief.received), never.made), (50, 0))
        self.network.advance(10)
        self.failureResultOf(channel.opened, PeerUnavailable)
        self.assertEqual(len(self.listener.newcomers.limiter), 0)

    def test_no_answer(self) -> None:
        """A receiver that never answers costs ten seconds, and the error says so."""
        channel = self.sender(Recorder())
        self.network.listen(RECEIVER_HOST, 7, factory_of(Recorder()))
        self.dial(channel, port=7)
        self.network.advance(9.9)
        self.assertNoResult(channel.opened)
        self.network.advance(0.2)
        self.assertIn("10 s", str(self.failureResultOf(channel.opened, PeerUnavailable).value))
        self.assert_quiet()

    def test_not_a_receiver(self) -> None:
        """What answers something else at that address is found out at once."""
        for answer in (b"SSH-2.0-x\r\n", b"\0\x31" + bytes(49), b"\0\x2f" + bytes(47), bytes(50)):
            recorder = Recorder()
            self.network.listen(RECEIVER_HOST, 7, factory_of(recorder))
            channel = self.sender(Recorder())
            self.dial(channel, port=7)
            recorder.out.write(answer)
            self.network.settle()
            self.failureResultOf(channel.opened, RemoteProtocolError)
            self.assert_quiet()

    def test_given_up(self) -> None:
        """Whoever waits for a channel may give up."""
        channel = self.sender(Recorder())
        wire = self.dial(channel)
        wire.stalled = True
        channel.opened.cancel()
        self.network.settle()
        self.failureResultOf(channel.opened)
        self.network.advance(10)
        self.assert_quiet()


def _flip(at: int, bit: int = 1) -> Callable[[bytes], bytes]:
    """Flip a bit of the byte at that place of what passes from now on."""
    passed = itertools.count()

    def tamper(data: bytes) -> bytes:
        return bytes(byte ^ bit if next(passed) == at else byte for byte in data)

    return tamper


class ServiceTests(ChannelTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.offer(Recorder())

    def opening(self, service: str, *, name: str = "alice") -> tuple[SenderChannel, Wire]:
        channel = self.sender(Recorder(), service, name=name)
        wire = self.dial(channel)
        self.network.settle()
        return channel, wire

    def test_by_name(self) -> None:
        """Each service has its own application."""
        first, second = Recorder(), Recorder()
        self.offer(second, "second")
        self.pair(Recorder(), first)
        self.opening("second")
        self.assertEqual((first.made, second.made), (1, 1))

    def test_unknown(self) -> None:
        """A service that is not offered is refused by its name."""
        channel, _ = self.opening("printing")
        error = self.failureResultOf(channel.opened, RefusedByPolicy).value
        self.assertIn("does not offer printing", str(error))
        self.network.advance(6)
        self.assert_quiet()
        self.assert_well()

    def test_not_allowed(self) -> None:
        """Who may not use a service is told so, and the application never hears of him."""
        self.offer(Recorder())
        self.offer(never := Recorder(), "mail", allow=lambda name: name == "carol")
        channel, _ = self.opening("mail")
        error = self.failureResultOf(channel.opened, RefusedByPolicy).value
        self.assertIn("does not allow us to use mail", str(error))
        self.assertEqual(never.made, 0)
        self.opening("mail", name="carol")
        self.assertEqual(never.made, 1)

    def test_not_allowed_at_all(self) -> None:
        """Who may use no service learns nothing, not even that somebody is here: no m2."""
        self.services.clear()
        self.offer(Recorder(), "mail", allow=lambda name: name == "carol")
        self.offer(Recorder(), allow=lambda name: name == "dave")
        with capturedLogs() as captured:
            channel, wire = self.opening("mail")
        self.failureResultOf(channel.opened, ClosedEarly)
        self.assertEqual(wire.peer.sent, b"")
        self.assertTrue(any("alice" in str(event.get("error")) for event in captured))
        epoch = self.bob.epochs.current
        self.assertEqual(len(cast(Any, epoch)._used), 0)
        self.assert_well()

    def test_too_many_channels_of_one_sender(self) -> None:
        """Over its share a sender is answered by silence, others are not; who leaves makes room."""
        self.listener._most = 2
        for _ in range(2):
            self.offer(Recorder())
            _, wire = self.opening("")
        self.offer(Recorder())
        refused, silent = self.opening("")
        self.failureResultOf(refused.opened, ClosedEarly)
        self.assertEqual(silent.peer.sent, b"")
        others, _ = self.opening("", name="carol")
        self.successResultOf(others.opened)
        wire.abortConnection()
        self.network.settle()
        self.offer(Recorder())
        again, _ = self.opening("")
        self.successResultOf(again.opened)

    def test_counted_until_the_answer(self) -> None:
        """Section 10: a connection is a stranger's until m2, not until its first record."""
        self.offer(Recorder())
        wire = self.dial(channel := self.sender(Recorder()))
        self.assertEqual(len(self.listener.newcomers.limiter), 1)
        wire.peer.stalled = True
        self.network.settle()
        self.assertEqual((len(wire.peer.sent), len(self.listener.newcomers.limiter)), (50, 0))
        self.network.advance(11)
        self.failureResultOf(channel.opened)
        self.network.advance(20)
        self.assert_quiet()

    def test_declined(self) -> None:
        """An application that does not want the connection is a refusal."""
        self.services[""] = Service(factory_of())
        channel, _ = self.opening("")
        self.failureResultOf(channel.opened, RefusedByPolicy)
        self.network.advance(6)
        self.assert_quiet()

    def test_a_name_that_is_none(self) -> None:
        """What cannot be a service's name is no service."""
        for name in (b"\xff", b"a b", b"../x", b"x" * 65, b"x" * 60_000):
            channel = self.sender(Recorder())
            channel._service = _Raw(name)
            wire = self.dial(channel)
            self.network.settle()
            self.failureResultOf(channel.opened, RefusedByPolicy)
            self.assertFalse(wire.peer.sent == b"")
        self.network.advance(6)
        self.assert_quiet()

    def test_a_refused_sender_that_stays(self) -> None:
        """A sender that does not close after a refusal is cut off."""
        channel = self.sender(Recorder(), "printing")
        stubborn = self.dial(channel)
        stubborn.step()
        stubborn.peer.step()
        stubborn.pauseProducing()
        self.network.advance(4.9)
        self.assertNoResult(channel.opened)
        self.network.advance(0.2)
        self.failureResultOf(channel.opened)
        self.assert_quiet()

    def test_a_first_word_that_is_none(self) -> None:
        """A receiver whose first record is not a status is not believed anything."""
        for word in (b"", b"\3", b"\0\0", b"hello"):
            self.offer(Recorder())
            channel = self.sender(Recorder())
            self.dial(channel)
            self._lie(word)
            self.failureResultOf(channel.opened, RemoteProtocolError)
        self.network.advance(6)
        self.assert_quiet()

    def _lie(self, word: bytes) -> None:
        """Have the receiver say ``word`` where its status belongs."""
        send = RecordStream.send_data
        said: list[bytes] = []

        def lie(stream: RecordStream, data: bytes | memoryview) -> list[bytes]:
            if data == b"\0" and not said:
                said.append(word)
                return send(stream, word)
            return send(stream, data)

        patched = self.patch(RecordStream, "send_data", lie)
        self.network.settle()
        patched.restore()
        self.assertEqual(said, [word])


class _Raw(str):
    """A service whose name goes on the wire as it is."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> _Raw:
        self = super().__new__(cls, "raw")
        self.raw = raw
        return self

    def encode(self, *_: Any) -> bytes:
        return self.raw


class SealedTests(ChannelTestCase):
    """There is no way for readable bytes to leave."""

    def assert_sealed(self, wire: Wire, reader: Recorder, times: int) -> None:
        self.network.settle()
        self.assertEqual(bytes(reader.received).count(SECRET), times, "it arrives")
        for seen in (wire.sent, wire.peer.sent):
            for at in range(len(SECRET) - 6):
                self.assertNotIn(SECRET[at : at + 6], seen)

    def test_write(self) -> None:
        """Everything that is written, either way, is sealed on the wire."""
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other, "secretservice")
        for writer, reader in ((one, other), (other, one)):
            writer.out.write(SECRET)
            writer.out.writeSequence([SECRET, SECRET])
            writer.out.writeSequence(iter([SECRET[:9], SECRET[9:]]))
            self.assert_sealed(wire, reader, 4)
        self.assertNotIn(b"secretservice", wire.sent)

    def test_producers(self) -> None:
        """Producers of both kinds write through the same way."""
        for streaming in (True, False):
            one, other = Recorder(), Recorder()
            _, wire = self.pair(one, other)
            for writer, reader in ((one, other), (other, one)):
                producer = _Producer(writer.out, SECRET, 5)
                writer.out.registerProducer(producer, streaming)
                if streaming:
                    producer.run()
                self.assert_sealed(wire, reader, 5)

    def test_every_way_out(self) -> None:
        """The transport has these ways and no other, and none of them is the raw transport."""
        one = Recorder()
        channel, wire = self.pair(one, Recorder())
        public = {name for name in dir(one.out) if not name.startswith("_")}
        self.assertEqual(
            public,
            {
                *("write", "writeSequence", "loseConnection", "loseWriteConnection"),
                *("abortConnection", "getPeer", "getHost", "disconnecting", "principal"),
                *("registerProducer", "unregisterProducer", "capture"),
                *("pauseProducing", "resumeProducing", "stopProducing"),
                *("getTcpNoDelay", "setTcpNoDelay", "getTcpKeepAlive", "setTcpKeepAlive"),
            },
        )
        for name in public:
            self.assertNotIn(getattr(one.out, name), (wire, wire.peer, channel))
        for name in ("transport", "socket", "getHandle", "startTLS", "wrappedProtocol"):
            self.assertRaises(AttributeError, getattr, one.out, name)
        self.assertTrue(verifyObject(ITransport, one.out))
        self.assertTrue(verifyObject(IConsumer, one.out))
        self.assertTrue(verifyObject(IPushProducer, one.out))
        self.assertIsInstance(one.out, ChannelTransport)

    def test_secrets_do_not_show(self) -> None:
        """What a channel prints of itself names no key and no content."""
        one, other = Recorder(), Recorder()
        channel, _ = self.pair(one, other)
        one.out.write(SECRET)
        self.network.settle()
        for given in self.realm.random.given + self.realm.client_random.given:
            for shown in (repr(channel), repr(one.out), repr(one.out.getPeer()), str(channel)):
                self.assertNotIn(repr(given)[2:-1], shown)

    def test_captured(self) -> None:
        """What is kept as ciphertext is what was on the wire behind the handshake, all of it."""
        one, other = Recorder(), Captured()
        _, wire = self.pair(one, other)
        one.out.write(SECRET * 5000)
        one.out.loseConnection()
        self.network.settle()
        self.assertEqual(bytes(other.sealed), behind_handshake(wire))
        self.assertNotIn(SECRET, other.sealed)
        self.assertEqual(bytes(other.received), SECRET * 5000)


@implementer(IPushProducer, IPullProducer)
class _Producer:
    """Writes so many times; remembers when it was told to wait."""

    def __init__(self, consumer: Any, data: bytes, times: int) -> None:
        self.consumer, self.data, self.left = consumer, data, times
        self.paused = False
        self.pauses = 0
        self.stopped = False

    def run(self) -> None:
        while self.left and not self.paused:
            self.left -= 1
            self.consumer.write(self.data)
        if not self.left:
            self.consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        if self.paused:
            self.paused = False
            self.run()
        elif self.left:  # as a pull producer
            self.left -= 1
            self.consumer.write(self.data)
            if not self.left:
                self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped = True
        self.left = 0


class BackPressureTests(ChannelTestCase):
    def test_a_peer_that_does_not_read(self) -> None:
        """A producer is told to wait, and little is held in memory meanwhile."""
        for backwards in (False, True):
            one, other = Recorder(), Recorder()
            _, wire = self.pair(one, other)
            writer, reader = (other, one) if backwards else (one, other)
            sending = wire.peer if backwards else wire
            reader.out.pauseProducing()
            producer = _Producer(writer.out, bytes(100_000), 100)
            writer.out.registerProducer(producer, True)
            producer.run()
            self.network.settle()
            self.assertGreater(producer.left, 90)
            self.assertEqual(reader.received, b"")
            self.assertLess(len(sending.waiting), 300_000)
            reader.out.resumeProducing()
            self.network.settle()
            self.assertEqual(len(reader.received), 10_000_000)
            self.assertGreater(producer.pauses, 10)

    def test_paused_in_the_middle(self) -> None:
        """An application that pauses gets nothing more, of what has arrived already either."""
        one, other = Recorder(), Recorder()
        self.pair(one, other)
        take = other.dataReceived

        def once(data: bytes) -> None:
            take(data)
            other.out.pauseProducing()

        other.dataReceived = once  # type: ignore[method-assign]
        for number in range(10):
            one.out.write(b"%d" % number)
        one.out.loseConnection()
        for number in range(10):
            self.network.settle()
            self.assertEqual(len(other.received), number + 1)
            self.assertIsNone(other.lost)
            other.out.resumeProducing()
        self.network.settle()
        self.assertEqual(bytes(other.received), b"0123456789")
        self.assertIsInstance(other.lost, ConnectionDone)
        self.assertIsInstance(one.lost, ConnectionDone)

    def test_a_record_alone_pauses_nobody(self) -> None:
        """Two records may wait before a producer has to: not each of them makes it stop and go."""
        for records, pauses in ((2, 0), (3, 1)):
            one, other = Recorder(), Recorder()
            _, wire = self.pair(one, other)
            wire.stalled = True
            producer = _Producer(one.out, bytes(EVEN_DATA), records)
            one.out.registerProducer(producer, True)
            producer.run()
            self.assertEqual(producer.pauses, pauses)
            wire.stalled = False
            self.network.settle()
            self.assertEqual(len(other.received), records * EVEN_DATA)

    def test_a_producer_outlives_the_call_to_close(self) -> None:
        """After loseConnection a registered producer still writes what it has."""
        one, other = Recorder(), Recorder()
        self.pair(one, other)
        producer = _Producer(one.out, bytes(50_000), 20)
        one.out.registerProducer(producer, True)
        producer.run()
        one.out.loseConnection()
        self.network.settle()
        self.assertEqual(len(other.received), 1_000_000)
        self.assertIsInstance(one.lost, ConnectionDone)
        self.assertIsInstance(other.lost, ConnectionDone)

    def test_a_producer_of_a_channel_that_is_gone(self) -> None:
        """A producer is stopped when the connection goes, and at once when it has gone."""
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other)
        producer = _Producer(one.out, b"x", 1)
        one.out.registerProducer(producer, True)
        wire.peer.abortConnection()
        self.network.settle()
        self.assertTrue(producer.stopped)
        late = _Producer(one.out, b"x", 1)
        one.out.registerProducer(late, True)
        self.assertTrue(late.stopped)
        one.out.write(b"into nothing")
        one.out.loseConnection()
        self.network.settle()
        self.assert_quiet()


@implementer(ITakesViews)
class _Viewing(Recorder):
    """Keeps what came as it came."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes | memoryview] = []

    def dataReceived(self, data: bytes | memoryview) -> None:
        super().dataReceived(bytes(data))
        self.pieces.append(data)


class ReadingTests(ChannelTestCase):
    """What is long is read in whole records, and copied as little as can be."""

    def test_who_takes_views(self) -> None:
        """They are for who says so, at either end; whoever does not is given bytes, as of TCP."""
        content = bytes(range(256)) * 1000
        for backwards in (False, True):
            for reader, kinds in ((_Viewing(), {bytes, memoryview}), (Recorder(), {bytes})):
                seen: set[type] = set()
                take = reader.dataReceived

                def looked_at(data: bytes, take: Any = take, seen: set[type] = seen) -> None:
                    seen.add(type(data))
                    take(data)

                reader.dataReceived = looked_at  # type: ignore[method-assign]
                writer = Recorder()
                self.pair(*((reader, writer) if backwards else (writer, reader)))
                writer.out.write(b"short")
                writer.out.write(content)
                self.network.settle()
                self.assertEqual(reader.received, b"short" + content)
                self.assertEqual(seen, kinds)

    def test_a_view_stays_what_it_is(self) -> None:
        """Whatever comes later, and when the channel is gone."""
        one, other = Recorder(), _Viewing()
        self.pair(one, other)
        contents = [bytes([number]) * EVEN_DATA for number in range(20)]
        for content in contents:
            one.out.write(content)
        one.out.loseConnection()
        self.network.settle()
        self.assertEqual([bytes(piece) for piece in other.pieces], contents)

    def test_back_in_step(self) -> None:
        """One read that ends within a record is followed by one that ends with a record."""
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other)
        reads: list[int] = []

        def note(data: bytes) -> bytes:
            reads.append(len(data))
            return data

        wire.tamper = note
        wire.stalled = True
        one.out.write(bytes(8 * EVEN_DATA))
        wire.peer.bufferSize = 100_000  # so much was there
        wire.stalled = False
        self.network.settle()
        self.assertEqual(len(other.received), 8 * EVEN_DATA)
        self.assertEqual(
            reads, [100_000, 2 * 65_536 - (100_000 - 65_536), *[2 * 65_536] * 2, 65_536]
        )

    def test_out_of_step_for_ever(self) -> None:
        """Records that are not even ones are read as much at a time, less one record at most."""
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other)
        sizes: set[int] = set()

        def note(data: bytes) -> bytes:
            sizes.add(wire.peer.bufferSize)
            return data

        wire.tamper = note
        for _ in range(50):
            one.out.write(bytes(10_007))
        self.network.settle()
        self.assertEqual(len(other.received), 50 * 10_007)
        self.assertGreater(len(sizes), 1)
        self.assertGreater(min(sizes), 65_536)
        self.assertLessEqual(max(sizes), 2 * 65_536)


class EndTests(ChannelTestCase):
    """Only an authenticated end is an end."""

    def test_close(self) -> None:
        """loseConnection sends all that was written; both ends see a proper end."""
        for backwards in (False, True):
            one, other = Recorder(), Recorder()
            self.pair(one, other)
            writer, reader = (other, one) if backwards else (one, other)
            writer.out.write(SECRET * 10_000)
            writer.out.loseConnection()
            writer.out.write(b"too late")
            writer.out.loseConnection()
            self.network.settle()
            self.assertEqual(bytes(reader.received), SECRET * 10_000)
            self.assertIsInstance(writer.lost, ConnectionDone)
            self.assertIsInstance(reader.lost, ConnectionDone)
            self.assert_quiet()

    def test_both_close(self) -> None:
        """Both may close at the same moment."""
        one, other = Recorder(), Recorder()
        self.pair(one, other)
        for each in (one, other):
            each.out.write(b"bye")
            each.out.loseConnection()
        self.network.settle()
        self.assertIsInstance(one.lost, ConnectionDone)
        self.assertIsInstance(other.lost, ConnectionDone)
        self.assert_quiet()

    def test_from_connection_made(self) -> None:
        """An application may write and close in connectionMade, on either side."""
        for backwards in (False, True):
            one, other = Recorder(), Recorder()
            writer, reader = (other, one) if backwards else (one, other)

            def made(writer: Recorder = writer) -> None:
                writer.out.write(b"hello and goodbye")
                writer.out.loseConnection()

            writer.connectionMade = made  # type: ignore[method-assign]
            self.pair(one, other)
            self.assertEqual(bytes(reader.received), b"hello and goodbye")
            self.assertIsInstance(reader.lost, ConnectionDone)
            self.assertIsInstance(writer.lost, ConnectionDone)
            self.assert_quiet()

    def test_half_close(self) -> None:
        """One direction may end while the other goes on, either way."""
        for backwards in (False, True):
            one, other = HalfRecorder(), HalfRecorder()
            self.pair(one, other)
            first, second = (other, one) if backwards else (one, other)
            first.out.write(b"question")
            first.out.loseWriteConnection()
            first.out.write(b"too late")
            self.network.settle()
            self.assertEqual(bytes(second.received), b"question")
            self.assertEqual((first.ends, second.ends), (["write"], ["read"]))
            self.network.advance(LINGER_SECONDS + 10)
            second.out.write(b"answer")
            self.network.settle()
            self.assertEqual(bytes(first.received), b"answer")
            self.assertIsNone(first.lost)
            second.out.loseWriteConnection()
            self.network.settle()
            self.assertEqual(first.ends, ["write", "read"])
            self.assertIsInstance(first.lost, ConnectionDone)
            self.assertIsInstance(second.lost, ConnectionDone)
            self.assert_quiet()

    def test_abort(self) -> None:
        """After abortConnection the other side knows that the stream was cut."""
        for backwards in (False, True):
            one, other = HalfRecorder(), HalfRecorder()
            self.pair(one, other)
            first, second = (other, one) if backwards else (one, other)
            first.out.write(b"the beginning")
            self.network.settle()
            first.out.abortConnection()
            self.network.settle()
            self.assertIsInstance(second.lost, IntegrityError)
            self.assertIsInstance(first.lost, IntegrityError)
            self.assertEqual(second.ends, [])
            self.assert_quiet()

    def exchange(self, cut: Callable[[Wire], None]) -> tuple[Recorder, Recorder, SenderChannel]:
        """A question and an answer, with somebody in between."""
        one, other = Recorder(), Recorder()
        take = other.dataReceived

        def answer(data: bytes) -> None:
            take(data)
            if len(other.received) == 8:
                other.out.write(b"answer")
                other.out.loseConnection()

        other.dataReceived = answer  # type: ignore[method-assign]
        self.offer(other)
        channel = self.sender(one)
        _ = channel.opened.addCallbacks(lambda _: one.out.write(b"question"), lambda _: None)
        wire = self.dial(channel)
        cut(wire)
        self.network.advance(400)
        wire.abortConnection()  # who was told to wait for more than will come still waits
        self.network.settle()
        self.assert_quiet()
        return one, other, channel

    def test_cut_anywhere(self) -> None:
        """Wherever an attacker closes the connection, nobody takes that for the end."""
        whole: list[Wire] = []
        one, other, _ = self.exchange(whole.append)
        self.assertIsInstance(one.lost, ConnectionDone)
        self.assertIsInstance(other.lost, ConnectionDone)
        for here in (True, False):
            length = len(whole[0].sent if here else whole[0].peer.sent)
            for at in range(1, length):

                def cut(wire: Wire, at: int = at, here: bool = here) -> None:
                    (wire if here else wire.peer).cut_after = at

                one, other, _ = self.exchange(cut)
                reader = other if here else one
                self.assertFalse(
                    isinstance(reader.lost, ConnectionDone), f"{at} of {length}, {here}"
                )
                if reader.made:
                    self.assertIsInstance(reader.lost, IntegrityError, at)
                self.assertIn(bytes(one.received), (b"", b"answer"))
                self.assertIn(bytes(other.received), (b"", b"question"))
        self.assert_well()

    def test_changed_anywhere(self) -> None:
        """Wherever a bit is flipped, that is an integrity error for whoever reads it."""
        whole: list[Wire] = []
        self.exchange(whole.append)
        for here in (True, False):
            length = len(whole[0].sent if here else whole[0].peer.sent)
            for at in range(0, length, 3):

                def tamper(wire: Wire, at: int = at, here: bool = here) -> None:
                    (wire if here else wire.peer).tamper = _flip(at, 0x80)

                one, other, _ = self.exchange(tamper)
                reader = other if here else one
                self.assertNotIsInstance(reader.lost, ConnectionDone)
                self.assertIn(bytes(one.received), (b"", b"answer"))
                self.assertIn(bytes(other.received), (b"", b"question"))

    def test_linger(self) -> None:
        """Whoever closes does not wait for ever for a peer that has everything and stays."""
        one, other = Recorder(), HalfRecorder()
        self.pair(one, other)
        one.out.loseConnection()
        self.network.advance(LINGER_SECONDS - 1)
        self.assertIsNone(one.lost)
        self.network.advance(2)
        self.assertIsInstance(one.lost, PeerUnavailable)
        self.assertIsInstance(other.lost, IntegrityError)
        self.assert_quiet()

    def test_what_nobody_took(self) -> None:
        """Data that comes after one has closed is not acknowledged as taken."""
        one, other = StreamRecorder(), HalfRecorder()
        self.pair(one, other)
        other.out.loseConnection()
        one.out.write(b"did you get this?")
        one.out.loseWriteConnection()
        one.stored.callback(AckStatus.STORED)
        self.network.settle()
        self.assertEqual(one.acknowledgements, [AckStatus.NOT_ALLOWED])
        self.assertEqual(other.received, b"")
        self.assert_quiet()


class StreamTests(ChannelTestCase):
    """An application that stores what comes acknowledges it itself."""

    def test_not_before_it_is_stored(self) -> None:
        """ACK leaves when the application has stored the stream, and not before."""
        one, other = StreamRecorder(), StreamRecorder()
        _, wire = self.pair(one, other)
        one.out.write(b"content")
        one.out.loseWriteConnection()
        self.network.settle()
        self.assertEqual(other.ends, ["end"])
        before = len(wire.peer.sent)
        self.network.advance(59)
        self.assertEqual(len(wire.peer.sent), before, "nothing leaves")
        self.assertEqual(one.acknowledgements, [])
        other.stored.callback(AckStatus.STORED)
        self.network.settle()
        self.assertEqual(one.acknowledgements, [AckStatus.STORED])
        self.assertEqual(other.ends, ["end", "read"])

    def test_every_status(self) -> None:
        """Whatever the application says became of the stream is what the peer is told."""
        for status in AckStatus:
            one, other = StreamRecorder(), StreamRecorder()
            self.pair(one, other)
            one.out.loseWriteConnection()
            other.stored.callback(status)
            self.network.settle()
            self.assertEqual(one.acknowledgements, [status])

    def test_gone_meanwhile(self) -> None:
        """A peer that leaves while it is stored: the application still finishes, nobody is told."""
        one, other = StreamRecorder(), StreamRecorder()
        _, wire = self.pair(one, other)
        one.out.loseWriteConnection()
        self.network.settle()
        wire.abortConnection()
        self.network.settle()
        other.stored.callback(AckStatus.STORED)
        self.network.settle()
        self.assertEqual(one.acknowledgements, [])
        self.assertIsInstance(one.lost, IntegrityError)
        self.assertIsInstance(other.lost, IntegrityError)
        self.assert_quiet()

    def test_interface(self) -> None:
        """The recorder of these tests is such an application."""
        self.assertTrue(verifyObject(IStreamProtocol, StreamRecorder()))


class RecordTests(ChannelTestCase):
    """Records come in their order, each once, from the other side, or not at all."""

    def attack(self, change: Callable[[list[bytes]], list[bytes]]) -> Recorder:
        """Three records and the end, as the attacker lets them through."""
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other)
        before = len(wire.sent)
        wire.stalled = True
        for data in (b"one", b"two", b"three"):
            one.out.write(data)
        one.out.loseConnection()
        records = records_of(bytes(wire.sent[before:]))
        wire.waiting[:] = b"".join(change(records))
        wire.stalled = False
        self.network.advance(400)
        self.assert_quiet()
        return other

    def test_unchanged(self) -> None:
        """The attacker of this test can also leave it as it is."""
        other = self.attack(lambda records: records)
        self.assertEqual(bytes(other.received), b"onetwothree")
        self.assertIsInstance(other.lost, ConnectionDone)

    def test_attacks(self) -> None:
        """Swapped, repeated, dropped, moved: what came before counts, and the rest is refused."""
        for change, before in (
            (lambda r: [r[1], r[0], *r[2:]], b""),
            (lambda r: [r[0], r[0], *r[1:]], b"one"),
            (lambda r: [r[0], *r[2:]], b"one"),
            (lambda r: r[1:], b""),
            (lambda r: [*r[:2], r[3], r[2]], b"onetwo"),
            (lambda r: [*r[:2], r[3]], b"onetwo"),
            (lambda r: [*r[:3], b"\0\x11" + bytes(17), r[3]], b"onetwothree"),
            (lambda r: [r[0], b"\0\x10" + bytes(16)], b"one"),
            (lambda r: [r[0], b"\0\0", *r[1:]], b"one"),
        ):
            other = self.attack(change)
            self.assertEqual(bytes(other.received), before)
            self.assertIsInstance(other.lost, RemoteProtocolError)
        self.assert_well()

    def test_after_the_end(self) -> None:
        """A record behind the end is refused."""
        other = self.attack(lambda records: [*records, records[0]])
        self.assertNotIsInstance(other.lost, ConnectionDone)

    def test_reflected(self) -> None:
        """What one has sent does not open for himself."""
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other)
        before = len(wire.sent)
        one.out.write(b"mine")
        record = bytes(wire.sent[before:])
        one.transport._channel.dataReceived(record)  # type: ignore[union-attr]
        self.network.settle()
        self.assertEqual(one.received, b"")
        self.assertIsInstance(one.lost, RemoteProtocolError)

    def test_of_another_channel(self) -> None:
        """What belongs to one channel does not open on another between the same two."""
        one, two = Recorder(), Recorder()
        _, wire = self.pair(one, Recorder())
        self.pair(two, other := Recorder())
        before = len(wire.sent)
        one.out.write(b"for the first")
        other.transport._channel.dataReceived(bytes(wire.sent[before:]))  # type: ignore[union-attr]
        self.network.settle()
        self.assertEqual(other.received, b"")
        self.assertIsInstance(other.lost, RemoteProtocolError)

    def test_end_before_anything(self) -> None:
        """A sender whose first record is the end has broken the protocol."""
        self.offer(never := Recorder())
        channel = self.sender(Recorder())
        self.dial(channel)
        self.patch(RecordStream, "send_data", lambda stream, data: [stream.send_end()])
        with capturedLogs() as captured:
            self.network.settle()
        self.assertEqual(never.made, 0)
        self.failureResultOf(channel.opened)
        self.assertTrue(any("before the first data" in str(e.get("error")) for e in captured))


class HostileTests(ChannelTestCase):
    """The receiver's port is open to everybody: nobody gets a word out of it, or wears it out."""

    def test_floods(self) -> None:
        """Strangers who come again and again do not fill the log; how many they were is told."""

        def come(times: int) -> list[str]:
            with capturedLogs() as captured:
                for _ in range(times):
                    stranger = Recorder()
                    self.dial(stranger)
                    stranger.out.write(b"\xff\xff")
                    self.network.settle()
            return [eventAsText(event, includeTimestamp=False) for event in captured]

        self.assertEqual(len(come(1000)), 200)
        self.network.advance(1)
        more = come(10)
        self.assertIn("800 more refusals", more[0])
        self.assertEqual(len(more), 11)
        self.assert_well()

    def test_garbage(self) -> None:
        """Whatever is not a 309 is met with silence, and the port stays in service."""
        for garbage in (
            b"GET / HTTP/1.0\r\n\r\n",
            b"\0\0",
            b"\x02\x01",
            b"\xff\xff" + bytes(1000),
            b"\0\1\1",
            b"\x01\0" + bytes(256),
            b"\0\x04\x01\x35\1\0",
            b"\0\x03\x01\x35\2",
            bytes(100_000),
        ):
            stranger = Recorder()
            wire = self.dial(stranger, address="198.51.100.66")
            wire.write(garbage)
            self.network.advance(6)
            self.assertEqual(stranger.received, b"", garbage[:10])
            self.assertIsNotNone(stranger.lost)
        self.assertEqual(len(self.listener.newcomers.limiter), 0)
        self.assert_quiet()
        self.assert_well()

    def test_over_the_limit(self) -> None:
        """A frame that would be too long is refused at its length, not after it."""
        stranger = Recorder()
        self.dial(stranger).write(b"\x02\x01")
        self.network.settle()
        self.assertIsNotNone(stranger.lost)

    def test_silent(self) -> None:
        """Five seconds for the whole 309, however slowly it comes."""
        present = self.present()
        stranger = Recorder()
        wire = self.dial(stranger)
        for at in range(20):
            wire.write(present[at : at + 1])
            self.network.advance(0.3)
        self.assertIsNotNone(stranger.lost)
        self.assert_quiet()
        self.assert_well()

    def test_byte_by_byte(self) -> None:
        """How a 309 is cut on its way makes no difference."""
        one, other = Recorder(), Recorder()
        self.offer(other)
        channel = self.sender(one)
        wire = self.dial(channel)
        present, wire.waiting = bytes(wire.waiting), bytearray()
        for byte in present:
            wire.waiting += bytes([byte])
            self.network.settle()
        self.successResultOf(channel.opened)

    def test_many(self) -> None:
        """Eight newcomers from one address, 64 in all, the latest; the known do not count."""
        senders = [self.pair(Recorder(), Recorder()) for _ in range(20)]
        strangers = [Recorder() for _ in range(10)]
        for stranger in strangers:
            self.dial(stranger, address="198.51.100.66")
        self.turns()
        self.assertEqual([s.lost is None for s in strangers], [False] * 2 + [True] * 8)
        crowd = [Recorder() for _ in range(100)]
        for number, stranger in enumerate(crowd):
            self.dial(stranger, address=f"198.51.100.{number // 4 + 100}")
        self.turns()
        self.assertEqual(sum(s.lost is None for s in strangers + crowd), 64)
        self.assertTrue(all(wire.connected for _, wire in senders))
        self.pair(Recorder(), Recorder())  # who proves at once gets in
        self.network.advance(6)
        self.assertEqual(len(self.listener.newcomers.limiter), 0)
        self.assert_well()

    def turns(self) -> None:
        """What was accepted is read, and then who is too many has to go."""
        self.network.settle()
        self.network.advance(0.5)

    def test_no_end_of_a_burst(self) -> None:
        """However many come at one moment, so many and no more are kept."""
        crowd = [Recorder() for _ in range(300)]
        for stranger in crowd:
            self.dial(stranger, address="198.51.100.66")
        self.network.settle()
        self.assertEqual(sum(s.lost is None for s in crowd), 8 + 64)
        self.turns()
        self.assertEqual(sum(s.lost is None for s in crowd), 8)

    def test_burst(self) -> None:
        """Many from one address at one moment: who has sent its proof already gets in."""
        self.offer(Recorder())
        presents = [self.present() for _ in range(30)]
        callers = [Recorder() for _ in presents]
        wires = [self.dial(caller, address="198.51.100.66") for caller in callers]
        for wire, present in zip(wires, presents, strict=True):
            wire.write(present)
        self.turns()
        self.assertEqual([caller.lost for caller in callers], [None] * 30)
        self.assertTrue(all(caller.received for caller in callers))  # message 2

    def test_gone(self) -> None:
        """Newcomers who go again leave no trace, and nothing in the log."""
        with capturedLogs() as captured:
            for _ in range(100):
                self.dial(Recorder()).abortConnection()
                self.network.settle()
        self.assertEqual(len(self.listener.newcomers.limiter), 0)
        self.assertEqual(captured, [])
        self.assert_quiet()

    def test_when_idle(self) -> None:
        """Who waits for the last channel to close is told when it has."""
        from twisted.internet.defer import Deferred

        one = Recorder()
        self.pair(one, Recorder())
        waiting = Deferred.fromCoroutine(self.listener.when_idle())
        self.assertNoResult(waiting)
        one.out.loseConnection()
        self.network.settle()
        self.successResultOf(waiting)
        self.successResultOf(Deferred.fromCoroutine(self.listener.when_idle()))
