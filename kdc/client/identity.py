"""How a client knows its KDC: a pinned key, or a CA and a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs
import service_identity
import service_identity.pyopenssl
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
)
from zope.interface import implementer

from kdc.errors import ConfigurationError, WrongIdentity
from kdc.files.private import read_small
from kdc.net.tls import ALPN, STRANGE, accept_any, is_address, peer_fingerprint, tls_context
from kdc.protocol.crypto import same

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Authority", "ClientTLS", "Identity", "Pin"]

_MAX_CA_BYTES = 1 << 20


class Identity(Protocol):
    """How the client knows that it talks to its own KDC."""

    def prepare(self, context: SSL.Context) -> None:
        """Set what OpenSSL itself checks in the handshake."""

    def check(self, connection: SSL.Connection) -> None:
        """Raises `WrongIdentity` or `UnknownIdentity`; called before anything is sent."""


@attrs.frozen
class Pin:
    """The SHA-256 of the KDC's public key, learnt beforehand; dates do not matter.

    ``fingerprint`` may be several, with commas between, while the key is being changed: any
    of them will do.  ``source`` says who vouched for it: an option, or a file and line.
    """

    fingerprint: str
    source: str = "the fingerprint that was given"

    def prepare(self, context: SSL.Context) -> None:
        # The handshake proves possession of the key; which key, `check` decides.
        context.set_verify(SSL.VERIFY_PEER, accept_any)

    def check(self, connection: SSL.Connection) -> None:
        shown = peer_fingerprint(connection)
        known = self.fingerprint.split(",")
        if not any(same(shown.encode(), each.encode()) for each in known):
            raise WrongIdentity(
                f"the KDC is not the one pinned by {self.source}:"
                f" it shows {shown}, expected {self.fingerprint}",
                hint="somebody may be in between; ask the operator before you change the pin",
            )


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
        from OpenSSL.crypto import X509, X509Store  # which a pin does not need

        authorities = _certificates_in(Path(self.ca_file))
        if authorities is None:
            raise ConfigurationError(
                f"no CA certificates in {self.ca_file}", hint="it must be a PEM file"
            )
        store = cast(X509Store, context.get_cert_store())
        for authority in authorities:
            store.add_cert(X509.from_cryptography(authority))

    def check(self, connection: SSL.Connection) -> None:
        try:
            if is_address(self.host):
                service_identity.pyopenssl.verify_ip_address(connection, self.host)
            else:
                service_identity.pyopenssl.verify_hostname(connection, self.host)
        except (service_identity.VerificationError, service_identity.CertificateError, *STRANGE):
            raise WrongIdentity(
                f"the KDC's certificate is not for {self.host}",
                hint="use the name that is in the certificate, or pin the KDC's fingerprint",
            ) from None


def _certificates_in(path: Path) -> list[Certificate] | None:
    """None if there are none; the error goes no further: it quotes the file, which may be a key."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(read_small(path, _MAX_CA_BYTES))
    except ValueError:
        return None


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """The client's side, for one KDC."""

    def __init__(self, identity: Identity, host: str) -> None:
        self.identity = identity
        self._host = host
        self._context = tls_context()
        self._context.set_alpn_protos([ALPN])
        identity.prepare(self._context)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection
