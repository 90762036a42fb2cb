"""A relay on a network in memory: who cannot be reached is reached through it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import attrs
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone

from kdc.channel.listening import Listening
from kdc.errors import IntegrityError, PeerUnavailable, Superseded
from kdc.protocol.messages import Receive
from kdc.protocol.relay import Call, Reach, dial_back
from kdc.relay._links import LinkEnd
from kdc.relay.limits import RelayLimits, RelaySettings
from kdc.relay.relay import Relay
from tests.support.core import SeededRandom
from tests.support.edge import HalfRecorder, Recorder
from tests.support.relay import RELAY_HOST, RELAY_PORT, RelayTestCase

THROUGH = (RELAY_HOST, RELAY_PORT)


class ReachTests(RelayTestCase):
    """Which way a receiver is reached, and what it tells the KDC."""

    def assert_reached(self, name: str, **options: Any) -> Recorder:
        """Somebody gets through to ``name`` and hears himself."""
        near = Recorder()
        self.successResultOf(self.reach(name, near, **options))
        near.out.write(b"is anybody there?")
        self.network.settle()
        self.assertEqual(bytes(near.received), b"is anybody there?")
        near.out.loseConnection()
        self.network.settle()
        self.assertIsInstance(near.lost, ConnectionDone)
        return near

    def test_cannot_be_reached(self) -> None:
        """Whom the relay cannot reach tells the KDC the relay's address, and that once."""
        bob = self.listen("bob")
        self.network.advance(4)
        self.assertEqual(self.told("bob"), THROUGH)
        self.assertEqual(
            self.said[0],
            f"bob: others reach us through the relay at {RELAY_HOST} port {RELAY_PORT},"
            " as it cannot reach our port 60000",
        )
        self.assertEqual(self.kdc.events().count("epoch-begun"), 2)  # the relay's is the other
        before = bob.figures
        self.assert_reached("bob")
        self.assertEqual(self.relay.figures.links, 1)
        self.assertEqual((before.kdc_links, before.relay_links, before.opened), (1, 1, 0))
        self.assertEqual((bob.figures.open, bob.figures.opened), (0, 1))
        self.assertEqual((self.relay.channels.open, self.relay.channels.kdc_links), (1, 1))

    def test_can_be_reached(self) -> None:
        """Whom the relay reaches at his own port is reached there."""
        bob = self.listen("bob", silent=False)
        self.assertEqual(self.told("bob"), (self.address_of(bob), 60000))
        self.assertIn("others reach us directly, or else through the relay", self.said[0])
        self.assert_reached("bob")
        self.assertEqual(self.relay.figures.bytes, 0)

    def test_the_second_way(self) -> None:
        """One that the relay reaches and the sender does not is reached through the relay."""
        bob = self.listen("bob", silent=False)
        self.network.silent.add(self.address_of(bob))
        near = Recorder()
        connecting = self.reach("bob", near)
        self.network.advance(2.9)
        self.assertNoResult(connecting)
        self.assertEqual(self.relay.figures.joined, 0)
        self.network.advance(0.2)
        self.successResultOf(connecting)
        self.assertEqual(self.relay.figures.joined, 1)
        near.out.loseConnection()

    def test_refused_is_no_answer_too(self) -> None:
        """Where the address answers that nobody is there the relay is asked at once."""
        bob = self.listen("bob", silent=False)
        self.network.ports[self.address_of(bob), 60000].number = 60001
        del self.network.ports[self.address_of(bob), 60000]
        near = Recorder()
        self.successResultOf(self.reach("bob", near))
        near.out.loseConnection()
        self.network.settle()
        self.network.ports[self.address_of(bob), 60001] = bob._port._port

    def test_one_key_for_both(self) -> None:
        """What goes through the relay is the 309 that was never sent: no other key is asked for."""
        bob = self.listen("bob", silent=False)
        self.network.silent.add(self.address_of(bob))
        near = Recorder()
        connecting = self.reach("bob", near)
        self.network.advance(4)
        self.successResultOf(connecting)
        issued = [a for a in self.kdc.audit if a.event == "issued" and a.principal == "alice"]
        self.assertEqual([a.detail for a in issued], ["bob", "relay"])
        near.out.loseConnection()

    def test_direct_only(self) -> None:
        """A sender that wants no relay fails as ever; a receiver that wants none links to none."""
        bob = self.listen("bob", silent=False)
        self.network.silent.add(self.address_of(bob))
        connecting = self.reach("bob", Recorder(), reach=Reach.DIRECT)
        self.network.advance(40)
        self.failureResultOf(connecting, PeerUnavailable)
        self.listen("carol", reach=Reach.DIRECT)
        self.assertEqual(self.relay.figures.links, 1)
        self.assertNotEqual(self.told("carol"), THROUGH)

    def test_relay_only(self) -> None:
        """Both ends can insist on the relay: nothing is tried at the address."""
        bob = self.listen("bob", silent=False, reach=Reach.RELAY)
        self.assertEqual(self.told("bob"), THROUGH)
        del self.network.ports[self.address_of(bob), 60000]
        self.assert_reached("bob", reach=Reach.RELAY)
        self.network.ports[self.address_of(bob), 60000] = bob._port._port

    def test_another_relay(self) -> None:
        """Of several relays a receiver uses the one that it names, and its senders with it."""
        eu = Relay(
            self.known_client("relay-eu", address="192.0.2.78"),
            RelaySettings("tcp:60700"),
            random=SeededRandom("relay-eu"),
            now_milliseconds=self.network.milliseconds,
        )
        self.parts.append(eu)
        self.do(eu.bind())
        self.assertNoResult(self.begin(eu.run()))
        self.listen("bob", relay="relay-eu")
        self.network.advance(4)
        self.assertEqual(self.told("bob"), ("192.0.2.78", 60700))
        self.assertEqual((eu.figures.links, self.relay.figures.links), (1, 0))
        self.assert_reached("bob")
        self.assertGreater(eu.figures.bytes, 0)
        # His own address is told, and leads nowhere: a second way is found by the relay's name.
        carol = self.listen("carol", relay="relay-eu", silent=False, reach=Reach.AUTO)
        self.network.silent.add(self.address_of(carol))
        near = Recorder()
        connecting = self.reach("carol", near, relay="relay-eu")
        self.network.advance(4)
        self.successResultOf(connecting)
        self.assertEqual(self.relay.figures.bytes, 0)
        near.out.loseConnection()
        self.network.settle()

    def test_an_address_that_a_person_gave(self) -> None:
        """It is told as it is, and nobody tries it."""
        self.listen("bob", advertise="203.0.113.7")
        self.assertEqual(self.told("bob"), ("203.0.113.7", 60000))
        self.assertIn("others reach us directly, or else through", self.said[0])

    def test_a_port_that_is_anothers(self) -> None:
        """That something answers at the address proves nothing: it has to be the receiver."""
        bob = self.listen("bob")
        address = self.address_of(bob)
        # A router, say, with a service of its own at the port.
        self.network.silent.discard(address)
        port = self.network.ports[address, 60000]
        port.factory = type("_", (), {"buildProtocol": lambda self, addr: Recorder()})()
        self.network.advance(5)
        self.assertEqual(self.told("bob"), THROUGH)

    def test_somebody_else_who_comes(self) -> None:
        """Only what the relay was asked to show counts, and a stranger does not know that."""
        bob = self.listen("bob")
        stranger = Recorder()
        self.network.connect("198.51.100.66", self.address_of(bob), 60000, stranger)
        stranger.out.write(dial_back(bytes(16)))
        self.network.advance(5)
        self.assertIsNotNone(stranger.lost)
        self.assertEqual(self.told("bob"), THROUGH)

    def test_who_is_there(self) -> None:
        """The receiver is told where the sender is, not where the relay is."""
        far = Recorder()
        self.listen("bob", far)
        self.network.advance(4)
        near = Recorder()
        self.successResultOf(self.reach("bob", near))
        peer = far.out.getPeer()
        wires = [w for w in self.relayed() if w.protocol.__class__.__name__ == "Joined"]
        self.assertIn((peer.host, peer.port), [(w.getPeer().host, w.getPeer().port) for w in wires])
        self.assertNotEqual(peer.host, RELAY_HOST)
        near.out.loseConnection()


class NoRelayTests(RelayTestCase):
    def test_none(self) -> None:
        """Where there is no relay all is as it was, at once; one that insists is told why."""
        self.stop_relay()
        bob = self.listen("bob")
        self.assertEqual(self.told("bob"), (self.address_of(bob), 60000))
        self.listen("carol", reach=Reach.RELAY)
        self.network.advance(30)
        self.assertIsNone(self.told("carol"))
        self.assertTrue(any("no link to the relay" in line for line in self.said), self.said)
        error = self.failureResultOf(
            self.reach("bob", Recorder(), reach=Reach.RELAY), PeerUnavailable
        ).value
        self.assertIn("there is no relay to reach bob by", str(error))

    def test_it_comes_later(self) -> None:
        """A relay that is started later is found, and what the KDC is told is mended."""
        self.stop_relay()
        self.listen("bob")
        self.assertNotEqual(self.told("bob"), THROUGH)
        self.relay = self.start_relay()
        self.network.advance(70)
        self.assertEqual(self.told("bob"), THROUGH)

    def test_not_allowed(self) -> None:
        """Whom the realm's policy keeps from the relay is reached directly, or not at all."""
        self.kdc.realm.permits = lambda client, receiver: receiver != "relay"
        bob = self.listen("bob")
        self.assertEqual(self.told("bob"), (self.address_of(bob), 60000))
        self.assertEqual(self.relay.figures.links, 0)
        connecting = self.reach("bob", Recorder())
        self.network.advance(35)
        error = self.failureResultOf(connecting, PeerUnavailable).value
        self.assertNotIn("relay", str(error))

    def test_receives_as_ever(self) -> None:
        """The messages of kdp/1 are what they were."""
        self.assertEqual(
            [field.name for field in attrs.fields(Receive)],
            ["address", "port", "receiver_key", "nonce"],
        )


class FullTests(RelayTestCase):
    relay_limits = RelayLimits(links=1)

    def test_full(self) -> None:
        """A relay that has no room is no relay for the moment only, and who waits is told."""
        carol = self.listen("carol")
        self.listen("bob")
        self.network.advance(200)
        lines = [line for line in self.said if line.startswith("bob: no link to the relay: ")]
        self.assertEqual(len(lines), 1, self.said)
        self.do(carol.close())
        self.network.advance(70)
        self.assertEqual(self.told("bob"), THROUGH)


class LifeTests(RelayTestCase):
    """Epochs and links come and go; channels that are open stay."""

    def setUp(self) -> None:
        super().setUp()
        self.far, self.near = HalfRecorder(), HalfRecorder()
        self.bob = self.listen("bob", self.far, HalfRecorder(), HalfRecorder())
        self.network.advance(4)
        self.successResultOf(self.reach("bob", self.near))

    def assert_alive(self) -> None:
        """The channel that was opened first still carries, both ways."""
        before = len(self.far.received), len(self.near.received)
        self.near.out.write(b"ping")
        self.far.out.write(b"pong")
        self.network.settle()
        after = len(self.far.received), len(self.near.received)
        self.assertEqual(after, (before[0] + 4, before[1] + 4))

    def assert_another(self) -> None:
        near = Recorder()
        connecting = self.reach("bob", near)
        self.network.advance(5)
        self.successResultOf(connecting)
        near.out.abortConnection()

    def links(self) -> list[object]:
        return [w for w in self.relayed() if w.protocol.__class__.__name__ == "_ReceiverChannel"]

    def test_renewed(self) -> None:
        """The next epoch is claimed, the one before too until it is forgotten, and no longer."""
        (first,) = self.bob.epochs.ids
        self.bob._listener.due()
        self.network.settle()
        held = self.bob.epochs.ids
        self.assertEqual(held[1:], [first])
        registry = self.relay._registry
        self.assertTrue(all(registry.holder(epoch_id) for epoch_id in held))
        self.network.advance(301)
        self.assertIsNone(registry.holder(first))
        self.assertIsNotNone(registry.holder(held[0]))
        self.assert_alive()
        self.assert_another()

    def test_the_link_breaks(self) -> None:
        """Open channels go on; the receiver is back before long, with its epochs."""
        for link in self.links():
            link.abortConnection()  # type: ignore[attr-defined]
        self.network.settle()
        self.assertEqual(self.relay.figures.links, 0)
        self.assert_alive()
        self.network.advance(5)
        self.assertEqual(self.relay.figures.links, 1)
        self.assert_alive()
        self.assert_another()

    def test_the_relay_is_killed(self) -> None:
        """Its connections are cut, as such, and it is found again when it is back."""
        self.stop_relay()
        self.assertIsInstance(self.far.lost, IntegrityError)
        self.assertIsInstance(self.near.lost, IntegrityError)
        self.network.advance(20)
        self.relay = self.start_relay()
        self.network.advance(70)
        self.assert_another()

    def test_killed_before_bob_has_come(self) -> None:
        """It is killed when it has called for a sender: that one is told, the next get through."""
        way: Any = self.bob._reception._way  # type: ignore[union-attr]
        host: Any = way._client.reactor
        coming: list[Any] = []
        with self.held(host, coming):
            connecting = self.reach("bob", Recorder())
        self.assertEqual(self.relay.figures.waiting, 1)
        self.assertNoResult(connecting)
        self.stop_relay()
        self.network.advance(5)
        self.failureResultOf(connecting, PeerUnavailable)
        self.relay = self.start_relay()
        # One that has been started again does not know what bob comes with.
        for arguments in coming:
            host.connectTCP(*arguments)
        self.network.advance(70)
        self.assertEqual(self.relay.figures.joined, 0)
        self.assert_another()

    @contextlib.contextmanager
    def held(self, host: Any, coming: list[Any]) -> Iterator[None]:
        """Connections that ``host`` wants to make to the relay wait for the test."""
        connect = host.connectTCP
        host.connectTCP = lambda *arguments, **options: coming.append(arguments)
        try:
            yield
        finally:
            host.connectTCP = connect

    def test_the_relay_moves(self) -> None:
        """Where it is started at another port the KDC is told, once."""
        self.stop_relay()
        begun = self.kdc.events().count("epoch-begun")
        self.relay = self.start_relay(port=RELAY_PORT + 1)
        self.network.advance(70)
        self.assertEqual(self.told("bob"), (RELAY_HOST, RELAY_PORT + 1))
        self.assertEqual(self.kdc.events().count("epoch-begun"), begun + 2)  # the relay's, too
        self.assert_another()

    def test_short_links(self) -> None:
        """A relay that takes us and cuts us off at once is asked ever more seldom."""
        self.patch(LinkEnd, "dataReceived", lambda end, data: end.drop())
        for link in self.links():
            link.abortConnection()  # type: ignore[attr-defined]
        self.network.advance(120)
        before = len(self.kdc.audit)
        self.network.advance(600)
        asked = sum("relay" in each.detail for each in self.kdc.audit[before:])
        self.assertGreater(asked, 10)
        self.assertLess(asked, 50)

    def called(self, count: int, epoch_id: bytes) -> int:
        """The relay calls bob so often, and is silent then; how often he comes at a time."""
        self.network.silent.add(RELAY_HOST)
        way: Any = self.bob._reception._way  # type: ignore[union-attr]
        host = way._client.reactor
        tried: list[Any] = []
        connect = host.connectTCP

        def trying(*args: Any, **more: Any) -> Any:
            tried.append(args[:2])
            return connect(*args, **more)

        self.patch(host, "connectTCP", trying)
        for number in range(count):
            way.take(Call(epoch_id, number.to_bytes(32, "big"), "", 0))
        self.network.settle()
        self.assertEqual(set(tried) - {THROUGH}, set())
        self.network.advance(11)
        self.network.silent.discard(RELAY_HOST)
        return len(tried)

    def test_called_for_another_epoch(self) -> None:
        """Nobody comes to a call for what is not his."""
        self.assertEqual(self.called(3, bytes(16)), 0)

    def test_called_very_often(self) -> None:
        """To so many calls at a time, and to the next ones when those have come to nothing."""
        (epoch_id,) = self.bob.epochs.ids
        self.assertEqual(self.called(1000, epoch_id), 64)
        self.assertEqual(self.called(3, epoch_id), 3)

    def test_pauses_grow(self) -> None:
        """A relay that is away is asked for ever more seldom, by nobody at the same moment."""
        self.stop_relay()

        def asked(seconds: float) -> int:
            before = len(self.kdc.audit)
            self.network.advance(seconds)
            return sum("relay" in a.detail for a in self.kdc.audit[before:])

        first, later = asked(60), asked(600)
        self.assertGreater(first, 4)
        self.assertLess(later, 25)
        self.relay = self.start_relay()

    def test_the_kdc_restarts(self) -> None:
        """All begin again by themselves; what is open goes on."""
        self.kdc.stop()
        store = self.kdc.store
        self.network.advance(2)
        self.kdc = type(self.kdc)(self.network, store=store)
        self.network.advance(90)
        self.assert_alive()
        self.assertEqual(self.told("bob"), THROUGH)
        self.assert_another()

    def test_one_breaks(self) -> None:
        """A channel that breaks disturbs no other."""
        other = Recorder()
        self.successResultOf(self.reach("bob", other))
        other.out.abortConnection()
        self.network.settle()
        self.assert_alive()

    def test_half_close(self) -> None:
        """An end passes on as an end of that direction, and the other goes on."""
        self.near.out.loseWriteConnection()
        self.network.settle()
        self.assertEqual(self.far.ends, ["read"])
        self.far.out.write(b"still here")
        self.network.settle()
        self.assertEqual(bytes(self.near.received), b"still here")
        self.far.out.loseConnection()
        self.network.settle()
        self.assertEqual(self.relay.figures.joined, 0)
        self.assertIsInstance(self.near.lost, ConnectionDone)
        self.assertIsInstance(self.far.lost, ConnectionDone)

    def test_abort(self) -> None:
        """A connection that is cut is cut at both ends."""
        self.near.out.abortConnection()
        self.network.settle()
        self.assertIsInstance(self.far.lost, IntegrityError)
        self.assertEqual(self.relay.figures.joined, 0)

    def test_leaving(self) -> None:
        """A receiver that stops is not called any more; what is open goes on."""
        self.bob.leave()
        self.network.settle()
        self.assertEqual(self.relay.figures.links, 0)
        self.assert_alive()


class TwoOfOneNameTests(RelayTestCase):
    """A second receiver of one name: the KDC ends the first, and the relay calls the second."""

    def test_the_later_one(self) -> None:
        far, later, near = HalfRecorder(), Recorder(), HalfRecorder()
        first = self.listen("bob", far)
        self.network.advance(4)
        self.successResultOf(self.reach("bob", near))
        second = self.listen("bob", later, port=60001)
        self.network.advance(4)
        self.failureResultOf(self.running[0], Superseded)
        self.assertNoResult(self.running[1])
        self.assertEqual(self.relay.figures.links, 1)
        registry = self.relay._registry
        self.assertEqual(first.epochs.ids, [])
        (epoch_id,) = second.epochs.ids
        self.assertIsNotNone(registry.holder(epoch_id))
        another = Recorder()
        self.successResultOf(self.reach("bob", another))
        another.out.write(b"to the later one")
        # What was open with the first one goes on.
        near.out.write(b"to the first one")
        self.network.settle()
        self.assertEqual(bytes(later.received), b"to the later one")
        self.assertEqual(bytes(far.received), b"to the first one")
        for end in (another, near):
            end.out.abortConnection()


class LoopbackTests(RelayTestCase):
    def test_on_the_kdcs_own_machine(self) -> None:
        """A receiver beside its KDC needs no relay."""
        port = self.network.ports["192.0.2.88", 88]
        self.network.listen("127.0.0.1", 88, port.factory)
        client = self.known_client("bob", address="127.0.0.1")
        client.endpoint = TCP4ClientEndpoint(client.reactor, "127.0.0.1", 88)
        listening = Listening(client, {}, "tcp:60000")
        self.parts.append(listening)
        self.do(listening.bind())
        self.assertNoResult(self.begin(listening.run()))
        self.assertEqual(self.told("bob"), ("127.0.0.1", 60000))
        self.assertEqual(self.relay.figures.links, 0)
