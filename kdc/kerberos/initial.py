"""A first ticket for who has shown otherwise, and better, who he is: no AS exchange.

Where nobody has a password a client proves itself over a channel of its own.  What it then
gets is what an AS exchange would have given it.
"""

from __future__ import annotations

from kdc.kerberos.authdata import with_indicators
from kdc.kerberos.ccache import Credential
from kdc.kerberos.messages import EncryptionKey, EncTicketPart, KDCReqBody, TransitedEncoding
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import random_key
from kdc.kerberos.realm import Realm
from kdc.kerberos.tickets import Flag, granted_life, sealed

__all__ = ["initial_ticket"]

# How such a client has shown who it is, for services that want to know.
_INDICATOR = "kdp"


def initial_ticket(
    realm: Realm,
    client: Principal,
    now: int,
    *,
    life_seconds: int = 0,
    renewable_seconds: int = 0,
    forwardable: bool = True,
) -> Credential:
    """Return a ticket for the ticket-granting service; 0 seconds are as long as can be, or none.

    Raises `kdc.kerberos.errors.KerberosError` as an exchange would.
    """
    options = Flag.PROXIABLE | (Flag.FORWARDABLE if forwardable else 0)
    body = KDCReqBody(
        options=int(options | (Flag.RENEWABLE if renewable_seconds else 0)),
        client=client.name(),
        realm=realm.name,
        server=realm.tgs.name(2),
        start_time=None,
        till=now + life_seconds if life_seconds else 0,
        renew_till=now + renewable_seconds if renewable_seconds else None,
        nonce=0,
        etypes=realm.policy.etypes,
        addresses=None,
        authorization=None,
        tickets=None,
    )
    entry, server = realm.client(body.client, now), realm.server(body.server, now)
    life = granted_life(realm, body, now, (entry, server))
    session = random_key(realm.session_etype(body.etypes, server), realm.random)
    flags = Flag.INITIAL | Flag.PRE_AUTHENTICATED | life.flags | options
    part = EncTicketPart(
        flags=int(flags),
        key=EncryptionKey(session.etype, session.content),
        realm=realm.name,
        client=client.name(),
        transited=TransitedEncoding(1, b""),
        auth_time=now,
        start_time=life.start,
        end_time=life.end,
        renew_till=life.renew_till,
        addresses=None,
        authorization=None,
    )
    key = server.best_key
    encoded = with_indicators(part, (_INDICATOR,), key, server)
    ticket = sealed(realm, encoded, realm.tgs.name(2), key, server.kvno)
    return Credential(
        client=client,
        server=realm.tgs,
        key=session,
        auth_time=now,
        start_time=life.start,
        end_time=life.end,
        renew_till=life.renew_till or 0,
        flags=part.flags,
        ticket=ticket,
    )
