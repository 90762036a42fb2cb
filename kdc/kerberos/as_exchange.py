"""The authentication service exchange, RFC 4120 section 3.1."""

from __future__ import annotations

from kdc.kerberos.authdata import with_indicators
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.keys import Entry
from kdc.kerberos.messages import (
    ETYPE_INFO2,
    EncryptionKey,
    EncTicketPart,
    PAData,
    PrincipalName,
    Ticket,
    TransitedEncoding,
)
from kdc.kerberos.names import NameType
from kdc.kerberos.padata import PadataType
from kdc.kerberos.preauth import challenge_answer, etype_info, proven_key, reply_key, required
from kdc.kerberos.profile import Key, random_key
from kdc.kerberos.realm import Realm
from kdc.kerberos.replies import Outcome, part_of
from kdc.kerberos.request import Request
from kdc.kerberos.tickets import Flag, Life, granted_life, sealed

__all__ = ["AS_REP_TYPE", "CHANGE_SERVICE", "authenticate"]

AS_REP_TYPE = 11
USAGE_AS_REPLY = 3
# Whose password has expired may still get a ticket to change it.
CHANGE_SERVICE = ("kadmin", "changepw")
# What is done with a ticket that there is already cannot be asked for here.
_NEEDS_TICKET = Flag.FORWARDED | Flag.PROXY | Flag.USER_TO_USER | Flag.RENEW | Flag.VALIDATE


def authenticate(realm: Realm, request: Request) -> Outcome:
    """Return a ticket for who is known and has shown its key; raises `KerberosError`."""
    body, now = request.body, int(request.now)
    # 3.1.3: the client and the service are known, and in good standing.
    client = realm.client(body.client, now)
    server = realm.server(body.server, now)
    if not server.is_service:
        text = f"{server.principal} takes tickets user to user only"
        raise KerberosError(Code.MUST_USE_USER_TO_USER, text)
    # 3.1.3: options that need a ticket are refused.
    if body.options & _NEEDS_TICKET:
        raise KerberosError(Code.BAD_OPTION, "an option that only goes with a ticket")
    realm.check_permitted(client, server)
    etype = realm.session_etype(body.etypes, server)
    life = granted_life(realm, body, now, (client, server))
    # 3.1.2, 5.2.7: who must preauthenticate has done so, before anything is sealed.
    proven = proven_key(realm, request, client)
    if client.needs_preauth and proven is None:
        reply_key(realm, client, body.etypes)  # says so if there is no type in common
        raise required(realm, request, client)
    key = proven or reply_key(realm, client, body.etypes)
    # 3.1.3: an old password gets a ticket to change it, and no other.
    _check_password_age(client, server, now)
    ticket = _ticket(realm, request, client, life, random_key(etype, realm.random), proven)
    service = server.principal.name(body.server.name_type if body.server else 0)
    return Outcome(
        AS_REP_TYPE,
        realm.name,
        _name(request, client),
        _sealed(realm, request, ticket, server, proven),
        part_of(
            request,
            ticket,
            realm,
            service,
            client.password_expiration,
        ),
        key,
        USAGE_AS_REPLY,
        client.kvno,
        _padata(realm, request, client, key),
    )


def _check_password_age(client: Entry, server: Entry, now: int) -> None:
    if server.principal.components == CHANGE_SERVICE:
        return
    old = client.password_expiration is not None and client.password_expiration <= now
    if old or client.needs_change:
        why = "has expired" if old else "has to be changed"
        raise KerberosError(Code.KEY_EXPIRED, f"the password of {client.principal} {why}")


def _ticket(
    realm: Realm, request: Request, client: Entry, life: Life, session: Key, proven: Key | None
) -> EncTicketPart:
    """5.3: what the ticket says; the client's own flags are those it asked for and may have."""
    flags = Flag.INITIAL | life.flags
    asked = request.body.options
    for flag, allowed in (
        (Flag.FORWARDABLE, client.forwardable),
        (Flag.PROXIABLE, client.proxiable),
        (Flag.MAY_POSTDATE, client.postdatable),
    ):
        if asked & flag and allowed:
            flags |= flag
    if proven is not None:
        flags |= Flag.PRE_AUTHENTICATED
    if request.padata_of(PadataType.REQ_ENC_PA_REP) is not None:
        flags |= Flag.ENCRYPTED_PADATA
    return EncTicketPart(
        flags=int(flags),
        key=EncryptionKey(session.etype, session.content),
        realm=realm.name,
        client=_name(request, client),
        transited=TransitedEncoding(1, b""),
        auth_time=int(request.now),
        start_time=life.start,
        end_time=life.end,
        renew_till=life.renew_till,
        addresses=request.body.addresses,
        authorization=None,
    )


def _name(request: Request, client: Entry) -> PrincipalName:
    """The client as the KDC calls it, of the type that it said."""
    kind = request.body.client.name_type if request.body.client else 0
    return client.principal.name(NameType.PRINCIPAL if kind == NameType.ENTERPRISE else kind)


def _sealed(
    realm: Realm, request: Request, ticket: EncTicketPart, server: Entry, proven: Key | None
) -> Ticket:
    """5.3: under the best key of the service, with how the client preauthenticated."""
    how = ("challenge" if request.armour else "timestamp",) if proven else ("unproven",)
    key = server.best_key
    tgs = realm.entry(realm.tgs.components)
    encoded = with_indicators(ticket, how, key, tgs)
    name = server.principal.name(request.body.server.name_type if request.body.server else 0)
    return sealed(realm, encoded, name, key, server.kvno)


def _padata(realm: Realm, request: Request, client: Entry, key: Key) -> tuple[PAData, ...]:
    """5.2.7.5: what the reply's key is made of; in FAST, proof that the KDC has it too."""
    info = (etype_info(client, key.etype),)
    found = (PAData(PadataType.ETYPE_INFO2, ETYPE_INFO2.encode(info)),)
    if request.armour and request.padata_of(PadataType.ENCRYPTED_CHALLENGE) is not None:
        return (*found, challenge_answer(realm, request.armour.key, key, request.now))
    return found
