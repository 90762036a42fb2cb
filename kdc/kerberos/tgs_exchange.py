"""The ticket-granting service exchange, RFC 4120 section 3.3."""

from __future__ import annotations

import attrs

from kdc.constant_time import same
from kdc.kerberos import s4u
from kdc.kerberos.ap_request import Presented, check_times, key_of, presented
from kdc.kerberos.authdata import indicators_in, unclaimed, with_indicators
from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.keys import Entry
from kdc.kerberos.messages import (
    AUTHORIZATION_DATA,
    AuthorizationDatum,
    EncryptionKey,
    EncTicketPart,
)
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import BY_CHECKSUM, IntegrityFailure, Key, random_key
from kdc.kerberos.realm import TGS, Realm
from kdc.kerberos.replay import Authenticators
from kdc.kerberos.replies import Outcome, part_of
from kdc.kerberos.request import Request
from kdc.kerberos.tickets import Flag, Life, granted_life, opened, sealed

__all__ = ["TGS_REP_TYPE", "grant", "header_of"]

TGS_REP_TYPE = 13
USAGE_AUTHORIZATION_SESSION = 4
USAGE_AUTHORIZATION_SUBKEY = 5
USAGE_CHECKSUM = 6
USAGE_AUTHENTICATOR = 7
USAGE_REPLY_SESSION = 8
USAGE_REPLY_SUBKEY = 9
# Of a ticket, what the next one has as well (2.1, 2.5 to 2.7).
_INHERITED = Flag.PRE_AUTHENTICATED | Flag.HARDWARE_AUTHENTICATED | Flag.FORWARDED | Flag.PROXY
# (the option, the flag that the ticket must have for it)
_ALLOWED_BY = (
    (Flag.FORWARDABLE, Flag.FORWARDABLE),
    (Flag.FORWARDED, Flag.FORWARDABLE),
    (Flag.PROXIABLE, Flag.PROXIABLE),
    (Flag.PROXY, Flag.PROXIABLE),
    (Flag.MAY_POSTDATE, Flag.MAY_POSTDATE),
    (Flag.POSTDATED, Flag.MAY_POSTDATE),
    (Flag.RENEWABLE, Flag.RENEWABLE),
    (Flag.RENEW, Flag.RENEWABLE),
    (Flag.VALIDATE, Flag.INVALID),
)
# These make a ticket of a ticket, for the same service.
_AGAIN = Flag.RENEW | Flag.VALIDATE


def header_of(realm: Realm, request: Request, used: Authenticators) -> Presented:
    """Return the ticket that comes with a request; raises `KerberosError`."""
    # 3.3.2: there is one, in padata of type 1.
    content = request.padata_of(PadataType.TGS_REQ)
    if content is None:
        raise KerberosError(Code.PADATA_TYPE, "a request for a ticket without a ticket")
    now = request.now
    # What it is good for is looked at in `grant`, where the options inside of FAST are known.
    header = presented(realm, content, USAGE_AUTHENTICATOR, now, may_be_invalid=True)
    _check_sum(request.outer_body, header)
    # 3.2.3: no authenticator is good for two requests.
    keep_seconds = 2 * realm.policy.skew_seconds
    if not used.is_new(header.sealed_authenticator, now, keep_seconds):
        raise KerberosError(Code.REPEATED, "this authenticator has been used for another request")
    return header


def _check_sum(body: bytes, header: Presented) -> None:
    """3.3.3: the request is the one that the authenticator was made for."""
    checksum = header.authenticator.checksum
    if checksum is None:
        raise KerberosError(Code.INAPPROPRIATE_CHECKSUM, "the authenticator has no checksum")
    profile = BY_CHECKSUM.get(checksum.kind)
    if profile is None or profile is not header.session.profile:
        text = f"the checksum is of type {checksum.kind}, which the key is not for"
        raise KerberosError(Code.INAPPROPRIATE_CHECKSUM, text)
    if not same(header.session.checksum(USAGE_CHECKSUM, body), checksum.content):
        raise KerberosError(Code.MODIFIED, "the request is not what its checksum was made over")


def grant(realm: Realm, request: Request, header: Presented) -> Outcome:
    """Return a ticket for who has shown another; raises `KerberosError`."""
    body, now = request.body, int(request.now)
    _check_header(realm, request, header)
    server = realm.server(body.server, now)
    # 3.3.3: who has been disabled or deleted since gets nothing more.
    client = realm.client(header.part.client, now)
    realm.check_since(client, header.part.auth_time)
    realm.check_permitted(client, server)
    # 3.3.3: every option is one that the ticket allows.
    _check_options(body.options, header, server)
    etype = realm.session_etype(body.etypes, server)
    key, kvno = _sealing_key(realm, request, server)
    user = s4u.user_of(realm, request, header)
    if user is not None:
        realm.check_permitted(realm.client(user.name, now), server)
    life = _life(realm, request, header, (client, server))
    part = _ticket(request, header, life, random_key(etype, realm.random), server)
    indicators: tuple[str, ...] = ()
    tgs = realm.entry(realm.tgs.components)
    if user is not None:
        part = s4u.impersonated(part, user)
    else:
        indicators = indicators_in(header.part, tgs)
    name = server.principal.name(body.server.name_type if body.server else 0)
    reply_key = header.reply_key
    return Outcome(
        TGS_REP_TYPE,
        part.realm,
        part.client,
        sealed(realm, with_indicators(part, indicators, key, tgs), name, key, kvno),
        part_of(request, part, realm, name),
        reply_key,
        USAGE_REPLY_SESSION if header.subkey is None else USAGE_REPLY_SUBKEY,
        None,
        () if user is None else s4u.answer(user, reply_key),
    )


def _check_header(realm: Realm, request: Request, header: Presented) -> None:
    """3.3.3: the ticket is for us and valid, unless it is itself to be renewed or validated."""
    options = request.body.options
    if header.entry.principal != realm.tgs and not options & _AGAIN:
        raise KerberosError(Code.NOT_US, "the ticket is not for the ticket-granting service")
    validates = bool(options & Flag.VALIDATE)
    check_times(realm, header.part, request.now, may_be_invalid=validates)


def _check_options(options: int, header: Presented, server: Entry) -> None:
    flags = header.part.flags
    for option, flag in _ALLOWED_BY:
        if options & option and not flags & flag:
            text = f"{option.name} asked for by a ticket that is not {flag.name}"
            raise KerberosError(Code.BAD_OPTION, text.lower().replace("_", " "))
    if options & Flag.CONSTRAINED_DELEGATION:
        raise KerberosError(Code.BAD_OPTION, "this KDC has no constrained delegation")
    if options & _AGAIN and server.principal != header.entry.principal:
        raise KerberosError(Code.BAD_OPTION, "only the ticket itself is renewed or validated")
    if options & Flag.PROXY and server.principal.components[0] == TGS:
        raise KerberosError(Code.BAD_OPTION, "a proxy ticket is for no ticket-granting service")


def _sealing_key(realm: Realm, request: Request, server: Entry) -> tuple[Key, int | None]:
    """3.3.3: the key of the service, or with enc-tkt-in-skey that of the ticket it sent."""
    if not request.body.options & Flag.USER_TO_USER:
        if not server.is_service:
            text = f"{server.principal} takes tickets user to user only"
            raise KerberosError(Code.MUST_USE_USER_TO_USER, text)
        return server.best_key, server.kvno
    if not request.body.tickets:
        raise KerberosError(Code.BAD_OPTION, "user to user, without a ticket of the other side")
    part, entry, _ = opened(realm, request.body.tickets[0])
    if entry.principal != realm.tgs:
        text = "the additional ticket is not for the ticket-granting service"
        raise KerberosError(Code.POLICY, text)
    check_times(realm, part, request.now, may_be_invalid=False)
    if part.client.components != server.principal.components:
        text = f"the additional ticket is not of {server.principal}"
        raise KerberosError(Code.SERVER_NOMATCH, text)
    realm.check_since(server, part.auth_time)
    return key_of(part.key), None


def _life(realm: Realm, request: Request, header: Presented, parties: tuple[Entry, ...]) -> Life:
    part, now = header.part, int(request.now)
    start = part.auth_time if part.start_time is None else part.start_time
    kept = Flag.RENEWABLE & part.flags
    if request.body.options & Flag.VALIDATE:
        # 3.3.3: it has begun, and becomes valid as it is.
        if start > now:
            text = f"the ticket begins {start - now} s from now"
            raise KerberosError(Code.TICKET_NOT_YET_VALID, text)
        return Life(start, part.end_time, part.renew_till, kept | (Flag.POSTDATED & part.flags))
    if request.body.options & Flag.RENEW:
        # 3.3.3: as long as it was, and not beyond what it was renewable for.
        if part.renew_till is None or part.renew_till <= now:
            raise KerberosError(Code.TICKET_EXPIRED, "the ticket can no longer be renewed")
        end = min(part.renew_till, now + part.end_time - start)
        return Life(now, end, part.renew_till, kept)
    life = granted_life(realm, request.body, now, parties, part.end_time)
    if life.renew_till is None or part.renew_till is None:
        return attrs.evolve(life, renew_till=None, flags=life.flags & ~Flag.RENEWABLE)
    return attrs.evolve(life, renew_till=min(life.renew_till, part.renew_till))


def _ticket(
    request: Request, header: Presented, life: Life, session: Key, server: Entry
) -> EncTicketPart:
    """5.3: what of the ticket that was shown is in the new one as well."""
    part, options = header.part, request.body.options
    flags = life.flags | part.flags & _INHERITED | Flag.TRANSITED_CHECKED
    flags |= options & (Flag.FORWARDABLE | Flag.FORWARDED | Flag.PROXIABLE | Flag.PROXY)
    flags |= options & Flag.MAY_POSTDATE
    flags |= Flag.OK_AS_DELEGATE if server.ok_as_delegate else 0
    if options & _AGAIN:
        flags |= part.flags & (Flag.FORWARDABLE | Flag.PROXIABLE | Flag.MAY_POSTDATE)
    addresses = part.addresses
    if options & (Flag.FORWARDED | Flag.PROXY):
        addresses = request.body.addresses
    return EncTicketPart(
        flags=int(flags),
        key=EncryptionKey(session.etype, session.content),
        realm=part.realm,
        client=part.client,
        transited=part.transited,
        auth_time=part.auth_time,
        start_time=life.start,
        end_time=life.end,
        renew_till=life.renew_till,
        addresses=addresses,
        authorization=_authorization(request, header) or None,
    )


def _authorization(request: Request, header: Presented) -> tuple[AuthorizationDatum, ...]:
    """3.3.3: what the client adds, then what the ticket had; nothing that claims to be ours."""
    sealed_data = request.body.authorization
    added: tuple[AuthorizationDatum, ...] = ()
    if sealed_data is not None:
        key, usage = header.session, USAGE_AUTHORIZATION_SESSION
        if header.subkey is not None:
            key, usage = header.subkey, USAGE_AUTHORIZATION_SUBKEY
        try:
            added = AUTHORIZATION_DATA.decode(key.open(usage, sealed_data.cipher))
        except (IntegrityFailure, DERError):
            text = "the authorization data does not open"
            raise KerberosError(Code.BAD_INTEGRITY, text) from None
    return (*unclaimed(added), *unclaimed(header.part.authorization))
