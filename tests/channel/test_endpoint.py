"""Connecting to a principal by name, and staying reachable under one."""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from kdc.channel._channel import ClosedEarly
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.receiver import ChannelListener
from kdc.channel.reception import Reception
from kdc.channel.services import Service
from kdc.client.link import KDCLink
from kdc.errors import (
    AuthenticationRefused,
    ExitStatus,
    KDCError,
    KDCUnreachable,
    PeerUnavailable,
    RefusedByPolicy,
    Superseded,
    TooBusy,
    WrongIdentity,
)
from kdc.net import clock
from kdc.protocol.crypto import SessionKey
from kdc.protocol.messages import KeyReply, decode_fields
from kdc.server.certificate import ServerTLS
from kdc.store import Delete
from tests.support.core import keys_of
from tests.support.edge import KDC, EdgeTestCase, Host, Recorder, certificate, factory_of


class EndpointTestCase(EdgeTestCase):
    closed = False  # to everybody

    def serve(self, *protocols: Recorder, name: str = "bob") -> tuple[Any, ...]:
        return self.receive(name, Service(factory_of(*protocols), lambda sender: not self.closed))

    def opened(self, sender: str = "alice", receiver: str = "bob") -> Recorder:
        recorder = Recorder()
        self.assertIs(self.successResultOf(self.connect(sender, receiver, recorder)), recorder)
        return recorder

    def assert_reaches(self, other: Recorder) -> None:
        one = self.opened()
        one.out.write(b"hello")
        self.network.settle()
        self.assertEqual(bytes(other.received), b"hello")


class ConnectTests(EndpointTestCase):
    def test_by_name(self) -> None:
        """Connecting takes a name; what comes back has a transport that knows the peer."""
        other = Recorder()
        self.serve(other)
        one = self.opened()
        self.assertEqual(one.out.principal, "bob")
        self.assertEqual(other.out.principal, "alice")
        one.out.write(b"question")
        one.out.loseConnection()
        self.network.settle()
        self.assertEqual(bytes(other.received), b"question")
        self.assertIsInstance(other.lost, ConnectionDone)
        self.assertIsInstance(one.lost, ConnectionDone)

    def test_each_its_own_key(self) -> None:
        """Two channels between the same two have nothing in common."""
        self.serve(Recorder(), Recorder())
        self.opened()
        self.opened()
        issued = [line for line in self.kdc.audit if line.event == "issued"]
        self.assertEqual(len(issued), 2)

    def test_interface(self) -> None:
        """It is one of Twisted's endpoints."""
        endpoint = ChannelClientEndpoint(self.known_client("alice"), "bob")
        self.assertTrue(verifyObject(IStreamClientEndpoint, endpoint))

    def test_peers_that_cannot_be_reached(self) -> None:
        """Unknown, not receiving, and gone from its address: exit status 5, each in its words."""
        unknown = self.failureResultOf(self.connect("alice", "nobody", Recorder())).value
        self.kdc.add("bob")
        absent = self.failureResultOf(self.connect("alice", "bob", Recorder())).value
        link = self.login("bob", address="192.0.2.99")
        self.do(link.receive_under(bytes([9]) + bytes(31), "", 60000))
        gone = self.failureResultOf(self.connect("alice", "bob", Recorder())).value
        self.do(link.receive_under(bytes([9]) + bytes(31), "", 0))
        nowhere = self.failureResultOf(self.connect("alice", "bob", Recorder())).value
        errors = (unknown, absent, gone, nowhere)
        self.assertTrue(all(isinstance(error, PeerUnavailable) for error in errors))
        self.assertEqual(len({str(error) for error in errors}), 4)
        self.assertIn("192.0.2.99 port 60000", str(gone))
        self.assertIs(gone.exit_status, ExitStatus.PEER)

    def test_refused_services(self) -> None:
        """A service that is not offered fails the connection, and is not tried again."""
        _, listener, _ = self.serve(Recorder())
        connecting = self.connect("alice", "bob", Recorder(), "printing")
        self.failureResultOf(connecting, RefusedByPolicy)
        self.assertEqual({why: n for why, n in listener.refused.items() if n}, {"no_service": 1})
        self.assertEqual(self.kdc.events().count("issued"), 1)

    def test_a_busy_receiver(self) -> None:
        """A receiver that drops the connection is tried again, each time with a new key."""
        self.serve(other := Recorder())
        self.closed = True
        recorder = Recorder()
        connecting = self.connect("alice", "bob", recorder)
        self.assertNoResult(connecting)
        self.closed = False
        self.network.advance(4)
        self.assertIs(self.successResultOf(connecting), recorder)
        self.assertEqual(other.made, 1)
        self.assertGreater(self.kdc.events().count("issued"), 1)

    def test_not_for_ever(self) -> None:
        """After ten seconds of silence the receiver is given up."""
        self.serve(Recorder())
        self.closed = True
        connecting = self.connect("alice", "bob", Recorder())
        self.assertNoResult(connecting)
        self.network.advance(11)
        self.failureResultOf(connecting, ClosedEarly)

    def test_as_long_as_asked_for(self) -> None:
        """Who has more patience is told each time that it has to wait, and gets in later."""
        self.serve(other := Recorder())
        self.closed = True
        held_up: list[KDCError] = []
        endpoint = ChannelClientEndpoint(
            self.known_client("alice"), "bob", patience_seconds=60, held_up=held_up.append
        )
        connecting = endpoint.connect(factory_of(recorder := Recorder()))
        self.network.advance(45)
        self.assertNoResult(connecting)
        # The longest pause is 8 s, the shortest of the long ones 4 s.
        self.assertIn(len(held_up), range(8, 18))
        self.closed = False
        self.network.advance(9)
        self.assertIs(self.successResultOf(connecting), recorder)
        self.assertEqual(other.made, 1)
        self.closed = True
        connecting = endpoint.connect(factory_of(Recorder()))
        self.network.advance(61)
        self.failureResultOf(connecting, ClosedEarly)

    def test_never_sent(self) -> None:
        """A connection that is reset before anything was sent costs no new key."""
        self.serve(Recorder())
        tried = [ConnectError(osError=errno.ECONNRESET) for _ in range(3)]
        connect = Host.connectTCP

        def reset(host: Any, name: str, port: int, factory: Any, *args: Any, **how: Any) -> Any:
            if port != 60000 or not tried:
                return connect(host, name, port, factory, *args, **how)
            factory.clientConnectionFailed(None, Failure(tried.pop()))
            return None

        self.patch(Host, "connectTCP", reset)
        connecting = self.connect("alice", "bob", recorder := Recorder())
        self.network.advance(5)
        self.assertIs(self.successResultOf(connecting), recorder)
        self.assertEqual((tried, self.kdc.events().count("issued")), ([], 1))
        # When its time is over it is of no use any more, and another is asked for.
        grant = self.do(self.known_client("alice").grant("bob"))
        now = clock.milliseconds()
        good = [grant.is_good(now + 1000 * seconds) for seconds in (0, 299, 301)]
        self.assertEqual(good, [True, True, False])
        grant.presentation()
        self.assertFalse(grant.is_good(now))

    def test_the_kdc_asks_to_wait(self) -> None:
        """Who is told by the KDC to come back later does, if that is soon enough for him."""
        self.serve(Recorder())
        asked: list[float] = []
        ask = KDCLink.request_key

        async def busy(link: KDCLink, peer: str) -> Any:
            asked.append(self.network.seconds())
            if len(asked) % 2:
                raise TooBusy("too often", retry_after=5)
            return await ask(link, peer)

        self.patch(KDCLink, "request_key", busy)
        connecting = self.connect("alice", "bob", recorder := Recorder())
        self.network.advance(4.9)
        self.assertEqual(len(asked), 1)
        self.network.advance(2)
        self.assertIs(self.successResultOf(connecting), recorder)
        endpoint = ChannelClientEndpoint(self.known_client("alice"), "bob", patience_seconds=4)
        self.network.settle()
        connecting = endpoint.connect(factory_of(Recorder()))
        self.network.settle()
        self.failureResultOf(connecting, TooBusy)

    def test_give_up(self) -> None:
        """Waiting for a connection can be cancelled at any moment."""
        for host, number in ((None, 0), ("192.0.2.99", 60000)):
            link = self.login("bob", address=host)
            silent = Recorder()
            if host is not None:
                self.network.listen(host, number, factory_of(silent))
            self.do(link.receive_under(bytes([9]) + bytes(31), host or "192.0.2.98", 60000))
            connecting = self.connect("alice", "bob", Recorder())
            connecting.cancel()
            self.network.settle()
            self.failureResultOf(connecting)
            link.close()
            self.network.advance(1)

    def test_the_receivers_log(self) -> None:
        """A key from the KDC for one receiver is of no use at another."""
        self.serve(Recorder())
        self.receive("carol", Service(factory_of(never := Recorder())), port=60001)
        client = self.known_client("alice")
        grant = self.do(client.grant("bob"))
        from kdc.channel._sender import SenderChannel

        channel = SenderChannel(grant, "", factory_of(Recorder()), self.network)
        (port,) = [p for (_, number), p in self.network.ports.items() if number == 60001]
        self.network.connect("192.0.2.1", port.host, 60001, channel)
        self.network.settle()
        self.failureResultOf(channel.opened, ClosedEarly)
        self.assertEqual(never.made, 0)


class ReceptionTests(EndpointTestCase):
    real_milliseconds = staticmethod(clock.milliseconds)

    def test_stop(self) -> None:
        """After stop nobody new is sent here; open channels go on, nothing else is left."""
        reception, _, running = self.serve(other := Recorder())
        one = self.opened()
        self.assertEqual(reception.kdc_links, 1)
        reception.stop()
        self.network.settle()
        self.successResultOf(running)
        self.assertEqual(reception.kdc_links, 0)
        self.failureResultOf(self.connect("carol", "bob", Recorder()), PeerUnavailable)
        one.out.write(b"still here")
        one.out.loseConnection()
        self.network.settle()
        self.assertEqual(bytes(other.received), b"still here")

    def test_the_kdc_restarts(self) -> None:
        """A receiver comes back by itself after the KDC was away, and channels go on meanwhile."""
        reception, listener, running = self.serve(first := Recorder(), second := Recorder())
        one = self.opened()
        self.assertEqual(reception.kdc_links, 1)
        self.kdc.stop()
        self.network.advance(30)
        self.assertEqual(reception.kdc_links, 0)
        self.assertEqual((listener.open_count, listener.opened_count), (1, 1))
        one.out.write(b"no KDC needed")
        self.network.settle()
        self.assertEqual(bytes(first.received), b"no KDC needed")
        self.kdc = KDC(self.network, store=self.kdc.store)
        self.failureResultOf(self.connect("dave", "bob", Recorder()), PeerUnavailable)
        self.network.advance(61)
        self.assertNoResult(running)
        self.assertEqual(reception.kdc_links, 1)
        self.assert_reaches(second)

    def test_another_kdc_in_its_place(self) -> None:
        """A receiver that comes back to a KDC which is not its own ends, and forgets its keys."""
        _, listener, running = self.serve(never := Recorder())
        grant = self.do(self.known_client("alice").grant("bob"))
        self.kdc.stop()
        self.kdc = KDC(self.network, tls=ServerTLS(*certificate("another")))
        self.network.advance(10)
        error = self.failureResultOf(running, WrongIdentity).value
        self.assertIs(error.exit_status, ExitStatus.KDC)
        self.assertEqual((listener.epochs.current, listener.epochs._retired), (None, []))
        self.failureResultOf(self._present(grant), ClosedEarly)
        self.assertEqual(never.made, 0)
        self.network.advance(3600)
        self.assertEqual(len(self.kdc.factory), 0)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_growing_delays(self) -> None:
        """While the KDC is away a receiver asks for it less and less often."""
        losses: list[float] = []
        client = self.known_client("bob")
        listener = _listener(self)
        reception = Reception(
            client, listener, port=1, lost=lambda error, seconds: losses.append(seconds)
        )
        _ = self.begin(reception.run()).addErrback(self.fail)
        self.kdc.stop()
        self.network.advance(3600)
        self.assertLess(losses[0], 0.6)
        self.assertGreater(losses[-1], 29)
        self.assertLessEqual(max(losses), 60)
        self.assertLess(len(losses), 200)
        reception.stop()
        self.network.settle()
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_tickets_of_before(self) -> None:
        """A ticket issued before the KDC went away is good for its lifetime, and no longer."""
        listener = self.serve(Recorder(), Recorder())[1]
        client = self.known_client("alice")
        early, late = self.do(client.grant("bob")), self.do(client.grant("bob"))
        self.kdc.stop()
        self.assertIsNone(listener.epochs.current)
        self.network.advance(290)
        self.successResultOf(self._present(early))
        self.network.advance(20)
        late._asked_milliseconds += 60_000  # our own clock would not let it be presented
        self.failureResultOf(self._present(late), ClosedEarly)
        self.assertEqual(listener.epochs._retired, [])

    def test_a_key_that_is_too_old(self) -> None:
        """A sender presents no key later than L seconds after it asked for it."""
        _, listener, _ = self.serve(other := Recorder())
        client = self.known_client("alice")
        early, late = self.do(client.grant("bob")), self.do(client.grant("bob"))
        self.network.advance(300)
        self.successResultOf(self._present(early))
        self.network.advance(0.001)
        presented: list[object] = []
        self.patch(listener, "accept", lambda *arguments: presented.append(arguments))
        error = self.failureResultOf(self._present(late), PeerUnavailable).value
        self.assertIn("had expired", str(error))
        self.assertEqual((presented, other.made), ([], 1))

    def test_keys_are_forgotten_by_themselves(self) -> None:
        """L seconds after its KDC is gone a receiver has no key left, though nobody comes."""
        _, listener, running = self.serve(Recorder())
        self.kdc.stop()
        self.network.advance(299)
        self.assertEqual(len(listener.epochs._retired), 1)
        self.network.advance(2)
        self.assertEqual((listener.epochs.current, listener.epochs._retired), (None, []))
        self.assertNoResult(running)

    def test_renewed_keys_are_forgotten_by_themselves(self) -> None:
        """So are those of an epoch that another has followed."""
        _, listener, _ = self.serve(Recorder())
        self.network.advance(24 * 3600 + 1)
        self.assertEqual(len(listener.epochs._retired), 1)
        self.network.advance(301)
        self.assertEqual(listener.epochs._retired, [])

    def test_counts_from_sending(self) -> None:
        """A receiver notes the time before it asks: a slow answer makes it stricter, not laxer."""
        ask = KDCLink.receive_under

        async def slowly(link: KDCLink, *asked: Any) -> Any:
            await deferLater(self.network, 2.0)
            return await ask(link, *asked)

        self.patch(KDCLink, "receive_under", slowly)
        self.serve(Recorder(), Recorder())
        self.network.advance(3)
        client = self.known_client("alice")
        early, late = self.do(client.grant("bob")), self.do(client.grant("bob"))
        self.network.advance(297.5)
        self.successResultOf(self._present(early))
        self.network.advance(1)
        self.failureResultOf(self._present(late), ClosedEarly)

    def test_the_wall_clock_steps(self) -> None:
        """A receiver's wall clock is set during an epoch, either way: tickets end as before."""
        wall = [1_800_000_000]
        self.patch(time, "time", lambda: float(wall[0]))
        self.patch(time, "time_ns", lambda: wall[0] * 10**9)
        self.patch(time, "clock_gettime_ns", self._clocks(wall))
        self.patch(clock, "milliseconds", self.real_milliseconds)
        _, listener, _ = self.serve(*(Recorder() for _ in range(4)))
        listener._now = clock.milliseconds
        client = self.known_client("alice")
        for step in (10**8, -(10**9)):
            early, late = self.do(client.grant("bob")), self.do(client.grant("bob"))
            wall[0] += step
            self.network.advance(299)
            self.successResultOf(self._present(early))
            self.network.advance(2)
            late._asked_milliseconds += 60_000
            self.failureResultOf(self._present(late), ClosedEarly)

    def _clocks(self, wall: list[int]) -> Callable[[int], int]:
        def read(number: int) -> int:
            if number == time.CLOCK_REALTIME:
                return wall[0] * 10**9
            return self.network.milliseconds() * 1_000_000

        return read

    def test_told_when_to_come_back(self) -> None:
        """A receiver that the KDC tells to wait does not ask before."""
        asked: list[float] = []

        async def busy(*_: object) -> Any:
            asked.append(self.network.seconds())
            raise TooBusy("too often", retry_after=45)

        self.patch(KDCLink, "receive_under", busy)
        _, _, running = self.serve(Recorder())
        self.network.advance(44)
        self.assertEqual(len(asked), 1)
        self.network.advance(2)
        self.assertEqual(len(asked), 2)
        self.assertNoResult(running)

    def test_not_at_once(self) -> None:
        """After each failure a receiver waits longer, up to a minute, before it asks again."""
        asked: list[float] = []

        async def fails(*_: object) -> Any:
            asked.append(self.network.seconds())
            if len(asked) > 100:
                raise AuthenticationRefused("the test has seen enough")
            raise KDCUnreachable("not now")

        self.patch(KDCLink, "receive_under", fails)
        _, _, running = self.serve(Recorder())
        self.network.advance(600)
        self.assertNoResult(running)
        waits = [after - before for before, after in itertools.pairwise(asked)]
        for attempt, wait in enumerate(waits):
            most = min(60.0, 0.5 * 2**attempt)
            self.assertTrue(most / 2 <= wait <= most + 0.01, (attempt, wait))

    def _present(self, grant: Any) -> Any:
        from kdc.channel._sender import SenderChannel

        channel = SenderChannel(grant, "", factory_of(Recorder()), self.network)
        self.network.connect("192.0.2.1", grant.reply.address, grant.reply.port, channel)
        self.network.settle()
        return channel.opened

    def test_superseded(self) -> None:
        """A second receiver of the name: the first stops at once, says why, and stays away."""
        _, listener, first = self.serve(never := Recorder())
        client = self.known_client("alice")
        grant = self.do(client.grant("bob"))
        _, _, second = self.serve(other := Recorder())
        error = self.failureResultOf(first, Superseded).value
        self.assertIn("stolen", error.hint)
        self.assertIs(error.exit_status, ExitStatus.REFUSED)
        self.network.advance(3600)
        self.assertNoResult(second)
        self.assertEqual(self.kdc.events().count("epoch-begun"), 2)
        self.assertIsNone(listener.epochs.current)
        grant._asked_milliseconds = self.network.milliseconds()  # else we would not present it
        self.failureResultOf(self._present(grant), ClosedEarly)
        self.assertEqual(never.made, 0)
        self.assert_reaches(other)

    def test_superseded_behind_a_wall(self) -> None:
        """It stops even if the KDC's connection cannot be closed properly any more."""
        reception, _, first = self.serve(Recorder())
        link = reception._link
        link.transport.transport.stalled = True
        self.serve(Recorder())
        self.failureResultOf(first, Superseded)

    def test_the_key_was_changed(self) -> None:
        """After a change of keys the old receiver stops, and its tickets are worth nothing."""
        _, _, running = self.serve(never := Recorder())
        grant = self.do(self.known_client("alice").grant("bob"))
        self.do(self.login("bob").change(keys_of("bob", "second")))
        self.network.advance(2)
        self.failureResultOf(running, AuthenticationRefused)
        self.failureResultOf(self._present(grant), ClosedEarly)
        self.assertEqual(never.made, 0)

    def test_deleted(self) -> None:
        """A receiver whose record the operator deletes stops with a clear error."""
        _, _, running = self.serve(Recorder())
        record = self.kdc.store.get("bob")
        assert record is not None
        self.kdc.apply(Delete("bob", record.generation))
        self.network.advance(2)
        self.failureResultOf(running, AuthenticationRefused)

    def test_daily(self) -> None:
        """Once a day an epoch begins anew, with another key; nobody notices."""
        _, listener, running = self.serve(*(others := [Recorder() for _ in range(3)]))
        first = listener.epochs.current
        self.opened()
        self.network.advance(24 * 3600 + 1)
        self.assertIsNot(listener.epochs.current, first)
        self.assertEqual(self.kdc.events().count("epoch-begun"), 2)
        self.assert_reaches(others[1])
        self.assertNoResult(running)

    def test_full(self) -> None:
        """When many tickets have been used an epoch begins anew, before the room is out."""
        _, listener, _ = self.serve(*(Recorder() for _ in range(20)))
        current = listener.epochs.current
        assert current is not None
        current._used._limit = 8
        for _ in range(9):
            self.opened().out.loseConnection()
            self.network.settle()
        self.assertIsNot(listener.epochs.current, current)
        self.assertEqual(self.kdc.events().count("epoch-begun"), 2)

    def test_refused_renewal(self) -> None:
        """A KDC that cannot begin an epoch now is asked again."""
        _, listener, running = self.serve(Recorder())
        (serving,) = self.kdc.factory._protocols.values()
        self.patch(serving, "dataReceived", lambda data: None)
        self.network.advance(24 * 3600 + 1)
        self.network.advance(100)
        self.assertNoResult(running)
        self.assertIsNotNone(listener.epochs.current)
        self.assertEqual(self.kdc.realm.receiving, ["bob"])

    def test_keys_are_new(self) -> None:
        """Each epoch has a key of its own, and the KDC never sees the private half."""
        made: list[bytes] = []
        client = self.known_client("bob")

        def draw(length: int) -> bytes:
            made.append(bytes([len(made) + 1]) * length)
            return made[-1]

        reception = Reception(client, _listener(self), port=1, random=draw)
        running = self.begin(reception.run())
        self.network.advance(2 * 24 * 3600 + 10)
        self.assertEqual(len(made), 3)
        epoch = self.kdc.realm.epoch_of("bob")
        assert epoch is not None
        public = X25519PrivateKey.from_private_bytes(made[-1]).public_key().public_bytes_raw()
        told = decode_fields(KeyReply, epoch.replies.fields(SessionKey(bytes(32)), 300, b"?"))
        self.assertEqual(told.receiver_key, public)
        for wire in self.network.wires:
            self.assertFalse(any(secret in wire.sent for secret in made))
        self.assertNoResult(running)

    def test_cancelled(self) -> None:
        """A receiver that is cancelled leaves no timer."""
        reception = Reception(self.known_client("bob"), _listener(self), port=1)
        running = self.begin(reception.run())
        timers = len(self.network.getDelayedCalls())
        running.cancel()
        self.failureResultOf(running)
        self.assertEqual(len(self.network.getDelayedCalls()), timers - 1)

    def test_many_senders(self) -> None:
        """Two hundred senders at the same time: each gets through."""
        others = [Recorder() for _ in range(200)]
        self.serve(*others)
        self.network.settle()
        connecting = []
        for number in range(200):
            client = self.known_client(f"sender{number}", address=f"198.51.100.{number}")
            recorder = Recorder()
            endpoint = ChannelClientEndpoint(client, "bob")
            connecting.append((recorder, endpoint.connect(factory_of(recorder))))
        self.network.advance(15)
        for number, (recorder, opened) in enumerate(connecting):
            self.successResultOf(opened)
            recorder.out.write(b"%d" % number)
            recorder.out.loseConnection()
        self.network.settle()
        self.assertEqual(sorted(int(other.received) for other in others), list(range(200)))
        self.assertTrue(all(isinstance(r.lost, ConnectionDone) for r, _ in connecting))


def _listener(case: EdgeTestCase) -> ChannelListener:
    return ChannelListener(
        "LOCAL",
        {},
        timers=case.network,
        random=bytes,
        now_milliseconds=case.network.milliseconds,
    )
