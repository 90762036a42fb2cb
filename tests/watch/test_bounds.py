"""The status port's bounds, with real sockets: who is beyond one is cut off, others are served."""

from __future__ import annotations

import socket
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from kdc.watch._http import Events, HTTPLimits, StatusFactory, Subscribe
from kdc.watch.answers import Answer, Query, text_answer
from tests.support.processes import PATIENCE_SECONDS

REQUEST = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = 3600.0


class BoundsTestCase(TestCase):
    def listen(self, **limits: Any) -> None:
        """Serve with these limits; those of time are long unless they are given."""
        times = {"request_seconds": LONG, "idle_seconds": LONG, "reading_seconds": LONG}
        self.watching: list[Events] = []
        self.factory = StatusFactory(self.respond, reactor, HTTPLimits(**{**times, **limits}))
        listen: Any = reactor
        self.port = listen.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.addCleanup(self.until, "nobody is there", lambda: not self.factory.channels)
        self.addCleanup(self.factory.close_all)

    async def respond(self, query: Query) -> Answer | Subscribe:
        if query.path == "/events":
            return Subscribe(self.watching.append, self.watching.remove)
        return text_answer(200, "well")

    async def until(self, what: str, true: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            if time.monotonic() > deadline:
                self.fail(f"still not: {what}")
            await deferLater(reactor, 0.01)

    def connect(self, **options: int) -> socket.socket:
        connected = socket.socket()
        self.addCleanup(connected.close)
        connected.settimeout(PATIENCE_SECONDS)
        for name, value in options.items():
            connected.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        connected.connect(("127.0.0.1", self.port.getHost().port))
        return connected

    def to_the_end(self, connected: socket.socket, sent: bytes = b"") -> bytes:
        """Send, and return all that comes until the other side ends it."""
        said = b""
        try:
            connected.sendall(sent)
            while piece := connected.recv(65_536):
                said += piece
        except ConnectionError:
            pass  # it does not read on
        return said

    async def assert_well(self) -> None:
        """Somebody else is served."""
        said = await deferToThread(
            lambda: self.to_the_end(
                self.connect(), REQUEST[:-2].replace(b"%s", b"") + b"Connection: close\r\n\r\n"
            )
        )
        self.assertIn(b"HTTP/1.1 200 OK", said)


class BoundsTests(BoundsTestCase):
    async def test_connections(self) -> None:
        """One more than may be there ends the oldest, and is served itself."""
        self.listen(connections=3)
        there = []
        for count in (1, 2, 3):
            there.append(await deferToThread(self.connect))
            await self.until("one more", lambda n=count: len(self.factory.channels) == n)
        await self.assert_well()
        self.assertEqual(await deferToThread(self.to_the_end, there[0]), b"")
        await self.until("it has left", lambda: len(self.factory.channels) == 2)
        for kept in there[1:]:
            kept.setblocking(False)
            self.assertRaises(BlockingIOError, kept.recv, 1)

    async def test_slow_request(self) -> None:
        """Who does not get to the end of his request in time is cut off, others are not."""
        self.listen(request_seconds=0.2)
        slow = await deferToThread(self.connect)
        self.assertEqual(await deferToThread(self.to_the_end, slow, b"GET / HT"), b"")
        silent = await deferToThread(self.connect)
        self.assertEqual(await deferToThread(self.to_the_end, silent), b"")

    async def test_idle(self) -> None:
        """A connection on which nothing is asked any more is ended."""
        self.listen(idle_seconds=0.2)
        idle = await deferToThread(self.connect)
        said = await deferToThread(self.to_the_end, idle, REQUEST % b"")
        self.assertIn(b"HTTP/1.1 200 OK", said)

    async def test_long_requests(self) -> None:
        """Lines, headers and bodies beyond a bound are not read to their end."""
        self.listen(body_bytes=1000)
        for request in (
            b"GET /" + b"a" * 10_000_000,
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000,
            b"GET / HTTP/1.1\r\na: " + b"b" * 10_000_000,
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n"
            + b"a" * 1001,
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"5\r\naaaaa\r\n" * 1000,
        ):
            connected = await deferToThread(self.connect)
            said = await deferToThread(self.to_the_end, connected, request)
            self.assertNotIn(b" 200 ", said)
        await self.assert_well()

    async def test_who_does_not_read(self) -> None:
        """Somebody who watches and does not read costs some buffers, and is then cut off."""
        self.listen(reading_seconds=0.2)
        lazy = await deferToThread(lambda: self.connect(SO_RCVBUF=4096))
        await deferToThread(lazy.sendall, REQUEST % b"events")
        await self.until("he watches", lambda: self.watching)

        def gone() -> bool:
            for events in self.watching:
                events.send(b"data: " + b"x" * 100_000 + b"\n\n")
            return not self.factory.streams

        await self.until("he is cut off", gone)
        await self.assert_well()
