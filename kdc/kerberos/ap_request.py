"""A ticket and an authenticator, as they are presented to the KDC (RFC 4120 section 3.2.3)."""

from __future__ import annotations

import attrs

from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.keys import Entry
from kdc.kerberos.messages import (
    AP_REQ,
    AUTHENTICATOR,
    PVNO,
    Authenticator,
    EncryptionKey,
    EncTicketPart,
    Ticket,
)
from kdc.kerberos.preauth import check_skew
from kdc.kerberos.profile import IntegrityFailure, Key
from kdc.kerberos.realm import Realm
from kdc.kerberos.tickets import Flag, opened

__all__ = ["Presented", "check_times", "key_of", "presented"]

_AP_REQ_TYPE = 14


@attrs.frozen
class Presented:
    """Who showed what: every check of section 3.2.3 but that for repetition has been made."""

    ticket: Ticket
    part: EncTicketPart
    entry: Entry
    ticket_key: Key
    session: Key
    authenticator: Authenticator
    subkey: Key | None
    sealed_authenticator: bytes = attrs.field(repr=False)

    @property
    def reply_key(self) -> Key:
        """What the answer is sealed under."""
        return self.subkey or self.session


def presented(
    realm: Realm, request: bytes, usage: int, now: float, *, may_be_invalid: bool = False
) -> Presented:
    """Return what an AP-REQ shows; raises `KerberosError`."""
    try:
        message = AP_REQ.decode(request)
    except DERError as error:
        raise KerberosError(Code.GENERIC, f"malformed AP-REQ: {error}") from None
    # 3.2.3: the versions and types fit.
    if message.version != PVNO or message.message_type != _AP_REQ_TYPE:
        raise KerberosError(Code.BAD_VERSION, "the AP-REQ is not one of version 5")
    # 3.2.3: the ticket is for us, under a key that we have, and whole.
    part, entry, ticket_key = opened(realm, message.ticket)
    session = key_of(part.key)
    # 3.2.3: the authenticator opens under the ticket's key, and is the same client's.
    try:
        plain = session.open(usage, message.authenticator.cipher)
        authenticator = AUTHENTICATOR.decode(plain)
    except (IntegrityFailure, DERError):
        text = "the authenticator does not open under the key in the ticket"
        raise KerberosError(Code.BAD_INTEGRITY, text) from None
    same_client = authenticator.client.components == part.client.components
    if not same_client or authenticator.realm != part.realm:
        text = "ticket and authenticator are of different clients"
        raise KerberosError(Code.BAD_MATCH, text)
    check_skew(realm, authenticator.moment, now)
    check_times(realm, part, now, may_be_invalid=may_be_invalid)
    subkey = None if authenticator.subkey is None else key_of(authenticator.subkey)
    return Presented(
        message.ticket,
        part,
        entry,
        ticket_key,
        session,
        authenticator,
        subkey,
        message.authenticator.cipher,
    )


def check_times(realm: Realm, part: EncTicketPart, now: float, *, may_be_invalid: bool) -> None:
    """3.2.3: the ticket has begun, has been validated, and has not ended."""
    start = part.auth_time if part.start_time is None else part.start_time
    skew = realm.policy.skew_seconds
    if start > now + skew:
        text = f"the ticket begins {start - now:.0f} s from now"
        raise KerberosError(Code.TICKET_NOT_YET_VALID, text)
    if part.flags & Flag.INVALID and not may_be_invalid:
        raise KerberosError(Code.TICKET_NOT_YET_VALID, "the ticket has not been validated")
    if part.end_time < now - skew:
        text = f"the ticket ended {now - part.end_time:.0f} s ago"
        raise KerberosError(Code.TICKET_EXPIRED, text)


def key_of(key: EncryptionKey) -> Key:
    """Return a key of a message; raises `KerberosError` for a type that is not used here."""
    try:
        return Key(key.etype, key.content)
    except ValueError as error:
        raise KerberosError(Code.NO_ETYPE, str(error)) from None
