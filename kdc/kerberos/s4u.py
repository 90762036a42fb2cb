"""S4U2Self (MS-SFU 3.2.5.1): a service gets a ticket to itself in the name of a user.

Never forwardable, so that it is good for nothing but to see what the user may do there.
"""

from __future__ import annotations

import attrs

from kdc.constant_time import same
from kdc.kerberos.ap_request import Presented
from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.hmac_md5 import hmac_md5_checksum
from kdc.kerberos.messages import (
    PA_FOR_USER,
    PA_S4U_X509_USER,
    S4U_USER_ID,
    Checksum,
    EncTicketPart,
    PAData,
    PAForUser,
    PAS4UX509User,
    PrincipalName,
)
from kdc.kerberos.names import NameType
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import BY_CHECKSUM, Key
from kdc.kerberos.realm import Realm
from kdc.kerberos.request import Request
from kdc.kerberos.tickets import Flag

__all__ = ["User", "answer", "impersonated", "user_of"]

_KEYED_MD5 = -138
_USAGE_FOR_USER = 17
_USAGE_X509_REQUEST = 26
_USAGE_X509_REPLY = 27
# The option that says that the reply is checked with the usage for replies.
_USE_REPLY_USAGE = 1 << 29


@attrs.frozen
class User:
    """In whose name a ticket is; ``user_id`` is set where the reply has to repeat it."""

    name: PrincipalName
    realm: str
    user_id: bytes = attrs.field(default=b"", repr=False)


def user_of(realm: Realm, request: Request, header: Presented) -> User | None:
    """Return whom the request is in the name of; None if it is an ordinary one."""
    newer = request.padata_of(PadataType.S4U_X509_USER)
    older = request.padata_of(PadataType.FOR_USER)
    try:
        if newer is not None:
            user = _by_user_id(PA_S4U_X509_USER.decode(newer), request, header)
        elif older is not None:
            user = _for_user(PA_FOR_USER.decode(older), header)
        else:
            return None
    except DERError as error:
        raise KerberosError(Code.GENERIC, f"malformed S4U padata: {error}") from None
    if user.realm != realm.name:
        raise KerberosError(Code.WRONG_REALM, "the user is of another realm")
    # 3.2.5.1.1: the service asks for itself, and the user is in good standing.
    asked = request.body.server.components if request.body.server else ()
    if asked != header.part.client.components:
        text = "a service gets tickets in a user's name to itself only"
        raise KerberosError(Code.BAD_OPTION, text)
    entry = realm.client(user.name, int(request.now))
    return attrs.evolve(user, name=entry.principal.name(NameType.PRINCIPAL))


def _for_user(padata: PAForUser, header: Presented) -> User:
    """2.2.1: HMAC-MD5 under the session key, whatever that is of; from Heimdal the key's own."""
    key, kind = header.session, padata.checksum.kind
    covered = (padata.user.name_type & 0xFFFFFFFF).to_bytes(4, "little")
    covered += "".join((*padata.user.components, padata.realm, padata.package)).encode()
    if kind == _KEYED_MD5:
        expected = hmac_md5_checksum(key.content, _USAGE_FOR_USER, covered)
    elif BY_CHECKSUM.get(kind) is key.profile:
        expected = key.checksum(_USAGE_FOR_USER, covered)
    else:
        text = f"PA-FOR-USER with a checksum of type {kind}"
        raise KerberosError(Code.INAPPROPRIATE_CHECKSUM, text)
    if not same(expected, padata.checksum.content):
        raise KerberosError(Code.MODIFIED, "PA-FOR-USER is not what its checksum was made over")
    return User(padata.user, padata.realm)


def _by_user_id(padata: PAS4UX509User, request: Request, header: Presented) -> User:
    """2.2.2: a checksum under the key of the reply; the nonce ties it to this request."""
    user_id = S4U_USER_ID.decode(padata.user)
    if user_id.nonce != request.body.nonce:
        raise KerberosError(Code.MODIFIED, "the S4U padata is of another request")
    if user_id.user is None or not user_id.user.components:
        raise KerberosError(Code.CLIENT_UNKNOWN, "users are not known here by certificates")
    key = header.reply_key
    if BY_CHECKSUM.get(padata.checksum.kind) is not key.profile:
        text = f"S4U padata with a checksum of type {padata.checksum.kind}"
        raise KerberosError(Code.INAPPROPRIATE_CHECKSUM, text)
    expected = key.checksum(_USAGE_X509_REQUEST, padata.user)
    if not same(expected, padata.checksum.content):
        raise KerberosError(Code.MODIFIED, "the S4U padata is not what its checksum was made over")
    return User(user_id.user, user_id.realm, padata.user)


def impersonated(part: EncTicketPart, user: User) -> EncTicketPart:
    """The ticket in the user's name: without what it could be carried on with."""
    flags = part.flags & ~(Flag.FORWARDABLE | Flag.PROXIABLE | Flag.FORWARDED | Flag.PROXY)
    return attrs.evolve(part, client=user.name, realm=user.realm, flags=int(flags))


def answer(user: User, key: Key) -> tuple[PAData, ...]:
    """3.2.5.1.2: the user's name again, with a checksum, if that is how it was asked for."""
    if not user.user_id:
        return ()
    user_id = S4U_USER_ID.decode(user.user_id)
    replied = attrs.evolve(user_id, user=user.name, realm=user.realm, certificate=None)
    body = S4U_USER_ID.encode(replied)
    uses_reply_usage = bool((user_id.options or 0) & _USE_REPLY_USAGE)
    usage = _USAGE_X509_REPLY if uses_reply_usage else _USAGE_X509_REQUEST
    checksum = Checksum(key.profile.checksum_type, key.checksum(usage, body))
    content = PA_S4U_X509_USER.encode(PAS4UX509User(body, checksum))
    return (PAData(PadataType.S4U_X509_USER, content),)
