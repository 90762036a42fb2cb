"""The messages of RFC 4120 section 5 and appendix A, one frozen class and one layout each.

What is in FAST is in `kdc.kerberos.fast_messages`.
"""

from __future__ import annotations

import attrs

from kdc.kerberos.der import (
    ANY,
    FLAGS,
    INT32,
    MICROSECONDS,
    OCTETS,
    TEXT,
    TIME,
    UINT32,
    integer,
    sequence_of,
)
from kdc.kerberos.layout import Layout, element

__all__ = [
    "AP_REP",
    "AP_REQ",
    "AS_REP",
    "AS_REQ",
    "AUTHENTICATOR",
    "AUTHORIZATION_DATA",
    "CHECKSUM",
    "ENCRYPTED_DATA",
    "ENC_AP_REP_PART",
    "ENC_AS_REP_PART",
    "ENC_KRB_PRIV_PART",
    "ENC_TGS_REP_PART",
    "ENC_TICKET_PART",
    "ETYPE_INFO2",
    "KDC_REQ_BODY",
    "KRB_ERROR",
    "KRB_PRIV",
    "METHOD_DATA",
    "PA_ENC_TIMESTAMP",
    "PA_FOR_USER",
    "PA_S4U_X509_USER",
    "PVNO",
    "S4U_USER_ID",
    "TGS_REP",
    "TGS_REQ",
    "TICKET",
    "APRep",
    "APReq",
    "Authenticator",
    "AuthorizationDatum",
    "Checksum",
    "ETypeInfo2Entry",
    "EncAPRepPart",
    "EncKDCRepPart",
    "EncKRBPrivPart",
    "EncTicketPart",
    "EncryptedData",
    "EncryptionKey",
    "HostAddress",
    "KDCRep",
    "KDCReq",
    "KDCReqBody",
    "KRBError",
    "KRBPriv",
    "LastReq",
    "PAData",
    "PAEncTimestamp",
    "PAForUser",
    "PAS4UX509User",
    "PrincipalName",
    "S4UUserID",
    "Ticket",
    "TransitedEncoding",
]

PVNO = 5
# 5 is the only version there is, but which number came has to be told apart from nonsense.
_VERSION = integer(0, 255)


@attrs.frozen
class PrincipalName:
    """5.2.2"""

    name_type: int = element(0, INT32)
    components: tuple[str, ...] = element(1, sequence_of(TEXT))


# Those of the realm and of who asks are in every message several times.
PRINCIPAL_NAME = Layout(PrincipalName, kept=64)


@attrs.frozen
class EncryptedData:
    """5.2.9; nothing in it is secret."""

    etype: int = element(0, INT32)
    kvno: int | None = element(1, UINT32, optional=True)
    cipher: bytes = element(2, OCTETS)


ENCRYPTED_DATA = Layout(EncryptedData)


@attrs.frozen
class EncryptionKey:
    """5.2.9"""

    etype: int = element(0, INT32)
    content: bytes = element(1, OCTETS)


ENCRYPTION_KEY = Layout(EncryptionKey)


@attrs.frozen
class Checksum:
    """5.2.9"""

    kind: int = element(0, INT32)
    content: bytes = element(1, OCTETS)


CHECKSUM = Layout(Checksum)


@attrs.frozen
class HostAddress:
    """5.2.5"""

    kind: int = element(0, INT32)
    address: bytes = element(1, OCTETS)


HOST_ADDRESSES = sequence_of(Layout(HostAddress).kind)


@attrs.frozen
class AuthorizationDatum:
    """5.2.6"""

    kind: int = element(0, INT32)
    content: bytes = element(1, OCTETS)


AUTHORIZATION_DATA = sequence_of(Layout(AuthorizationDatum).kind)


@attrs.frozen
class PAData:
    """5.2.7"""

    kind: int = element(1, INT32)
    content: bytes = element(2, OCTETS)


METHOD_DATA = sequence_of(Layout(PAData).kind)


@attrs.frozen
class PAEncTimestamp:
    """5.2.7.2, in the clear"""

    moment: int = element(0, TIME)
    microseconds: int | None = element(1, MICROSECONDS, optional=True)


PA_ENC_TIMESTAMP = Layout(PAEncTimestamp)


@attrs.frozen
class ETypeInfo2Entry:
    """5.2.7.5"""

    etype: int = element(0, INT32)
    salt: str | None = element(1, TEXT, optional=True)
    parameters: bytes | None = element(2, OCTETS, optional=True)


ETYPE_INFO2 = sequence_of(Layout(ETypeInfo2Entry, kept=64).kind)


@attrs.frozen
class Ticket:
    """5.3"""

    version: int = element(0, _VERSION)
    realm: str = element(1, TEXT)
    server: PrincipalName = element(2, PRINCIPAL_NAME.kind)
    part: EncryptedData = element(3, ENCRYPTED_DATA.kind)


TICKET = Layout(Ticket, 1)


@attrs.frozen
class TransitedEncoding:
    """5.3"""

    kind: int = element(0, INT32)
    content: bytes = element(1, OCTETS)


@attrs.frozen
class EncTicketPart:
    """5.3"""

    flags: int = element(0, FLAGS)
    key: EncryptionKey = element(1, ENCRYPTION_KEY.kind)
    realm: str = element(2, TEXT)
    client: PrincipalName = element(3, PRINCIPAL_NAME.kind)
    transited: TransitedEncoding = element(4, Layout(TransitedEncoding, kept=4).kind)
    auth_time: int = element(5, TIME)
    start_time: int | None = element(6, TIME, optional=True)
    end_time: int = element(7, TIME)
    renew_till: int | None = element(8, TIME, optional=True)
    addresses: tuple[HostAddress, ...] | None = element(9, HOST_ADDRESSES, optional=True)
    authorization: tuple[AuthorizationDatum, ...] | None = element(
        10, AUTHORIZATION_DATA, optional=True
    )


ENC_TICKET_PART = Layout(EncTicketPart, 3)


@attrs.frozen
class KDCReq:
    """5.4.1; ``body`` is its bytes, which a checksum is over: see `KDC_REQ_BODY`."""

    version: int = element(1, _VERSION)
    message_type: int = element(2, INT32)
    padata: tuple[PAData, ...] | None = element(3, METHOD_DATA, optional=True)
    body: bytes = element(4, ANY)


AS_REQ = Layout(KDCReq, 10)
TGS_REQ = Layout(KDCReq, 12)


@attrs.frozen
class KDCReqBody:
    """5.4.1"""

    options: int = element(0, FLAGS)
    client: PrincipalName | None = element(1, PRINCIPAL_NAME.kind, optional=True)
    realm: str = element(2, TEXT)
    server: PrincipalName | None = element(3, PRINCIPAL_NAME.kind, optional=True)
    start_time: int | None = element(4, TIME, optional=True)
    till: int = element(5, TIME)
    renew_till: int | None = element(6, TIME, optional=True)
    nonce: int = element(7, UINT32)
    etypes: tuple[int, ...] = element(8, sequence_of(INT32))
    addresses: tuple[HostAddress, ...] | None = element(9, HOST_ADDRESSES, optional=True)
    authorization: EncryptedData | None = element(10, ENCRYPTED_DATA.kind, optional=True)
    tickets: tuple[Ticket, ...] | None = element(11, sequence_of(TICKET.kind), optional=True)


KDC_REQ_BODY = Layout(KDCReqBody)


@attrs.frozen
class KDCRep:
    """5.4.2"""

    version: int = element(0, _VERSION)
    message_type: int = element(1, INT32)
    padata: tuple[PAData, ...] | None = element(2, METHOD_DATA, optional=True)
    realm: str = element(3, TEXT)
    client: PrincipalName = element(4, PRINCIPAL_NAME.kind)
    ticket: Ticket = element(5, TICKET.kind)
    part: EncryptedData = element(6, ENCRYPTED_DATA.kind)


AS_REP = Layout(KDCRep, 11)
TGS_REP = Layout(KDCRep, 13)


@attrs.frozen
class LastReq:
    """5.4.2"""

    kind: int = element(0, INT32)
    moment: int = element(1, TIME)


@attrs.frozen
class EncKDCRepPart:
    """5.4.2; ``padata`` is of RFC 6806 section 11"""

    key: EncryptionKey = element(0, ENCRYPTION_KEY.kind)
    last_requests: tuple[LastReq, ...] = element(1, sequence_of(Layout(LastReq).kind))
    nonce: int = element(2, UINT32)
    key_expiration: int | None = element(3, TIME, optional=True)
    flags: int = element(4, FLAGS)
    auth_time: int = element(5, TIME)
    start_time: int | None = element(6, TIME, optional=True)
    end_time: int = element(7, TIME)
    renew_till: int | None = element(8, TIME, optional=True)
    realm: str = element(9, TEXT)
    server: PrincipalName = element(10, PRINCIPAL_NAME.kind)
    addresses: tuple[HostAddress, ...] | None = element(11, HOST_ADDRESSES, optional=True)
    padata: tuple[PAData, ...] | None = element(12, METHOD_DATA, optional=True)


ENC_AS_REP_PART = Layout(EncKDCRepPart, 25)
ENC_TGS_REP_PART = Layout(EncKDCRepPart, 26)


@attrs.frozen
class APReq:
    """5.5.1"""

    version: int = element(0, _VERSION)
    message_type: int = element(1, INT32)
    options: int = element(2, FLAGS)
    ticket: Ticket = element(3, TICKET.kind)
    authenticator: EncryptedData = element(4, ENCRYPTED_DATA.kind)


AP_REQ = Layout(APReq, 14)


@attrs.frozen
class Authenticator:
    """5.5.1"""

    version: int = element(0, _VERSION)
    realm: str = element(1, TEXT)
    client: PrincipalName = element(2, PRINCIPAL_NAME.kind)
    checksum: Checksum | None = element(3, CHECKSUM.kind, optional=True)
    microseconds: int = element(4, MICROSECONDS)
    moment: int = element(5, TIME)
    subkey: EncryptionKey | None = element(6, ENCRYPTION_KEY.kind, optional=True)
    sequence: int | None = element(7, UINT32, optional=True)
    authorization: tuple[AuthorizationDatum, ...] | None = element(
        8, AUTHORIZATION_DATA, optional=True
    )


AUTHENTICATOR = Layout(Authenticator, 2)


@attrs.frozen
class APRep:
    """5.5.2"""

    version: int = element(0, _VERSION)
    message_type: int = element(1, INT32)
    part: EncryptedData = element(2, ENCRYPTED_DATA.kind)


AP_REP = Layout(APRep, 15)


@attrs.frozen
class EncAPRepPart:
    """5.5.2"""

    moment: int = element(0, TIME)
    microseconds: int = element(1, MICROSECONDS)
    subkey: EncryptionKey | None = element(2, ENCRYPTION_KEY.kind, optional=True)
    sequence: int | None = element(3, UINT32, optional=True)


ENC_AP_REP_PART = Layout(EncAPRepPart, 27)


@attrs.frozen
class KRBPriv:
    """5.7.1"""

    version: int = element(0, _VERSION)
    message_type: int = element(1, INT32)
    part: EncryptedData = element(3, ENCRYPTED_DATA.kind)


KRB_PRIV = Layout(KRBPriv, 21)


@attrs.frozen
class EncKRBPrivPart:
    """5.7.1"""

    content: bytes = element(0, OCTETS)
    moment: int | None = element(1, TIME, optional=True)
    microseconds: int | None = element(2, MICROSECONDS, optional=True)
    sequence: int | None = element(3, UINT32, optional=True)
    sender: HostAddress | None = element(4, Layout(HostAddress).kind, optional=True)
    receiver: HostAddress | None = element(5, Layout(HostAddress).kind, optional=True)


ENC_KRB_PRIV_PART = Layout(EncKRBPrivPart, 28)


@attrs.frozen
class KRBError:
    """5.9.1"""

    version: int = element(0, _VERSION)
    message_type: int = element(1, INT32)
    client_moment: int | None = element(2, TIME, optional=True)
    client_microseconds: int | None = element(3, MICROSECONDS, optional=True)
    moment: int = element(4, TIME)
    microseconds: int = element(5, MICROSECONDS)
    code: int = element(6, INT32)
    client_realm: str | None = element(7, TEXT, optional=True)
    client: PrincipalName | None = element(8, PRINCIPAL_NAME.kind, optional=True)
    realm: str = element(9, TEXT)
    server: PrincipalName = element(10, PRINCIPAL_NAME.kind)
    text: str | None = element(11, TEXT, optional=True)
    details: bytes | None = element(12, OCTETS, optional=True)


KRB_ERROR = Layout(KRBError, 30)


@attrs.frozen
class PAForUser:
    """MS-SFU 2.2.1"""

    user: PrincipalName = element(0, PRINCIPAL_NAME.kind)
    realm: str = element(1, TEXT)
    checksum: Checksum = element(2, CHECKSUM.kind)
    package: str = element(3, TEXT)


PA_FOR_USER = Layout(PAForUser)


@attrs.frozen
class S4UUserID:
    """MS-SFU 2.2.2"""

    nonce: int = element(0, UINT32)
    user: PrincipalName | None = element(1, PRINCIPAL_NAME.kind, optional=True)
    realm: str = element(2, TEXT)
    certificate: bytes | None = element(3, OCTETS, optional=True)
    options: int | None = element(4, FLAGS, optional=True)


S4U_USER_ID = Layout(S4UUserID)


@attrs.frozen
class PAS4UX509User:
    """MS-SFU 2.2.2; ``user`` is its bytes, which the checksum is over: see `S4U_USER_ID`."""

    user: bytes = element(0, ANY)
    checksum: Checksum = element(1, CHECKSUM.kind)


PA_S4U_X509_USER = Layout(PAS4UX509User)
