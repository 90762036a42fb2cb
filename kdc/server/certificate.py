"""The KDC's TLS key and certificate on the disk: given to it, or made here.  Blocking."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
)
from zope.interface import implementer

from kdc.errors import ConfigurationError, local_error
from kdc.files.atomic import PartialFile
from kdc.files.private import read_private, read_small
from kdc.net.tls import ALPN, STRANGE, fingerprint_of, tls_context

__all__ = ["ServerTLS", "TLSFiles", "make_certificate"]

_MAX_BYTES = 1 << 20
_OWN_HOSTS = ("localhost", "127.0.0.1", "::1")


@attrs.frozen
class TLSFiles:
    """``key`` and ``certificate`` if they were given, otherwise ``own``, which holds both.

    One file, so that they cannot be torn apart.  ``hosts`` are the names that a
    certificate made here is for, besides this machine's own.  All methods raise
    `KDCError`.
    """

    own: Path
    key: Path | None = None
    certificate: Path | None = None
    hosts: tuple[str, ...] = ()

    @classmethod
    def beside(cls, store: Path) -> TLSFiles:
        return cls(store.with_name(f"{store.name}.tls"))

    def load(self) -> ServerTLS:
        """Read what is there; nothing is made."""
        if self.key is not None and self.certificate is not None:
            return ServerTLS(
                read_private(self.key, _MAX_BYTES), read_small(self.certificate, _MAX_BYTES)
            )
        if self.key is not None or self.certificate is not None:
            raise ConfigurationError("TLS key and certificate go together: give both or neither")
        both = read_private(self.own, _MAX_BYTES)
        return ServerTLS(both, both)

    def load_or_make(self) -> ServerTLS:
        """Read what is there, or what is made now."""
        if self.key is None and self.certificate is None and not os.path.lexists(self.own):
            self._make()
        return self.load()

    def renew(self) -> ServerTLS:
        """Put a new key and certificate in the place of those that were made here.

        The old file is kept beside it, under the ending ``.old``.  Whatever
        fails, there is one of the two under the name at all times.
        """
        if self.key is not None or not os.path.lexists(self.own):
            raise ConfigurationError(
                f"there is no {self.own}: the KDC was given its TLS key, it did not make it",
                hint="replace the two files that it was given, then send SIGHUP",
            )
        old = self.own.with_name(f"{self.own.name}.old")
        try:
            old.unlink(missing_ok=True)
            os.link(self.own, old, follow_symlinks=False)
        except OSError as error:
            raise local_error(old, error) from None
        self._make()
        return self.load()

    def _make(self) -> None:
        key, certificate = make_certificate((*self.hosts, *_OWN_HOSTS), dt.datetime.now(dt.UTC))
        file = PartialFile(self.own)
        try:
            file.write([key, certificate])
            file.finish()
            file.show()
        finally:
            file.discard()


# Pinned clients do not look at dates, so that wrong clocks do no harm; for the
# others an administrator brings a certificate of a CA.
_CERTIFICATE_YEARS = 30


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


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The KDC's side: its key, its certificate chain, TLS 1.3, ALPN or nothing."""

    def __init__(self, private_key: bytes, chain: bytes) -> None:
        """Both PEM.  Raises `ConfigurationError` if they are not a pair."""
        self._context = tls_context()
        fingerprint = _use(self._context, private_key, chain)
        if fingerprint is None:
            raise ConfigurationError(
                "the TLS key and certificate are not a usable pair in PEM",
                hint="give both, unencrypted",
            )
        self.fingerprint = fingerprint
        certificate, *_ = x509.load_pem_x509_certificates(chain)
        self.end_time = int(certificate.not_valid_after_utc.timestamp())
        self._context.set_alpn_select_callback(_select)

    def replace_by(self, other: ServerTLS) -> None:
        """Use another key and certificate for connections from now on."""
        self._context = other._context
        self.fingerprint = other.fingerprint
        self.end_time = other.end_time

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def _use(context: SSL.Context, private_key: bytes, chain: bytes) -> str | None:
    """Serve with this pair, and return its fingerprint; None if it is no pair.

    The errors go no further: one of `cryptography` quotes the whole file, key and all.
    """
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, private_key, b""))
        context.use_certificate(crypto.X509.from_cryptography(certificates[0]))
        for extra in certificates[1:]:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(extra))
        context.check_privatekey()
        return fingerprint_of(certificates[0])
    except (*STRANGE, SSL.Error, crypto.Error):
        return None


def _select(_: SSL.Connection, offered: list[bytes]) -> Any:
    # OpenSSL goes on without it; who serves then has to end the connection.
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
