"""A channel is a stream transport like Twisted's own.

What programs rely on in TCP and TLS, asked of either end of a channel.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, cast

from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IPullProducer,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.services import Service
from kdc.errors import IntegrityError, PeerUnavailable, RefusedByPolicy
from kdc.protocol.handshake import Presentation
from kdc.protocol.kdc_exchange import Grant
from kdc.protocol.messages import KeyReply
from kdc.protocol.noise import Initiator, Responder
from tests.support.edge import (
    ChannelTestCase,
    EdgeTestCase,
    HalfRecorder,
    Recorder,
    Wire,
    certificate,
    factory_of,
)


class Acting(Recorder):
    """Does something in the middle of being called."""

    def __init__(self, **acts: Any) -> None:
        super().__init__()
        self.acts = acts
        self.calls: list[str] = []

    def _act(self, event: str) -> None:
        self.calls.append(event)
        if event in self.acts:
            self.acts[event](self)

    def connectionMade(self) -> None:
        super().connectionMade()
        self._act("made")

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._act("data")

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        super().connectionLost(reason)
        self._act("lost")


@implementer(IPushProducer)
class Pusher:
    """Writes when it is told to by the test, and remembers what the consumer told it."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")

    def stopProducing(self) -> None:
        self.heard.append("stop")


@implementer(IPullProducer)
class Puller:
    """Writes one piece each time it is asked, and unregisters after the last."""

    def __init__(self, consumer: Any, pieces: list[bytes]) -> None:
        self.consumer = consumer
        self.pieces = pieces
        self.stopped = False

    def resumeProducing(self) -> None:
        if self.pieces:
            self.consumer.write(self.pieces.pop(0))
        else:
            self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped = True


if TYPE_CHECKING:
    # What the mixin needs of the test case that it is mixed into.
    _Base = ChannelTestCase
else:
    _Base = object


class StreamConformance(_Base):
    """Asked of ``near``, the end under test; ``far`` is the other."""

    near_is_sender: bool

    def open(self, near: Recorder | None = None, far: Recorder | None = None) -> None:
        self.near: Any = near or Recorder()
        self.far: Any = far or Recorder()
        one, other = (self.near, self.far) if self.near_is_sender else (self.far, self.near)
        _, wire = self.pair(one, other)
        self.near_wire, self.far_wire = (
            (wire, wire.peer) if self.near_is_sender else (wire.peer, wire)
        )

    def settle(self) -> None:
        self.network.settle()

    def assert_done(self, *, near: type = ConnectionDone, far: type = ConnectionDone) -> None:
        """Both ends have been told once, and nothing is left."""
        self.settle()
        self.assertIsInstance(self.near.lost, near)
        self.assertIsInstance(self.far.lost, far)
        self.assert_quiet()

    # being connected

    def test_interfaces(self) -> None:
        """The transport is what its interfaces say."""
        self.open()
        for interface in (ITransport, IConsumer, IPushProducer):
            verifyObject(interface, self.near.out)

    def test_addresses(self) -> None:
        """The peer is a principal, at an address; the host is the connection's own."""
        self.open()
        peer = self.near.out.getPeer()
        name = "bob" if self.near_is_sender else "alice"
        self.assertEqual((peer.name, peer.realm, str(peer)), (name, "LOCAL", f"{name}@LOCAL"))
        self.assertEqual((peer.host, peer.port), _host_port(self.near_wire.getPeer()))
        self.assertEqual(self.near.out.principal, name)
        self.assertEqual(self.near.out.getHost(), self.near_wire.getHost())

    def test_made_once_before_data(self) -> None:
        """connectionMade comes once, before anything else."""
        self.open(Acting(), Acting(made=lambda far: far.out.write(b"first")))
        self.assertEqual(self.near.calls, ["made", "data"])

    def test_tcp_options(self) -> None:
        """Protocols that set TCP options can do so."""
        self.open()
        self.near.out.setTcpNoDelay(False)
        self.near.out.setTcpKeepAlive(False)
        self.assertTrue(self.near.out.getTcpNoDelay() and self.near.out.getTcpKeepAlive())
        self.assertTrue(self.near_wire.no_delay and self.near_wire.keep_alive)

    # writing

    def test_write_sequence(self) -> None:
        """Pieces arrive in order, however they were given."""
        self.open()
        self.near.out.write(b"one ")
        self.near.out.writeSequence([b"two ", b"", b"three "])
        self.near.out.writeSequence(iter([b"four"]))
        self.settle()
        self.assertEqual(self.far.received, b"one two three four")

    def test_empty_writes(self) -> None:
        """Writing nothing delivers nothing."""
        self.open(None, Acting())
        self.near.out.write(b"")
        self.near.out.writeSequence([])
        self.near.out.writeSequence([b"", b""])
        self.settle()
        self.assertEqual(self.far.calls, ["made"])

    def test_large_write(self) -> None:
        """A write may be of any size."""
        self.open()
        data = bytes(range(256)) * 4096
        self.near.out.write(data)
        self.settle()
        self.assertEqual(self.far.received, data)

    # closing

    def test_lose_connection(self) -> None:
        """What was written before arrives; both ends are told once, and cleanly."""
        self.open(Acting(), Acting())
        self.near_wire.stalled = True
        self.near.out.write(b"x" * 300_000)
        self.near.out.loseConnection()
        self.assertTrue(self.near.out.disconnecting)
        self.settle()
        self.assertIsNone(self.far.lost)
        self.near_wire.stalled = False
        self.assert_done()
        self.assertEqual(len(self.far.received), 300_000)
        for end in (self.near, self.far):
            self.assertEqual(end.calls.count("lost"), 1)

    def test_lose_connection_twice(self) -> None:
        """Closing again changes nothing."""
        self.open()
        self.near.out.loseConnection()
        self.near.out.loseConnection()
        self.assert_done()
        self.near.out.loseConnection()
        self.near.out.abortConnection()
        self.assert_done()

    def test_both_lose_connection(self) -> None:
        """Both ends may close at the same time."""
        self.open()
        for end in (self.near, self.far):
            end.out.write(b"bye")
            end.out.loseConnection()
        self.assert_done()

    def test_write_after_lose_connection(self) -> None:
        """What is written after loseConnection is ignored."""
        self.open()
        self.near.out.write(b"last")
        self.near.out.loseConnection()
        self.near.out.write(b"too late")
        self.near.out.writeSequence([b"too", b"late"])
        self.assert_done()
        self.near.out.write(b"much too late")
        self.assertEqual(self.far.received, b"last")

    def test_data_after_lose_connection(self) -> None:
        """Whoever has closed hears nothing more."""
        self.open()
        self.near.out.loseConnection()
        self.far.out.write(b"are you there?")
        self.assert_done()
        self.assertEqual(self.near.received, b"")

    def test_lose_connection_inside(self) -> None:
        """A protocol may close in connectionMade and in dataReceived."""
        for event in ("made", "data"):
            self.open(Acting(**{event: lambda end: end.out.loseConnection()}))
            self.far.out.write(b"one")
            self.far.out.write(b"two")
            self.assert_done()
            self.assertLessEqual(self.near.calls.count("data"), 1)

    def test_slow_reader_gets_everything(self) -> None:
        """A peer that takes its time still gets what was written before the close."""
        self.open()
        self.far.out.pauseProducing()
        self.near.out.write(b"x" * 1_000_000)
        self.near.out.loseConnection()
        self.network.advance(24 * 3600)
        self.assertEqual((self.near.lost, self.far.lost), (None, None))
        self.far.out.resumeProducing()
        self.assert_done()
        self.assertEqual(len(self.far.received), 1_000_000)

    def test_abort(self) -> None:
        """Aborting ends it at once; neither end takes that for a proper close."""
        self.open(Acting(), Acting())
        self.near_wire.stalled = True
        self.near.out.write(b"x" * 300_000)
        self.near.out.abortConnection()
        self.near.out.write(b"after")
        self.assert_done(near=IntegrityError, far=IntegrityError)
        self.assertEqual(self.far.received, b"")
        for end in (self.near, self.far):
            self.assertEqual(end.calls.count("lost"), 1)

    def test_abort_inside(self) -> None:
        """A protocol may abort in connectionMade and in dataReceived; it hears nothing more."""
        self.open(Acting(data=lambda end: end.out.abortConnection()))
        self.far.out.write(b"one")
        self.far.out.write(b"two")
        self.assert_done(near=IntegrityError, far=IntegrityError)
        self.assertEqual(self.near.calls, ["made", "data", "lost"])

    def test_abort_when_made(self) -> None:
        """A protocol may abort when it is connected; the other end learns of it, or never opens."""
        near = Acting(made=lambda end: end.out.abortConnection())
        one, other = (near, Recorder()) if self.near_is_sender else (Recorder(), near)
        self.offer(other)
        channel = self.sender(one)
        self.dial(channel)
        self.settle()
        self.assertIsInstance(near.lost, IntegrityError)
        if self.near_is_sender:
            self.assertIsInstance(other.lost, IntegrityError)
        else:
            self.failureResultOf(channel.opened, PeerUnavailable)
        self.assert_quiet()

    def test_cut(self) -> None:
        """A connection that somebody in between closes properly is an error at both ends."""
        self.open()
        self.near.out.write(b"half of it")
        self.settle()
        self.near_wire.loseConnection()
        self.assert_done(near=IntegrityError, far=IntegrityError)

    # half-close

    def test_half_close(self) -> None:
        """One direction ends; the other goes on as long as it likes."""
        self.open(HalfRecorder(), HalfRecorder())
        self.near.out.write(b"question")
        self.near.out.loseWriteConnection()
        self.near.out.loseWriteConnection()
        self.near.out.write(b"ignored")
        self.settle()
        self.assertEqual((self.near.ends, self.far.ends), (["write"], ["read"]))
        self.network.advance(24 * 3600)
        self.far.out.write(b"answer")
        self.settle()
        self.assertEqual((bytes(self.near.received), self.far.received), (b"answer", b"question"))
        self.far.out.loseConnection()
        self.assert_done()
        self.assertEqual((self.near.ends, self.far.ends), (["write", "read"], ["read", "write"]))

    def test_end_for_others(self) -> None:
        """A protocol that knows nothing of half-close is closed by the other's end."""
        self.open()
        self.near.out.write(b"question")
        self.near.out.loseWriteConnection()
        self.assert_done()
        self.assertEqual(self.far.received, b"question")

    def test_end_for_others_with_producer(self) -> None:
        """The other's end stops a producer that is at work, or that a close waits for."""
        for streaming in (True, False):
            for closing in (True, False):
                self.open()
                producer = Pusher()
                self.near.out.registerProducer(producer, streaming)
                if closing:
                    self.near.out.loseConnection()
                self.near.out.write(b"from the producer")
                self.far.out.loseConnection()
                self.near.out.write(b" so far")
                self.assert_done()
                self.assertEqual(producer.heard[-1], "stop")
                self.assertEqual(producer.heard.count("stop"), 1)
                self.near.out.unregisterProducer()

    def test_half_close_waits_for_producer(self) -> None:
        """The end comes behind what the producer still writes."""
        self.open(HalfRecorder(), HalfRecorder())
        producer = Puller(self.near.out, [b"one", b"two"])
        self.near.out.registerProducer(producer, False)
        self.near.out.loseWriteConnection()
        self.settle()
        self.assertEqual((bytes(self.far.received), self.far.ends), (b"onetwo", ["read"]))
        self.far.out.loseConnection()
        self.assert_done()

    # producers

    def test_push_producer(self) -> None:
        """A streaming producer is paused when the far end does not read, and resumed."""
        self.open()
        producer = Pusher()
        self.near.out.registerProducer(producer, True)
        self.far.out.pauseProducing()
        while "pause" not in producer.heard:
            self.near.out.write(b"x" * 10_000)
            self.assertLess(len(self.near_wire.sent), 10_000_000)
            self.settle()
        written = len(self.near_wire.sent)
        self.assertLess(written, 300_000)
        self.far.out.resumeProducing()
        self.settle()
        self.assertEqual(producer.heard, ["pause", "resume"])
        self.near.out.unregisterProducer()
        self.near.out.write(b"without a producer")
        self.near.out.loseConnection()
        self.assert_done()
        self.assertEqual(producer.heard, ["pause", "resume"])

    def test_pull_producer(self) -> None:
        """A pulled producer is asked for more when what it wrote has left."""
        self.open()
        self.near_wire.stalled = True
        producer = Puller(self.near.out, [b"1" * 100, b"2" * 100, b"3" * 100])
        self.near.out.registerProducer(producer, False)
        self.settle()
        self.assertEqual(len(producer.pieces), 2)
        self.near_wire.stalled = False
        self.settle()
        self.assertEqual(self.far.received, b"1" * 100 + b"2" * 100 + b"3" * 100)
        self.near.out.loseConnection()
        self.assert_done()

    def test_lose_connection_with_push_producer(self) -> None:
        """loseConnection waits for the producer, whose writes count until it is done."""
        self.open()
        producer = Pusher()
        self.near.out.registerProducer(producer, True)
        self.near.out.loseConnection()
        self.near.out.write(b"one")
        self.network.advance(3600)
        self.near.out.write(b"two")
        self.assertIsNone(self.near.lost)
        self.near.out.unregisterProducer()
        self.near.out.write(b"ignored")
        self.assert_done()
        self.assertEqual(self.far.received, b"onetwo")

    def test_lose_connection_with_pull_producer(self) -> None:
        """The same for one that is asked."""
        self.open()
        producer = Puller(self.near.out, [bytes([n]) * 50_000 for n in range(5)])
        self.near.out.registerProducer(producer, False)
        self.near.out.loseConnection()
        self.assert_done()
        self.assertEqual(self.far.received, b"".join(bytes([n]) * 50_000 for n in range(5)))

    def test_second_producer(self) -> None:
        """There is one producer at a time."""
        self.open()
        self.near.out.registerProducer(Pusher(), True)
        self.assertRaises(RuntimeError, self.near.out.registerProducer, Pusher(), True)
        self.near.out.unregisterProducer()
        self.near.out.registerProducer(Pusher(), True)

    def test_producer_too_late(self) -> None:
        """A producer that comes after the close is told to stop."""
        self.open()
        self.near.out.loseConnection()
        early, late = Pusher(), Pusher()
        self.near.out.registerProducer(early, True)
        self.assert_done()
        self.near.out.registerProducer(late, True)
        self.assertEqual((early.heard, late.heard), (["stop"], ["stop"]))

    def test_producer_of_a_lost_connection(self) -> None:
        """A producer is stopped when the connection is lost."""
        self.open()
        producer = Pusher()
        self.near.out.registerProducer(producer, True)
        self.far.out.abortConnection()
        self.settle()
        self.assertEqual(producer.heard, ["stop"])

    # being a producer

    def test_pause_inside(self) -> None:
        """pauseProducing in dataReceived: not a byte more, though it is there already."""
        self.open(Acting(data=lambda end: end.out.pauseProducing()))
        self.far.out.write(b"one")
        self.far.out.write(b"two")
        self.settle()
        self.assertEqual(self.near.received, b"one")
        self.network.advance(3600)
        self.near.out.resumeProducing()
        self.settle()
        self.assertEqual(self.near.received, b"onetwo")

    def test_pause_when_made(self) -> None:
        """A protocol that is not ready yet gets nothing."""
        self.open(
            Acting(made=lambda end: end.out.pauseProducing()),
            Acting(made=lambda end: end.out.write(b"early")),
        )
        self.assertEqual(self.near.received, b"")
        self.near.out.resumeProducing()
        self.settle()
        self.assertEqual(self.near.received, b"early")

    def test_resume_inside(self) -> None:
        """Pausing and resuming in dataReceived does not call it again before it returns."""
        depths: list[int] = []
        depth = 0

        def act(end: Any) -> None:
            nonlocal depth
            depth += 1
            depths.append(depth)
            end.out.pauseProducing()
            end.out.resumeProducing()
            depth -= 1

        self.open(Acting(data=act))
        for _ in range(3000):
            self.far.out.write(b"x")
        self.settle()
        self.assertEqual(depths, [1] * 3000)

    def test_backpressure(self) -> None:
        """What is not read stays at the far end, but for a bounded rest."""
        self.open()
        self.near.out.pauseProducing()
        self.far.out.write(b"x" * 5_000_000)
        self.settle()
        self.assertGreater(len(self.far_wire.waiting), 4_500_000)
        self.near.out.resumeProducing()
        self.settle()
        self.assertEqual(len(self.near.received), 5_000_000)

    def test_close_while_paused(self) -> None:
        """A protocol that does not read can still close."""
        self.open()
        self.far.out.write(b"unread")
        self.near.out.pauseProducing()
        self.settle()
        self.near.out.loseConnection()
        self.assert_done()

    def test_stop_producing(self) -> None:
        """A consumer that has had enough closes properly."""
        self.open()
        self.near.out.stopProducing()
        self.assert_done()


class SenderStreamTests(StreamConformance, ChannelTestCase):
    """The end that connected."""

    near_is_sender = True

    def test_factory_says_no(self) -> None:
        """A factory without a protocol for this: connecting fails, and the other end is told."""
        far = Recorder()
        self.offer(far)
        grant_only = self.sender(Recorder())
        grant_only._factory = factory_of()
        self.dial(grant_only)
        self.settle()
        self.failureResultOf(grant_only.opened, RefusedByPolicy)
        self.assertIsInstance(far.lost, IntegrityError)
        self.assert_quiet()
        self.assert_well()

    def test_factory_raises(self) -> None:
        """A factory that raises: connecting fails with that."""

        class Broken(Factory[Any]):
            def buildProtocol(self, addr: Any) -> Any:
                raise ZeroDivisionError

        self.offer(Recorder())
        channel = self.sender(Recorder())
        channel._factory = Broken()
        wire = self.dial(channel)
        self.assertRaises(ZeroDivisionError, self.settle)
        # As a reactor does with whatever dataReceived raises.
        wire.finish(ZeroDivisionError())
        self.failureResultOf(channel.opened, ZeroDivisionError)
        wire.peer.finish(ConnectionDone())
        self.assertEqual(self.network.getDelayedCalls(), [])


class ReceiverStreamTests(StreamConformance, ChannelTestCase):
    """The end that was connected to."""

    near_is_sender = False


def _host_port(address: Any) -> tuple[str, int]:
    return address.host, address.port


class EndpointTests(EdgeTestCase):
    """`ChannelClientEndpoint` is an endpoint like any other."""

    def setUp(self) -> None:
        super().setUp()
        self.far = Recorder()
        self.services = {"": Service(factory_of(self.far))}
        self.reception, self.listener, self.running = self.receive("bob", self.services)
        self.endpoint = ChannelClientEndpoint(self.known_client("alice"), "bob")
        self.assertTrue(verifyObject(IStreamClientEndpoint, self.endpoint))

    def end(self) -> None:
        """Everybody leaves, and nothing is left."""
        self.endpoint.client.close()
        self.reception.stop()
        self.listener_client.close()
        self.network.advance(60)
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assertEqual(self.network.wires, [])

    @property
    def listener_client(self) -> Any:
        return self.reception._client

    def channel_wires(self) -> list[Wire]:
        return [wire for wire in self.network.wires if wire.host.port == 60000]

    def test_refused_by_the_factory_there(self) -> None:
        """A receiver's factory that gives no protocol refuses: connecting fails at once."""
        self.services[""] = Service(factory_of())
        connecting = self.endpoint.connect(factory_of(near := Recorder()))
        self.network.settle()
        self.failureResultOf(connecting, RefusedByPolicy)
        self.assertEqual(near.made, 0)
        self.end()

    def test_no_such_service(self) -> None:
        """A service that is not offered, or not to us: connecting fails, nothing was connected."""
        self.services["web"] = Service(factory_of(Recorder()), lambda name: name == "carol")
        for service, text in (("mail", "does not offer mail"), ("web", "does not allow us")):
            connecting = self.connect("alice", "bob", near := Recorder(), service)
            self.assertIn(text, str(self.failureResultOf(connecting, RefusedByPolicy).value))
            self.assertEqual(near.made, 0)

    def test_refused_by_our_own_factory(self) -> None:
        """Our own factory gives no protocol: connecting fails, and is not tried again."""
        connecting = self.endpoint.connect(factory_of())
        self.network.settle()
        self.failureResultOf(connecting, RefusedByPolicy)
        self.assertIsInstance(self.far.lost, IntegrityError)
        self.end()

    def test_cancelled_anywhere(self) -> None:
        """Connecting can be cancelled at each step; no connection and no timer stays behind."""
        steps = 0
        while True:
            self.services[""] = Service(factory_of(Recorder()))
            endpoint = ChannelClientEndpoint(self.known_client("carol"), "bob")
            before = len(self.network.wires)
            connecting = endpoint.connect(factory_of(near := Recorder()))
            done: list[Any] = []
            _ = connecting.addBoth(done.append)
            for _ in range(steps):
                Clock.advance(self.network, 0)  # no time, and no more than one step
                for wire in list(self.network.wires):
                    wire.step()
            if done:
                break
            steps += 1
            connecting.cancel()
            self.assertIsInstance(done[0].value, CancelledError, steps)
            self.network.settle()
            self.assertEqual(near.made, 0)
            self.assertEqual([w for w in self.channel_wires() if w.connected], [], steps)
            endpoint.client.close()
            self.network.settle()
            self.assertEqual(len(self.network.wires), before, steps)
        self.assertGreater(steps, 3)
        self.assertIs(done[0], near)
        near.out.loseConnection()
        endpoint.client.close()
        self.end()

    def test_session_key_is_forgotten(self) -> None:
        """Once a channel is open, nothing of what opened it is left in memory."""
        kinds = (Grant, KeyReply, Presentation, Initiator, Responder)
        # Samples of other tests, in the same process, are not of this channel.
        others = [each for each in gc.get_objects() if isinstance(each, kinds)]
        connecting = self.endpoint.connect(factory_of(near := Recorder()))
        self.network.settle()
        self.assertIs(self.successResultOf(connecting), near)
        gc.collect()
        left = [
            type(each).__name__
            for each in gc.get_objects()
            if isinstance(each, kinds) and not any(each is other for other in others)
        ]
        self.assertEqual(left, [])
        near.out.loseConnection()
        self.end()

    def test_silent_port(self) -> None:
        """Something else listens there: connecting fails in bounded time."""

        port = self.network.ports[self.listener_client.reactor.address, 60000]
        port.factory = factory_of(Recorder())
        connecting = self.endpoint.connect(factory_of(Recorder()))
        self.network.advance(11)
        self.failureResultOf(connecting, PeerUnavailable)
        self.end()

    def test_tls_inside(self) -> None:
        """Twisted's TLS works over a channel as over TCP, both closing properly."""
        key, chain = certificate("inside.example")
        options = PrivateCertificate.loadPEM(key + chain).options()
        server: Any = TLSMemoryBIOFactory(options, False, factory_of(self.far), self.network)
        self.services[""] = Service(server)
        near = Recorder()
        client: Any = TLSMemoryBIOFactory(
            CertificateOptions(verify=False), True, factory_of(near), self.network
        )
        connecting = self.endpoint.connect(client)
        self.network.settle()
        self.successResultOf(connecting)
        near.out.write(b"x" * 200_000)
        self.network.settle()
        self.assertEqual(len(self.far.received), 200_000)
        self.assertEqual(near.out.getPeer().name, "bob")
        self.far.out.write(b"answer")
        self.far.out.loseConnection()
        self.network.settle()
        self.assertEqual(near.received, b"answer")
        self.assertIsInstance(near.lost, ConnectionDone)
        self.assertIsInstance(self.far.lost, ConnectionDone)
        self.end()

    def test_client_service(self) -> None:
        """Twisted's ClientService keeps a channel up, through refusals and cuts."""
        far = [Recorder(), Recorder(), Recorder()]
        near = [Recorder(), Recorder()]
        self.services[""] = Service(factory_of(*far[:1]))
        service = ClientService(
            self.endpoint, factory_of(*near), lambda attempt: 1.0, clock=cast(Any, self.network)
        )
        service.startService()
        self.network.settle()
        self.assertIs(self.successResultOf(service.whenConnected()), near[0])
        far[0].out.abortConnection()
        self.network.advance(5)  # nobody there: refused, again and again
        self.services[""] = Service(factory_of(*far[1:]))
        self.network.advance(2)
        self.assertEqual(near[1].made, 1)
        stopping = service.stopService()
        self.network.settle()
        self.successResultOf(stopping)
        self.assertIsInstance(far[1].lost, ConnectionDone)
        self.end()
