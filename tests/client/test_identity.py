"""Who the KDC is: whom a client believes, and that it says nothing before it knows."""

from __future__ import annotations

import datetime as dt
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

from kdc.client.identity import Authority, ClientTLS, Pin
from kdc.errors import (
    ConfigurationError,
    KDCError,
    KDCUnreachable,
    WrongIdentity,
)
from kdc.net.tls import ALPN
from kdc.server.certificate import ServerTLS, make_certificate
from tests.support.edge import (
    KDC_HOST,
    EdgeTestCase,
    Recorder,
    certificate,
    factory_of,
    strange_certificate,
)

ELSEWHERE = 89


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

    def test_unreadable_certificate(self) -> None:
        """A certificate that cannot be read is a wrong one, at once and without a traceback."""
        self.impostor(_Strange())
        self.assert_nothing_sent(WrongIdentity, self.kdc.identity, why="cannot be read")

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


class AuthorityTests(SynchronousTestCase):
    def test_no_authority(self) -> None:
        """A CA file without certificates is refused by its name."""
        path = Path(self.mktemp())
        path.write_text("nothing")
        error = self.assertRaises(
            ConfigurationError, ClientTLS, Authority("kdc.example", str(path)), "kdc.example"
        )
        self.assertIn(str(path), str(error))
