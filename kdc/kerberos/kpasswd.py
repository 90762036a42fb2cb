"""Changing passwords, RFC 3244: a request to the service ``kadmin/changepw``, and its answer."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

import attrs

from kdc.kerberos.ap_request import Presented, presented
from kdc.kerberos.as_exchange import CHANGE_SERVICE
from kdc.kerberos.der import OCTETS, TEXT, DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.layout import Layout, element
from kdc.kerberos.messages import (
    AP_REP,
    ENC_AP_REP_PART,
    ENC_KRB_PRIV_PART,
    KRB_ERROR,
    KRB_PRIV,
    PRINCIPAL_NAME,
    PVNO,
    APRep,
    EncAPRepPart,
    EncKRBPrivPart,
    EncryptedData,
    HostAddress,
    KRBError,
    KRBPriv,
    PrincipalName,
)
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import IntegrityFailure
from kdc.kerberos.realm import Realm
from kdc.kerberos.replay import Authenticators
from kdc.kerberos.tickets import Flag

__all__ = ["Change", "PasswordService", "Result"]

_CHANGE_VERSION = 1
_SET_VERSION = 0xFF80
_HEADER = struct.Struct(">HHH")
USAGE_AP_REQ = 11
USAGE_AP_REP = 12
USAGE_PRIV = 13
_MOST_PASSWORD_BYTES = 1024


class Result(enum.IntEnum):
    """Section 2."""

    SUCCESS = 0
    MALFORMED = 1
    HARD_ERROR = 2
    AUTHENTICATION_ERROR = 3
    SOFT_ERROR = 4
    ACCESS_DENIED = 5
    BAD_VERSION = 6
    INITIAL_FLAG_NEEDED = 7


@attrs.frozen
class Change:
    """Who wants whose password to be what."""

    client: Principal
    target: Principal
    password: str = attrs.field(repr=False)


@attrs.frozen
class _ChangePasswordData:
    password: bytes = element(0, OCTETS)
    name: PrincipalName | None = element(1, PRINCIPAL_NAME.kind, optional=True)
    realm: str | None = element(2, TEXT, optional=True)


DATA = Layout(_ChangePasswordData)


@attrs.define
class PasswordService:
    """``change`` makes the change, and returns what is wrong with it, or SUCCESS and a text."""

    realm: Realm
    change: Callable[[Change], tuple[Result, str]]
    address: HostAddress
    _used: Authenticators = attrs.field(factory=Authenticators, init=False, repr=False)

    def answer(self, request: bytes, now: float) -> bytes | None:
        """Return the answer; None to what is no request of this protocol."""
        if len(request) < _HEADER.size:
            return None
        length, version, header_length = _HEADER.unpack_from(request)
        if length != len(request) or _HEADER.size + header_length > length:
            return None
        if version not in (_CHANGE_VERSION, _SET_VERSION):
            text = "only versions 1 and 0xff80 of this protocol are spoken here"
            return self._refusal(Result.BAD_VERSION, text, now)
        header_end = _HEADER.size + header_length
        try:
            header = presented(self.realm, request[_HEADER.size : header_end], USAGE_AP_REQ, now)
            self._check(header, now)
        except KerberosError as error:
            return self._refusal(Result.AUTHENTICATION_ERROR, error.whole_text, now, error.code)
        result, text = self._decided(header, version, request[header_end:])
        return self._reply(header, result, text)

    def _check(self, header: Presented, now: float) -> None:
        """The ticket is for this service, has a subkey with it, and has not been used."""
        if header.entry.principal.components != CHANGE_SERVICE:
            raise KerberosError(Code.NOT_US, f"the ticket is not for {'/'.join(CHANGE_SERVICE)}")
        if header.subkey is None:
            raise KerberosError(Code.BAD_MATCH, "the authenticator has no subkey")
        keep_seconds = 2 * self.realm.policy.skew_seconds
        if not self._used.is_new(header.sealed_authenticator, now, keep_seconds):
            raise KerberosError(Code.REPEATED, "this authenticator has been used before")

    def _decided(self, header: Presented, version: int, sealed: bytes) -> tuple[Result, str]:
        try:
            message = KRB_PRIV.decode(sealed)
            part = ENC_KRB_PRIV_PART.decode(header.reply_key.open(USAGE_PRIV, message.part.cipher))
            wanted = _wanted(header, version, part.content)
        except IntegrityFailure:
            return Result.AUTHENTICATION_ERROR, "the new password does not open"
        except ValueError as error:  # and what is no UTF-8
            return Result.MALFORMED, f"malformed request: {error}"
        if part.sequence is not None and part.sequence != header.authenticator.sequence:
            return Result.AUTHENTICATION_ERROR, "the new password is of another request"
        # Section 2: a ticket that was lent to a program changes no password of its owner.
        if wanted.client == wanted.target and not header.part.flags & Flag.INITIAL:
            return Result.INITIAL_FLAG_NEEDED, "get the ticket with the old password"
        return self.change(wanted)

    def _reply(self, header: Presented, result: Result, text: str) -> bytes:
        random, authenticator = self.realm.random, header.authenticator
        sequence = int.from_bytes(random(4), "big") >> 2
        part = EncAPRepPart(authenticator.moment, authenticator.microseconds, None, sequence)
        cipher = header.session.seal(USAGE_AP_REP, ENC_AP_REP_PART.encode(part), random(16))
        answer = AP_REP.encode(APRep(PVNO, 15, EncryptedData(header.session.etype, None, cipher)))
        content = result.to_bytes(2, "big") + text.encode()
        private = EncKRBPrivPart(content, None, None, sequence, self.address, None)
        key = header.reply_key
        cipher = key.seal(USAGE_PRIV, ENC_KRB_PRIV_PART.encode(private), random(16))
        sealed = KRB_PRIV.encode(KRBPriv(PVNO, 21, EncryptedData(key.etype, None, cipher)))
        length = _HEADER.size + len(answer) + len(sealed)
        return _HEADER.pack(length, _CHANGE_VERSION, len(answer)) + answer + sealed

    def _refusal(self, result: Result, text: str, now: float, code: Code = Code.GENERIC) -> bytes:
        """Section 2: a KRB-ERROR, as there is nobody known to seal an answer for."""
        error = KRBError(
            version=PVNO,
            message_type=30,
            client_moment=None,
            client_microseconds=None,
            moment=int(now),
            microseconds=int(now % 1 * 1_000_000),
            code=code,
            client_realm=None,
            client=None,
            realm=self.realm.name,
            server=PrincipalName(2, CHANGE_SERVICE),
            text=text,
            details=result.to_bytes(2, "big") + text.encode(),
        )
        content = KRB_ERROR.encode(error)
        return _HEADER.pack(_HEADER.size + len(content), _CHANGE_VERSION, 0) + content


def _wanted(header: Presented, version: int, content: bytes) -> Change:
    """Raises `ValueError`."""
    client = Principal(header.part.client.components, header.part.realm)
    target = client
    if version == _SET_VERSION:
        try:
            asked = DATA.decode(content)
        except DERError as error:
            raise ValueError(str(error)) from None
        content = asked.password
        if asked.name is not None:
            target = Principal(asked.name.components, asked.realm or header.part.realm)
    if len(content) > _MOST_PASSWORD_BYTES:
        raise ValueError(f"a password of more than {_MOST_PASSWORD_BYTES} bytes")
    return Change(client, target, content.decode())
