"""TLS 1.3 to the KDC: its certificate, how a client knows it, the channel binding.

No resumption and no early data: every connection has its own exporter value,
and nothing is sent before the KDC's identity has been checked.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import service_identity
import service_identity.pyopenssl
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from zope.interface import implementer

from kdc.errors import ConfigurationError, UnknownIdentity, WrongIdentity
from kdc.protocol.crypto import ChannelBinding, same

__all__ = [
    "ALPN",
    "Authority",
    "ClientTLS",
    "Identity",
    "Pin",
    "ServerTLS",
    "channel_binding",
    "fingerprint_of",
    "fingerprint_shown",
    "make_certificate",
    "parse_fingerprint",
    "peer_fingerprint",
]

ALPN = b"kdp/1"
_FINGERPRINT = re.compile(r"sha256:([0-9a-f]{64})")
# OpenSSL is content with certificates that `cryptography` is not: it raises these then.
_STRANGE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
# Pinned clients do not look at dates, so that wrong clocks do no harm; for the
# others an administrator brings a certificate of a CA.
_CERTIFICATE_YEARS = 30


def parse_fingerprint(typed: str) -> str:
    """Return the canonical ``sha256:`` and 64 hex digits; raises `ConfigurationError`."""
    text = typed.strip().lower()
    if _FINGERPRINT.fullmatch(text) is None:
        raise ConfigurationError(
            f"not a fingerprint: {typed[:80]!r}",
            hint="it is 'sha256:' and 64 hex digits, as the KDC prints it when it starts",
        )
    return text


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), so that renewal keeps it."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def make_certificate(names: Sequence[str], now: dt.datetime) -> tuple[bytes, bytes]:
    """Return (private key, self-signed certificate), both PEM, for these hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "key distribution centre")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365 * _CERTIFICATE_YEARS))
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode())


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 10,000 idle receivers: 30 KiB less for each
    return context


def channel_binding(connection: SSL.Connection) -> ChannelBinding:
    """cb: the exporter value of a finished handshake (RFC 9266)."""
    return ChannelBinding(connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""))


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The KDC's side: its key, its certificate chain, TLS 1.3, ALPN or nothing."""

    def __init__(self, private_key: bytes, chain: bytes) -> None:
        """Both PEM.  Raises `ConfigurationError` if they are not a pair."""
        context = _context()
        try:
            certificates = x509.load_pem_x509_certificates(chain)
            context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, private_key, b""))
            context.use_certificate(crypto.X509.from_cryptography(certificates[0]))
            for extra in certificates[1:]:
                context.add_extra_chain_cert(crypto.X509.from_cryptography(extra))
            context.check_privatekey()
            self.fingerprint = fingerprint_of(certificates[0])
        except (*_STRANGE, SSL.Error, crypto.Error):
            raise ConfigurationError(
                "the TLS key and certificate are not a usable pair in PEM",
                hint="give both, unencrypted: --tls-key and --tls-certificate",
            ) from None
        context.set_alpn_select_callback(_select)
        self._context = context

    def replace_by(self, other: ServerTLS) -> None:
        """Use another key and certificate for connections from now on."""
        self._context = other._context
        self.fingerprint = other.fingerprint

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def _select(_: SSL.Connection, offered: list[bytes]) -> Any:
    # OpenSSL goes on without it; who serves then has to end the connection.
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


class Identity(Protocol):
    """How the client knows that it talks to its own KDC."""

    def prepare(self, context: SSL.Context) -> None:
        """Set what OpenSSL itself checks in the handshake."""

    def check(self, connection: SSL.Connection) -> None:
        """Raises `WrongIdentity` or `UnknownIdentity`; called before anything is sent."""


def peer_fingerprint(connection: SSL.Connection) -> str:
    """What the other end has shown; raises `WrongIdentity`."""
    certificate = connection.get_peer_certificate()
    if certificate is None:
        raise WrongIdentity("the KDC showed no certificate")
    return fingerprint_shown(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))


def fingerprint_shown(certificate: bytes) -> str:
    """The fingerprint of a certificate that somebody has shown (DER); raises `WrongIdentity`."""
    try:
        return fingerprint_of(x509.load_der_x509_certificate(certificate))
    except _STRANGE:
        raise WrongIdentity("the KDC shows a certificate that cannot be read") from None


def _accept_any(*_: object) -> bool:
    return True


@attrs.frozen
class Pin:
    """The SHA-256 of the KDC's public key, learnt beforehand; dates do not matter.

    ``source`` says who vouched for it: an option, or a file and line.
    """

    fingerprint: str
    source: str = "--kdc-fingerprint"

    def prepare(self, context: SSL.Context) -> None:
        # The handshake proves possession of the key; which key, `check` decides.
        context.set_verify(SSL.VERIFY_PEER, _accept_any)

    def check(self, connection: SSL.Connection) -> None:
        shown = peer_fingerprint(connection)
        if not same(shown.encode(), self.fingerprint.encode()):
            raise WrongIdentity(
                f"the KDC is not the one pinned by {self.source}:"
                f" it shows {shown}, expected {self.fingerprint}",
                hint="somebody may be in between; ask the operator before you change the pin",
            )


@attrs.frozen
class Unvouched:
    """No pin, no CA: look who is there, send nothing, and say so."""

    def prepare(self, context: SSL.Context) -> None:
        context.set_verify(SSL.VERIFY_PEER, _accept_any)

    def check(self, connection: SSL.Connection) -> None:
        shown = peer_fingerprint(connection)
        raise UnknownIdentity(f"nobody has vouched for this KDC yet: {shown}", fingerprint=shown)


@attrs.frozen
class Authority:
    """A certificate for ``host`` by a CA: of ``ca_file``, or the system's."""

    host: str
    ca_file: str | None = None

    def prepare(self, context: SSL.Context) -> None:
        context.set_verify(SSL.VERIFY_PEER)
        if self.ca_file is None:
            context.set_default_verify_paths()
            return
        try:
            context.load_verify_locations(self.ca_file)
        except SSL.Error:
            raise ConfigurationError(
                f"no CA certificates in {self.ca_file}", hint="it must be a PEM file"
            ) from None

    def check(self, connection: SSL.Connection) -> None:
        try:
            if _is_address(self.host):
                service_identity.pyopenssl.verify_ip_address(connection, self.host)
            else:
                service_identity.pyopenssl.verify_hostname(connection, self.host)
        except (service_identity.VerificationError, service_identity.CertificateError, *_STRANGE):
            raise WrongIdentity(
                f"the KDC's certificate is not for {self.host}",
                hint="use the name that is in the certificate, or pin the KDC's fingerprint",
            ) from None


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """The client's side, for one KDC."""

    def __init__(self, identity: Identity, host: str) -> None:
        self.identity = identity
        self._host = host
        self._context = _context()
        self._context.set_alpn_protos([ALPN])
        identity.prepare(self._context)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not _is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection
