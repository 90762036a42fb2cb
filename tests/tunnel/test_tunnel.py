"""Tunnels: what goes in at one end comes out at the other, and every end does, too."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.services import Service
from kdc.errors import KDCError, PeerUnavailable
from kdc.net.splice import SpliceEnd
from kdc.protocol.records import EVEN_DATA
from kdc.tunnel.splice import expose_factory, forward_factory
from kdc.tunnel.traffic import Traffic, TunnelFigures
from tests.support.edge import KDC, EdgeTestCase, HalfRecorder, Recorder, Wire, factory_of

HERE = "127.0.0.1"
DB, FORWARDED = 5432, 5433


class TunnelTests(EdgeTestCase):
    """A user of alice's port 5433 is connected to bob's port 5432."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[str] = []
        target = TCP4ClientEndpoint(self.host(HERE), HERE, DB)
        self.near, self.far = Traffic(), Traffic()
        exposed = expose_factory(target, "db", self.told.append, self.far)
        self.services = {"db": Service(exposed)}
        self.reception, _, _ = self.receive("bob", self.services)
        self.alice = self.known_client("alice")
        self.forward("db")

    def forward(self, service: str) -> None:
        endpoint = ChannelClientEndpoint(self.alice, "bob", service)
        factory = forward_factory(endpoint, f"{service} of bob", self.told.append, self.near)
        self.network.listen(HERE, FORWARDED, factory)

    def serve(self, *protocols: Recorder) -> None:
        self.network.listen(HERE, DB, factory_of(*protocols))

    def use(self, user: Recorder) -> Wire:
        """A program connects to alice's port."""
        return self.network.connect(HERE, HERE, FORWARDED, user)

    def open(self, user: Recorder | None = None, service: Recorder | None = None) -> None:
        self.user: Any = user or HalfRecorder()
        self.service: Any = service or HalfRecorder()
        self.serve(self.service)
        self.user_wire = self.use(self.user)
        self.network.settle()
        self.assertEqual(self.service.made, 1)

    @property
    def service_wire(self) -> Wire:
        wire: Wire = self.service.out
        return wire

    def channel_wires(self) -> list[Wire]:
        return [wire for wire in self.network.wires if wire.host.port == 60000]

    def assert_lost(self, user: type, service: type) -> None:
        self.network.settle()
        self.assertIsInstance(self.user.lost, user)
        self.assertIsInstance(self.service.lost, service)
        self.assertEqual(self.channel_wires(), [])
        self.assertEqual([w for w in self.network.wires if w.host.port in (DB, FORWARDED)], [])

    # what passes

    def test_both_ways(self) -> None:
        """Bytes pass unchanged both ways; the exposing side says who came, and how much passed."""
        self.open(None, Recorder())
        self.user.out.write(b"u" * 1_000_000)
        self.service.out.write(b"s" * 2_000_000)
        self.network.settle()
        self.assertEqual(self.service.received, b"u" * 1_000_000)
        self.assertEqual(self.user.received, b"s" * 2_000_000)
        self.assertEqual(self.far.figures, TunnelFigures(1, 0, 0, 1_000_000, 2_000_000))
        self.assertEqual(self.near.figures, TunnelFigures(1, 0, 0, 2_000_000, 1_000_000))
        self.user.out.loseConnection()
        self.assert_lost(ConnectionDone, ConnectionDone)
        self.assertEqual(self.far.figures, TunnelFigures(0, 1, 0, 1_000_000, 2_000_000))
        self.assertEqual(self.near.figures, TunnelFigures(0, 1, 0, 2_000_000, 1_000_000))
        who = f"db: alice from {self.alice.reactor.address} port "
        self.assertEqual(len(self.told), 2)
        self.assertRegex(self.told[0], rf"^{who}\d+: connected$")
        amounts = "1000000 bytes in, 2000000 bytes out"
        self.assertRegex(self.told[1], rf"^{who}\d+: closed after {amounts}$")

    def test_even_records(self) -> None:
        """A stream passes in records of exactly 64 KiB, none of them a small rest."""
        self.open()
        (far,) = self.channel_wires()
        before = len(far.peer.sent)
        self.user.out.write(bytes(8 * EVEN_DATA))
        self.network.settle()
        self.assertEqual(len(self.service.received), 8 * EVEN_DATA)
        self.assertEqual(len(far.peer.sent) - before, 8 * 65_536)

    def test_what_was_said_early(self) -> None:
        """What a user sends before the tunnel is open arrives, and what he ends is ended."""
        self.user = HalfRecorder()
        self.service = HalfRecorder()
        self.serve(self.service)
        self.use(self.user)
        self.user.out.write(b"select 1")
        self.user.out.loseWriteConnection()
        self.network.settle()
        self.assertEqual((bytes(self.service.received), self.service.ends), (b"select 1", ["read"]))

    def test_several(self) -> None:
        """Each connection has a channel of its own."""
        services = [HalfRecorder() for _ in range(5)]
        users = [HalfRecorder() for _ in range(5)]
        self.serve(*services)
        for user in users:
            self.use(user)
            self.network.settle()
        for number, user in enumerate(users):
            user.out.write(b"%d" % number)
        self.network.settle()
        self.assertEqual([bytes(s.received) for s in services], [b"0", b"1", b"2", b"3", b"4"])
        self.assertEqual(len(self.channel_wires()), 5)

    def test_backpressure(self) -> None:
        """Who does not read stops who writes, at the other end of the tunnel."""
        self.open(None, Recorder())
        for writer, reader in ((self.user, self.service), (self.service, self.user)):
            reader.out.pauseProducing()
            writer.out.write(b"x" * 10_000_000)
            self.network.settle()
            self.assertGreater(len(writer.out.waiting), 9_000_000)
            between = [len(w.waiting) for w in self.network.wires if w is not writer.out]
            self.assertLess(sum(between), 500_000)
            reader.out.resumeProducing()
            self.network.settle()
            self.assertEqual(len(reader.received), 10_000_000)
        self.user.out.loseConnection()
        self.assert_lost(ConnectionDone, ConnectionDone)

    # proper ends

    def test_user_ends_first(self) -> None:
        """The user's end reaches the service, which goes on and ends when it likes."""
        self.open()
        self.user.out.write(b"question")
        self.user.out.loseWriteConnection()
        self.network.settle()
        self.assertEqual((bytes(self.service.received), self.service.ends), (b"question", ["read"]))
        self.network.advance(24 * 3600)
        self.service.out.write(b"answer")
        self.service.out.loseWriteConnection()
        self.network.settle()
        self.assertEqual(self.user.received, b"answer")
        self.assertIn("closed after 8 bytes in, 6 bytes out", self.told[-1])
        for end in (self.user, self.service):
            self.assertEqual(sorted(end.ends), ["read", "write"])
            end.out.loseConnection()
        self.assert_lost(ConnectionDone, ConnectionDone)

    def test_service_ends_first(self) -> None:
        """The same the other way round."""
        self.open()
        self.service.out.write(b"220 welcome")
        self.service.out.loseWriteConnection()
        self.network.settle()
        self.assertEqual((bytes(self.user.received), self.user.ends), (b"220 welcome", ["read"]))
        self.user.out.write(b"thanks")
        self.user.out.loseConnection()
        self.network.settle()
        self.assertEqual(self.service.received, b"thanks")
        self.service.out.loseConnection()
        self.assert_lost(ConnectionDone, ConnectionDone)

    def test_service_closes(self) -> None:
        """A service that says something and closes: the user gets all of it, and the end."""
        self.open(Recorder(), Recorder())
        self.service.out.write(b"z" * 3_000_000)
        self.service.out.loseConnection()
        self.assert_lost(ConnectionDone, ConnectionDone)
        self.assertEqual(len(self.user.received), 3_000_000)

    # improper ones

    def test_user_aborts(self) -> None:
        """A user who is killed: the service's connection is reset, not ended."""
        self.open()
        self.user.out.write(b"begin; delete")
        self.network.settle()
        self.user.out.abortConnection()
        self.assert_lost(ConnectionAborted, ConnectionLost)
        self.assertIn("broken after 13 bytes in, 0 bytes out", self.told[-1])

    def test_service_aborts(self) -> None:
        """A service that is killed: the user's connection is reset, and alice's side says so."""
        self.open()
        self.service.out.write(b"half of")
        self.network.settle()
        self.service.out.abortConnection()
        self.assert_lost(ConnectionLost, ConnectionAborted)
        self.assertRegex(self.told[-1], "^db of bob: the connection was cut")

    def test_channel_is_cut(self) -> None:
        """A channel that somebody in between closes properly: both ends are reset, not ended."""
        self.open()
        for wire in self.channel_wires():
            wire.finish(ConnectionDone())
            wire.peer.finish(ConnectionDone())
        self.assert_lost(ConnectionLost, ConnectionLost)

    def test_peer_vanishes(self) -> None:
        """The other machine loses its power: the user's connection is reset after a while."""
        self.open()
        for wire in self.channel_wires():
            wire.stalled = wire.peer.stalled = True
        self.network.advance(300)
        self.assert_lost(ConnectionLost, ConnectionLost)

    # tunnels that do not come to be

    def refused(self, *patterns: str, seconds: float = 0) -> None:
        """A user is turned away by a reset; what is said matches ``patterns``."""
        before = len(self.channel_wires())
        self.told.clear()
        self.use(user := Recorder())
        self.network.advance(seconds)
        self.assertIsInstance(user.lost, ConnectionLost)
        self.assertEqual(len(self.told), len(patterns), self.told)
        for line, pattern in zip(self.told, patterns, strict=True):
            self.assertRegex(line, pattern)
        self.assertEqual(len(self.channel_wires()), before)

    def test_target_down(self) -> None:
        """Nothing listens at bob's port: both sides say so; later it works."""
        self.refused(
            r"^db: alice from \S+ port \d+: connected$",
            r"^db: alice from \S+ port \d+: broken after 0 bytes in, 0 bytes out:"
            " cannot connect: Connection was refused",
            "^db of bob: the peer closed the connection before it had accepted it$",
        )
        self.open()

    def test_not_offered(self) -> None:
        """A service that bob does not offer."""
        self.forward("mail")
        self.refused("^mail of bob: bob does not offer mail$")

    def test_not_allowed(self) -> None:
        """A service that is not for alice: she is met with silence, bob's port is not touched."""
        self.services["db"] = Service(self.services["db"].factory, lambda name: name == "carol")
        self.serve(service := Recorder())
        self.refused("^db of bob: the peer closed the connection without an answer$", seconds=11)
        self.assertEqual(service.made, 0)

    def test_peer_not_there(self) -> None:
        """bob does not listen now."""
        self.reception.stop()
        self.reception._client.close()
        self.network.settle()
        self.refused("^db of bob: no key for bob: the peer is registered, but not receiving now$")

    def test_user_does_not_wait(self) -> None:
        """A user who is gone before the tunnel is open leaves nothing behind."""
        self.service = HalfRecorder()
        self.serve(self.service)
        self.user = Recorder()
        self.use(self.user)
        self.user.out.abortConnection()
        self.network.settle()
        self.assertEqual(self.channel_wires(), [])
        self.assertTrue(self.service.made == 0 or self.service.lost is not None)

    def test_channel_dies_while_the_target_is_slow(self) -> None:
        """The channel breaks before bob's side has reached the service: nothing stays behind."""
        connecting: Deferred[Any] = Deferred()

        class Slow:
            def connect(self, factory: Any) -> Deferred[Any]:
                self.factory = factory
                return connecting

        slow: Any = Slow()
        self.services["db"] = Service(expose_factory(slow, "db", self.told.append))
        self.use(user := Recorder())
        self.network.settle()
        user.out.abortConnection()
        self.network.settle()
        relay = slow.factory.buildProtocol(None)
        self.serve(service := Recorder())
        self.network.connect(HERE, HERE, DB, relay)
        connecting.callback(relay)
        self.network.settle()
        self.assertIsInstance(service.lost, ConnectionLost)

    # the KDC

    def test_kdc_restart(self) -> None:
        """Tunnels go on while the KDC is away; new ones wait for it, and then open again."""
        self.open()
        self.kdc.stop()
        self.user.out.write(b"still there?")
        self.network.settle()
        self.assertEqual(self.service.received, b"still there?")
        self.network.advance(60)
        self.refused("^db of bob: no KDC answers")
        self.kdc = KDC(self.network, store=self.kdc.store)
        self.network.advance(120)  # bob comes back by himself
        first, self.services_first = self.user, self.service
        self.open()
        first.out.write(b" yes")
        self.user.out.write(b"new")
        self.network.settle()
        self.assertEqual(self.services_first.received, b"still there? yes")
        self.assertEqual(self.service.received, b"new")


@implementer(IStreamClientEndpoint)
class _Slow:
    """A peer whose channels open when the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[Deferred[Any], Any]] = []

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        made: Deferred[Any] = Deferred()
        self.asked.append((made, protocolFactory))
        return made

    def open(self) -> StringTransport:
        made, factory = self.asked.pop(0)
        transport = StringTransport()
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(transport)
        made.callback(protocol)
        return transport


class BurstTests(SynchronousTestCase):
    """Many programs connect to a forwarded port at one moment."""

    def setUp(self) -> None:
        self.told: list[str] = []
        self.peer = _Slow()
        self.factory = forward_factory(
            self.peer, "db of bob", self.told.append, connecting=3, most=5
        )
        self.made: list[Any] = []
        self.addCleanup(self.all_leave)

    def all_leave(self) -> None:
        """Nobody waits any more: or it would end in the middle of another test."""
        for end in self.made:
            if not end.lost:
                end.connectionLost(Failure(ConnectionDone()))
        while self.peer.asked:
            made, _ = self.peer.asked.pop(0)
            made.errback(PeerUnavailable("the test is over"))

    def users(self, count: int) -> list[tuple[Any, StringTransport]]:
        """So many of them, each with its connection."""
        made = []
        for _ in range(count):
            end: Any = self.factory.buildProtocol(None)  # type: ignore[arg-type]
            end.makeConnection(transport := StringTransport())
            made.append((end, transport))
            self.made.append(end)
        return made

    def test_in_turns(self) -> None:
        """So many are on their way, so many open; the others wait, and none is cut."""
        users = self.users(20)
        opened = 0
        for _ in range(5):
            self.assertEqual(len(self.peer.asked), min(3, 5 - opened))
            self.peer.open()
            opened += 1
        self.assertEqual(self.peer.asked, [])
        for end, _ in users[:15]:
            end.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(len(self.peer.asked), 1)
            self.peer.open()
            opened += 1
        self.assertEqual(opened, 20)
        self.assertFalse(any(transport.disconnecting for _, transport in users[15:]))
        self.assertEqual(self.told, ["db of bob: 5 connections are open, more wait"])

    def test_gone_meanwhile(self) -> None:
        """Who leaves while it waits costs no key and no place."""
        users = self.users(9)
        for end, _ in (*users[3:5], *users[6:8]):  # with a place, but no turn; with neither
            end.connectionLost(Failure(ConnectionDone()))
        opened = 0
        while self.peer.asked:
            self.peer.open()
            opened += 1
        self.assertEqual(opened, 5)
        for end, _ in (*users[:3], users[5], users[8]):
            end.connectionLost(Failure(ConnectionDone()))
        self.users(5)
        self.assertEqual(len(self.peer.asked), 3)

    def test_failed(self) -> None:
        """One that cannot be opened is cut and told, and the next has its turn and its place."""
        users = self.users(6)
        made, _ = self.peer.asked.pop(0)
        made.errback(PeerUnavailable("nobody there"))
        self.assertTrue(users[0][1].disconnecting)
        self.assertEqual(len(self.peer.asked), 3)
        users[0][0].connectionLost(Failure(ConnectionDone()))
        self.assertIn("db of bob: nobody there", self.told)
        for _ in range(5):
            self.peer.open()
        self.assertEqual(self.peer.asked, [])


class RelayTests(EdgeTestCase):
    def test_half_closeable(self) -> None:
        """A relay hears of half-closes."""
        self.assertTrue(verifyObject(IHalfCloseableProtocol, SpliceEnd()))

    def test_reader_gone(self) -> None:
        """A transport that only says that nobody reads it any more: the other end is cut."""
        one, two = SpliceEnd(), SpliceEnd()
        ends = [Recorder(), Recorder()]
        for number, (relay, end) in enumerate(zip((one, two), ends, strict=True)):
            self.network.listen(HERE, 7000 + number, factory_of(end))
            self.network.connect(HERE, HERE, 7000 + number, relay)
        one.join(two)
        one.writeConnectionLost()
        self.network.settle()
        self.assertIsInstance(ends[1].lost, ConnectionLost)
        self.assertIsInstance(two.broken, KDCError)
