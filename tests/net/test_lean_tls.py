"""TLS with less to do: it is what Twisted's is, whatever the socket takes at once."""

from __future__ import annotations

import contextlib
import types
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import providedBy

from kdc.net import lean_tls
from kdc.net.lean_tls import LeanTLS, fits
from kdc.net.tls import tls_context
from kdc.server.certificate import ServerTLS
from tests.support.edge import certificate
from tests.support.some_socket import EVERYTHING, SomeSocket


class _Recorder(Protocol):
    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got.append(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost = reason


class _Pair:
    """A `LeanTLS` server on a `SomeSocket`, and OpenSSL as its client."""

    def __init__(self, shaken: bool = True) -> None:
        self.recorder, self.socket = _Recorder(), SomeSocket()
        factory = TLSMemoryBIOFactory(
            ServerTLS(*certificate()), False, Factory.forProtocol(_Recorder), Clock()
        )
        self.server = LeanTLS(factory, self.recorder)
        self.client = SSL.Connection(tls_context(), None)
        self.client.set_connect_state()
        self.server.makeConnection(self.socket)
        if shaken:
            self.shake()

    def shake(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self.client.do_handshake()
        self.pump()
        self.client.do_handshake()
        self.pump()

    def pump(self) -> None:
        """Bring what each has written to the other."""
        with contextlib.suppress(SSL.WantReadError):
            self.server.dataReceived(self.client.bio_read(EVERYTHING))
        self.socket.turn()
        sent, self.socket.sent = self.socket.sent, b""
        if sent:
            self.client.bio_write(sent)

    def read(self) -> bytes:
        """All that the client has got so far."""
        got = []
        while True:
            try:
                got.append(self.client.recv(EVERYTHING))
            except SSL.WantReadError:
                return b"".join(got)


class LeanTLSTests(SynchronousTestCase):
    def test_the_libraries_are_what_they_were(self) -> None:
        """It is used.  If not, pyOpenSSL or Twisted has changed: look what it relies on."""
        self.assertTrue(fits())
        self.assertIs(lean_tls.tls_protocol, LeanTLS)

    def test_the_libraries_are_not(self) -> None:
        """Each name that is missing is noticed."""
        names = dict.fromkeys(
            (
                *("SSL_read", "SSL_write", "BIO_read", "BIO_write"),
                *("SSL_get_error", "SSL_ERROR_WANT_READ"),
            )
        )
        self.assertTrue(fits(types.SimpleNamespace(**names)))
        for name in names:
            fewer = types.SimpleNamespace(**{key: None for key in names if key != name})
            self.assertFalse(fits(fewer), name)
        self.assertFalse(fits(None))
        self.assertFalse(fits(protocol=Protocol))
        self.assertFalse(fits(factory=lambda *_: Factory()))

    def test_both_ways(self) -> None:
        """What one end sends the other gets, in records of every size; nobody waits for a turn."""
        pair = _Pair()
        for size in (1, 250, 16_384, 16_385, 100_000):
            pair.client.send(bytes(size)) if size <= 16_384 else pair.client.sendall(bytes(size))
            pair.pump()
            self.assertEqual(b"".join(pair.recorder.got), bytes(size))
            pair.recorder.got.clear()
            pair.server.write(b"a" * size)
            self.assertFalse(pair.socket.ours.waiting)
            pair.pump()
            self.assertEqual(pair.read(), b"a" * size)

    @given(
        st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8),
        st.lists(st.sampled_from([0, 1, 7, 100, EVERYTHING]), max_size=20),
        st.lists(st.booleans(), min_size=8, max_size=8),
    )
    def test_whatever_the_socket_takes(
        self, messages: list[bytes], takes: list[int], turns: list[bool]
    ) -> None:
        """All of it arrives, in its order, and what the socket does not take waits for a turn."""
        pair = _Pair()
        pair.socket.takes = list(takes)
        for message, turn in zip(messages, turns, strict=False):
            pair.server.write(message)
            if turn:
                pair.socket.turn()
        pair.socket.turn()
        pair.pump()
        self.assertEqual(pair.read(), b"".join(messages))

    def test_a_producer_is_paused(self) -> None:
        """Who writes more than the socket takes is told to wait, and to go on."""
        told: list[str] = []
        producer: Any = types.SimpleNamespace(
            pauseProducing=lambda: told.append("pause"),
            resumeProducing=lambda: told.append("resume"),
            stopProducing=lambda: told.append("stop"),
        )
        pair = _Pair()
        pair.server.registerProducer(producer, True)
        pair.socket.takes = [0]
        pair.server.write(bytes(70_000))
        self.assertEqual(told, ["pause"])
        pair.pump()
        self.assertEqual(told, ["pause", "resume"])
        self.assertEqual(len(pair.read()), 70_000)

    def test_a_lost_connection(self) -> None:
        """One that is lost while it is written to is found lost by the reactor, as ever."""
        pair = _Pair()
        lost = ConnectionLost()
        pair.socket.takes = [lost, lost]
        pair.server.write(b"nobody reads this")
        self.assertTrue(pair.socket.ours.waiting)
        self.assertIs(pair.socket.doWrite(), lost)
        pair.socket.connectionLost(Failure(lost))
        pair.server.connectionLost(Failure(lost))
        pair.server.write(b"nor this")
        self.assertEqual(pair.socket.sent, b"")
        assert pair.recorder.lost is not None
        pair.recorder.lost.trap(ConnectionLost)

    def test_what_openssl_does_not_take(self) -> None:
        """What is written before the handshake is done is sent after it, in its order."""
        pair = _Pair(shaken=False)
        pair.server.write(b"first, ")
        pair.server.write(b"then this")
        pair.shake()
        pair.server.write(b", and at last")
        pair.pump()
        self.assertEqual(pair.read(), b"first, then this, and at last")

    def test_the_other_end_says_goodbye(self) -> None:
        """Its alert ends the connection cleanly, after what came with it."""
        pair = _Pair()
        pair.client.send(b"the last words")
        pair.client.shutdown()
        pair.pump()
        self.assertEqual(pair.recorder.got, [b"the last words"])
        self.assertTrue(pair.socket.disconnecting)
        self.assertRaises(SSL.ZeroReturnError, pair.client.recv, 1)

    def test_a_changed_record(self) -> None:
        """One that was changed on its way is not delivered: the other end gets an alert."""
        pair = _Pair()
        pair.client.send(b"true")
        record = bytearray(pair.client.bio_read(EVERYTHING))
        record[-1] ^= 1
        pair.server.dataReceived(bytes(record))
        pair.pump()
        self.assertEqual(pair.recorder.got, [])
        self.assertTrue(pair.socket.disconnecting)
        error = self.assertRaises(SSL.Error, pair.client.recv, 1)
        self.assertIn("bad record mac", str(error))

    def test_after_an_abort(self) -> None:
        """Nothing is delivered any more."""
        pair = _Pair()
        pair.client.send(b"too late")
        pair.server.abortConnection()
        pair.server.dataReceived(pair.client.bio_read(EVERYTHING))
        self.assertEqual(pair.recorder.got, [])

    def test_what_it_provides(self) -> None:
        """As with Twisted's: what its transport does; and its factory knows of it."""
        factory = TLSMemoryBIOFactory(
            ServerTLS(*certificate()), False, Factory.forProtocol(_Recorder), Clock()
        )
        ours, twisteds = (
            protocol(factory, _Recorder()) for protocol in (LeanTLS, TLSMemoryBIOProtocol)
        )
        for each in (ours, twisteds):
            each.makeConnection(SomeSocket())
            self.assertIn(each, factory.protocols)
            self.assertIs(cast(Protocol, each.wrappedProtocol).transport, each)
        self.assertEqual([*providedBy(ours)], [*providedBy(twisteds)])
        self.assertGreater(len([*providedBy(ours)]), 3)

    def test_it_is_twisteds(self) -> None:
        """Whoever asks what it is finds Twisted's class."""
        self.assertIsInstance(_Pair().server, TLSMemoryBIOProtocol)
