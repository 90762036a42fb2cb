"""Receiving over a channel: look at the offer, answer it, store what comes, acknowledge it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.transport import ChannelTransport, IStreamProtocol
from kdc.errors import (
    IntegrityError,
    KDCError,
    LocalIOError,
    PeerUnavailable,
    RefusedByPolicy,
    RemoteProtocolError,
    TooLarge,
    malformed,
)
from kdc.net.background import background
from kdc.net.batching import Handover
from kdc.protocol.records import AckStatus
from kdc.transfer._framing import ItemReader
from kdc.transfer.deposit import Arrival, Deposit, Sealed, Stored
from kdc.transfer.messages import Accept, Held, Offer, Refuse

__all__ = ["Broken", "Inbox"]

OFFER_SECONDS = 60.0
REFUSED_SECONDS = 30.0
SILENT_SECONDS = 2.0
Run = Callable[..., "Deferred[Any]"]


@attrs.frozen
class Broken:
    """A transfer that did not come to its end.

    ``accepted``: whether it had begun; ``kept``: whether the same command can
    go on with what has come.
    """

    sender: str
    error: KDCError
    accepted: bool
    kept: bool


async def _anything(sender: str, offer: Offer) -> None:
    """Accept what anybody offers."""


@attrs.define
class Inbox(Factory["_ReceiveProtocol"]):
    """Where received things go, and which are wanted.

    ``consent`` is asked before anything is stored, and raises `RefusedByPolicy`
    for what is not wanted; it may take its time, and is cancelled when the sender
    leaves.  ``deposit`` makes a place for it.  ``received`` is told of each item
    when it is durable under its name, ``broken`` of what came to nothing.
    """

    noisy = False

    run: Run
    timers: Any
    deposit: Callable[[str, Offer], Deposit]
    consent: Callable[[str, Offer], Awaitable[None]] = _anything
    max_bytes: int | None = None
    capture: bool = False
    received: Callable[[str, Stored], None] = lambda sender, stored: None
    broken: Callable[[Broken], None] = lambda broken: None
    _arriving: dict[str, _ReceiveProtocol] = attrs.field(factory=dict, init=False)
    _settling: dict[str, Deferred[None]] = attrs.field(factory=dict, init=False)

    def buildProtocol(self, addr: Any) -> _ReceiveProtocol:
        return _ReceiveProtocol(self, addr.name)

    async def claim(self, key: str, protocol: _ReceiveProtocol) -> None:
        """Make way for ``protocol``, if what arrives under ``key`` is only the ghost of it.

        A sender that has lost its connection comes again long before the
        receiver of the old one can know.
        """
        if not key:
            return
        other = self._arriving.get(key)
        if other is not None and other.ending:
            await other.gone()  # the sender has not heard of its end, and comes again
        elif other is not None and await other.is_silent(self.timers):
            await other.give_way()
        self._arriving.setdefault(key, protocol)
        if key in self._settling:
            await self._settling[key]

    async def settle(self, deposit: Deposit) -> None:
        """Let ``deposit`` know that its sender knows, before the same may come again."""
        settling: Deferred[None] = Deferred()
        self._settling[deposit.key] = settling
        try:
            await self.run(deposit.settled)
        finally:
            if self._settling.get(deposit.key) is settling:
                del self._settling[deposit.key]
            settling.callback(None)

    def release(self, key: str, protocol: _ReceiveProtocol) -> None:
        if self._arriving.get(key) is protocol:
            del self._arriving[key]


@implementer(IStreamProtocol)
class _ReceiveProtocol(Protocol):
    """Hands one transfer to a `Deposit` in a worker thread, and says what became of it."""

    def __init__(self, inbox: Inbox, sender: str) -> None:
        self._inbox = inbox
        self._sender = sender
        self._reader = ItemReader(inbox.max_bytes)
        self._deposit: Deposit | None = None
        self._consent: Deferred[None] | None = None
        self._accepted = False
        self._arriving: Handover[Arrival]
        self._arrived = 0
        self._failed: KDCError | None = None
        self._useless = False
        self._ended = False
        self._stored = False
        self._gone: list[Deferred[None]] = []
        self._over = False
        self._late: Any = None

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        self._arriving = Handover(self._take, self._channel, self._inbox.timers)
        self._within(OFFER_SECONDS)
        if self._inbox.capture:
            self._channel.capture(self._captured)

    def dataReceived(self, data: bytes) -> None:
        if self._failed is not None:
            return
        self._arrived += len(data)
        try:
            for event in self._reader.feed(data):
                if isinstance(event, Offer):
                    self._cancel()
                    background(self._answer(event), "an offer")
                elif not self._accepted:
                    raise malformed("content before the offer was accepted")
                else:
                    self._arriving.add(event)
        except (RemoteProtocolError, TooLarge) as error:
            self._refuse(error)
            return
        self._arriving.arrived(len(data))

    async def endReceived(self) -> AckStatus:
        """Show all that came under its final name, or nothing."""
        self._ended = True
        self._cancel()
        if self._consent is not None:
            self._consent.cancel()
        if self._failed is None:
            try:
                for event in self._reader.end():
                    self._arriving.add(event)
            except RemoteProtocolError as error:
                self._refuse(error)
        await self._arriving.drained()
        if self._failed is None and self._accepted and self._deposit is not None:
            try:
                stored = await self._inbox.run(self._deposit.show)
            except KDCError as error:
                self._refuse(error)
            else:
                self._stored = True
                self._leave()
                for each in stored:
                    self._inbox.received(self._sender, each)
                return AckStatus.STORED
        await self._discard()
        return _status_of(self._failed)

    def acknowledged(self, status: AckStatus) -> None:
        """Our direction carries nothing that matters after the last word."""

    def readConnectionLost(self) -> None:
        """All is said: end our direction, too."""
        self._channel.loseConnection()

    def writeConnectionLost(self) -> None:
        """`acknowledged` says more."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel()
        if self._consent is not None:
            self._consent.cancel()
        if self._ended:
            # endReceived finishes what it began.  An orderly end is behind the
            # acknowledgement, and says that the sender has opened that.
            if self._stored and self._deposit is not None and reason.check(ConnectionDone):
                background(self._inbox.settle(self._deposit), "forgetting what was shown")
            return
        self._ended = True
        if self._failed is None:
            error = reason.value
            self._failed = error if isinstance(error, KDCError) else IntegrityError("cut short")
        background(self._discard(), "cleaning up after a cut stream")

    async def is_silent(self, timers: Any) -> bool:
        """Whether nothing comes any more, for a while."""
        arrived = self._arrived
        await deferLater(timers, SILENT_SECONDS)
        return self._arrived == arrived and not self._ended

    @property
    def ending(self) -> bool:
        """Whether all has come that will, and it is being made durable."""
        return self._ended and not self._over

    async def gone(self) -> None:
        """Return when its place is free."""
        if not self._over:
            gone: Deferred[None] = Deferred()
            self._gone.append(gone)
            await gone

    async def give_way(self) -> None:
        """End this, and return when its place is free."""
        if self._over:
            return
        self._fail(PeerUnavailable("the sender has come again on another connection"))
        self._channel.abortConnection()
        await self.gone()

    async def _answer(self, offer: Offer) -> None:
        """Say whether ``offer`` is wanted, and what is here of it already."""
        try:
            held = await self._prepared(offer)
        except KDCError as error:
            self._refuse(error)
            return
        except CancelledError:  # the sender has left
            return
        if self._ended:
            return
        self._accepted = True
        for each in held:
            self._channel.write(each.encode())
        self._channel.write(Accept().encode())
        self._arriving.open()

    async def _prepared(self, offer: Offer) -> list[Held]:
        if offer.size is not None and self._inbox.max_bytes is not None:
            self._reader.check(offer.size)
        self._consent = Deferred.fromCoroutine(_awaited(self._inbox.consent(self._sender, offer)))
        try:
            await self._consent
        finally:
            self._consent = None
        deposit = self._inbox.deposit(self._sender, offer)
        await self._inbox.claim(deposit.key, self)
        if self._ended or self._failed is not None:
            self._leave_key(deposit)
            return []
        self._deposit = deposit
        # What fails from here on is cleaned up by `_discard`.
        held: list[Held] = await self._arriving.first(self._inbox.run(deposit.prepare))
        return held

    def _captured(self, raw: bytes) -> None:
        if self._failed is None:
            self._arriving.add(Sealed(raw))

    async def _take(self, pile: list[Arrival]) -> None:
        # What came before a cut is stored even so: the same may go on behind it.
        if self._deposit is not None and not self._useless:
            try:
                await self._inbox.run(self._deposit.take, pile)
            except KDCError as error:
                self._refuse(error)

    async def _discard(self) -> None:
        await self._arriving.drained()
        error = self._failed or IntegrityError("cut short")
        kept = False
        if self._deposit is not None:
            # What was cut may come again; what was wrong will be so again.
            cut = isinstance(error, IntegrityError | PeerUnavailable)
            kept = await self._inbox.run(lambda deposit: deposit.discard(keep=cut), self._deposit)
        accepted = self._accepted
        self._leave()
        self._inbox.broken(Broken(self._sender, error, accepted, kept))

    def _leave(self) -> None:
        self._over = True
        if self._deposit is not None:
            self._leave_key(self._deposit)
        gone, self._gone = self._gone, []
        for waiter in gone:
            waiter.callback(None)

    def _leave_key(self, deposit: Deposit) -> None:
        self._inbox.release(deposit.key, self)

    def _refuse(self, error: KDCError) -> None:
        """Tell the sender at once: it need not send the rest for nothing."""
        self._useless = True
        if self._failed is None:
            self._failed = error
            self._channel.write(Refuse(_status_of(error), _reason_of(error)).encode())
            if not self._ended:
                self._within(REFUSED_SECONDS)

    def _fail(self, error: KDCError) -> None:
        if self._failed is None:
            self._failed = error

    def _within(self, seconds: float) -> None:
        self._cancel()
        self._late = self._inbox.timers.callLater(seconds, self._too_late)

    def _too_late(self) -> None:
        self._late = None
        self._fail(PeerUnavailable("the sender neither goes on nor leaves"))
        self._channel.abortConnection()

    def _cancel(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _status_of(error: KDCError | None) -> AckStatus:
    if isinstance(error, TooLarge):
        return AckStatus.TOO_LARGE
    refused = isinstance(error, RemoteProtocolError | RefusedByPolicy)
    return AckStatus.NOT_ALLOWED if refused else AckStatus.STORAGE_FAILED


def _reason_of(error: KDCError) -> str:
    """What the sender may know: of our files nothing but that they are the trouble."""
    if isinstance(error, LocalIOError):
        return ""
    return error.detail if isinstance(error, RemoteProtocolError) else str(error)
