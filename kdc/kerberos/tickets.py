"""Tickets: their flags, how long they are good, sealing and opening them (RFC 4120 2, 5.3)."""

from __future__ import annotations

import enum

import attrs

from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.keys import Entry
from kdc.kerberos.messages import (
    ENC_TICKET_PART,
    PVNO,
    EncryptedData,
    EncTicketPart,
    KDCReqBody,
    PrincipalName,
    Ticket,
)
from kdc.kerberos.profile import IntegrityFailure, Key
from kdc.kerberos.realm import Realm

__all__ = ["Flag", "Life", "granted_life", "opened", "sealed"]

USAGE_TICKET = 2


class Flag(enum.IntEnum):
    """Ticket flags (5.3) and KDC options (5.4.1): the same places for the same things.

    Several of them are an ordinary number.
    """

    FORWARDABLE = 1 << 30
    FORWARDED = 1 << 29
    PROXIABLE = 1 << 28
    PROXY = 1 << 27
    MAY_POSTDATE = 1 << 26
    POSTDATED = 1 << 25
    INVALID = 1 << 24  # of tickets only
    RENEWABLE = 1 << 23
    INITIAL = 1 << 22  # of tickets only
    PRE_AUTHENTICATED = 1 << 21  # of tickets only
    HARDWARE_AUTHENTICATED = 1 << 20  # of tickets only
    TRANSITED_CHECKED = 1 << 19  # of tickets only
    OK_AS_DELEGATE = 1 << 18  # of tickets only
    CONSTRAINED_DELEGATION = 1 << 17  # option of MS-SFU
    ENCRYPTED_PADATA = 1 << 16  # of tickets, RFC 6806; as an option, canonicalize
    CANONICALIZE = 1 << 16
    RENEWABLE_OK = 1 << 4  # option
    USER_TO_USER = 1 << 3  # option: enc-tkt-in-skey
    RENEW = 1 << 1  # option
    VALIDATE = 1 << 0  # option


@attrs.frozen
class Life:
    """When a ticket begins, ends, and can no longer be renewed; and the flags that say so."""

    start: int
    end: int
    renew_till: int | None = None
    flags: int = 0


def granted_life(
    realm: Realm, body: KDCReqBody, now: int, parties: tuple[Entry, ...], until: int | None = None
) -> Life:
    """Return what a new ticket gets of what was asked for (3.1.3); ``until`` bounds its end.

    ``parties`` are the client and the service: the shortest that is allowed counts.
    """
    flags = 0
    start = now
    later = 0 if body.start_time is None else body.start_time - now
    # 3.1.3: in the future only if a postdated ticket was asked for, which it may be for any
    # moment; otherwise what is within the skew is now.
    if later > realm.policy.skew_seconds and not body.options & Flag.POSTDATED:
        text = f"a ticket beginning {later} s from now is a postdated one"
        raise KerberosError(Code.CANNOT_POSTDATE, text)
    if later > 0 and body.options & Flag.POSTDATED:
        if not all(entry.postdatable for entry in parties):
            raise KerberosError(Code.CANNOT_POSTDATE, "postdated tickets are not allowed")
        start = now + later
        flags |= Flag.POSTDATED | Flag.INVALID
    end = start + min(
        [realm.policy.max_life, *(e.max_life for e in parties if e.max_life is not None)]
    )
    if body.till:  # 0 stands for "as long as can be"
        end = min(end, body.till)
    if until is not None:
        end = min(end, until)
    if end <= start:
        text = f"the ticket would end {start - end} s before it begins"
        raise KerberosError(Code.NEVER_VALID, text)
    return _renewable(realm, body, parties, Life(start, end, None, flags))


def _renewable(realm: Realm, body: KDCReqBody, parties: tuple[Entry, ...], life: Life) -> Life:
    """3.1.3: renewable if asked for, or if that makes up for an end that is too early."""
    wanted = body.renew_till or None
    if not body.options & Flag.RENEWABLE:
        if not body.options & Flag.RENEWABLE_OK or (body.till and life.end >= body.till):
            return life
        wanted = body.till or None
    if not all(entry.renewable for entry in parties):
        return life
    allowed = [e.max_renewable_life for e in parties if e.max_renewable_life is not None]
    renew_till = life.start + min([realm.policy.max_renewable_life, *allowed])
    if wanted is not None:
        renew_till = min(renew_till, wanted)
    if renew_till < life.end:
        return life
    return attrs.evolve(life, renew_till=renew_till, flags=life.flags | Flag.RENEWABLE)


def sealed(
    realm: Realm, encoded: bytes, server: PrincipalName, key: Key, kvno: int | None
) -> Ticket:
    """Return the ticket for ``server``, under its key; ``encoded`` is its ENC_TICKET_PART."""
    cipher = key.seal(USAGE_TICKET, encoded, realm.random(16))
    return Ticket(PVNO, realm.name, server, EncryptedData(key.etype, kvno, cipher))


def opened(realm: Realm, ticket: Ticket) -> tuple[EncTicketPart, Entry, Key]:
    """Return what is in a ticket of this realm, whose it is, and the key it is under.

    Raises `KerberosError`: 35 if the ticket is not ours, 44 if its key has gone, 31 if it
    does not open.
    """
    if ticket.version != PVNO:
        raise KerberosError(Code.BAD_VERSION, f"a ticket of version {ticket.version}")
    entry = None
    if ticket.realm == realm.name:
        entry = realm.entry(ticket.server.components)
    if entry is None:
        raise KerberosError(Code.NOT_US, "the ticket is not for a service of this realm")
    kvno = ticket.part.kvno
    if kvno is not None and kvno not in entry.keys:
        text = f"the ticket is under key {kvno} of {entry.principal}, which is no longer there"
        raise KerberosError(Code.BAD_KEY_VERSION, text)
    key = entry.key(ticket.part.etype, kvno)
    if key is None:
        raise KerberosError(Code.BAD_INTEGRITY, "the ticket is of an encryption type without key")
    try:
        return ENC_TICKET_PART.decode(key.open(USAGE_TICKET, ticket.part.cipher)), entry, key
    except (IntegrityFailure, DERError):
        raise KerberosError(Code.BAD_INTEGRITY, "the ticket does not open") from None
