"""The client's connection to the KDC, as Twisted sees it.

`KDCLink` is one connection; `KDCClient` makes them when they are needed and
turns every way they can fail into an error that a person can act on.
"""

from __future__ import annotations

import os
import random as _random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import attrs
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IHandshakeListener, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.errors import (
    AuthenticationRefused,
    KDCError,
    KDCUnreachable,
    NameTaken,
    NotReceiving,
    Refusal,
    RefusedByPolicy,
    RemoteProtocolError,
    Superseded,
    TooBusy,
    UnknownPeer,
    WrongIdentity,
)
from kdc.net.sockets import notice_dead_peers
from kdc.net.tls import ALPN, ClientTLS, channel_binding, peer_fingerprint
from kdc.protocol.codec import MAX_FRAME, FrameBuffer
from kdc.protocol.crypto import LongTermKeys
from kdc.protocol.kdc_exchange import Exchange, Grant, Reply, Sent
from kdc.protocol.messages import Authenticated, Changed, KeyReply, Receiving, Refused, Registered
from kdc.protocol.messages import Superseded as SupersededMessage

__all__ = ["KDCClient", "KDCLink", "backoff", "reason_of"]

REQUEST_SECONDS = 10.0
CONNECT_SECONDS = 10.0
R = TypeVar("R", bound=Reply)
T = TypeVar("T")

_REFUSALS: dict[Refusal, tuple[type[KDCError], str, str]] = {
    Refusal.VERSION: (KDCUnreachable, "the KDC speaks another version", "update this program"),
    Refusal.NOT_AUTHENTIC: (
        AuthenticationRefused,
        "wrong passphrase or key, or there is no such principal",
        "check the name, the secret and the realm",
    ),
    Refusal.NAME_TAKEN: (
        NameTaken,
        "the name is registered already, with another secret",
        "give the passphrase it was registered with, or choose another name",
    ),
    Refusal.INVITATION: (
        AuthenticationRefused,
        "this KDC does not register new names without a valid invitation",
        "ask its operator for one: kdc admin invite NAME",
    ),
    Refusal.UNKNOWN_PRINCIPAL: (
        UnknownPeer,
        "the KDC knows nobody of that name",
        "check the spelling; the peer has to register first",
    ),
    Refusal.NOT_RECEIVING: (
        NotReceiving,
        "the peer is registered, but not receiving now",
        "start its receiver first",
    ),
    Refusal.NOT_ALLOWED: (
        RefusedByPolicy,
        "the KDC does not allow this",
        "nobody may ask for a key to himself; otherwise it is the realm's policy",
    ),
    Refusal.INTERNAL: (
        KDCUnreachable,
        "the KDC could not do it now; nothing was changed",
        "try again later; its log says why",
    ),
}


def _error_of(refused: Refused, what: str) -> KDCError:
    if refused.code is Refusal.RATE:
        seconds = max(1, refused.retry_after)
        return TooBusy(
            f"{what}: the KDC limits how often this may be asked",
            retry_after=seconds,
            hint=f"try again in {seconds} s",
        )
    error, text, hint = _REFUSALS.get(
        refused.code, (KDCUnreachable, "the KDC did not understand", "update this program")
    )
    return error(f"{what}: {text}", hint=hint)


def backoff(attempt: int, *, first: float = 0.1, most: float = 60.0) -> float:
    """Seconds to wait before try ``attempt`` (from 0): growing, and never the same for two."""
    return _random.SystemRandom().uniform(0.5, 1.0) * min(most, first * 2.0 ** min(attempt, 20))


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
        answer = await self._ask(sent, Authenticated, "authentication refused")
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
        sent, grant = self._speaking.request_key(peer)
        return grant(await self._ask(sent, KeyReply, f"no key for {peer}"))

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

    async def _ask(self, sent: Sent, expected: type[R], what: str) -> R:
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
            raise _error_of(reply, what)
        if not isinstance(reply, expected):
            raise TypeError(f"{type(reply).__name__} is no answer to this")
        return reply

    def _take(self, body: bytes) -> None:
        if self._exchange is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the KDC speaks before it was asked")
        answer = self._exchange.take(body)
        if isinstance(answer.message, SupersededMessage):
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
        if self.ready.called:
            return KDCUnreachable(f"the connection to the KDC at {self._where} was lost")
        if isinstance(value, SSL.Error):
            if "certificate verify failed" in str(value):
                return WrongIdentity(
                    f"the certificate of the KDC at {self._where} does not verify",
                    hint="give its CA with --kdc-ca, or pin its fingerprint",
                )
            return KDCUnreachable(
                f"what answers at {self._where} does not speak this protocol (TLS 1.3, kdp/1)",
                hint="check the port",
            )
        return _Dropped(
            f"the KDC at {self._where} closed the connection before it began",
            hint="it may be too busy, or the port belongs to another program",
        )


class _Dropped(KDCUnreachable):
    """Closed before TLS was up: what a KDC does that has too many newcomers; worth another try."""


@attrs.define
class KDCClient:
    """One principal's dealings with its KDC: a connection when it is needed, kept while it lasts.

    ``where`` is how people call the KDC.  Everything raises `KDCError`.
    """

    reactor: Any
    endpoint: IStreamClientEndpoint
    tls: ClientTLS
    keys: LongTermKeys
    where: str
    random: Callable[[int], bytes] = os.urandom
    _link: KDCLink | None = attrs.field(default=None, init=False)
    _lock: DeferredLock = attrs.field(factory=DeferredLock, init=False)

    async def connect(self) -> KDCLink:
        """Return a new connection, the KDC's identity checked and nothing said yet."""
        deadline = self.reactor.seconds() + CONNECT_SECONDS
        attempt = 0
        while True:
            try:
                link = await self._connect_once()
            except _Dropped:
                pause = backoff(attempt)
                attempt += 1
                if self.reactor.seconds() + pause > deadline:
                    raise
                await deferLater(self.reactor, pause)
            else:
                link.use(self.keys)
                return link

    async def login(self) -> KDCLink:
        """Return a new connection on which we are authenticated."""
        link = await self.connect()
        try:
            await link.authenticate()
        except (KDCError, CancelledError):
            link.close()
            raise
        return link

    async def register(self, address: str, port: int, invitation: bytes = b"") -> int:
        """Take our name; returns once the KDC has it on disk."""
        link = await self.connect()
        try:
            generation = await link.register(address, port, invitation)
            await link.authenticate()
        except (KDCError, CancelledError):
            link.close()
            raise
        self._link = link
        return generation

    async def link(self) -> KDCLink:
        """Return the connection on which we are authenticated: the open one, or a new one."""
        await self._lock.acquire()
        try:
            link = await self._open_link()
            try:
                await link.introduced()
            except CancelledError:
                link.close()
                raise
            return link
        finally:
            self._lock.release()

    async def grant(self, peer: str) -> Grant:
        """Return a fresh session key for one channel to ``peer``."""
        return await self.with_link(lambda link: link.request_key(peer))

    async def with_link(self, ask: Callable[[KDCLink], Awaitable[T]]) -> T:
        """Ask over the connection that is open, or over a new one if it has been lost.

        On a new one the question leaves together with our proof: one round trip for both.
        """
        link = await self._some_link()
        try:
            return await ask(link)
        except (KDCUnreachable, Superseded):
            if link.alive:
                raise
        # It may have been closed for idleness at the very moment we asked, or because
        # another receives under our name now: that is no reason not to ask.
        return await ask(await self._some_link())

    async def _some_link(self) -> KDCLink:
        await self._lock.acquire()
        try:
            return await self._open_link()
        finally:
            self._lock.release()

    async def _open_link(self) -> KDCLink:
        """Return the connection that is open, or a new one with our proof on its way."""
        if self._link is None or not self._link.alive:
            self._link = await self.connect()
            self._link.introduce()
        return self._link

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    async def _connect_once(self) -> KDCLink:
        factory = Factory.forProtocol(
            lambda: KDCLink(self.tls, self.where, self.reactor, self.random)
        )
        factory.noisy = False
        # Not wrapClientTLS: that takes its timers from the global reactor.
        secured = TLSMemoryBIOFactory(self.tls, True, factory, self.reactor)
        secured.noisy = False
        try:
            tls: Any = await self.endpoint.connect(secured)
        except (ConnectError, ConnectionClosed, OSError) as error:
            raise KDCUnreachable(
                f"no KDC answers at {self.where}: {reason_of(error)}",
                hint="is it running, and are address and port right?",
            ) from None
        link: KDCLink = tls.wrappedProtocol
        try:
            return await link.ready.addTimeout(CONNECT_SECONDS, self.reactor)
        except CancelledError:
            tls.abortConnection()
            raise
        except TimeoutError:
            tls.abortConnection()
            raise KDCUnreachable(
                f"the KDC at {self.where} did not begin TLS within {CONNECT_SECONDS:.0f} s"
            ) from None


def reason_of(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return text.partition(": ")[2].partition(": ")[2] or text
