"""TLS to the KDC: what is negotiated, what is refused, and that nothing is sent too early."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kdc.client.identity import Authority, ClientTLS, Pin, Unvouched
from kdc.client.link import KDCLink
from kdc.errors import (
    ConfigurationError,
    KDCError,
    KDCUnreachable,
    UnknownIdentity,
    WrongIdentity,
)
from kdc.net.tls import ALPN, channel_binding, fingerprint_of, parse_fingerprint
from kdc.protocol.kdc_exchange import Exchange
from kdc.server.certificate import ServerTLS, make_certificate
from tests.support.core import SeededRandom, keys_of
from tests.support.edge import (
    KDC_HOST,
    NOW,
    EdgeTestCase,
    Recorder,
    certificate,
    factory_of,
    strange_certificate,
)

ELSEWHERE = 89


def handle_of(link: KDCLink) -> SSL.Connection:
    transport: Any = link.transport
    connection: SSL.Connection = transport.getHandle()
    return connection


def authority(*names: str, alternative: Any = None) -> tuple[bytes, bytes, bytes]:
    """A CA, and a server key with a certificate by it: (CA, key, chain), all PEM."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA")])

    def sign(subject: x509.Name, public: Any, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
            .not_valid_after(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    ca = sign(issuer, ca_key.public_key(), True).sign(ca_key, hashes.SHA256())
    leaf = sign(x509.Name([]), key.public_key(), False)
    names_in_it = x509.SubjectAlternativeName([x509.DNSName(n) for n in names])
    leaf = leaf.add_extension(alternative or names_in_it, False)
    pem = serialization.Encoding.PEM
    return (
        ca.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem),
    )


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
        resuming.use_privatekey(_key(key))
        resuming.use_certificate(_certificate(chain))
        resuming.set_alpn_select_callback(lambda connection, offered: ALPN)
        self.kdc.tls._context = resuming
        context = _Peer.context()
        peer = _Peer(self, context)
        peer.step(peer.tls.do_handshake)
        self.assertRaises(ssl.SSLWantReadError, peer.step, lambda: peer.tls.read(1))
        again = _Peer(self, context, peer.tls.session)
        again.step(again.tls.do_handshake)
        self.assertTrue(again.tls.session_reused)


def _key(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)


def _certificate(pem: bytes) -> Any:
    return x509.load_pem_x509_certificate(pem)


class _Careless(ServerTLS):
    """A server that takes no part in ALPN."""

    def __init__(self) -> None:
        super().__init__(*certificate())
        self._context = SSL.Context(SSL.TLS_METHOD)
        key, chain = certificate()
        self._context.use_privatekey(_key(key))
        self._context.use_certificate(_certificate(chain))


class _Strange(ServerTLS):
    """A server with a certificate that OpenSSL takes and `cryptography` does not."""

    def __init__(self) -> None:
        super().__init__(*certificate())
        pem = crypto.FILETYPE_PEM
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_privatekey(crypto.load_privatekey(pem, certificate()[0]))
        self._context.use_certificate(crypto.load_certificate(pem, strange_certificate()))
        self._context.set_alpn_select_callback(lambda connection, offered: ALPN)


class NothingIsSentTests(EdgeTestCase):
    """Unless the KDC has shown who it is, a client says nothing at all."""

    def setUp(self) -> None:
        super().setUp()
        self.kdc.add("alice")
        self.heard: list[Recorder] = []

    def impostor(self, tls: ServerTLS) -> None:
        """Something else that speaks TLS, where the client takes the KDC to be."""

        def build(addr: Any) -> Recorder:
            self.heard.append(Recorder())
            return self.heard[-1]

        inner = Factory()
        inner.buildProtocol = build  # type: ignore[method-assign]
        factory = TLSMemoryBIOFactory(tls, False, inner, self.network)
        self.network.listen(KDC_HOST, ELSEWHERE, factory)

    def assert_nothing_sent(self, expected: type[KDCError], identity: Any, *, why: str) -> KDCError:
        """The client gives up for that reason, and not one byte of it arrived."""
        client = self.client("alice", identity=identity, port=ELSEWHERE)
        error: KDCError = self.failure(expected, client.login())
        self.assertIn(why, str(error))
        self.network.settle()
        self.assertEqual([bytes(each.received) for each in self.heard], [b""] * len(self.heard))
        self.assertEqual(self.network.wires, [], "the connection stays open")
        return error

    def test_the_test_hears(self) -> None:
        """With the right key the same listener hears the client's proof."""
        self.impostor(ServerTLS(*certificate()))
        client = self.client("alice", port=ELSEWHERE)
        unanswered = self.begin(client.login())
        self.assertIn(b"alice", self.heard[0].received)
        self.network.advance(20)
        self.failureResultOf(unanswered, KDCUnreachable)

    def test_wrong_pin(self) -> None:
        """A KDC with another key than the pinned one is a hard error with both fingerprints."""
        other = ServerTLS(*certificate("somebody.else"))
        self.impostor(other)
        pin = Pin(self.kdc.tls.fingerprint, "known_kdcs line 7")
        error = self.assert_nothing_sent(WrongIdentity, pin, why="known_kdcs line 7")
        self.assertIn(other.fingerprint, str(error))
        self.assertIn(pin.fingerprint, str(error))

    def test_nobody_vouches(self) -> None:
        """Without pin or CA the client looks at the key and goes away."""
        self.impostor(ServerTLS(*certificate()))
        error = self.assert_nothing_sent(UnknownIdentity, Unvouched(), why="vouched")
        assert isinstance(error, UnknownIdentity)
        self.assertEqual(error.fingerprint, self.kdc.tls.fingerprint)

    def test_unreadable_certificate(self) -> None:
        """A certificate that cannot be read is a wrong one, at once and without a traceback."""
        self.impostor(_Strange())
        self.assert_nothing_sent(WrongIdentity, self.kdc.identity, why="cannot be read")
        self.assert_nothing_sent(WrongIdentity, Unvouched(), why="cannot be read")

    def test_unreadable_names(self) -> None:
        """A certificate by the right CA, with names of a kind that nobody uses, is refused."""
        x400 = x509.UnrecognizedExtension(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000")
        )
        ca, key, chain = authority(alternative=x400)
        self.impostor(ServerTLS(key, chain))
        identity = Authority("kdc.example", self.ca_file(ca))
        self.assert_nothing_sent(WrongIdentity, identity, why="not for kdc.example")

    def test_no_alpn(self) -> None:
        """A server with the right key that does not speak kdp/1 hears nothing."""
        self.impostor(_Careless())
        self.assert_nothing_sent(KDCUnreachable, self.kdc.identity, why="no ALPN")

    def ca_file(self, content: bytes) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def test_wrong_authority(self) -> None:
        """A certificate by an unknown CA is refused."""
        ca, _, _ = authority(KDC_HOST)
        _, key, chain = authority("kdc.example")
        self.impostor(ServerTLS(key, chain))
        identity = Authority("kdc.example", self.ca_file(ca))
        self.assert_nothing_sent(WrongIdentity, identity, why="does not verify")

    def test_self_signed(self) -> None:
        """A certificate that nobody signed is refused where a CA is asked for."""
        self.impostor(ServerTLS(*certificate()))
        ca, _, _ = authority(KDC_HOST)
        identity = Authority(KDC_HOST, self.ca_file(ca))
        self.assert_nothing_sent(WrongIdentity, identity, why="does not verify")

    def test_wrong_host(self) -> None:
        """A certificate by the right CA for another host is refused, names and addresses."""
        ca, key, chain = authority("kdc.example")
        self.impostor(ServerTLS(key, chain))
        path = self.ca_file(ca)
        for host in ("www.example", "192.0.2.88", "sub.kdc.example", "example"):
            identity = Authority(host, path)
            self.assert_nothing_sent(WrongIdentity, identity, why=f"not for {host}")

    def test_right_host(self) -> None:
        """With the right CA and host the client goes on."""
        ca, key, chain = authority("kdc.example")
        self.kdc.tls.replace_by(ServerTLS(key, chain))
        identity = Authority("kdc.example", self.ca_file(ca))
        client = self.client("alice", tls=ClientTLS(identity, "kdc.example"))
        self.assertTrue(self.do(client.login()).alive)

    def test_chain(self) -> None:
        """A server shows the certificates between its own and the CA that the client knows."""
        ca, key, chain = authority("kdc.example")
        self.kdc.tls.replace_by(ServerTLS(key, chain + ca))
        seen: list[Any] = []
        check = Authority.check

        def look(identity: Authority, connection: Any) -> None:
            seen.extend(connection.get_peer_cert_chain())
            check(identity, connection)

        self.patch(Authority, "check", look)
        client = self.client(
            "alice", tls=ClientTLS(Authority("kdc.example", self.ca_file(ca)), "kdc.example")
        )
        self.do(client.login())
        self.assertEqual(len(seen), 2)

    def test_not_tls(self) -> None:
        """What answers something else is told apart from a KDC."""
        recorder = Recorder()
        recorder.connectionMade = lambda: recorder.out.write(b"220 mail.example ESMTP\r\n")  # type: ignore[method-assign]
        self.network.listen(KDC_HOST, ELSEWHERE, factory_of(recorder))
        client = self.client("alice", port=ELSEWHERE)
        error = self.failure(KDCUnreachable, client.login())
        self.assertIn("does not speak this protocol", str(error))

    def test_a_pin_has_no_date(self) -> None:
        """A pinned key is good whatever the calendar says."""
        key, expired = make_certificate((KDC_HOST,), dt.datetime(1985, 1, 1, tzinfo=dt.UTC))
        self.kdc.tls.replace_by(ServerTLS(key, expired))
        self.assertTrue(self.login("alice").alive)


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


REFUSED_3 = bytes.fromhex("0005 018f 03 0000")


class IdentityTests(SynchronousTestCase):
    def test_fingerprints(self) -> None:
        """A fingerprint is read whatever the case of its digits; anything else is refused."""
        canonical = "sha256:" + "ab" * 32
        self.assertEqual(parse_fingerprint(f"  SHA256:{'AB' * 32} "), canonical)
        for typed in (
            "",
            "ab" * 32,
            "sha256:" + "ab" * 31,
            "sha256:" + "ag" * 32,
            "sha256:" + "ab" * 33,
            f"{canonical} {canonical}",
            "sha1:" + "ab" * 32,
        ):
            error = self.assertRaises(ConfigurationError, parse_fingerprint, typed)
            self.assertIn("sha256:", error.hint)

    def test_renewal_keeps_it(self) -> None:
        """A new certificate for the same key has the same fingerprint."""
        _, chain = certificate()
        first = x509.load_pem_x509_certificate(chain)
        key = _key(certificate()[0])
        renewed = (
            x509.CertificateBuilder()
            .subject_name(first.subject)
            .issuer_name(first.subject)
            .public_key(key.public_key())
            .serial_number(77)
            .not_valid_before(NOW)
            .not_valid_after(NOW + dt.timedelta(days=2))
            .sign(key, hashes.SHA256())
        )
        self.assertEqual(fingerprint_of(renewed), fingerprint_of(first))

    def test_not_a_pair(self) -> None:
        """Key and certificate that do not belong together are refused before anything starts."""
        key, chain = certificate()
        other, _ = certificate("somebody.else")
        strange = strange_certificate()
        for pair in (
            *((other, chain), (key, key), (chain, chain), (b"", chain), (key, b"garbage")),
            (key, strange),
        ):
            error = self.assertRaises(ConfigurationError, ServerTLS, *pair)
            self.assertNotIn("PRIVATE", str(error))

    def test_no_authority(self) -> None:
        """A CA file without certificates is refused by its name."""
        path = Path(self.mktemp())
        path.write_text("nothing")
        error = self.assertRaises(
            ConfigurationError, ClientTLS, Authority("kdc.example", str(path)), "kdc.example"
        )
        self.assertIn(str(path), str(error))
