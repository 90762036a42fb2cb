"""Datagrams through channels: framed, bounded, and forgotten when nobody sends any."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.services import Service
from kdc.errors import ConfigurationError, IntegrityError
from kdc.tunnel.datagrams import (
    MOST_BYTES,
    DatagramReader,
    ExposedDatagrams,
    ForwardedDatagrams,
    framed,
    near_place,
    place_of,
)
from tests.support.core import PROPERTY
from tests.support.edge import EdgeTestCase

USER, OTHER = ("127.0.0.1", 40_001), ("127.0.0.1", 40_002)
IDLE = 30.0


class ReaderTests(SynchronousTestCase):
    @PROPERTY
    @given(st.lists(st.binary(max_size=300)), st.lists(st.integers(0, 400)))
    def test_cut_anywhere(self, datagrams: list[bytes], cuts: list[int]) -> None:
        """However the stream is cut, the datagrams are those that went in."""
        stream = b"".join(map(framed, datagrams))
        reader, at = DatagramReader(), 0
        found: list[bytes] = []
        for length in [*cuts, len(stream)]:
            found += reader.feed(stream[at : at + length])
            at += length
        self.assertEqual(found, datagrams)

    def test_longest(self) -> None:
        """The longest that UDP has is taken, and nothing is kept of a longer one."""
        reader = DatagramReader()
        self.assertEqual(list(reader.feed(framed(bytes(MOST_BYTES)))), [bytes(MOST_BYTES)])
        self.assertRaises(IntegrityError, list, reader.feed((MOST_BYTES + 1).to_bytes(2, "big")))


class PlaceTests(SynchronousTestCase):
    def test_places(self) -> None:
        """An address and a port; a near one is on this machine unless an interface is named."""
        self.assertEqual(place_of("udp:192.0.2.1:53"), ("192.0.2.1", 53))
        self.assertEqual(place_of("udp:\\:\\:1:53"), ("::1", 53))
        self.assertEqual(near_place("udp:53"), ("127.0.0.1", 53))
        self.assertEqual(near_place("udp:0:interface=\\:\\:1"), ("::1", 0))

    def test_no_places(self) -> None:
        """Anything else is refused."""
        for text in ("udp:", "udp:53", "udp:host:53", "udp:192.0.2.1:0", "udp:192.0.2.1:65536"):
            self.assertRaises(ConfigurationError, place_of, text)
        for text in ("udp:", "udp:x", "udp:53:interface=eth0", "udp:53:mode=600", "udp:1:2:3"):
            self.assertRaises(ConfigurationError, near_place, text)


class Socket:
    """A port of datagrams that remembers what was sent from it."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.sent: list[tuple[Any, ...]] = []
        self.open = True
        protocol.makeConnection(self)

    def connect(self, host: str, port: int) -> None:
        self.connected = (host, port)

    def write(self, datagram: bytes, *to: Any) -> None:
        if len(datagram) == 13:
            raise OSError("the system does not take it")
        self.sent.append((datagram, *to))

    def stopListening(self) -> None:
        self.open = False


@implementer(IStreamClientEndpoint)
class Slow:
    """A target that never answers, and knows how many wait for it."""

    def __init__(self) -> None:
        self.open = 0

    def connect(self, protocolFactory: Any) -> Any:
        self.open += 1
        return Deferred(lambda _: self._cancelled())

    def _cancelled(self) -> None:
        self.open -= 1


class DatagramTests(EdgeTestCase):
    """Alice forwards to bob, who exposes something on a socket."""

    most = 3

    def setUp(self) -> None:
        super().setUp()
        self.told: list[str] = []
        self.sockets: list[Socket] = []
        bob = self.host("127.0.0.1")
        bob.listenUDP = self.listen_udp  # type: ignore[attr-defined]
        exposed = ExposedDatagrams(bob, ("192.0.2.1", 53), "dns", self.told.append, IDLE)
        self.receive("bob", {"dns": Service(exposed)})
        self.forward("dns")

    def listen_udp(self, port: int, protocol: Any, **how: Any) -> Socket:
        self.sockets.append(Socket(protocol))
        return self.sockets[-1]

    def forward(self, service: str) -> None:
        alice = self.known_client("alice")
        self.near = ForwardedDatagrams(
            ChannelClientEndpoint(alice, "bob", service),
            f"{service} of bob",
            self.told.append,
            self.network,
            IDLE * 2,
            self.most,
        )
        self.port = Socket(self.near)

    def say(self, datagram: bytes, source: tuple[str, int] = USER) -> None:
        self.near.datagramReceived(datagram, source)
        self.network.settle()

    def test_both_ways(self) -> None:
        """What was sent before the channel was open comes, too; answers go to who has asked."""
        for datagram in (b"one", b"", b"two"):
            self.near.datagramReceived(datagram, USER)
        self.network.settle()
        self.say(b"three", OTHER)
        one, two = self.sockets
        self.assertEqual(one.sent, [(b"one",), (b"",), (b"two",)])
        self.assertEqual((two.sent, two.connected), ([(b"three",)], ("192.0.2.1", 53)))
        two.protocol.datagramReceived(b"answer", ("192.0.2.1", 53))
        self.network.settle()
        self.assertEqual(self.port.sent, [(b"answer", OTHER)])

    def test_lost(self) -> None:
        """One that the system does not take is lost, and the next one goes."""
        self.say(b"x" * 13)
        self.say(b"next")
        self.assertEqual(self.sockets[0].sent, [(b"next",)])

    def test_idle(self) -> None:
        """A mapping over which nothing passes ends, at both ends; the next one is another."""
        self.say(b"one")
        self.network.advance(IDLE - 1)
        self.say(b"two")
        self.network.advance(IDLE - 1)
        self.network.settle()
        self.assertEqual((len(self.near), self.sockets[0].open), (1, True))
        self.network.advance(2)
        self.network.settle()
        self.assertEqual((len(self.near), self.sockets[0].open), (0, False))
        self.say(b"three")
        self.assertEqual(self.sockets[1].sent, [(b"three",)])

    def test_bounded(self) -> None:
        """For one more than there may be, the one that was silent longest ends."""
        for number in range(self.most):
            self.say(b"x", ("127.0.0.1", number))
        self.say(b"again", ("127.0.0.1", 0))
        self.say(b"x", ("127.0.0.1", 99))
        self.assertEqual(len(self.near), self.most)
        self.assertEqual([each.open for each in self.sockets], [True, False, True, True])

    def test_opening_is_bounded(self) -> None:
        """While channels are being opened, there are no more of them than mappings either."""
        target = Slow()
        near = ForwardedDatagrams(target, "x", self.told.append, self.network, IDLE, self.most)
        Socket(near)
        for number in range(5000):
            near.datagramReceived(b"x", ("127.0.0.1", number))
        self.assertEqual((len(near), target.open), (self.most, self.most))
        near.stopProtocol()
        self.assertEqual((len(near), target.open, self.told), (0, 0, []))

    def test_evicted_while_it_is_opened(self) -> None:
        """What is given up in the middle leaves nothing, and the next one is opened."""
        for number in range(50):
            self.near.datagramReceived(b"x", ("127.0.0.1", number))
        self.network.settle()
        self.assertEqual(sum(each.open for each in self.sockets), self.most)
        self.assertEqual(len(self.near), self.most)

    def test_waiting_is_bounded(self) -> None:
        """While the channel is being opened only so many wait."""
        for _ in range(1000):
            self.near.datagramReceived(b"x", USER)
        self.network.settle()
        self.assertEqual(len(self.sockets[0].sent), 16)

    def test_no_service(self) -> None:
        """Why there is no channel is told, and nothing is kept."""
        self.forward("web")
        self.say(b"x")
        self.assertEqual(len(self.near), 0)
        self.assertIn("web of bob: ", self.told[-1])

    def test_closed(self) -> None:
        """When the near end stops, all its channels end."""
        self.say(b"x")
        self.near.stopProtocol()
        self.network.settle()
        self.assertFalse(self.sockets[0].open)

    def tearDown(self) -> Any:
        self.near.stopProtocol()
        self.network.settle()
        return super().tearDown()
