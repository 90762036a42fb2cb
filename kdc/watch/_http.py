"""HTTP on the status port: twisted.web reads it, `Query` goes in, `Answer` comes out.

Everything is bounded: connections, bytes of a request, the time for one, the time for reading
an answer.  Who is beyond a bound is cut off; of too many connections the one that has been there
longest, of the address that has most: so nobody keeps out who comes and asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeAlias

import attrs
from twisted.internet.interfaces import IProtocolNegotiationFactory, IPushProducer
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from kdc.limits import ConnectionLimiter
from kdc.net.background import background
from kdc.net.sockets import host_of
from kdc.net.waiting import Deadline
from kdc.watch.answers import SECURITY_HEADERS, Answer, Query, text_answer

__all__ = ["Events", "HTTPLimits", "Respond", "StatusFactory"]


@attrs.frozen
class HTTPLimits:
    """What all who look may cost together."""

    connections: int = 64  # without those who are told events
    connections_per_address: int = 32
    streams: int = 16
    body_bytes: int = 4096
    request_seconds: float = 10.0
    idle_seconds: float = 90.0
    reading_seconds: float = 30.0


@implementer(IPushProducer)
class Events:
    """One who is told what happens, until he leaves or does not read."""

    def __init__(
        self, request: _Request, limits: HTTPLimits, left: Callable[[Events], None]
    ) -> None:
        self._request = request
        self._limits = limits
        self._left = left
        self._reads = Deadline(request.channel.factory.reactor)
        request.registerProducer(self, True)

    def send(self, text: bytes) -> None:
        """Tell him, if he has read what he was told before."""
        if not self._reads.running:
            self._request.write(text)

    def pauseProducing(self) -> None:
        if not self._reads.running:
            self._reads.within(self._limits.reading_seconds, self.end)

    def resumeProducing(self) -> None:
        self._reads.cancel()

    def stopProducing(self) -> None:
        """The connection is gone, and `gone` will tell."""

    def end(self) -> None:
        self._request.channel.transport.abortConnection()

    def gone(self) -> None:
        self._reads.end()
        self._left(self)


# An answer, or what takes in one who wants to be told of events and says who leaves.
Respond: TypeAlias = Callable[[Query], Awaitable["Answer | Subscribe"]]


@attrs.frozen
class Subscribe:
    """The answer to who wants to be told what happens from now on."""

    came: Callable[[Events], None]
    left: Callable[[Events], None]


_TOO_LONG = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


# twisted.web is not typed.
_HTTPRequest: Any = http.Request
_HTTPChannel: Any = http.HTTPChannel


class _Request(_HTTPRequest):  # type: ignore[misc]
    channel: Any
    _too_long = False
    _events: Events | None = None

    def gotLength(self, length: int | None) -> None:
        limit = self.channel.factory.limits.body_bytes
        if length is None or length > limit:
            self._too_long = True
            length = 0
            self.channel.transport.write(_TOO_LONG)
            self.channel.loseConnection()
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        if not self._too_long:
            super().handleContentChunk(data)

    def process(self) -> None:
        self.channel.in_time()
        if not self._too_long:
            background(self._respond(), "answering at the status port")

    async def _respond(self) -> None:
        factory: StatusFactory = self.channel.factory
        answer: Answer | Subscribe
        try:
            answer = await factory.respond(self._query())
        except Exception:
            self._say(text_answer(500, "a defect: see the log"))
            raise
        if self._disconnected or self.channel is None:
            return
        if isinstance(answer, Answer):
            self._say(answer)
        elif len(factory.streams) >= factory.limits.streams:
            self._say(text_answer(503, "too many are looking", ("Retry-After", "30")))
        else:
            self._stream(factory, answer)

    def _query(self) -> Query:
        def header(name: bytes) -> str:
            values = self.requestHeaders.getRawHeaders(name) or [b""]
            # Twice is once too often: proxies and browsers may not agree on which counts.
            return values[0].decode("latin-1") if len(values) == 1 else "?"

        body = self.content.read() if self.content is not None else b""
        path, _, words = self.uri.partition(b"?")
        found = http.parse_qs(words, keep_blank_values=True)
        return Query(
            method=self.method.decode("latin-1"),
            path=path.decode("latin-1"),
            words={_text(name): _text(values[0]) for name, values in found.items()},
            host=header(b"host"),
            authorization=header(b"authorization"),
            cookie=header(b"cookie"),
            body=body,
            address=host_of(self.getClientAddress()),
        )

    def _head(self, status: int, kind: str, headers: tuple[tuple[str, str], ...]) -> None:
        self.setResponseCode(status, HTTPStatus(status).phrase.encode())
        for name, value in (*SECURITY_HEADERS, ("Content-Type", kind), *headers):
            self.responseHeaders.setRawHeaders(name, [value])

    def _say(self, answer: Answer) -> None:
        self._head(answer.status, answer.kind, answer.headers)
        self.responseHeaders.setRawHeaders("Content-Length", [str(len(answer.body))])
        # To HEAD twisted.web writes the headers only.
        self.write(answer.body)
        self.finish()

    def _stream(self, factory: StatusFactory, answer: Subscribe) -> None:
        def left(events: Events) -> None:
            factory.streams.discard(events)
            answer.left(events)

        self._head(200, "text/event-stream", ())
        self.write(b"retry: 2000\n\n")
        self._events = Events(self, factory.limits, left)
        factory.streams.add(self._events)
        factory.limiter.release(self.channel)
        answer.came(self._events)

    def connectionLost(self, reason: Failure) -> None:
        events, self._events = self._events, None
        super().connectionLost(reason)
        if events is not None:
            events.gone()


def _text(typed: bytes) -> str:
    return typed.decode(errors="replace")


class _Channel(_HTTPChannel):  # type: ignore[misc]
    """One connection: a whole request must come within a time, however slowly its bytes do."""

    requestFactory = _Request
    # Less than the 4300 digits of which Python makes no number, but an error with a traceback.
    MAX_LENGTH = 4096
    maxHeaders = 64
    totalHeadersSize = 8192
    factory: StatusFactory

    def connectionMade(self) -> None:
        self._whole = Deadline(self.factory.reactor)
        self.factory.channels.add(self)
        super().connectionMade()
        self._wait(self.factory.limits.request_seconds)

    def dataReceived(self, data: bytes) -> None:
        # Over TLS more comes behind what has ended it, and twisted.web is not made for that.
        if not self.transport.disconnecting:
            super().dataReceived(data)

    def in_time(self) -> None:
        self._whole.cancel()

    def requestDone(self, request: _Request) -> None:
        self._wait(self.factory.limits.idle_seconds)
        super().requestDone(request)

    def timeoutConnection(self) -> None:
        self.forceAbortClient()

    def forceAbortClient(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self._whole.end()
        self.factory.channels.discard(self)
        self.factory.limiter.release(self)
        super().connectionLost(reason)

    def _wait(self, seconds: float) -> None:
        self._whole.within(seconds, self.forceAbortClient)


@implementer(IProtocolNegotiationFactory)
class StatusFactory(Factory[Any]):
    """``respond`` is asked for each request."""

    noisy = False

    def __init__(self, respond: Respond, reactor: Any, limits: HTTPLimits | None = None) -> None:
        self.respond = respond
        self.reactor = reactor
        self.limits = limits or HTTPLimits()
        self.channels: set[_Channel] = set()
        self.limiter: ConnectionLimiter[_Channel] = ConnectionLimiter(
            self.limits.connections, self.limits.connections_per_address
        )
        self.streams: set[Events] = set()

    def buildProtocol(self, addr: Any) -> _Channel:
        channel = _Channel()
        channel.factory = self
        channel.timeOut = self.limits.idle_seconds
        channel.callLater = self.reactor.callLater
        displaced = self.limiter.admit(channel, host_of(addr))
        if displaced is not None:
            displaced.forceAbortClient()
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS is to agree on: with nothing here, Twisted ends browsers' handshakes."""
        return [b"http/1.1"]

    def log(self, request: object) -> None:
        """Who looks is nothing for a log."""

    def close_all(self) -> None:
        for channel in list(self.channels):
            channel.forceAbortClient()
