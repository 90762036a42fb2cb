"""FAST (RFC 6113 section 5.4): requests and replies inside of a tunnel under an armour key.

The armour of an AS request is a ticket that the machine, or the person before, has got; that
of a TGS request is the ticket it comes with.
"""

from __future__ import annotations

import attrs

from kdc.constant_time import same
from kdc.kerberos.ap_request import Presented, presented
from kdc.kerberos.der import (
    FLAGS,
    INT32,
    MICROSECONDS,
    OCTETS,
    TEXT,
    TIME,
    UINT32,
    DERError,
    tlv,
    whole,
)
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.layout import Layout, element
from kdc.kerberos.messages import (
    CHECKSUM,
    ENCRYPTED_DATA,
    ENCRYPTION_KEY,
    KDC_REQ_BODY,
    METHOD_DATA,
    PRINCIPAL_NAME,
    TICKET,
    Checksum,
    EncryptedData,
    EncryptionKey,
    KDCReqBody,
    PAData,
    PrincipalName,
)
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import BY_CHECKSUM, IntegrityFailure, Key, combined, random_key
from kdc.kerberos.realm import Realm
from kdc.kerberos.replies import Outcome
from kdc.kerberos.request import Armour, Request

__all__ = ["armoured_error", "armoured_outcome", "unwrapped"]

_CHOICE = 0xA0
_ARMOUR_AP_REQUEST = 1
USAGE_AP_REQ_AUTHENTICATOR = 11
USAGE_REQ_CHECKSUM = 50
USAGE_REQUEST = 51
USAGE_REPLY = 52
USAGE_FINISHED = 53
# 5.4.2: who sets one of the first sixteen wants no answer from a KDC that does not know it.
_CRITICAL_OPTIONS = 0xFFFF0000
# 5.2: goes round with the client's next request.  There is no state here to find again.
_COOKIE = PAData(PadataType.FX_COOKIE, b"kdc")


@attrs.frozen
class _Armour:
    kind: int = element(0, INT32)
    content: bytes = element(1, OCTETS)


@attrs.frozen
class _ArmouredReq:
    armour: _Armour | None = element(0, Layout(_Armour).kind, optional=True)
    checksum: Checksum = element(1, CHECKSUM.kind)
    part: EncryptedData = element(2, ENCRYPTED_DATA.kind)


@attrs.frozen
class _FastReq:
    options: int = element(0, FLAGS)
    padata: tuple[PAData, ...] = element(1, METHOD_DATA)
    body: KDCReqBody = element(2, KDC_REQ_BODY.kind)


@attrs.frozen
class _ArmouredRep:
    part: EncryptedData = element(0, ENCRYPTED_DATA.kind)


@attrs.frozen
class _Finished:
    moment: int = element(0, TIME)
    microseconds: int = element(1, MICROSECONDS)
    realm: str = element(2, TEXT)
    client: PrincipalName = element(3, PRINCIPAL_NAME.kind)
    ticket_checksum: Checksum = element(4, CHECKSUM.kind)


@attrs.frozen
class _Response:
    padata: tuple[PAData, ...] = element(0, METHOD_DATA)
    strengthen_key: EncryptionKey | None = element(1, ENCRYPTION_KEY.kind, optional=True)
    finished: _Finished | None = element(2, Layout(_Finished).kind, optional=True)
    nonce: int = element(3, UINT32)


ARMOURED_REQ = Layout(_ArmouredReq)
FAST_REQ = Layout(_FastReq)
ARMOURED_REP = Layout(_ArmouredRep)
RESPONSE = Layout(_Response)


def _chosen(data: bytes) -> bytes:
    """The one alternative of a CHOICE."""
    identifier, start = whole(data)
    if identifier != _CHOICE:
        raise DERError("a kind of FAST that is not armoured data")
    return data[start:]


def unwrapped(realm: Realm, request: Request, header: Presented | None) -> Request:
    """Return the request inside, with its armour; the request itself if it is in the open.

    ``header`` is the ticket that a TGS request comes with.  Raises `KerberosError`.
    """
    content = request.padata_of(PadataType.FX_FAST)
    if content is None or (content == b"" and header is None):
        return request
    try:
        outer = ARMOURED_REQ.decode(_chosen(content))
        key = _armour_key(realm, outer, header, request.now)
        # 5.4.2: the outer request is the one that this was made for.
        covered = request.outer_body
        if header is not None:
            covered = request.padata_of(PadataType.TGS_REQ) or b""
        _check_sum(outer.checksum, key, covered)
        inner = FAST_REQ.decode(key.open(USAGE_REQUEST, outer.part.cipher))
    except DERError as error:
        raise KerberosError(Code.GENERIC, f"malformed FAST padata: {error}") from None
    except IntegrityFailure:
        text = "what is in FAST does not open under its armour"
        raise KerberosError(Code.BAD_INTEGRITY, text) from None
    if inner.options & _CRITICAL_OPTIONS:
        raise KerberosError(Code.UNKNOWN_FAST_OPTION, "an option of FAST that is not known here")
    if inner.body.realm != realm.name:
        raise KerberosError(Code.WRONG_REALM, f"this is the KDC of {realm.name} only")
    armour = Armour(key, inner.body.nonce)
    return attrs.evolve(request, body=inner.body, padata=inner.padata, armour=armour)


def _armour_key(realm: Realm, outer: _ArmouredReq, header: Presented | None, now: float) -> Key:
    """5.4.1.1: of the subkey and the session key of the ticket."""
    if header is None:
        if outer.armour is None or outer.armour.kind != _ARMOUR_AP_REQUEST:
            raise KerberosError(Code.PREAUTH_FAILED, "armour is an AP-REQ here")
        header = presented(realm, outer.armour.content, USAGE_AP_REQ_AUTHENTICATOR, now)
        if header.entry.principal != realm.tgs:
            text = "the armour is not a ticket for the ticket-granting service"
            raise KerberosError(Code.NOT_US, text)
    elif outer.armour is not None:
        raise KerberosError(Code.PREAUTH_FAILED, "a TGS request has the armour of its ticket")
    if header.subkey is None:
        raise KerberosError(Code.PREAUTH_FAILED, "the armour's authenticator has no subkey")
    return combined(header.subkey, header.session, b"subkeyarmor", b"ticketarmor")


def _check_sum(checksum: Checksum, key: Key, covered: bytes) -> None:
    if BY_CHECKSUM.get(checksum.kind) is not key.profile:
        text = f"FAST with a checksum of type {checksum.kind}"
        raise KerberosError(Code.INAPPROPRIATE_CHECKSUM, text)
    if not same(key.checksum(USAGE_REQ_CHECKSUM, covered), checksum.content):
        raise KerberosError(Code.MODIFIED, "the request around FAST is another one")


def _sealed(realm: Realm, armour: Armour, response: _Response) -> PAData:
    cipher = armour.key.seal(USAGE_REPLY, RESPONSE.encode(response), realm.random(16))
    part = EncryptedData(armour.key.etype, None, cipher)
    return PAData(PadataType.FX_FAST, tlv(_CHOICE, ARMOURED_REP.encode(_ArmouredRep(part))))


def armoured_outcome(realm: Realm, request: Request, outcome: Outcome) -> Outcome:
    """5.4.3: the padata go inside, the reply's key is strengthened, the ticket is vouched for."""
    armour = request.armour
    if armour is None:
        return outcome
    strengthen = random_key(outcome.key.etype, realm.random)
    ticket = TICKET.encode(outcome.ticket)
    checksum = Checksum(
        armour.key.profile.checksum_type, armour.key.checksum(USAGE_FINISHED, ticket)
    )
    finished = _Finished(
        int(request.now),
        int(request.now % 1 * 1_000_000),
        outcome.client_realm,
        outcome.client,
        checksum,
    )
    key = EncryptionKey(strengthen.etype, strengthen.content)
    response = _Response(outcome.padata, key, finished, armour.nonce)
    return attrs.evolve(
        outcome,
        key=combined(strengthen, outcome.key, b"strengthenkey", b"replykey"),
        padata=(_sealed(realm, armour, response),),
    )


def armoured_error(realm: Realm, armour: Armour, error: bytes, hints: tuple[PAData, ...]) -> bytes:
    """5.4.4: the e-data of the outer error: the error itself, and what goes with it."""
    inner = (PAData(PadataType.FX_ERROR, error), *hints, _COOKIE)
    return METHOD_DATA.encode((_sealed(realm, armour, _Response(inner, None, None, armour.nonce)),))
