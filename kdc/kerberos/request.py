"""A request as the exchanges see it, whether it came in FAST or in the open."""

from __future__ import annotations

import attrs

from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.messages import KDC_REQ_BODY, PVNO, KDCReq, KDCReqBody, PAData
from kdc.kerberos.profile import Key
from kdc.kerberos.realm import Realm

__all__ = ["Armour", "Request", "read_body"]


@attrs.frozen
class Armour:
    """What FAST is under: its key, and the nonce that the answer has to bring back."""

    key: Key
    nonce: int = 0


@attrs.frozen
class Request:
    """``body`` and ``padata`` are the inner ones where there is armour.

    ``whole`` is the message as it came, ``outer_body`` the body in it: checksums are over them.
    """

    body: KDCReqBody
    padata: tuple[PAData, ...]
    now: float
    whole: bytes = attrs.field(repr=False)
    outer_body: bytes = attrs.field(repr=False)
    armour: Armour | None = None
    # What a client shall bring back with its next request, to show that it has got our answer.
    cookie: bytes = attrs.field(default=b"", repr=False)

    def padata_of(self, kind: int) -> bytes | None:
        """The first padata of that type."""
        for each in self.padata:
            if each.kind == kind:
                return each.content
        return None


def read_body(realm: Realm, message: KDCReq, message_type: int) -> KDCReqBody:
    """Return the body of a request for this realm; raises `KerberosError`."""
    if message.version != PVNO:
        raise KerberosError(Code.BAD_VERSION, f"this is version {message.version} of the protocol")
    if message.message_type != message_type:
        raise KerberosError(Code.GENERIC, "the message is not of the type that its tag says")
    try:
        body = KDC_REQ_BODY.decode(message.body)
    except DERError as error:
        raise KerberosError(Code.GENERIC, f"malformed request: {error}") from None
    if body.realm != realm.name:
        text = f"this is the KDC of {realm.name} only"
        raise KerberosError(Code.WRONG_REALM, text)
    return body
