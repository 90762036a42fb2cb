"""The KDC: bytes of a request in, bytes of the answer and what was decided out."""

from __future__ import annotations

import attrs

from kdc.kerberos.as_exchange import authenticate
from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.fast import armoured_error, armoured_outcome, unwrapped
from kdc.kerberos.layout import Layout
from kdc.kerberos.messages import (
    AS_REP,
    AS_REQ,
    ENC_AS_REP_PART,
    ENC_TGS_REP_PART,
    KRB_ERROR,
    METHOD_DATA,
    PVNO,
    TGS_REP,
    TGS_REQ,
    KDCReq,
    KDCReqBody,
    KRBError,
    PAData,
    PrincipalName,
)
from kdc.kerberos.names import NameType
from kdc.kerberos.padata import PadataType
from kdc.kerberos.realm import Realm
from kdc.kerberos.replay import Authenticators, LookAside
from kdc.kerberos.replies import encrypted_padata
from kdc.kerberos.request import Request, read_body
from kdc.kerberos.tgs_exchange import grant, header_of

__all__ = ["KDC", "MAX_DATAGRAM", "MAX_REQUEST", "Answer", "Asked"]

# 7.2.1: more than this goes by TCP.
MAX_DATAGRAM = 4096
MAX_REQUEST = 65_535
_AS_REQ_TYPE = 10
_TGS_REQ_TYPE = 12
_AS_TAG = 0x60 | _AS_REQ_TYPE
_TGS_TAG = 0x60 | _TGS_REQ_TYPE
_KRB_ERROR_TYPE = 30


@attrs.frozen
class Asked:
    """Who asked for what, as far as that could be read; ``cookie`` is the one that came along."""

    initial: bool = True
    client: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    cookie: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class Answer:
    """``code`` is None if a ticket was issued; ``text`` is for a log, and holds no secret.

    ``again``: the same request had it before, and nothing was decided now.
    """

    reply: bytes = attrs.field(repr=False)
    code: Code | None = None
    text: str = ""
    asked: Asked | None = None
    error: KerberosError | None = attrs.field(default=None, repr=False)
    again: bool = False


@attrs.define
class _Exchange:
    """What is known of a request so far, for the error that may end it."""

    request: Request | None = None
    client: tuple[str, ...] = ()

    @property
    def asked(self) -> Asked | None:
        request = self.request
        if request is None:
            return None
        body = request.body
        return Asked(
            request.whole[0] == _AS_TAG,
            self.client or (body.client.components if body.client else ()),
            body.server.components if body.server else (),
            request.padata_of(PadataType.FX_COOKIE) or b"",
        )


@attrs.define
class KDC:
    """One realm's KDC.  It remembers what it answered, and nothing else."""

    realm: Realm
    _answers: LookAside[Answer] = attrs.field(factory=LookAside, init=False, repr=False)
    _used: Authenticators = attrs.field(factory=Authenticators, init=False, repr=False)

    def answer(
        self, request: bytes, now: float, *, datagram: bool = False, cookie: bytes = b""
    ) -> Answer:
        """Return the answer to ``request``, whatever that is; ``datagram`` bounds its size.

        ``cookie`` is what the client is to bring back if it has to preauthenticate.
        """
        if len(request) > MAX_REQUEST:
            error = KerberosError(Code.FIELD_TOO_LONG, "the request is too long")
            return self.refusal(error, now)
        # 3.1.2, 3.3.2: who asks again with the same bytes has not got the answer.
        before = self._answers.get(request, now)
        if before is not None:
            answer = attrs.evolve(before, again=True)
        else:
            answer = self._decided(request, now, cookie)
            self._answers.put(request, answer, now)
        if datagram and len(answer.reply) > MAX_DATAGRAM:
            too_big = KerberosError(Code.TOO_BIG, "the answer does not fit into a datagram")
            return self.refusal(too_big, now)
        return answer

    def _decided(self, data: bytes, now: float, cookie: bytes) -> Answer:
        exchange = _Exchange()
        try:
            if data[:1] == bytes((_AS_TAG,)):
                request = exchange.request = self._read(AS_REQ, _AS_REQ_TYPE, data, now, cookie)
                request = exchange.request = unwrapped(self.realm, request, None)
                outcome = authenticate(self.realm, request)
                layout, part = AS_REP, ENC_AS_REP_PART
            elif data[:1] == bytes((_TGS_TAG,)):
                request = exchange.request = self._read(TGS_REQ, _TGS_REQ_TYPE, data, now)
                header = header_of(self.realm, request, self._used)
                exchange.client = header.part.client.components
                request = exchange.request = unwrapped(self.realm, request, header)
                outcome = grant(self.realm, request, header)
                layout, part = TGS_REP, ENC_TGS_REP_PART
            else:
                raise KerberosError(Code.GENERIC, "this is neither an AS nor a TGS request")
            outcome = armoured_outcome(self.realm, request, outcome)
            # RFC 6806 section 11: under the key that FAST has made of the reply's.
            proof = encrypted_padata(self.realm, request, outcome.key)
            encoded = part.but_last(outcome.part)(proof)
            reply = outcome.sealed(self.realm, encoded)
            return Answer(layout.encode(reply), None, "issued", exchange.asked)
        except KerberosError as error:
            refusal = self.refusal(error, now, exchange.request)
            return attrs.evolve(refusal, asked=exchange.asked)

    def _read(
        self, layout: Layout[KDCReq], kind: int, data: bytes, now: float, cookie: bytes = b""
    ) -> Request:
        try:
            message = layout.decode(data)
        except DERError as error:
            raise KerberosError(Code.GENERIC, f"malformed request: {error}") from None
        body = read_body(self.realm, message, kind)
        return Request(body, message.padata or (), now, data, message.body, cookie=cookie)

    def refusal(
        self,
        error: KerberosError,
        now: float,
        request: Request | None = None,
        *,
        brief: bool = False,
    ) -> Answer:
        """Return the KRB-ERROR; inside of FAST if the request was (RFC 6113 section 5.4.4).

        A ``brief`` one says nothing to people.
        """
        body = request.body if request else None
        armour = request.armour if request else None
        details = error.details
        if armour is not None:
            hints: tuple[PAData, ...] = METHOD_DATA.decode(details) if details else ()
            bare = self._error(error, now, body, None, error.whole_text)
            details = armoured_error(self.realm, armour, bare, hints)
        text = None if brief else error.whole_text
        reply = self._error(error, now, body, details, text)
        return Answer(reply, error.code, str(error), error=error)

    def _error(
        self,
        error: KerberosError,
        now: float,
        body: KDCReqBody | None,
        details: bytes | None,
        text: str | None,
    ) -> bytes:
        server = body.server if body and body.server else None
        message = KRBError(
            version=PVNO,
            message_type=_KRB_ERROR_TYPE,
            client_moment=None,
            client_microseconds=None,
            moment=int(now),
            microseconds=int(now % 1 * 1_000_000),
            code=error.code,
            client_realm=self.realm.name if body and body.client else None,
            client=body.client if body else None,
            realm=self.realm.name,
            server=server or PrincipalName(NameType.SERVICE, self.realm.tgs.components),
            text=text,
            details=details,
        )
        return KRB_ERROR.encode(message)
