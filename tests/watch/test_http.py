"""HTTP on the status port: one answer a request, and a bound for everything."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from kdc.watch._http import Events, HTTPLimits, StatusFactory, Subscribe
from kdc.watch.answers import SECURITY_HEADERS, Answer, Query, text_answer

LIMITS = HTTPLimits(connections=3, streams=2, body_bytes=10)


class Transport(StringTransport):
    """It tells when it was cut off."""

    cut = False

    def abortConnection(self) -> None:
        self.cut = self.disconnecting = True


class HTTPTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.asked: list[Query] = []
        self.watching: list[Events] = []
        self.factory = StatusFactory(self.respond, self.clock, LIMITS)

    async def respond(self, query: Query) -> Answer | Subscribe:
        self.asked.append(query)
        if query.path == "/events":
            return Subscribe(self.watching.append, self.watching.remove)
        if query.path == "/defect":
            raise ZeroDivisionError
        return text_answer(200, f"{query.method} {query.path} {dict(query.words)}")

    def connect(self, address: str = "192.0.2.1") -> tuple[Any, Transport]:
        channel: Any = self.factory.buildProtocol(IPv4Address("TCP", address, 40_000))
        transport = Transport()
        channel.makeConnection(transport)
        return channel, transport

    def ask(self, request: bytes) -> bytes:
        channel, transport = self.connect()
        channel.dataReceived(request)
        return transport.value()


class AnswerTests(HTTPTestCase):
    def test_get(self) -> None:
        """The path, the words, and the headers that every answer has."""
        said = self.ask(b"GET /a?b=c&b=d HTTP/1.1\r\nHost: h\r\nCookie: k\r\n\r\n")
        head, _, body = said.partition(b"\r\n\r\n")
        self.assertEqual(body, b"GET /a {'b': 'c'}\n")
        lines = head.decode().split("\r\n")
        self.assertEqual(lines[0], "HTTP/1.1 200 OK")
        for name, value in SECURITY_HEADERS:
            self.assertIn(f"{name}: {value}", lines)
        self.assertEqual((self.asked[0].host, self.asked[0].cookie), ("h", "k"))

    def test_head(self) -> None:
        """The headers alone."""
        said = self.ask(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(said.endswith(b"\r\n\r\n"))
        self.assertIn(b"Content-Length: 11", said)

    def test_no_script_from_elsewhere(self) -> None:
        """The page's policy allows nothing inline, nothing from others, and no frame."""
        policy = dict(SECURITY_HEADERS)["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("http", policy)

    def test_header_twice(self) -> None:
        """Two hosts are none that is known; two tokens are none."""
        self.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n")
        self.assertEqual(self.asked[0].host, "?")

    def test_defect(self) -> None:
        """A defect is an answer without a traceback, and is logged."""
        said = self.ask(b"GET /defect HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b"500", said.splitlines()[0])
        self.assertNotIn(b"ZeroDivision", said)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class BoundTests(HTTPTestCase):
    def test_connections(self) -> None:
        """So many at once: for one more, the one goes that has been there longest."""
        first, *others = [self.connect() for _ in range(LIMITS.connections)]
        self.assertFalse(first[1].cut)
        newcomer = self.connect()
        self.assertTrue(first[1].cut)
        newcomer[0].connectionLost(None)
        self.connect()
        self.assertFalse(any(transport.cut for _, transport in others))

    def test_silent_strangers(self) -> None:
        """Who holds many silent connections keeps nobody out, and loses his own for others."""
        mine = self.connect("192.0.2.1")
        strangers = [self.connect("198.51.100.66") for _ in range(20)]
        self.assertEqual([transport.cut for _, transport in strangers], [True] * 18 + [False] * 2)
        mine[0].dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b"200 OK", mine[1].value())
        self.assertFalse(mine[1].cut)

    def test_a_number_without_end(self) -> None:
        """Of so many digits Python makes no number: it is a bad request, like others."""
        for digits in (100, 4301, 8000):
            channel, transport = self.connect()
            channel.dataReceived(
                b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * digits + b"\r\n\r\n"
            )
            self.assertTrue(transport.disconnecting, digits)
        self.assertEqual(self.asked, [])

    def test_more_behind_the_end(self) -> None:
        """TLS hands on what comes behind a request that has ended the connection: nobody looks."""
        channel, transport = self.connect()
        for data in (b"GET /\xff no\r\n", b"Host: h\r\n", b"Con\r\n", b"\r\n"):
            channel.dataReceived(data)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.asked, [])

    def test_long_request(self) -> None:
        """Lines, headers and bodies without end are not kept."""
        for request in (
            b"GET /" + b"a" * 100_000,
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000,
            b"GET / HTTP/1.1\r\nb: " + b"a" * 20_000 + b"\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n" + b"a" * 11,
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\naaaaa\r\n",
        ):
            channel, transport = self.connect()
            channel.dataReceived(request)
            self.assertTrue(transport.disconnecting, request[:60])
            channel.connectionLost(None)
        self.assertEqual(self.asked, [])

    def test_slow_request(self) -> None:
        """A byte now and then does not keep a connection."""
        channel, transport = self.connect()
        for byte in b"GET / HTTP":
            self.clock.advance(LIMITS.request_seconds / 11)
            channel.dataReceived(bytes([byte]))
        self.assertFalse(transport.cut)
        self.clock.advance(LIMITS.request_seconds / 2)
        self.assertTrue(transport.cut)

    def test_idle(self) -> None:
        """Between two requests there is some time, and not more."""
        channel, transport = self.connect()
        for _ in range(3):
            channel.dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            self.clock.advance(LIMITS.idle_seconds - 1)
        self.assertFalse(transport.cut)
        self.clock.advance(1)
        self.assertTrue(transport.cut)
        channel.connectionLost(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EventsTests(HTTPTestCase):
    def subscribe(self) -> tuple[Any, Transport]:
        channel, transport = self.connect()
        channel.dataReceived(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
        return channel, transport

    def test_told(self) -> None:
        """Who subscribes is told, for as long as he stays."""
        channel, transport = self.subscribe()
        self.clock.advance(1000)
        self.watching[0].send(b"data: x\n\n")
        self.assertIn(b"data: x\n\n", transport.value())
        self.assertFalse(transport.cut)
        channel.connectionLost(None)
        self.assertEqual((self.watching, self.factory.streams), ([], set()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_does_not_read(self) -> None:
        """What he does not read is not kept for him, and after a while he is cut off."""
        _, transport = self.subscribe()
        events = self.watching[0]
        events.pauseProducing()
        before = len(transport.value())
        events.send(b"data: x\n\n")
        self.assertEqual(len(transport.value()), before)
        self.clock.advance(LIMITS.reading_seconds)
        self.assertTrue(transport.cut)

    def test_not_too_many(self) -> None:
        """Others than those are told to come again."""
        for _ in range(LIMITS.streams):
            self.subscribe()
        _, transport = self.subscribe()
        self.assertIn(b"503", transport.value())
        self.assertEqual(len(self.watching), LIMITS.streams)

    def test_end(self) -> None:
        """The port ends all of them."""
        _, transport = self.subscribe()
        self.factory.close_all()
        self.assertTrue(transport.cut)
