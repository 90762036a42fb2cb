"""The KDC on the network: what it answers, when it waits, and when it has had enough."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IPushProducer,
)
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kdc.client.identity import ClientTLS
from kdc.errors import (
    AuthenticationRefused,
    KDCUnreachable,
    PeerUnavailable,
    TooBusy,
)
from kdc.issuing.decisions import Enrolment
from kdc.limits import Limits
from kdc.net.tls import channel_binding, tls_context
from kdc.protocol.codec import frame
from kdc.protocol.kdc_exchange import Exchange
from kdc.protocol.messages import encode
from kdc.server._connections import KDCProtocol, system_now
from kdc.store import Change, Delete, Result, Status, StoreUncertain
from tests.support.core import SeededRandom, bodies, keys_of
from tests.support.edge import KDC, KDC_HOST, KDC_PORT, EdgeTestCase, Recorder, Wire, factory_of

PUBLIC = bytes([9]) + bytes(31)


class ServerTestCase(EdgeTestCase):
    def secured(self, address: str = "198.51.100.66", tls: Any = None) -> Recorder:
        """A client that does TLS as it should, and then whatever the test makes it do."""
        recorder = Recorder()
        tls = tls or ClientTLS(self.kdc.identity, KDC_HOST)
        factory = TLSMemoryBIOFactory(tls, True, factory_of(recorder), self.network)
        self.network.connect(address, KDC_HOST, KDC_PORT, factory.buildProtocol(None))
        self.network.settle()
        return recorder

    def exchange(self, recorder: Recorder, name: str, secret: str = "first") -> Exchange:
        """What that client would say as this principal."""
        binding = channel_binding(recorder.out.getHandle())
        return Exchange(keys_of(name, secret), binding, SeededRandom(f"{name} {secret}"))

    def say(self, recorder: Recorder, data: bytes) -> None:
        recorder.out.write(data)
        self.network.settle()

    def numbers(self, recorder: Recorder) -> list[int]:
        """The types of the messages that came back."""
        return [int.from_bytes(body[:2], "big") for body in bodies(bytes(recorder.received))]

    @property
    def served(self) -> list[Wire]:
        """The KDC's ends of the connections."""
        return [wire for wire in self.network.wires if wire.host.port == KDC_PORT]


class RequestTests(ServerTestCase):
    def test_byte_by_byte(self) -> None:
        """How the bytes of a request are cut on their way makes no difference."""
        self.kdc.add("alice")
        client = self.secured()
        exchange = self.exchange(client, "alice")
        data = exchange.authenticate().data
        for byte in data[:14]:
            self.say(client, bytes([byte]))
        self.say(client, data[14:-1])
        self.assertEqual(client.received, b"")
        self.say(client, data[-1:])
        self.assertEqual(self.numbers(client), [312])
        self.say(client, b"".join(exchange.request_key("bob")[0].data for _ in range(3)))
        self.assertEqual(self.numbers(client), [312, 399, 399, 399])

    def test_a_frame_in_very_many_records(self) -> None:
        """Each record costs the KDC, and only frames are charged: who sends crumbs is ended."""
        self.kdc.add("alice")
        before, after = self.secured(), self.secured("198.51.100.67")
        self.say(after, self.exchange(after, "alice").authenticate().data)
        for client in (before, after):
            for number, byte in enumerate(b"\1\0" + bytes(15)):  # of a frame of 256
                if number < 15:
                    self.assertIsNone(client.lost)
                self.say(client, bytes([byte]))
            self.assertIsNotNone(client.lost)
        self.assert_well()

    def test_pipelined(self) -> None:
        """Requests may follow the 311 at once; each is answered, those beyond the rate later."""
        self.kdc.add("alice")
        client = self.secured()
        exchange = self.exchange(client, "alice")
        asked = [exchange.authenticate()] + [exchange.request_key("bob")[0] for _ in range(1024)]
        self.say(client, b"".join(sent.data for sent in asked))
        # The log-in counts as five; and the last of them were taken together.
        self.assertEqual(self.numbers(client), [312] + [399] * 511)
        self.assertFalse(self.served[0].reading)
        self.network.advance(5)
        self.assertEqual(len(self.numbers(client)), 512 + 16 * 15)
        self.network.advance(6)
        self.assertEqual(self.numbers(client), [312] + [399] * 1024)

    def test_answered_together(self) -> None:
        """The answers to what arrives together leave together, and at once."""
        self.kdc.add("alice")
        client = self.secured()
        exchange = self.exchange(client, "alice")
        asked = [exchange.authenticate()] + [exchange.request_key("bob")[0] for _ in range(5)]
        wire: Any = self.served[0]
        written: list[bytes] = []
        write = wire.write

        def count(data: bytes) -> None:
            written.append(data)
            write(data)

        wire.write = count
        self.say(client, b"".join(sent.data for sent in asked))
        self.assertEqual(len(written), 1)
        self.assertEqual(self.numbers(client), [312] + [399] * 5)

    def test_dead_peers_are_noticed(self) -> None:
        """The system is told to look after clients that have vanished, below TLS too."""
        link = self.login("alice")
        tls: Any = link.transport
        for wire in (self.served[0], tls.transport):
            self.assertTrue(wire.keep_alive)
            self.assertIn(30, wire.socket.options.values())

    def test_interfaces(self) -> None:
        """A connection is what Twisted takes it for."""
        protocol = KDCProtocol(self.kdc.factory, "192.0.2.1")
        self.assertTrue(verifyObject(IHandshakeListener, protocol))
        self.assertTrue(verifyObject(IPushProducer, protocol))

    def test_both_clocks(self) -> None:
        """Decisions get a clock that only goes forward, and the wall's."""
        before, after = system_now(), system_now()
        self.assertLessEqual(before.milliseconds, after.milliseconds)
        self.assertGreater(after.unix_seconds, 1_700_000_000)


class MalformedTests(ServerTestCase):
    """Whatever arrives: at most one 399, the end, and service for everybody else."""

    REFUSED = bytes.fromhex("0005 018f 01 0000")

    def test_not_tls(self) -> None:
        """Bytes that are not TLS end the connection, and nothing else happens."""
        dice = random.Random(1)
        for garbage in (b"GET / HTTP/1.0\r\n\r\n", bytes(100), dice.randbytes(5000), b"\x16\x03"):
            wire = self.dial()
            wire.out.write(garbage)
            self.network.advance(11)
            self.assertIsNotNone(wire.lost, garbage[:20])
        self.assertEqual(self.served, [])
        self.assert_well()

    def test_garbage_in_tls(self) -> None:
        """What is not a request gives 1, and the connection ends."""
        dice = random.Random(2)
        valid = frame(encode(_authenticate()))
        for number, garbage in enumerate(
            (
                b"\0\0",
                b"\xff\xff",
                frame(bytes(2048)),
                b"\x08\x01" + bytes(2049),
                frame(b"\x01"),
                frame(valid[2:] + b"\0"),
                frame(valid[2:-1]),
                frame(dice.randbytes(200)),
                b"GET / HTTP/1.0\r\n\r\n",
            )
        ):
            client = self.secured(f"198.51.100.{number}")
            self.say(client, garbage + valid)
            self.assertEqual(bytes(client.received), self.REFUSED, garbage[:20])
            self.assertIsInstance(client.lost, ConnectionDone)
            self.assertEqual(self.kdc.events(), ["refused"] * (number + 1))
        self.assertEqual(self.served, [])
        self.assert_well()

    def test_order(self) -> None:
        """A request before the 311 gives 1, and the connection ends; so does a second 311."""
        self.kdc.add("alice")
        for make in (
            lambda e: [e.request_key("bob")[0]],
            lambda e: [e.receive_under(PUBLIC, "", 1)],
            lambda e: [e.delete()],
            lambda e: [e.authenticate(), e.authenticate()],
        ):
            client = self.secured()
            self.say(client, b"".join(sent.data for sent in make(self.exchange(client, "alice"))))
            self.assertEqual(self.numbers(client)[-1], 399)
            self.assertIsNotNone(client.lost)
        self.assert_well()

    def test_wrong_key_and_unknown_name(self) -> None:
        """They are answered by the same bytes."""
        self.kdc.add("alice")
        answers = []
        for name in ("alice", "nobody"):
            client = self.secured()
            self.say(client, self.exchange(client, name, "wrong").authenticate().data)
            answers.append(bytes(client.received))
            self.assertIsNotNone(client.lost)
        self.assertEqual(answers, [bytes.fromhex("0005 018f 03 0000")] * 2)
        self.assert_well()

    def test_after_the_end(self) -> None:
        """What comes behind a refused request is not looked at."""
        self.kdc.add("alice")
        client = self.secured()
        good = self.exchange(client, "alice").authenticate().data
        self.say(client, b"\0\0" + good)
        self.assertNotIn("authenticated", self.kdc.events())


def _authenticate() -> Any:
    from tests.support.samples import REQUESTS

    return REQUESTS[1]


@implementer(IOpenSSLClientConnectionCreator)
class _WithoutALPN:
    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(tls_context(), None)


class DeadlineTests(ServerTestCase):
    """A newcomer has so much time and no more, however busy it looks."""

    def test_another_protocol(self) -> None:
        """A TLS client that did not ask for kdp/1 is dropped, and nothing of it is left."""
        client = self.secured(tls=_WithoutALPN())
        self.assertIsNotNone(client.lost)
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.network.advance(30)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(len(self.kdc.factory.limiter), 0)
        self.assert_well()

    def test_silent(self) -> None:
        """A connection on which nothing comes is dropped after ten seconds."""
        wire = self.dial()
        self.network.advance(9.9)
        self.assertIsNone(wire.lost)
        self.network.advance(0.2)
        self.assertIsNotNone(wire.lost)
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assert_well()

    def test_slow_handshake(self) -> None:
        """One that sends its ClientHello a byte a second gets no more time for it."""
        tls = ClientTLS(self.kdc.identity, KDC_HOST)
        hello = tls.clientConnectionForTLS(None)
        hello.set_connect_state()
        self.assertRaises(SSL.WantReadError, hello.do_handshake)
        wire = self.dial()
        for byte in hello.bio_read(1 << 16)[:20]:
            wire.out.write(bytes([byte]))
            self.network.advance(1)
        self.assertIsNotNone(wire.lost)
        self.assert_well()

    def test_no_first_frame(self) -> None:
        """Ten seconds after TLS is up the first request must be there, the whole of it."""
        self.kdc.add("alice")
        client = self.secured()
        for byte in self.exchange(client, "alice").authenticate().data[:20]:
            self.say(client, bytes([byte]))
            self.network.advance(0.6)
        self.assertIsNotNone(client.lost)
        self.assertEqual(client.received, b"")
        self.assert_well()

    def test_refused_requests_buy_no_time(self) -> None:
        """A newcomer cannot stay by asking again and again for what is refused."""
        self.kdc.add("alice")
        client = self.secured()
        exchange = self.exchange(client, "alice", "wrong")
        for _ in range(5):
            self.say(client, exchange.register("", 0).data)
            self.network.advance(4)
        self.assertIsNotNone(client.lost)
        self.assert_well()

    def test_registered_and_silent(self) -> None:
        """A registration gives ten seconds more, in which to authenticate."""
        client = self.secured()
        self.network.advance(8)
        self.say(client, self.exchange(client, "alice").register("", 0).data)
        self.assertEqual(self.numbers(client), [302])
        self.network.advance(8)
        self.assertIsNone(client.lost)
        self.network.advance(3)
        self.assertIsNotNone(client.lost)

    def test_idle(self) -> None:
        """A client that asks nothing for fifteen minutes is let go."""
        link = self.login("alice")
        self.network.advance(600)
        self.failure(PeerUnavailable, link.request_key("bob"))
        self.network.advance(890)
        self.assertTrue(link.alive)
        self.network.advance(20)
        self.assertFalse(link.alive)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_receivers_may_be_silent(self) -> None:
        """A receiver stays for as long as it holds its epoch, and not for ever after."""
        first, second = self.login("bob"), self.login("bob")
        self.do(first.receive_under(PUBLIC, "", 60000))
        self.network.advance(100_000)
        self.assertTrue(first.alive)
        self.assertFalse(second.alive)
        self.assertEqual(self.kdc.realm.receiving, ["bob"])

    def test_a_client_that_does_not_let_go(self) -> None:
        """A refused client that does not close is cut off after five seconds."""
        client = self.secured()
        wire = self.served[0].peer
        wire.pauseProducing()
        self.say(client, b"\0\0")
        self.network.advance(4.9)
        self.assertEqual(len(self.served), 1)
        self.network.advance(0.2)
        self.assertEqual(self.served, [])


class LimitTests(ServerTestCase):
    """So many connections that have proved nothing, and no more."""

    limits = Limits(unauthenticated=6, unauthenticated_per_address=3)

    def test_one_address(self) -> None:
        """The fourth newcomer from one address ends the first; another address is not affected."""
        other = self.dial("198.51.100.2")
        wires = [self.dial("198.51.100.1") for _ in range(4)]
        self.assertEqual(
            [wire.lost is None for wire in [other, *wires]], [True, False] + [True] * 3
        )
        self.assert_well()

    def test_one_network(self) -> None:
        """For IPv6 a whole /64 counts as one address."""
        other = self.dial("2001:db8:0:1::1")
        wires = [self.dial(f"2001:db8::{n}") for n in range(1, 5)]
        self.assertEqual(
            [wire.lost is None for wire in [other, *wires]], [True, False] + [True] * 3
        )

    def test_in_all(self) -> None:
        """The seventh newcomer ends the oldest of the address that has most."""
        wires = [self.dial(f"198.51.100.{n}") for n in (1, 2, 3, 3, 4, 5, 6)]
        self.assertEqual([wire.lost is None for wire in wires], [True] * 2 + [False] + [True] * 4)
        self.network.advance(11)
        self.assertEqual(len(self.kdc.factory.limiter), 0)
        self.assert_well()

    def test_silent_strangers(self) -> None:
        """However many sit there in silence, whoever proves at once gets in: beside them, too."""
        for number in range(20):
            self.dial(f"198.51.100.{number}")
            self.dial("192.0.2.7")
            self.dial("2001:db8::7")
        for address in ("192.0.2.7", "2001:db8::77", "203.0.113.9"):
            self.assertTrue(self.login("alice", address=address).alive)
        self.assert_well()

    def test_known_clients_do_not_count(self) -> None:
        """Who has proved its name takes no room from newcomers."""
        links = [self.login("alice", address="198.51.100.1") for _ in range(10)]
        self.assertEqual(len(self.kdc.factory.limiter), 0)
        self.assertTrue(all(link.alive for link in links))

    def test_each_is_counted_once(self) -> None:
        """However a connection ends, its place is free again, once."""
        self.kdc.add("alice")
        for end in (
            lambda client: client.out.loseConnection(),
            lambda client: client.out.abortConnection(),
            lambda client: self.say(client, b"\0\0"),
            lambda client: self.say(client, self.exchange(client, "nobody").authenticate().data),
            lambda client: self.network.advance(20),
        ):
            client = self.secured()
            self.assertEqual(len(self.kdc.factory.limiter), 1)
            end(client)
            self.network.settle()
            self.assertEqual(len(self.kdc.factory.limiter), 0)
        self.login("alice").close()
        self.network.settle()
        self.assertEqual(len(self.kdc.factory.limiter), 0)
        self.assertEqual(len(self.kdc.factory), 0)


class ArrivalTests(ServerTestCase):
    """What connections cost that prove nothing."""

    limits = Limits(arrivals_per_second=10, arrivals_per_second_per_address=2)

    def test_too_many(self) -> None:
        """What is too much for one address is closed before there is any TLS, and told."""
        wires = [self.dial("198.51.100.1") for _ in range(20)]
        open_ones = [wire for wire in wires if wire.lost is None]
        self.assertEqual(len(open_ones), 10)
        self.assertEqual(open_ones, wires[:10])
        lines = [line for line in self.kdc.audit if line.detail == "RATE connections"]
        told = {(line.address, line.unproven) for line in lines}
        self.assertEqual(told, {("198.51.100.1", True)})
        self.assertEqual(len(self.kdc.factory.limiter), 10)
        self.assertEqual(self.kdc.factory.turned_away["arrivals"], 10)
        self.network.advance(1)
        again = [self.dial("198.51.100.1").lost is None for _ in range(3)]
        self.assertEqual(again, [True, True, False])
        self.assert_well()

    def test_who_proves_is_not_counted(self) -> None:
        """Any number of clients log in from one address at once."""
        for _ in range(50):
            self.login("alice", address="198.51.100.1")

    def test_a_flood_from_elsewhere(self) -> None:
        """Strangers in any number keep nobody out who comes from where somebody has logged in."""
        self.login("alice", address="203.0.113.9").close()
        for number in range(200):
            self.dial(f"198.51.100.{number}")
        self.assertIsInstance(self.dial("192.0.2.1").lost, ConnectionDone)
        self.assertTrue(self.login("bob", address="203.0.113.9").alive)

    def test_a_client_tries_again(self) -> None:
        """One that was refused in a flood gets in when there is room, without its user's help."""
        for _ in range(20):
            self.dial("198.51.100.1")
        client = self.known_client("alice", address="198.51.100.1")
        login = self.begin(client.login())
        self.assertNoResult(login)
        self.network.advance(5)
        self.assertTrue(self.successResultOf(login).alive)

    def test_other_limits(self) -> None:
        """Limits that are read again hold from then on."""
        self.kdc.factory.limit(Limits(arrivals_per_second_per_address=1))
        wires = [self.dial("198.51.100.1") for _ in range(20)]
        self.assertEqual(sum(wire.lost is None for wire in wires), 5)


class FloodTests(ServerTestCase):
    def test_a_flood_on_a_name(self) -> None:
        """Guesses from many addresses are slowed down, and do not lock the owner out."""
        home = "192.0.2.50"
        self.login("alice", address=home).close()
        refused, limited = 0, 0
        for number in range(100):
            client = self.client("alice", secret="guess", address=f"198.51.100.{number}")
            error = self.failureResultOf(self.begin(client.login())).value
            refused += isinstance(error, AuthenticationRefused)
            limited += isinstance(error, TooBusy)
        self.assertEqual((refused, limited), (60, 40))
        self.assertTrue(self.login("alice", address=home).alive)

    def test_guesses_from_one_address(self) -> None:
        """Ten wrong proofs a minute, then even the right one waits."""
        self.kdc.add("alice")
        for _ in range(10):
            self.failure(
                AuthenticationRefused,
                self.client("alice", secret="guess", address="198.51.100.1").login(),
            )
        error = self.failure(TooBusy, self.client("alice", address="198.51.100.1").login())
        self.assertGreater(error.retry_after, 0)
        self.network.advance(error.retry_after)
        self.do(self.client("alice", address="198.51.100.1").login())

    def test_a_client_that_does_not_read(self) -> None:
        """Answers that nobody reads do not pile up: the KDC takes no more requests meanwhile."""
        self.kdc.stop()
        self.kdc = KDC(self.network, limits=Limits(keys_per_second=10**6, keys_burst=10**6))
        self.kdc.add("alice")
        client = self.secured()
        exchange = self.exchange(client, "alice")
        self.say(client, exchange.authenticate().data)
        (serving,) = self.served
        serving.peer.pauseProducing()
        for _ in range(120):
            self.say(client, b"".join(exchange.request_key("bob")[0].data for _ in range(100)))
        self.assertLess(len(serving.waiting), 1 << 18)
        self.assertGreater(len(serving.peer.waiting), 1 << 19, "the KDC went on reading")
        self.assertFalse(serving.reading)
        serving.peer.resumeProducing()
        self.network.settle()
        self.assertEqual(len(self.numbers(client)), 12_001, "then all are answered")
        self.assert_well()


class FairnessTests(ServerTestCase):
    """What one principal can cause is bounded, whatever its connections are up to."""

    def flood(self, count: int, name: str = "mallory") -> list[Recorder]:
        """That many connections of one principal, with 600 requests waiting on each."""
        if self.kdc.store.get(name) is None:
            self.kdc.add(name)
        clients = [self.secured(f"198.51.100.{n}") for n in range(count)]
        for client in clients:
            exchange = self.exchange(client, name)
            asked = [exchange.authenticate(), *(exchange.request_key("x")[0] for _ in range(600))]
            client.out.write(b"".join(sent.data for sent in asked))
        return clients

    def asked_at_once(self, count: int) -> int:
        """Somebody authentic asks for so many keys; return how many lines the log had before."""
        self.kdc.add("alice")
        client = self.secured()
        exchange = self.exchange(client, "alice")
        self.say(client, exchange.authenticate().data)
        before = len(self.kdc.audit)
        client.out.write(b"".join(exchange.request_key("x")[0].data for _ in range(count)))
        return before

    def test_a_few_in_a_turn(self) -> None:
        """In one turn of the reactor a connection is answered a few times, not until it is done."""
        before = self.asked_at_once(100)
        Clock.advance(self.network, 0)  # the client's TLS gathers what is written
        self.served[0].peer.step()
        self.assertEqual(len(self.kdc.audit) - before, 16)
        self.assertFalse(self.served[0].reading)
        self.network.settle()
        self.assertEqual(len(self.kdc.audit) - before, 100)
        self.assertTrue(self.served[0].reading)

    def test_all_there_was_in_a_turn(self) -> None:
        """Who has asked no more than is answered in a turn is read from without a pause."""
        before = self.asked_at_once(16)
        Clock.advance(self.network, 0)
        waiting = len(self.network.getDelayedCalls())
        self.served[0].peer.step()
        self.assertEqual(len(self.kdc.audit) - before, 16)
        self.assertTrue(self.served[0].reading)
        self.assertEqual(len(self.network.getDelayedCalls()), waiting)

    def test_choked_in_the_middle(self) -> None:
        """Once a client does not read, what has come from it already is not answered either."""
        self.kdc.add("alice")
        client = self.secured()
        exchange = self.exchange(client, "alice")
        self.say(client, exchange.authenticate().data)
        (protocol,) = self.kdc.factory._protocols.values()
        before = len(self.kdc.audit)
        client.out.write(b"".join(exchange.request_key("x")[0].data for _ in range(100)))
        Clock.advance(self.network, 0)
        self.served[0].peer.step()
        protocol.pauseProducing()
        self.network.settle()
        self.assertEqual(len(self.kdc.audit) - before, 16)
        protocol.resumeProducing()
        self.network.settle()
        self.assertEqual(len(self.kdc.audit) - before, 100)

    def test_late_frames(self) -> None:
        """What a client sends after its connection was ended is not even kept."""
        self.login("alice")
        (protocol,) = self.kdc.factory._protocols.values()
        protocol.close()
        protocol.dataReceived(bytes(1 << 20))
        self.assertEqual(len(protocol._frames), 0)

    def test_one_account(self) -> None:
        """However many connections ask, one principal gets its share; others are served at once."""
        clients = self.flood(20)
        self.network.settle()
        answered = sum(len(self.numbers(client)) for client in clients)
        self.assertLess(answered, 500 + 20 * 16)
        self.network.advance(60)
        more = sum(len(self.numbers(client)) for client in clients) - answered
        self.assertLessEqual(more, 60 * 50 + 20 * 16)
        self.assertEqual([wire.reading for wire in self.served], [False] * 20)
        self.do(self.login("alice").receive_under(PUBLIC, "", 60000))
        self.assert_well()

    def test_they_leave_nothing(self) -> None:
        """A connection that ends while it has to wait leaves no timer."""
        for client in self.flood(3):
            self.network.settle()
            client.out.abortConnection()
        self.network.settle()
        self.assertEqual((self.served, self.network.getDelayedCalls()), ([], []))
        self.flood(3)
        self.network.settle()
        self.kdc.factory.close_all()
        self.network.settle()
        self.assertEqual((self.served, self.network.getDelayedCalls()), ([], []))

    def test_idle_connections(self) -> None:
        """One account holds a hundred connections, not more; who has another name gets in."""
        links = [self.login("mallory", address=f"198.51.100.{n}") for n in range(100)]
        error = self.failure(TooBusy, self.client("mallory", address="198.51.100.200").login())
        self.assertEqual(error.retry_after, 60)
        self.assertTrue(all(link.alive for link in links))
        self.assert_well()


class StoreTests(ServerTestCase):
    """A change is answered when it is durable, and nothing is taken from that client meanwhile."""

    def test_nothing_before_the_disk(self) -> None:
        """302 follows the disk, and what was sent behind the 301 follows the 302."""
        self.kdc.disk.slow = True
        client = self.secured()
        exchange = self.exchange(client, "alice")
        asked = (exchange.register("", 0), exchange.authenticate(), exchange.request_key("bob")[0])
        self.say(client, b"".join(sent.data for sent in asked))
        self.assertEqual(client.received, b"")
        self.assertIsNone(self.kdc.store.get("alice"))
        self.assertFalse(self.served[0].reading)
        self.kdc.disk.work()
        self.network.settle()
        self.assertEqual(self.numbers(client), [302, 312, 399])

    def test_others_go_on(self) -> None:
        """While the disk is busy with one client, the others are served."""
        link = self.login("bob")
        self.kdc.disk.slow = True
        client = self.secured()
        self.say(client, self.exchange(client, "alice").register("", 0).data)
        self.do(link.receive_under(PUBLIC, "", 60000))
        self.assertEqual(client.received, b"")

    def test_one_write_for_many(self) -> None:
        """Changes that come while the disk is busy share its next turn."""
        self.kdc.disk.slow = True
        clients = [self.secured(f"198.51.100.{n}") for n in range(5)]
        for number, client in enumerate(clients):
            self.say(client, self.exchange(client, f"user{number}").register("", 0).data)
        self.assertEqual(len(self.kdc.disk.waiting), 1)
        self.kdc.disk.work()
        self.network.settle()
        self.assertEqual(len(self.kdc.disk.waiting), 1)
        self.kdc.disk.work()
        self.network.settle()
        self.assertEqual([self.numbers(client) for client in clients], [[302]] * 5)

    def test_two_for_one_name(self) -> None:
        """Of two who register one name at the same time, one gets it and the other a clear no."""
        self.kdc.disk.slow = True
        one, two = self.secured("198.51.100.1"), self.secured("198.51.100.2")
        self.say(one, self.exchange(one, "alice").register("", 0).data)
        self.say(two, self.exchange(two, "alice", "other").register("", 0).data)
        for _ in range(2):
            self.kdc.disk.work()
            self.network.settle()
        self.assertEqual(self.numbers(one), [302])
        self.assertEqual(bytes(two.received), bytes.fromhex("0005 018f 04 0000"))
        self.do(self.client("alice").login())

    def test_full_disk(self) -> None:
        """A change that cannot be stored gives 10, keeps nothing, and can be asked for again."""
        self.kdc.disk.full = True
        client = self.client("alice")
        error = self.failure(KDCUnreachable, client.register("", 0))
        self.assertIn("nothing was changed", str(error))
        self.assertIsNone(self.kdc.store.get("alice"))
        self.kdc.disk.full = False
        self.do(client.register("", 0))
        self.assert_well()

    def test_gone_meanwhile(self) -> None:
        """A client that leaves while its change is being written: the change stands."""
        self.kdc.disk.slow = True
        client = self.secured()
        self.say(client, self.exchange(client, "alice").register("", 0).data)
        self.served[0].peer.abortConnection()
        self.network.settle()
        self.kdc.disk.slow = False
        self.kdc.disk.work()
        self.network.settle()
        self.assertEqual(self.served, [])
        self.do(self.client("alice").login())
        self.assert_well()

    def test_a_disk_that_hangs(self) -> None:
        """A newcomer whose change is never written does not stay for ever."""
        self.kdc.disk.slow = True
        client = self.secured()
        self.say(client, self.exchange(client, "alice").register("", 0).data)
        self.network.advance(11)
        self.assertIsNotNone(client.lost)
        self.kdc.disk.work()
        self.network.settle()
        self.assertEqual(self.served, [])


class ChangeTests(ServerTestCase):
    """After a change of keys nothing that was opened with the old ones is left."""

    def test_change(self) -> None:
        """303 ends the epoch and every connection of that name, the asking one last."""
        asking, other, receiving = [self.login("bob") for _ in range(3)]
        alice = self.login("alice")
        self.do(receiving.receive_under(PUBLIC, "", 60000))
        self.do(alice.request_key("bob"))
        self.do(asking.change(keys_of("bob", "second")))
        self.assertFalse(any(link.alive for link in (asking, other, receiving)))
        self.assertEqual(len(self.served), 1, "closed at once, not when time has passed")
        self.failure(PeerUnavailable, alice.request_key("bob"))
        self.failure(AuthenticationRefused, self.client("bob").login())
        self.do(self.client("bob", secret="second").login())

    def test_deletion(self) -> None:
        """303 with op 2 leaves a tombstone, and no connection."""
        asking, other = self.login("bob"), self.login("bob")
        self.do(asking.delete())
        self.assertEqual(self.served, [])
        self.assertFalse(other.alive)
        self.failure(AuthenticationRefused, self.client("bob").login())
        self.failure(AuthenticationRefused, self.client("bob", secret="new").register("", 0))

    def test_by_the_operator(self) -> None:
        """A record that the operator deletes ends the connections of its owner at once."""
        link = self.login("bob")
        self.do(link.receive_under(PUBLIC, "", 60000))
        record = self.kdc.store.get("bob")
        assert record is not None
        self.kdc.apply(Delete("bob", record.generation))
        self.network.settle()
        self.assertFalse(link.alive)
        self.assertEqual(self.kdc.realm.receiving, [])

    def test_full_disk(self) -> None:
        """A change that cannot be stored ends nothing."""
        asking, receiving = self.login("bob"), self.login("bob")
        self.do(receiving.receive_under(PUBLIC, "", 60000))
        self.kdc.disk.full = True
        self.failure(KDCUnreachable, asking.change(keys_of("bob", "second")))
        # Nor is there less time for it afterwards.
        self.network.advance(Limits().first_frame_seconds + 1)
        self.assertTrue(asking.alive and receiving.alive)
        self.assertEqual(self.kdc.realm.receiving, ["bob"])
        self.kdc.disk.full = False
        self.do(self.client("bob").login())

    def test_broken_store(self) -> None:
        """If nobody knows what became of a change, its connection ends without an answer."""
        link = self.login("bob")
        self.do(link.receive_under(PUBLIC, "", 60000))

        def broken(changes: object) -> None:
            raise RuntimeError("a defect")

        self.patch(self.kdc.store, "apply", broken)
        self.failure(KDCUnreachable, link.change(keys_of("bob", "second")))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.kdc.realm.receiving, [])
        self.assertEqual(len(self.kdc.factory), 0)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_uncertain_change(self) -> None:
        """Of a change that may have been made neither "done" nor "nothing changed" is said."""
        link = self.login("bob")
        made = self.kdc.store.apply

        def uncertain(changes: Sequence[Change]) -> list[Result]:
            made(changes)
            raise StoreUncertain("no answer came")

        patched = self.patch(self.kdc.store, "apply", uncertain)
        with capturedLogs() as logs:
            error = self.failure(KDCUnreachable, link.change(keys_of("bob", "second")))
        self.assertNotIn("nothing was changed", f"{error} {error.hint}")
        (told,) = [eventAsText(event) for event in logs if event["log_level"] >= LogLevel.warn]
        self.assertIn("no answer: no answer came", told)
        self.assertEqual(len(self.kdc.factory), 0)
        self.assertEqual(self.network.getDelayedCalls(), [])
        patched.restore()
        self.do(self.client("bob", secret="second").login())

    def test_dropped_while_it_waits(self) -> None:
        """A connection that waits for the disk ends when another one's change takes its name."""
        one, two = self.login("bob"), self.login("bob")
        self.kdc.disk.slow = True
        first = self.begin(one.change(keys_of("bob", "second")))
        second = self.begin(two.change(keys_of("bob", "third")))
        for _ in range(2):
            self.kdc.disk.work()
            self.network.settle()
        self.assertGreater(self.successResultOf(first), 1)
        self.failureResultOf(second, KDCUnreachable)
        self.network.advance(6)
        self.assertEqual(self.served, [])
        self.do(self.client("bob", secret="second").login())


class EpochTests(ServerTestCase):
    def test_superseded(self) -> None:
        """The second 307 wins; the first connection is told, and can ask no more in its name."""
        first, second = self.login("bob"), self.login("bob")
        self.do(first.receive_under(PUBLIC, "", 60000))
        self.do(second.receive_under(PUBLIC, "", 60001))
        self.assertTrue(first.superseded)
        self.assertFalse(first.alive)
        self.assertEqual(len(self.served), 1)
        grant = self.do(self.login("alice").request_key("bob"))
        self.assertEqual(grant.reply.port, 60001)

    def test_the_epoch_ends_with_its_connection(self) -> None:
        """Who loses its connection cannot be reached."""
        receiving = self.login("bob")
        self.do(receiving.receive_under(PUBLIC, "", 60000))
        receiving.close()
        self.network.settle()
        self.failure(PeerUnavailable, self.login("alice").request_key("bob"))

    def test_restart(self) -> None:
        """After a restart nobody can be reached until he has come back."""
        receiving = self.login("bob")
        self.do(receiving.receive_under(PUBLIC, "", 60000))
        self.kdc.stop()
        self.assertFalse(receiving.alive)
        self.kdc = KDC(self.network, store=self.kdc.store)
        self.failure(PeerUnavailable, self.login("alice").request_key("bob"))
        self.do(self.login("bob").receive_under(PUBLIC, "", 60000))
        self.do(self.login("alice").request_key("bob"))

    def test_stop(self) -> None:
        """A KDC that stops closes what is open, properly."""
        links = [self.login(name) for name in ("alice", "bob")]
        client = self.secured()
        self.kdc.factory.close_all()
        self.network.settle()
        self.assertFalse(any(link.alive for link in links))
        self.assertIsInstance(client.lost, ConnectionDone)
        self.assertEqual(self.served, [])
        self.assertEqual(self.network.getDelayedCalls(), [])


class EnrolmentTests(ServerTestCase):
    def test_closed(self) -> None:
        """A KDC that does not register says so, and goes on serving whom it knows."""
        self.kdc.stop()
        self.kdc = KDC(self.network, enrolment=Enrolment.CLOSED)
        self.failure(AuthenticationRefused, self.client("alice").register("", 0))
        self.assertIsNone(self.kdc.store.get("alice"))
        self.assertTrue(self.login("bob").alive)

    def test_where_it_was_seen(self) -> None:
        """A registration that names no address is recorded with the one that the KDC sees."""
        self.do(self.client("alice", address="192.0.2.77").register("", 60000))
        record = self.kdc.store.get("alice")
        assert record is not None
        self.assertEqual(
            (record.status, record.address, record.port), (Status.ACTIVE, "192.0.2.77", 60000)
        )
