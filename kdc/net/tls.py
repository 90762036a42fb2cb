"""TLS 1.3 between client and KDC, as both sides need it: fingerprints and the channel binding.

No resumption and no early data: every connection has its own exporter value,
and nothing is sent before the KDC's identity has been checked.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from kdc.errors import ConfigurationError, WrongIdentity
from kdc.hostile_text import shown
from kdc.protocol.crypto import ChannelBinding

__all__ = [
    "ALPN",
    "STRANGE",
    "accept_any",
    "channel_binding",
    "fingerprint_lines",
    "fingerprint_of",
    "fingerprint_shown",
    "is_address",
    "parse_fingerprint",
    "parse_fingerprints",
    "peer_fingerprint",
    "tls_context",
]

ALPN = b"kdp/1"
_FINGERPRINT = re.compile(r"sha256:([0-9a-f]{64})")

# OpenSSL is content with certificates that `cryptography` is not: it raises these then.
STRANGE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def parse_fingerprint(typed: str) -> str:
    """Return the canonical ``sha256:`` and 64 hex digits; raises `ConfigurationError`.

    Blanks and line breaks are where somebody has read or pasted it in pieces.
    """
    text = "".join(typed.split()).lower()
    if _FINGERPRINT.fullmatch(text) is None:
        raise ConfigurationError(
            f"not a fingerprint: {shown(typed)}",
            hint="it is 'sha256:' and 64 hex digits, as the KDC prints it when it starts",
        )
    return text


def parse_fingerprints(typed: str) -> str:
    """The same for one or several with commas between: any of them is the right one."""
    return ",".join(dict.fromkeys(parse_fingerprint(each.strip()) for each in typed.split(",")))


def fingerprint_lines(fingerprint: str) -> str:
    """The same in groups that eyes can compare, on lines that the narrowest terminal has."""
    kind, _, digits = fingerprint.partition(":")
    groups = [digits[at : at + 8] for at in range(0, len(digits), 8)]
    return f"{kind}: {' '.join(groups[:4])}\n{' ' * len(kind)}  {' '.join(groups[4:])}"


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), so that renewal keeps it."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tls_context() -> SSL.Context:
    """TLS 1.3 only, and every connection on its own."""
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_min_proto_version(SSL.TLS1_3_VERSION)
    made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    made.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    made.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 10,000 idle receivers: 30 KiB less for each
    return made


def channel_binding(connection: SSL.Connection) -> ChannelBinding:
    """cb: the exporter value of a finished handshake (RFC 9266)."""
    return ChannelBinding(connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""))


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
    except STRANGE:
        raise WrongIdentity("the KDC shows a certificate that cannot be read") from None


def accept_any(*_: object) -> bool:
    """Verify nothing in the handshake: which key is the right one is checked after it."""
    return True
