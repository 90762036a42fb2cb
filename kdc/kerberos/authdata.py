"""Authorization data (RFC 4120 5.2.6): how the client preauthenticated, and what a client adds.

Authentication indicators (RFC 8129) stand in an AD-CAMMAC (RFC 7751), which only who has the
key of the service, or of the KDC, could have made, in an AD-IF-RELEVANT.
"""

from __future__ import annotations

import functools

import attrs

from kdc.constant_time import same
from kdc.kerberos.der import ANY, INT32, UINT32, DERError, Kind, sequence_of
from kdc.kerberos.keys import Entry
from kdc.kerberos.layout import Layout, element
from kdc.kerberos.messages import (
    AUTHORIZATION_DATA,
    CHECKSUM,
    ENC_TICKET_PART,
    PRINCIPAL_NAME,
    AuthorizationDatum,
    Checksum,
    EncTicketPart,
    PrincipalName,
)
from kdc.kerberos.profile import Key

__all__ = ["indicators_in", "unclaimed", "with_indicators"]

IF_RELEVANT = 1
KDC_ISSUED = 4
AND_OR = 5
KDC_VERIFIED = 96  # AD-CAMMAC
INDICATORS = 97
# What only a KDC may say; a client that puts it into a request is not believed.
_KDC_ONLY = frozenset((KDC_ISSUED, KDC_VERIFIED, INDICATORS, 128, 129, 512))
USAGE_CAMMAC = 64
_DEPTH = 8

_UTF8: Kind[str] = Kind(0x0C, str.encode, lambda data, at, end: _utf8(data[at:end]))
_NAMES = sequence_of(_UTF8)


def _utf8(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise DERError("text is not UTF-8") from None


@attrs.frozen
class _VerifierMAC:
    identifier: PrincipalName | None = element(0, PRINCIPAL_NAME.kind, optional=True)
    kvno: int | None = element(1, UINT32, optional=True)
    etype: int | None = element(2, INT32, optional=True)
    mac: Checksum = element(3, CHECKSUM.kind)


VERIFIER = Layout(_VerifierMAC)


@attrs.frozen
class _Cammac:
    """``elements`` are AUTHORIZATION_DATA, and the others each a VERIFIER: their bytes."""

    elements: bytes = element(0, ANY)
    kdc_verifier: bytes | None = element(1, ANY, optional=True)
    service_verifier: bytes | None = element(2, ANY, optional=True)


CAMMAC = Layout(_Cammac)


@attrs.frozen
class _AndOr:
    """5.2.6.3"""

    count: int = element(0, INT32)
    elements: tuple[AuthorizationDatum, ...] = element(1, AUTHORIZATION_DATA)


_AND_OR = Layout(_AndOr)


def with_indicators(
    part: EncTicketPart, indicators: tuple[str, ...], service_key: Key, tgs: Entry | None
) -> bytes:
    """Encode the ticket, with ``indicators`` in it in front of what it has already."""
    if not indicators or tgs is None:
        return ENC_TICKET_PART.encode(part)
    elements = _elements(indicators)
    kdc_key = tgs.best_key
    # RFC 7751 section 3.1: over the ticket as if it had the elements and nothing else.
    encoded_with = ENC_TICKET_PART.but_last(part)
    covered = encoded_with(elements)
    ours = _VerifierMAC(None, tgs.kvno, kdc_key.etype, _mac(kdc_key, covered))
    data = AUTHORIZATION_DATA.encode(elements)
    cammac = _Cammac(data, VERIFIER.encode(ours), _service_verifier(service_key, data))
    inner = (AuthorizationDatum(KDC_VERIFIED, CAMMAC.encode(cammac)),)
    datum = AuthorizationDatum(IF_RELEVANT, AUTHORIZATION_DATA.encode(inner))
    return encoded_with((datum, *(part.authorization or ())))


@functools.lru_cache(maxsize=64)
def _elements(indicators: tuple[str, ...]) -> tuple[AuthorizationDatum, ...]:
    return (AuthorizationDatum(INDICATORS, _NAMES.encode(indicators)),)


# The same in all tickets for a service whose clients have shown the same.
@functools.lru_cache(maxsize=1024)
def _service_verifier(key: Key, elements: bytes) -> bytes:
    return VERIFIER.encode(_VerifierMAC(None, None, None, _mac(key, elements)))


def _mac(key: Key, covered: bytes) -> Checksum:
    return Checksum(key.profile.checksum_type, key.checksum(USAGE_CAMMAC, covered))


def indicators_in(part: EncTicketPart, tgs: Entry | None) -> tuple[str, ...]:
    """Return the indicators that this KDC has put into a ticket of its own service."""
    for datum in part.authorization or ():
        try:
            inner = AUTHORIZATION_DATA.decode(datum.content) if datum.kind == IF_RELEVANT else ()
            for each in inner:
                if each.kind == KDC_VERIFIED:
                    return _verified(part, CAMMAC.decode(each.content), tgs)
        except DERError:
            continue  # a client's, who may put in what it likes
    return ()


def _verified(part: EncTicketPart, cammac: _Cammac, tgs: Entry | None) -> tuple[str, ...]:
    if tgs is None or cammac.kdc_verifier is None:
        return ()
    verifier = VERIFIER.decode(cammac.kdc_verifier)
    if verifier.etype is None:
        return ()
    key = tgs.key(verifier.etype, verifier.kvno)
    if key is None or verifier.mac.kind != key.profile.checksum_type:
        return ()
    elements = AUTHORIZATION_DATA.decode(cammac.elements)
    covered = ENC_TICKET_PART.but_last(part)(elements)
    if not same(verifier.mac.content, key.checksum(USAGE_CAMMAC, covered)):
        return ()
    found = [_NAMES.decode(e.content) for e in elements if e.kind == INDICATORS]
    return tuple(name for names in found for name in names)


def unclaimed(data: tuple[AuthorizationDatum, ...] | None) -> tuple[AuthorizationDatum, ...]:
    """What of ``data``, a client's or an older ticket's, does not claim to be by the KDC."""
    return tuple(datum for datum in data or () if not _claims(datum, _DEPTH))


def _claims(datum: AuthorizationDatum, depth: int) -> bool:
    """Whether something in it, however deep, is what only a KDC says; or cannot be looked into."""
    if datum.kind in _KDC_ONLY or depth == 0:
        return True
    try:
        if datum.kind == AND_OR:
            inner = _AND_OR.decode(datum.content).elements
        elif datum.kind == IF_RELEVANT:
            inner = AUTHORIZATION_DATA.decode(datum.content)
        else:
            return False
    except DERError:
        return True
    return any(_claims(each, depth - 1) for each in inner)
