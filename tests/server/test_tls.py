"""TLS at the KDC: what is negotiated, what is refused, and proofs that somebody relays."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL, crypto
from zope.interface.verify import verifyObject

from kdc.client.identity import ClientTLS
from kdc.client.link import KDCLink
from kdc.net.tls import ALPN, channel_binding
from kdc.protocol.kdc_exchange import Exchange
from tests.support.core import SeededRandom, keys_of
from tests.support.edge import (
    KDC_HOST,
    EdgeTestCase,
    certificate,
)

REFUSED_3 = bytes.fromhex("0005 018f 03 0000")


def handle_of(link: KDCLink) -> SSL.Connection:
    transport: Any = link.transport
    connection: SSL.Connection = transport.getHandle()
    return connection


class NegotiationTests(EdgeTestCase):
    def test_version_and_group(self) -> None:
        """TLS 1.3, kdp/1, and a key exchange that a later quantum computer does not open."""
        link = self.login("alice")
        self.assertEqual(handle_of(link).get_protocol_version_name(), "TLSv1.3")
        self.assertEqual(handle_of(link).get_alpn_proto_negotiated(), ALPN)
        self.assertEqual(handle_of(link).get_group_name(), "X25519MLKEM768")

    def test_binding(self) -> None:
        """Both ends have the same channel binding, and each connection its own."""
        client = self.known_client("alice")
        self.do(client.connect())
        (serving,) = self.kdc.factory._protocols.values()
        first = self.do(client.connect())
        servers = list(self.kdc.factory._protocols.values())
        self.assertEqual(servers[0], serving)
        ours = channel_binding(handle_of(first))
        self.assertEqual(len(ours), 32)
        theirs = [channel_binding(each.transport.getHandle()) for each in servers]  # type: ignore[union-attr]
        self.assertEqual(theirs[1], ours)
        self.assertNotEqual(theirs[0], theirs[1])

    def test_exporter(self) -> None:
        """cb is the exporter value of RFC 9266: its label, an empty context, 32 bytes."""
        handle = handle_of(self.do(self.known_client("alice").connect()))
        label = b"EXPORTER-Channel-Binding"
        self.assertEqual(channel_binding(handle), handle.export_keying_material(label, 32, b""))

    def test_interfaces(self) -> None:
        """Twisted can make connections with both."""
        from twisted.internet.interfaces import (
            IOpenSSLClientConnectionCreator,
            IOpenSSLServerConnectionCreator,
        )

        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, self.kdc.tls))
        tls = ClientTLS(self.kdc.identity, KDC_HOST)
        self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, tls))


class _Peer:
    """Another TLS implementation's way in, over the network in memory."""

    def __init__(self, case: EdgeTestCase, context: ssl.SSLContext, session: Any = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, session=session)
        self._case = case
        self._wire = case.dial()

    def step(self, act: Callable[[], Any]) -> Any:
        for _ in range(20):
            try:
                return act()
            except ssl.SSLWantReadError:
                pass
            finally:
                if sent := self._outgoing.read():
                    self._wire.out.write(sent)
                self._case.network.settle()
                if self._wire.received:
                    self._incoming.write(bytes(self._wire.received))
                    del self._wire.received[:]
                elif self._wire.lost is not None:
                    self._incoming.write_eof()
        raise ssl.SSLWantReadError

    @staticmethod
    def context() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([ALPN.decode()])
        return context


class RefusalTests(EdgeTestCase):
    """What the KDC does not take part in."""

    def assert_refused(self, context: ssl.SSLContext, why: str) -> None:
        peer = _Peer(self, context)
        try:
            peer.step(peer.tls.do_handshake)
            self.assertEqual(peer.step(lambda: peer.tls.read(1)), b"", "it goes on")
        except ssl.SSLError as error:
            self.assertIn(why, str(error))
        self.assertEqual(len(self.kdc.factory), 0)
        self.assert_well()

    def test_older_versions(self) -> None:
        """TLS 1.2 is refused."""
        context = _Peer.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assert_refused(context, "PROTOCOL_VERSION")

    def test_another_protocol(self) -> None:
        """Who offers only protocols that are not kdp/1 does not get through the handshake."""
        context = _Peer.context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        self.assert_refused(context, "EOF")

    def test_no_protocol(self) -> None:
        """Nor does who offers none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.assert_refused(context, "EOF")

    def test_no_resumption(self) -> None:
        """No session can be resumed, and so there can be no early data either."""
        context = _Peer.context()
        peer = _Peer(self, context)
        peer.step(peer.tls.do_handshake)
        self.assertRaises(ssl.SSLWantReadError, peer.step, lambda: peer.tls.read(1))
        again = _Peer(self, context, peer.tls.session)
        again.step(again.tls.do_handshake)
        self.assertFalse(again.tls.session_reused)

    def test_no_early_data(self) -> None:
        """What the KDC tells its clients about later connections leaves no room for early data."""
        session = handle_of(self.login("alice")).get_session()
        assert session is not None
        library: Any = SSL._lib  # type: ignore[attr-defined]
        self.assertEqual(library.SSL_SESSION_get_max_early_data(session._session), 0)

    def test_resumption_would_be_seen(self) -> None:
        """The test above tells a server that resumes from one that does not."""
        resuming = SSL.Context(SSL.TLS_METHOD)
        key, chain = certificate()
        resuming.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key))
        resuming.use_certificate(crypto.load_certificate(crypto.FILETYPE_PEM, chain))
        resuming.set_alpn_select_callback(lambda connection, offered: ALPN)
        self.kdc.tls._context = resuming
        context = _Peer.context()
        peer = _Peer(self, context)
        peer.step(peer.tls.do_handshake)
        self.assertRaises(ssl.SSLWantReadError, peer.step, lambda: peer.tls.read(1))
        again = _Peer(self, context, peer.tls.session)
        again.step(again.tls.do_handshake)
        self.assertTrue(again.tls.session_reused)


class RelayTests(EdgeTestCase):
    """Somebody in between with a TLS key that the client believes: still not enough."""

    def relayed(self, make: Callable[[Exchange], bytes]) -> bytes:
        """What the KDC says to a proof that was made for another connection."""
        victim = self.login("alice")
        binding = channel_binding(handle_of(victim))
        proof = make(Exchange(keys_of("alice"), binding, SeededRandom("victim")))
        attacker = self.do(self.client("alice").connect())
        said = bytearray()
        take = attacker.dataReceived

        def listen(data: bytes) -> None:
            said.extend(data)
            take(data)

        attacker.dataReceived = listen  # type: ignore[method-assign]
        transport: Any = attacker.transport
        transport.write(proof)
        self.network.settle()
        self.assertEqual(self.kdc.audit[-1].event, "refused")
        self.assertFalse(attacker.alive)
        return bytes(said)

    def test_authentication(self) -> None:
        """A 311 signed over another connection's binding gives 3, and the connection ends."""
        self.assertEqual(self.relayed(lambda e: e.authenticate().data), REFUSED_3)
        self.assert_well()

    def test_registration(self) -> None:
        """A 301 signed over another connection's binding gives 3, and nothing is recorded."""
        exchange = lambda e: Exchange(keys_of("mallory"), e._binding, SeededRandom("m"))  # noqa: E731
        self.assertEqual(self.relayed(lambda e: exchange(e).register("", 0).data), REFUSED_3)
        self.assertIsNone(self.kdc.store.get("mallory"))

    def test_change(self) -> None:
        """A 303 signed over another connection's binding changes nothing."""
        victim, own = self.login("alice"), self.login("alice")
        binding = channel_binding(handle_of(victim))
        exchange = Exchange(keys_of("alice"), binding, SeededRandom("victim"))
        before = self.kdc.store.get("alice")
        transport: Any = own.transport
        transport.write(exchange.change(keys_of("alice", "second"), "", 0).data)
        self.network.settle()
        self.assertFalse(own.alive)
        self.assertEqual(self.kdc.store.get("alice"), before)
        self.assertTrue(victim.alive)

    def test_reply_of_another_connection(self) -> None:
        """What the KDC sealed on one connection ends another on which it is replayed."""
        one, two = self.login("alice"), self.login("alice")
        replies: list[bytes] = []
        take = one.dataReceived

        def listen(data: bytes) -> None:
            replies.append(data)
            take(data)

        one.dataReceived = listen  # type: ignore[method-assign]
        self.do(one.receive_under(bytes([9]) + bytes(31), "", 60000))
        asked = self.begin(two.receive_under(bytes([9]) + bytes(31), "", 60000))
        self.successResultOf(asked)
        two.dataReceived(replies[0])
        self.network.settle()
        self.assertFalse(two.alive)
