"""Keys for an application's own use, in the place of a channel (docs/protocol.md section 5.1).

A grant is for one channel or for one application, never both.  Both ends derive
the same keys from the session key and from X25519 of the sender's ephemeral key
and the receiver's epoch key, so that whoever learns the session key alone, or
reads the KDC, has none of them.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from kdc.errors import malformed
from kdc.protocol.codec import enc
from kdc.protocol.crypto import SessionKey, hkdf

__all__ = ["PROOF_BYTES", "ApplicationKeys", "application_keys"]

PROOF_BYTES = 32


class ApplicationKeys:
    """What both ends of one application key have in common; its repr shows nothing of it."""

    def __init__(self, root: bytes) -> None:
        self._root = root

    @property
    def proof(self) -> bytes:
        """What the sender sends with the ticket: that it made these keys for this receiver."""
        return hkdf(b"", self._root, enc(b"kdp/1 application proof"))

    def derive(self, label: str) -> bytes:
        """Return 32 bytes; different labels give independent keys."""
        return hkdf(b"", self._root, enc(b"kdp/1 application", label.encode()))


def application_keys(
    private: X25519PrivateKey,
    public: bytes,
    session_key: SessionKey,
    *,
    realm: str,
    sender: str,
    receiver: str,
    epoch_id: bytes,
    ticket: bytes,
) -> ApplicationKeys:
    """Derive AS.  ``private`` is our half, e_A or that of G_B, ``public`` the other's.

    Raises `RemoteProtocolError` for a public key of low order, with which the
    result would be known to everybody (RFC 7748, section 6.1).
    """
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise malformed("a public key of low order") from None
    purpose = enc(
        b"kdp/1 application root",
        realm.encode(),
        sender.encode(),
        receiver.encode(),
        epoch_id,
        ticket,
    )
    return ApplicationKeys(hkdf(shared, session_key, purpose))
