"""One TLS connection to the KDC, and the requests on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.client._refusals import error_of, error_of_proof
from kdc.client.identity import ClientTLS
from kdc.errors import (
    ErrorKind,
    KDCError,
    KDCUnreachable,
    Refusal,
    RemoteProtocolError,
    Superseded,
    WrongIdentity,
)
from kdc.net import clock
from kdc.net.sockets import notice_dead_peers
from kdc.net.tls import ALPN, channel_binding, peer_fingerprint
from kdc.protocol.codec import MAX_FRAME, FrameBuffer
from kdc.protocol.crypto import LongTermKeys
from kdc.protocol.kdc_exchange import Exchange, Grant, Reply, Sent
from kdc.protocol.messages import (
    Authenticated,
    Changed,
    EpochEnded,
    KeyReply,
    Receiving,
    Refused,
    Registered,
)

__all__ = ["KDCLink"]

REQUEST_SECONDS = 10.0

R = TypeVar("R", bound=Reply)


@implementer(IHandshakeListener)
class KDCLink(Protocol):
    """One connection to a KDC whose identity has been checked before a byte was sent."""

    def __init__(
        self, tls: ClientTLS, where: str, clock: IReactorTime, random: Callable[[int], bytes]
    ) -> None:
        self.ready: Deferred[KDCLink] = Deferred()
        self.lost: Deferred[KDCError] = Deferred()
        self.superseded = False
        self.generation = 0
        self._tls = tls
        self._where = where
        self._clock = clock
        self._random = random
        self._frames = FrameBuffer(MAX_FRAME)
        self._exchange: Exchange | None = None
        self._waiting: dict[bytes, Deferred[Reply]] = {}
        self._introduction: Deferred[None] | None = None
        self._answered = False
        self._error: KDCError | None = None

    @property
    def fingerprint(self) -> str:
        """Of the KDC at the other end."""
        return peer_fingerprint(cast(Any, self.transport).getHandle())

    @property
    def address(self) -> str:
        """Of the KDC, as we have reached it."""
        return str(cast(Any, self.transport).getPeer().host)

    @property
    def where(self) -> str:
        """The KDC, as people call it."""
        return self._where

    @property
    def alive(self) -> bool:
        return self._error is None

    def connectionMade(self) -> None:
        notice_dead_peers(self.transport)

    def handshakeCompleted(self) -> None:
        transport = cast(Any, self.transport)
        try:
            self._tls.identity.check(transport.getHandle())
            if transport.negotiatedProtocol != ALPN:
                raise KDCUnreachable(f"what answers at {self._where} is not a KDC (no ALPN kdp/1)")
        except KDCError as error:
            self._fail(error)
            return
        self.ready.callback(self)

    def dataReceived(self, data: bytes) -> None:
        if not self.alive:
            return  # it may go on for as long as it likes, and fills nothing
        self._frames.feed(data)
        try:
            while self.alive and (body := self._frames.next()) is not None:
                self._take(body)
        except RemoteProtocolError as error:
            self._fail(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._error is None:
            self._error = self._why_lost(reason)
        error = self._error
        if not self.ready.called:
            self.ready.errback(error)
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(error)
        self.lost.callback(error)

    def use(self, keys: LongTermKeys) -> None:
        """Speak as the principal that holds ``keys`` from now on."""
        binding = channel_binding(cast(Any, self.transport).getHandle())
        self._exchange = Exchange(keys, binding, self._random)

    async def authenticate(self) -> int:
        """Prove who we are; return the generation of our record."""
        sent = self._speaking.authenticate()
        what = "authentication refused"
        answer = await self._ask(sent, Authenticated, what, error_of_proof)
        self.generation = answer.generation
        return answer.generation

    def introduce(self) -> None:
        """Begin to prove who we are; what is asked next goes out with it, and is answered after it.

        If the proof is refused, all that was asked fails with that.
        """
        self._introduction = Deferred.fromCoroutine(self._introduce())

    async def introduced(self) -> None:
        """Return when the KDC has accepted our proof; one at a time may wait for it."""
        if self._introduction is not None:
            await self._introduction
        if self._error is not None:
            raise self._error

    async def _introduce(self) -> None:
        try:
            await self.authenticate()
        except KDCError as error:
            self._fail(error)

    async def register(self, address: str, port: int, invitation: bytes = b"") -> int:
        sent = self._speaking.register(address, port, invitation)
        return (await self._ask(sent, Registered, "registration refused")).generation

    async def change(self, new_keys: LongTermKeys, address: str = "", port: int = 0) -> int:
        sent = self._speaking.change(new_keys, address, port)
        return (await self._ask(sent, Changed, "the change was refused")).generation

    async def delete(self) -> int:
        sent = self._speaking.delete()
        return (await self._ask(sent, Changed, "the deletion was refused")).generation

    async def request_key(self, peer: str) -> Grant:
        asked = clock.milliseconds()
        sent, grant = self._speaking.request_key(peer)
        return grant(await self._ask(sent, KeyReply, f"no key for {peer}"), asked)

    async def receive_under(self, receiver_key: bytes, address: str, port: int) -> Receiving:
        sent = self._speaking.receive_under(receiver_key, address, port)
        return await self._ask(sent, Receiving, "the KDC does not let us receive")

    def close(self) -> None:
        if self.alive:
            self._error = KDCUnreachable("the connection to the KDC is closed")
            cast(Any, self.transport).loseConnection()

    @property
    def _speaking(self) -> Exchange:
        if self._error is not None:
            raise self._error
        if self._exchange is None:
            raise RuntimeError("use() comes first")
        return self._exchange

    async def _ask(
        self,
        sent: Sent,
        expected: type[R],
        what: str,
        worded: Callable[[Refused, str], KDCError] = error_of,
    ) -> R:
        answer: Deferred[Reply] = Deferred()
        self._waiting[sent.nonce] = answer
        cast(Any, self.transport).write(sent.data)
        try:
            reply = await answer.addTimeout(REQUEST_SECONDS, self._clock)
        except TimeoutError:
            error = KDCUnreachable(
                f"the KDC at {self._where} did not answer within {REQUEST_SECONDS:.0f} s"
            )
            self._fail(error)
            raise error from None
        finally:
            self._waiting.pop(sent.nonce, None)
        if isinstance(reply, Refused):
            raise worded(reply, what)
        if not isinstance(reply, expected):
            raise TypeError(f"{type(reply).__name__} is no answer to this")
        return reply

    def _take(self, body: bytes) -> None:
        if self._exchange is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the KDC speaks before it was asked")
        answer = self._exchange.take(body)
        self._answered = True
        if isinstance(answer.message, EpochEnded):
            # Not `close`: that waits for the other side, and this must be heard at once,
            # also by who waits for his next epoch: he must not come back for it.
            self.superseded = True
            self._fail(
                Superseded(
                    "somebody began to receive under our name elsewhere",
                    hint="if that was not you, the key is stolen: change it at once",
                )
            )
            return
        waiting = self._waiting.pop(answer.nonce or b"", None)
        if waiting is not None and not waiting.called:
            waiting.callback(answer.message)

    def _fail(self, error: KDCError) -> None:
        if self._error is None:
            self._error = error
        cast(Any, self.transport).abortConnection()

    def _why_lost(self, reason: Failure) -> KDCError:
        value = reason.value
        if self.ready.called and self._answered:
            return KDCUnreachable(f"the connection to the KDC at {self._where} was lost")
        if isinstance(value, SSL.Error) and not self.ready.called:
            if "certificate verify failed" in str(value):
                return WrongIdentity(
                    f"the certificate of the KDC at {self._where} does not verify",
                    hint="name its CA, or pin its fingerprint",
                    kind=ErrorKind.CERTIFICATE_UNVERIFIED,
                )
            return KDCUnreachable(
                f"what answers at {self._where} does not speak this protocol (TLS 1.3, kdp/1)",
                hint="check the port",
            )
        return dropped(self._where)


class _Busy(KDCUnreachable):
    """So it is with a KDC that has too many newcomers; worth another try."""


class _Dropped(_Busy):
    """It closed the connection before it had answered anything: it has no room."""


class _Silent(_Busy):
    """It has not begun TLS: our turn has not come."""


def dropped(where: str) -> _Dropped:
    return _Dropped(
        f"the KDC at {where} closed the connection before it had answered",
        hint="it may be too busy, or the port belongs to another program",
    )
