"""What reads from outside beside the KDC and channels: Kerberos, relays, status port, operators.

Bytes come to the real objects, on a network in memory.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from kdc.admin.wire import answer_line, ask, end_line
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.errors import IntegrityError, KDCError, PeerUnavailable, RemoteProtocolError
from kdc.kerberos import messages
from kdc.kerberos.ccache import ccache, read_ccache
from kdc.kerberos.der import DERError
from kdc.kerberos.keytab import KeytabEntry, keytab, read_keytab
from kdc.kerberos.layout import Layout
from kdc.protocol import relay
from kdc.protocol.codec import FrameBuffer
from kdc.server._operators import AdminFactory
from kdc.tunnel.datagrams import MOST_BYTES, DatagramReader, framed
from kdc.watch._http import StatusFactory
from kdc.watch.answers import Answer, Query, text_answer
from kdc.watch.guard import Guard
from tests.hostile._fuzz_target import Found, Target, defects_of
from tests.kerberos.test_kpasswd import PasswordTests
from tests.support.edge import HalfRecorder, Recorder, factory_of
from tests.support.kerberos import NOW
from tests.support.relay import RELAY_HOST, RELAY_PORT, RelayTestCase

__all__ = ["SERVICES"]

_TOKEN = b"a token of more than twenty letters".replace(b" ", b"-")
_EPOCH = bytes(range(16))


class _Kerberos(PasswordTests):
    """A realm's KDC and its service for passwords, in memory."""

    def requests(self) -> tuple[bytes, ...]:
        self.service()
        return tuple(self.kdc.requests)

    def asked(self, data: bytes) -> None:
        for datagram in (True, False):
            if not self.kdc.kdc.answer(data, NOW, datagram=datagram).reply:
                raise Found("no answer")

    def password(self, data: bytes) -> None:
        before = len(self.changes)
        self.service_.answer(data, NOW)
        if any(change.password != "new" for change in self.changes[before:]):
            raise Found("a password that nobody has sealed")

    def files(self) -> tuple[bytes, bytes]:
        entries = [KeytabEntry(self.web, n, self.kdc.key_of(self.kdc.web), 1, 1) for n in (1, 300)]
        return keytab(entries), ccache(self.alice, [self.tgt, self.service()])

    def runTest(self) -> None:
        """It is no test by itself."""


def _kerberos() -> Iterator[tuple[str, Target]]:
    case = _Kerberos("runTest")
    case.setUp()
    layouts = [value for value in vars(messages).values() if isinstance(value, Layout)]

    def read(data: bytes) -> None:
        for layout in layouts:
            try:
                value = layout.decode(data)
            except DERError:
                continue
            if layout.encode(value) != data:
                raise Found("two encodings of one message")

    requests, (key_table, cache) = case.requests(), case.files()
    answers = tuple(answer.reply for answer in case.kdc.answers)
    yield "kerberos-messages", Target(read, (*requests, *answers), ())
    yield "kerberos-kdc", Target(case.asked, requests, ())
    yield "kerberos-passwords", Target(case.password, (case.request(),), ())
    yield "keytab", Target(read_keytab, (key_table,), (ValueError,))
    yield "ccache", Target(read_ccache, (cache,), (ValueError,))


class _ToRelay(RelayTestCase):
    """Bytes as a stranger says them to a relay's port, and as a receiver over its link."""

    def outside(self, data: bytes) -> None:
        self._do(lambda: self._arrive(data))

    def inside(self, data: bytes) -> None:
        self._do(lambda: self._link(data))

    def _arrive(self, data: bytes) -> None:
        recorder = HalfRecorder()
        self.network.connect("198.51.100.66", RELAY_HOST, RELAY_PORT, recorder)
        recorder.out.write(data)

    def _link(self, data: bytes) -> None:
        client = self.known_client("bob")
        endpoint = ChannelClientEndpoint(
            client, relay.RELAY, relay.SERVICE, reach=relay.Reach.DIRECT
        )
        recorder = Recorder()
        connecting = endpoint.connect(factory_of(recorder))
        self.network.settle()
        self.successResultOf(connecting)
        recorder.out.write(data)
        self.network.settle()
        recorder.out.abortConnection()

    def _do(self, act: Callable[[], object]) -> None:
        def live() -> None:
            act()
            self.network.advance(60)

        try:
            self.setUp()
            defects_of(live)
            if self.relay.figures.joined or self.relay.figures.links:
                raise Found("a connection that never ends")
            self.tearDown()  # nothing is left of it all
        finally:
            self.doCleanups()

    def runTest(self) -> None:
        """It is no test by itself."""


_SAID = tuple(
    relay.encode(message)
    for message in (
        relay.Claim(_EPOCH),
        relay.Release(_EPOCH),
        relay.Verify(60000, _EPOCH),
        relay.Claimed(_EPOCH, relay.Verdict.YES),
        relay.Call(_EPOCH, bytes(relay.TOKEN_BYTES), "192.0.2.1", 9),
        relay.Dialled(_EPOCH, 1),
    )
)
_PRESENT = (200).to_bytes(2, "big") + b"\x01\x35\x01" + _EPOCH + bytes(181)


def _relay_messages(data: bytes) -> None:
    frames = FrameBuffer(relay.MAX_MESSAGE)
    frames.feed(data)
    while (body := frames.next()) is not None:
        if relay.encode(relay.decode(body))[2:] != body:
            raise Found("two encodings of one message")


def _first(data: bytes) -> None:
    """However it arrives, it is the same."""
    whole = relay.first_of(data)
    for end in range(len(data)):
        earlier = relay.first_of(data[:end])
        if earlier is not None and earlier != whole:
            raise Found("it is something else when more has come")


class _Connection(StringTransport):
    """One that can be cut, and then bears what real ones bear."""

    def abortConnection(self) -> None:
        self.disconnecting = True

    def pauseProducing(self) -> None:
        return

    resumeProducing = pauseProducing

    def unregisterProducer(self) -> None:
        self.producer = None


class _StatusPort(SynchronousTestCase):
    def asked(self, data: bytes) -> None:
        clock: Any = Clock()
        guard = Guard(_TOKEN, random=bytes)
        answered: list[Query] = []

        async def respond(query: Query) -> Answer:
            refusal = guard.refusal(query, 0)
            if refusal is None and query.path != "/style.css":
                answered.append(query)
            return refusal or text_answer(200, "here it is")

        def live() -> None:
            channel: Any = StatusFactory(respond, clock).buildProtocol(None)
            transport = _Connection()
            channel.makeConnection(transport)
            for at in range(0, len(data), 50):  # and TLS goes on when we do not
                channel.dataReceived(data[at : at + 50])
            clock.advance(100)
            if not transport.disconnecting:
                raise Found("a connection that never ends")
            channel.connectionLost(None)

        defects_of(live)
        cookie = bytes(32).hex()
        if any(_TOKEN.decode() not in q.authorization and cookie not in q.cookie for q in answered):
            raise Found("an answer to somebody without the token")
        if clock.getDelayedCalls():
            raise Found("a timer that is left")

    def runTest(self) -> None:
        """It is no test by itself."""


def _head(method: bytes, path: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: localhost", *lines, b"", b""))


_LOG_IN = b"token=" + _TOKEN
_HTTP = (
    _head(b"GET", b"/metrics", b"Authorization: Bearer " + _TOKEN),
    _head(b"GET", b"/?name=b%6Fb&status=active", b"Cookie: kdc_status=" + b"0" * 64),
    _head(b"POST", b"/login", b"Content-Length: %d" % len(_LOG_IN)) + _LOG_IN,
    _head(b"HEAD", b"/style.css") + _head(b"GET", b"/healthz", b"Connection: close"),
    _head(b"POST", b"/login", b"Transfer-Encoding: chunked") + b"5\r\ntoken\r\n0\r\n\r\n",
)


def _operators_lines(data: bytes) -> None:
    """What comes to the operators' socket, JSON or not: one answer, and the end."""
    clock = Clock()
    begun: list[object] = []

    def begin(request: object, uid: int) -> Callable[[], Deferred[bytes]]:
        begun.append(request)
        return lambda: succeed(b"")

    def live() -> None:
        protocol: Any = AdminFactory(begin, lambda transport: 0).buildProtocol(None)
        protocol.callLater = clock.callLater
        transport = _Connection()
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        clock.advance(100)
        if not transport.disconnecting:
            raise Found("a connection that never ends")
        protocol.connectionLost()

    defects_of(live)
    if len(begun) > 1 or not all(isinstance(request, dict) for request in begun):
        raise Found("more than one request, or what is none")


class _Answering:
    """A socket on which somebody answers this."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> _Answering:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def makefile(self, mode: str) -> Any:
        return io.BytesIO(self._data)

    def sendall(self, data: bytes) -> None:
        return


def _operators_answers(data: bytes) -> None:
    for answer in ask(_Answering(data), {"command": "list"}):  # type: ignore[arg-type]
        str(answer)


def _datagrams(data: bytes) -> None:
    """However it arrives, the same datagrams come out."""
    meant = []
    for step in (len(data) or 1, 1 + len(data) // 7):
        reader, found, ended = DatagramReader(), [], False
        try:
            for at in range(0, len(data), step):
                for datagram in reader.feed(data[at : at + step]):
                    found.append(datagram)  # noqa: PERF402 - those before what is wrong, too
        except IntegrityError:
            ended = True
        meant.append((found, ended))
    if meant[0] != meant[1]:
        raise Found("it is cut otherwise, as it arrives")
    if any(len(datagram) > MOST_BYTES for datagram in meant[0][0]):
        raise Found("a datagram longer than any can be")


_TO_RELAY, _STATUS_PORT = _ToRelay("runTest"), _StatusPort("runTest")
_ANSWERS = (
    answer_line({"name": "bob", "status": "active"}) + end_line(),
    end_line(PeerUnavailable("bob is not there", hint="see whether it runs")),
)

SERVICES: dict[str, Target] = {
    **dict(_kerberos()),
    "relay-messages": Target(_relay_messages, (b"".join(_SAID), *_SAID), (RemoteProtocolError,)),
    "relay-first": Target(_first, (_PRESENT, relay.show_token(bytes(32))), (RemoteProtocolError,)),
    "relay-port": Target(_TO_RELAY.outside, (_PRESENT, relay.show_token(bytes(32))), ()),
    "relay-link": Target(_TO_RELAY.inside, (b"".join(_SAID[:3]), *_SAID[:3]), ()),
    "status-port": Target(_STATUS_PORT.asked, _HTTP, ()),
    "operators-lines": Target(
        _operators_lines, (b'{"command": "list"}\n', b"list bob\r\nlist\n"), ()
    ),
    "operators-answers": Target(_operators_answers, _ANSWERS, (KDCError,)),
    "datagrams": Target(_datagrams, (framed(b"") + framed(b"abc") + framed(bytes(300)),), ()),
}
