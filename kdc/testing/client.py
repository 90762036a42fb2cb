"""A Kerberos client in Python: gets tickets where there is no ``kinit``, and says why if it cannot.

It is for tests.  What it receives is checked as far as RFC 4120 sections 3.1.5 and 3.3.4 want,
and nothing is cached.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

import attrs

from kdc.errors import ConfigurationError, KDCUnreachable
from kdc.kerberos.ccache import Credential
from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code
from kdc.kerberos.keys import DEFAULT_ETYPES
from kdc.kerberos.layout import Layout
from kdc.kerberos.messages import (
    AP_REQ,
    AS_REP,
    AS_REQ,
    AUTHENTICATOR,
    ENC_AS_REP_PART,
    ENC_TGS_REP_PART,
    ENCRYPTED_DATA,
    ETYPE_INFO2,
    KDC_REQ_BODY,
    KRB_ERROR,
    METHOD_DATA,
    PA_ENC_TIMESTAMP,
    PVNO,
    TGS_REP,
    TGS_REQ,
    APReq,
    Authenticator,
    Checksum,
    EncKDCRepPart,
    EncryptedData,
    EncryptionKey,
    KDCRep,
    KDCReq,
    KDCReqBody,
    KRBError,
    PAData,
    PAEncTimestamp,
    Ticket,
)
from kdc.kerberos.names import Principal
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import PROFILES, IntegrityFailure, Key
from kdc.kerberos.realm import TGS
from kdc.kerberos.tickets import Flag

__all__ = ["Client", "TicketRefused", "Wanted", "over_tcp"]

_TIMEOUT_SECONDS = 30.0
_AS, _TGS, _AP = 10, 12, 14


class TicketRefused(ConfigurationError):
    """The KDC answered with an error; ``code`` is its number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text or f"the KDC refuses with error {code}")
        self.code = code


@attrs.frozen
class Wanted:
    """What a ticket is to be.  Times are seconds since 1970; 0 as an end is as late as can be."""

    options: int = int(Flag.FORWARDABLE | Flag.PROXIABLE | Flag.RENEWABLE_OK)
    start: int | None = None
    till: int = 0
    renew_till: int | None = None
    etypes: tuple[int, ...] = DEFAULT_ETYPES
    padata: tuple[PAData, ...] = ()
    tickets: tuple[Ticket, ...] | None = None
    authorization: EncryptedData | None = None


def over_tcp(host: str, port: int) -> Callable[[bytes], bytes]:
    """Return what sends a message to that address and returns the answer."""

    def exchange(message: bytes) -> bytes:
        try:
            with socket.create_connection((host, port), _TIMEOUT_SECONDS) as connection:
                connection.sendall(len(message).to_bytes(4, "big") + message)
                with connection.makefile("rb") as stream:
                    length = int.from_bytes(stream.read(4), "big")
                    answer = stream.read(length)
        except OSError as error:
            text = f"no answer from the realm at {host} port {port}: {error}"
            raise KDCUnreachable(text, hint="see that the realm runs and is not paused") from None
        if not answer or len(answer) != length:
            text = f"no whole answer from the realm at {host} port {port}"
            raise KDCUnreachable(text, hint="see that the realm runs and is not paused")
        return answer

    return exchange


@attrs.frozen
class Client:
    """Asks one KDC; ``exchange`` takes a request there and brings the answer."""

    realm: str
    exchange: Callable[[bytes], bytes]
    now: Callable[[], float] = time.time
    random: Callable[[int], bytes] = os.urandom

    def initial(
        self,
        principal: Principal,
        secret: str | Callable[[int], Key],
        wanted: Wanted = Wanted(),
        service: tuple[str, ...] = (),
    ) -> Credential:
        """Return a ticket for the ticket-granting service, or another, by an AS exchange.

        ``secret`` is a password, or returns the key of an encryption type.
        """
        server = Principal(service or (TGS, self.realm), self.realm)
        body = self._body(principal, server, wanted)
        padata = (*wanted.padata, PAData(PadataType.REQ_ENC_PA_REP, b""))
        try:
            reply = self._asked(AS_REQ, _AS, body, padata)
            key = self._reply_key(principal, secret, reply.padata or (), reply.part.etype)
        except _Refused as refused:
            if refused.error.code != Code.PREAUTH_REQUIRED:
                raise refused.public() from None
            key = self._offered(principal, secret, refused.error)
            stamp = self._timestamp(key)
            try:
                reply = self._asked(AS_REQ, _AS, body, (*padata, stamp))
            except _Refused as again:
                raise again.public() from None
        return self._credential(reply, key, 3, body)

    def service(
        self, credential: Credential, server: Principal, wanted: Wanted = Wanted()
    ) -> Credential:
        """Return a ticket for ``server`` by a TGS exchange."""
        body = self._body(None, server, wanted)
        content = KDC_REQ_BODY.encode(body)
        checksum = Checksum(
            credential.key.profile.checksum_type, credential.key.checksum(6, content)
        )
        header = self.ap_request(credential, 7, checksum)
        padata = (PAData(PadataType.TGS_REQ, header), *wanted.padata)
        try:
            reply = self._asked(TGS_REQ, _TGS, body, padata)
        except _Refused as refused:
            raise refused.public() from None
        return self._credential(reply, credential.key, 8, body)

    def ap_request(
        self,
        credential: Credential,
        usage: int,
        checksum: Checksum | None = None,
        subkey: Key | None = None,
    ) -> bytes:
        """Return a ticket with a fresh authenticator."""
        now = self.now()
        authenticator = Authenticator(
            version=PVNO,
            realm=credential.client.realm,
            client=credential.client.name(),
            checksum=checksum,
            microseconds=int(now % 1 * 1_000_000),
            moment=int(now),
            subkey=None if subkey is None else EncryptionKey(subkey.etype, subkey.content),
            sequence=None,
            authorization=None,
        )
        cipher = credential.key.seal(usage, AUTHENTICATOR.encode(authenticator), self.random(16))
        sealed = EncryptedData(credential.key.etype, None, cipher)
        return AP_REQ.encode(APReq(PVNO, _AP, 0, credential.ticket, sealed))

    def _body(self, client: Principal | None, server: Principal, wanted: Wanted) -> KDCReqBody:
        return KDCReqBody(
            options=wanted.options,
            client=None if client is None else client.name(),
            realm=self.realm,
            server=server.name(2),
            start_time=wanted.start,
            till=wanted.till,
            renew_till=wanted.renew_till,
            nonce=int.from_bytes(self.random(4), "big") >> 1,
            etypes=wanted.etypes,
            addresses=None,
            authorization=wanted.authorization,
            tickets=wanted.tickets,
        )

    def _asked(
        self, layout: Layout[KDCReq], kind: int, body: KDCReqBody, padata: tuple[PAData, ...]
    ) -> KDCRep:
        request = layout.encode(KDCReq(PVNO, kind, padata or None, KDC_REQ_BODY.encode(body)))
        answer = self.exchange(request)
        try:
            if answer[:1] == b"\x7e":
                raise _Refused(KRB_ERROR.decode(answer))
            return (AS_REP if kind == _AS else TGS_REP).decode(answer)
        except DERError as error:
            raise ConfigurationError(f"what answers is no KDC: {error}") from None

    def _offered(
        self, principal: Principal, secret: str | Callable[[int], Key], error: KRBError
    ) -> Key:
        """The key of the first type that the KDC and we have."""
        hints = METHOD_DATA.decode(error.details or METHOD_DATA.encode(()))
        return self._reply_key(principal, secret, hints, None)

    def _reply_key(
        self,
        principal: Principal,
        secret: str | Callable[[int], Key],
        padata: tuple[PAData, ...],
        etype: int | None,
    ) -> Key:
        infos = [p.content for p in padata if p.kind == PadataType.ETYPE_INFO2]
        for info in ETYPE_INFO2.decode(infos[0]) if infos else ():
            if info.etype in PROFILES and etype in (None, info.etype):
                if callable(secret):
                    return secret(info.etype)
                salt = principal.salt if info.salt is None else info.salt
                content = PROFILES[info.etype].string_to_key(secret, salt)
                return Key(info.etype, content)
        raise ConfigurationError("the KDC names no encryption type that is known here")

    def _timestamp(self, key: Key) -> PAData:
        now = self.now()
        stamp = PA_ENC_TIMESTAMP.encode(PAEncTimestamp(int(now), int(now % 1 * 1_000_000)))
        cipher = key.seal(1, stamp, self.random(16))
        content = ENCRYPTED_DATA.encode(EncryptedData(key.etype, None, cipher))
        return PAData(PadataType.ENC_TIMESTAMP, content)

    def _credential(
        self,
        reply: KDCRep,
        key: Key,
        usage: int,
        body: KDCReqBody,
    ) -> Credential:
        """3.1.5, 3.3.4: the reply opens, and is the one to this request."""
        try:
            part = _part(key.open(usage, reply.part.cipher))
        except (IntegrityFailure, DERError):
            hint = "check the password or the keytab"
            raise ConfigurationError("the reply does not open under our key", hint=hint) from None
        if part.nonce != body.nonce:
            raise ConfigurationError("the reply is to another request")
        return Credential(
            client=Principal(reply.client.components, reply.realm),
            server=Principal(part.server.components, part.realm),
            key=Key(part.key.etype, part.key.content),
            auth_time=part.auth_time,
            start_time=part.auth_time if part.start_time is None else part.start_time,
            end_time=part.end_time,
            renew_till=part.renew_till or 0,
            flags=part.flags,
            ticket=reply.ticket,
        )


def _part(data: bytes) -> EncKDCRepPart:
    """5.4.2: some KDCs, MIT's for one, have the tag of a TGS reply in an AS reply, too."""
    is_tgs = data[:1] == bytes((ENC_TGS_REP_PART.kind.identifier,))
    return (ENC_TGS_REP_PART if is_tgs else ENC_AS_REP_PART).decode(data)


class _Refused(Exception):
    """The KDC's error, as it came."""

    def __init__(self, error: KRBError) -> None:
        super().__init__(error.code)
        self.error = error

    def public(self) -> TicketRefused:
        return TicketRefused(self.error.code, self.error.text or "")
