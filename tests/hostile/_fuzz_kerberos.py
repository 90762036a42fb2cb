"""What reads Kerberos messages and files: in the open, and what only who has a ticket can say."""

from __future__ import annotations

import struct
from typing import Any

import attrs

from kdc.kerberos import fast, kpasswd, messages
from kdc.kerberos.authdata import unclaimed
from kdc.kerberos.ccache import Credential, ccache, read_ccache
from kdc.kerberos.der import DERError, tlv
from kdc.kerberos.keytab import KeytabEntry, keytab, read_keytab
from kdc.kerberos.kpasswd import PasswordService, Result
from kdc.kerberos.layout import Layout
from kdc.kerberos.messages import (
    AP_REP,
    AS_REP,
    AS_REQ,
    AUTHORIZATION_DATA,
    ENC_KRB_PRIV_PART,
    KDC_REQ_BODY,
    KRB_ERROR,
    KRB_PRIV,
    PA_FOR_USER,
    PVNO,
    TGS_REP,
    TGS_REQ,
    AuthorizationDatum,
    Checksum,
    EncKRBPrivPart,
    EncryptedData,
    HostAddress,
    KDCReq,
    KRBPriv,
    PAData,
    PAForUser,
)
from kdc.kerberos.names import parsed
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import Key, combined
from tests.hostile._fuzz_target import Found, Target
from tests.support.kerberos import NOW, REALM, KDCOfTest, random_of

__all__ = ["KERBEROS"]

_ANSWERS: dict[int, Layout[Any]] = {0x6B: AS_REP, 0x6D: TGS_REP, 0x7E: KRB_ERROR}
_LAYOUTS = [each for each in vars(messages).values() if isinstance(each, Layout)]


class _Realm:
    """A KDC, and alice's ticket for it."""

    def __init__(self) -> None:
        self.kdc = KDCOfTest()
        self.client = self.kdc.client()
        self.tgt = self.client.initial(self.kdc.alice.principal, "secret")
        self.ticket = self.client.service(self.tgt, self.kdc.web.principal)
        self.change = self.client.initial(
            self.kdc.alice.principal, "secret", service=("kadmin", "changepw")
        )
        self.requests = tuple(self.kdc.requests)
        self.random = random_of("fuzz")
        self.subkey = Key(18, bytes(32))
        address = HostAddress(2, bytes(4))
        self.passwords = PasswordService(
            self.kdc.realm, lambda change: (Result.SUCCESS, ""), address
        )

    def answered(self, request: bytes) -> None:
        """Whatever is asked, what comes is an answer of RFC 4120."""
        reply = self.kdc.kdc.answer(request, NOW).reply
        layout = _ANSWERS.get(reply[0])
        if layout is None or layout.encode(layout.decode(reply)) != reply:
            raise Found("an answer that is none")

    def body(self, data: bytes) -> None:
        """A body that the checksum is over, but that is all that is good of it."""
        checksum = Checksum(16, self.tgt.key.checksum(6, data))
        header = PAData(PadataType.TGS_REQ, self.client.ap_request(self.tgt, 7, checksum))
        self.answered(TGS_REQ.encode(KDCReq(PVNO, 12, (header,), data)))

    def for_user(self, data: bytes) -> None:
        body = self._bodies()[1]
        checksum = Checksum(16, self.tgt.key.checksum(6, body))
        header = PAData(PadataType.TGS_REQ, self.client.ap_request(self.tgt, 7, checksum))
        for kind in (PadataType.FOR_USER, PadataType.S4U_X509_USER):
            padata = (header, PAData(kind, data))
            self.answered(TGS_REQ.encode(KDCReq(PVNO, 12, padata, body)))

    def armoured(self, data: bytes) -> None:
        """What is inside of FAST."""
        body = self._bodies()[0]
        key = combined(self.subkey, self.tgt.key, b"subkeyarmor", b"ticketarmor")
        header = self.client.ap_request(self.tgt, 11, None, self.subkey)
        request = fast._ArmouredReq(
            fast._Armour(1, header),
            Checksum(16, key.checksum(50, body)),
            EncryptedData(18, None, key.seal(51, data, self.random(16))),
        )
        padata = PAData(PadataType.FX_FAST, tlv(0xA0, fast.ARMOURED_REQ.encode(request)))
        self.answered(AS_REQ.encode(KDCReq(PVNO, 10, (padata,), body)))

    def _bodies(self) -> tuple[bytes, bytes]:
        """Of the AS request, and of the TGS request."""
        initial = AS_REQ.decode(self.requests[1]).body
        return initial, TGS_REQ.decode(self.requests[2]).body

    def fast_seed(self) -> bytes:
        body = KDC_REQ_BODY.decode(self._bodies()[0])
        return fast.FAST_REQ.encode(fast._FastReq(0, (PAData(149, b""),), body))

    def user_seed(self) -> bytes:
        name = self.kdc.alice.principal.name()
        return PA_FOR_USER.encode(PAForUser(name, REALM, Checksum(-138, bytes(16)), "Kerberos"))

    def password_request(self, version: int, content: bytes) -> bytes:
        header = self.client.ap_request(self.change, 11, None, self.subkey)
        part = ENC_KRB_PRIV_PART.encode(EncKRBPrivPart(content, None, None, None, None, None))
        cipher = self.subkey.seal(13, part, self.random(16))
        private = KRB_PRIV.encode(KRBPriv(PVNO, 21, EncryptedData(18, None, cipher)))
        length = 6 + len(header) + len(private)
        return struct.pack(">HHH", length, version, len(header)) + header + private

    def password(self, request: bytes) -> None:
        answer = self.passwords.answer(request, NOW)
        if answer is None:
            return
        length, _, header_length = struct.unpack_from(">HHH", answer)
        layout: Layout[Any] = AP_REP if header_length else KRB_ERROR
        layout.decode(answer[6 : 6 + header_length] if header_length else answer[6:])
        if length != len(answer):
            raise Found("an answer of another length than it says")

    def new_password(self, data: bytes) -> None:
        for version in (1, 0xFF80):
            self.password(self.password_request(version, data))


def _one_encoding(data: bytes) -> None:
    for layout in _LAYOUTS:
        try:
            value = layout.decode(data)
        except DERError:
            continue
        if layout.encode(value) != data:
            raise Found(f"two encodings of one {layout._type.__name__}")


def _unclaimed(data: bytes) -> None:
    unclaimed(AUTHORIZATION_DATA.decode(data))


def _name(data: bytes) -> None:
    principal = parsed(data.decode("utf-8", "replace"), REALM)
    if parsed(str(principal), "OTHER") != principal:
        raise Found("a name that is another when it is read again")


_REALM = _Realm()
_TICKETS: list[Credential] = [_REALM.tgt, _REALM.ticket]
_ENTRIES = [KeytabEntry(_REALM.kdc.web.principal, kvno, Key(18, bytes(32))) for kvno in (1, 300)]
_DATA = AUTHORIZATION_DATA.encode(
    (AuthorizationDatum(1, AUTHORIZATION_DATA.encode((AuthorizationDatum(97, b"x"),))),)
)
_CHANGE = kpasswd.DATA.encode(
    kpasswd._ChangePasswordData(b"new", _REALM.kdc.alice.principal.name(), REALM)
)
_ERROR = _REALM.kdc.kdc.answer(b"", NOW).reply
_BODIES = tuple(
    KDC_REQ_BODY.encode(attrs.evolve(KDC_REQ_BODY.decode(body), options=options))
    for body in _REALM._bodies()
    for options in (0, 0x60810010, 0x02000009)
)

KERBEROS: dict[str, Target] = {
    "kerberos": Target(_REALM.answered, _REALM.requests, ()),
    "kerberos-body": Target(_REALM.body, _BODIES, ()),
    "kerberos-fast": Target(_REALM.armoured, (_REALM.fast_seed(),), ()),
    "kerberos-user": Target(_REALM.for_user, (_REALM.user_seed(),), ()),
    "kerberos-types": Target(_one_encoding, (*_REALM.requests, *_BODIES, _ERROR), ()),
    "kerberos-data": Target(_unclaimed, (_DATA,), (DERError,)),
    "kerberos-name": Target(_name, (b"HTTP/web@EXAMPLE.ORG", rb"a\/b\@c"), (ValueError,)),
    "kpasswd": Target(_REALM.password, (_REALM.password_request(1, b"new"),), ()),
    "kpasswd-new": Target(_REALM.new_password, (_CHANGE, b"new"), ()),
    "keytab": Target(read_keytab, (keytab(_ENTRIES),), (ValueError,)),
    "ccache": Target(read_ccache, (ccache(_REALM.kdc.alice.principal, _TICKETS),), (ValueError,)),
}
