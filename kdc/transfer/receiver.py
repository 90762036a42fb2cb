"""Receiving over a channel: look at the offer, answer it, store what comes, acknowledge it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.transport import ChannelTransport, IStreamProtocol
from kdc.errors import (
    IntegrityError,
    KDCError,
    LocalIOError,
    NoRoom,
    PeerUnavailable,
    RefusedByPolicy,
    RemoteProtocolError,
    TooLarge,
    malformed,
)
from kdc.net.background import background
from kdc.net.batching import Handover
from kdc.net.pace import Brake, Pace
from kdc.net.views import ITakesViews
from kdc.net.waiting import Deadline, Waiters
from kdc.protocol.records import AckStatus
from kdc.transfer._arriving import ENDED, ENDING, LISTENING, TRANSITIONS, Phase, Step
from kdc.transfer._framing import Content, ItemEvent, ItemReader
from kdc.transfer.deposit import Anew, Arrival, Deposit, Sealed, Stored
from kdc.transfer.messages import Accept, Held, Item, Offer, Omitted, Refuse, Remark

__all__ = ["OUTCOMES", "Broken", "Inbox", "TransferFigures", "Watcher"]


OFFER_SECONDS = 60.0
# An item of few bytes takes many in memory, until it is stored.
_EVENT_COST = 500
REFUSED_SECONDS = 30.0
_MAX_OMISSIONS = 20  # that are named
SILENT_SECONDS = 2.0
Run = Callable[..., "Deferred[Any]"]
# Cut: the sender or the network has left it; refused: it was not wanted, or not as it should be;
# failed: it could not be stored here.
OUTCOMES = ("stored", "cut", "refused", "failed")


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


@attrs.frozen
class TransferFigures:
    """What is under way; and since the start the bytes that came, and what became of each."""

    under_way: int
    bytes: int
    ended: Mapping[str, int]


class Watcher(Protocol):
    """Somebody who looks on while something arrives."""

    def update(self, done: int, name: str) -> None:
        """So many bytes have come, or were here already; ``name`` comes now."""

    def close(self) -> None: ...


class _Nobody:
    def update(self, done: int, name: str) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """There is nothing to end."""


async def _anything(sender: str, offer: Offer) -> None:
    """Accept what anybody offers."""


@attrs.define
class Inbox(Factory["_ReceiveProtocol"]):
    """Where received things go, and which are wanted.

    ``consent`` is asked before anything is stored, and raises `RefusedByPolicy`
    for what is not wanted; it may take its time, and is cancelled when the sender
    leaves.  ``deposit`` makes a place for it.  ``received`` is told of each item
    when it is durable under its name, ``broken`` of what came to nothing.
    ``watch`` gives who looks on while something that is wanted arrives.
    ``incomplete`` is told of what was offered and did not come, the first of them and
    how many there are.  ``pace`` limits how fast all together is read.
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
    watch: Callable[[str, Offer], Watcher] = lambda sender, offer: _Nobody()
    incomplete: Callable[[str, Sequence[Omitted], int], None] = lambda sender, some, count: None
    pace: Pace | None = None
    # Since the start: bytes that came, and what became of each that had begun.
    bytes: int = attrs.field(default=0, init=False)
    ended: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(OUTCOMES, 0), init=False)
    under_way: int = attrs.field(default=0, init=False)
    _arriving: dict[str, _ReceiveProtocol] = attrs.field(factory=dict, init=False)
    _settling: dict[str, Deferred[None]] = attrs.field(factory=dict, init=False)

    @property
    def figures(self) -> TransferFigures:
        return TransferFigures(self.under_way, self.bytes, {**self.ended})

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


@implementer(IStreamProtocol, ITakesViews)
class _ReceiveProtocol(TwistedProtocol):
    """Hands one transfer to a `Deposit` in a worker thread, and says what became of it."""

    def __init__(self, inbox: Inbox, sender: str) -> None:
        self._inbox = inbox
        self._sender = sender
        self._reader = ItemReader(inbox.max_bytes)
        self._deposit: Deposit | None = None
        self._consent: Deferred[None] | None = None
        self.phase = Phase.AWAITING_OFFER
        self._begun = False
        self._watcher: Watcher = _Nobody()
        self._done, self._name = 0, ""
        self._omitted = 0
        self._omissions: list[Omitted] = []
        self._arriving: Handover[Arrival]
        self._arrived = 0
        self._error: KDCError | None = None
        self._gone = Waiters()
        self._late = Deadline(inbox.timers)
        self._slow: IPushProducer
        self._next = Deadline(inbox.timers)

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        self._inbox.under_way += 1
        brake = Brake(self._channel)
        self._arriving = Handover(self._take, brake.hold(), self._inbox.timers)
        self._slow = brake.hold()
        self._within(OFFER_SECONDS)
        if self._inbox.capture:
            self._channel.capture(self._captured)

    def dataReceived(self, data: bytes | memoryview) -> None:
        if self.phase not in LISTENING:
            return
        self._arrived += len(data)
        self._inbox.bytes += len(data)
        cost = len(data)
        try:
            for event in self._reader.feed(data):
                if isinstance(event, Offer):
                    self._step(Step.OFFER)
                    self._late.cancel()
                    background(self._answer(event), "an offer")
                else:
                    self._step(Step.CONTENT)
                    self._note(event)
                    self._arriving.add(event)
                    cost += 0 if isinstance(event, Content) else _EVENT_COST
        except (RemoteProtocolError, TooLarge) as error:
            self._refuse(error)
            return
        self._arriving.arrived(cost)
        self._watcher.update(self._done, self._name)
        self._keep_pace(len(data))

    def _keep_pace(self, count: int) -> None:
        """Read no more until so many bytes have had their time; the sender feels it by TCP."""
        seconds = 0.0 if self._inbox.pace is None else self._inbox.pace.take(count)
        if seconds:
            self._slow.pauseProducing()
            self._next.within(seconds, self._slow.resumeProducing)

    async def endReceived(self) -> AckStatus:
        """Show all that came under its final name, or nothing."""
        if self._consent is not None:
            self._consent.cancel()
        try:
            if self.phase in LISTENING:
                for event in self._reader.end():
                    self._arriving.add(event)
            self._step(Step.END)
        except RemoteProtocolError as error:
            self._refuse(error)
            self._step(Step.END)
        self._late.cancel()
        await self._arriving.drained()
        if self.phase is Phase.STORING and self._deposit is not None:
            try:
                stored = await self._inbox.run(self._deposit.show)
            except KDCError as error:
                self._refuse(error)
            else:
                self._leave(Step.SHOWN)
                self._inbox.ended["stored"] += 1
                for each in stored:
                    self._inbox.received(self._sender, each)
                if self._omitted:
                    self._inbox.incomplete(self._sender, self._omissions, self._omitted)
                return AckStatus.STORED
        await self._discard()
        return _status_of(self._error)

    def acknowledged(self, status: AckStatus) -> None:
        """Our direction carries nothing that matters after the last word."""

    def readConnectionLost(self) -> None:
        """All is said: end our direction, too."""
        self._channel.loseConnection()

    def writeConnectionLost(self) -> None:
        """`acknowledged` says more."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._inbox.under_way -= 1
        self._late.cancel()
        self._next.end()
        if self._consent is not None:
            self._consent.cancel()
        if self.phase is Phase.STORED:
            # An orderly end is behind the acknowledgement: the sender has opened that, then.
            if self._deposit is not None and reason.check(ConnectionDone):
                background(self._inbox.settle(self._deposit), "forgetting what was shown")
        elif self.phase in LISTENING or self.phase is Phase.REFUSED:
            error = reason.value
            self._fail(error if isinstance(error, KDCError) else IntegrityError("cut short"))
            self._step(Step.LOST if _may_come_again(self._error) else Step.SPOILED)
            background(self._discard(), "cleaning up after a cut stream")

    async def is_silent(self, timers: Any) -> bool:
        """Whether nothing comes any more, for a while."""
        arrived = self._arrived
        await deferLater(timers, SILENT_SECONDS)
        return self._arrived == arrived and self.phase not in ENDING + ENDED

    @property
    def ending(self) -> bool:
        """Whether all has come that will, and it is being made durable."""
        return self.phase in ENDING

    async def gone(self) -> None:
        """Return when its place is free."""
        if self.phase not in ENDED:
            await self._gone.wait()

    async def give_way(self) -> None:
        """End this, and return when its place is free."""
        if self.phase in ENDED:
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
        if self.phase is not Phase.DECIDING:
            return
        self._step(Step.READY)
        self._begun = True
        self._watcher = self._inbox.watch(self._sender, offer)
        for remark in self._remarks:
            self._channel.write(remark.encode())
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
        if self.phase is not Phase.DECIDING:
            self._leave_key(deposit)
            return []
        self._deposit = deposit
        # What fails from here on is cleaned up by `_discard`.
        held: list[Held] = await self._arriving.first(self._inbox.run(deposit.prepare))
        return held

    @property
    def _remarks(self) -> tuple[Remark, ...]:
        return () if self._deposit is None else self._deposit.remarks

    def _note(self, event: ItemEvent) -> None:
        if isinstance(event, Content):
            self._done += len(event.data)
        elif isinstance(event, Item):
            self._name = event.name
            self._done += event.start
        if isinstance(event, Omitted) and not event.again:
            self._omitted += 1
            self._omissions += [event] if self._omitted <= _MAX_OMISSIONS else []

    def _captured(self, raw: bytes) -> None:
        if self.phase in LISTENING:
            self._arriving.add(Sealed(raw))

    async def _take(self, pile: list[Arrival]) -> None:
        # What came before a cut is stored even so: the same may go on behind it.
        if self._deposit is not None and self.phase in (Phase.TAKING, Phase.STORING, Phase.CUT):
            try:
                await self._inbox.run(self._deposit.take, pile)
            except KDCError as error:
                self._refuse(error)

    async def _discard(self) -> None:
        await self._arriving.drained()
        error = self._error or IntegrityError("cut short")
        keep, kept = self.phase is Phase.CUT, False
        if self._deposit is not None:
            kept = await self._inbox.run(lambda deposit: deposit.discard(keep=keep), self._deposit)
        self._leave(Step.CLEANED)
        self._inbox.ended[_outcome_of(error)] += 1
        self._inbox.broken(Broken(self._sender, error, self._begun, kept))

    def _leave(self, step: Step) -> None:
        self._step(step)
        self._watcher.close()
        if self._deposit is not None:
            self._leave_key(self._deposit)
        self._gone.release()

    def _step(self, step: Step) -> None:
        after = TRANSITIONS.get((self.phase, step))
        if after is None:
            raise malformed(f"{step.name.lower()} while {self.phase.name.lower()}")
        self.phase = after

    def _leave_key(self, deposit: Deposit) -> None:
        self._inbox.release(deposit.key, self)

    def _refuse(self, error: KDCError) -> None:
        """Tell the sender at once: it need not send the rest for nothing."""
        told = self._error is not None
        self._fail(error)
        self._step(Step.WRONG)
        if isinstance(error, Anew):
            self._channel.abortConnection()
        elif not told:
            self._channel.write(Refuse(_status_of(error), _reason_of(error)).encode())
        if self.phase is Phase.REFUSED and not told:
            self._within(REFUSED_SECONDS)

    def _fail(self, error: KDCError) -> None:
        if self._error is None:
            self._error = error

    def _within(self, seconds: float) -> None:
        self._late.within(seconds, self._too_late)

    def _too_late(self) -> None:
        self._fail(PeerUnavailable("the sender neither goes on nor leaves"))
        self._channel.abortConnection()


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _may_come_again(error: KDCError | None) -> bool:
    """What was cut may; what was wrong will be so again."""
    return isinstance(error, IntegrityError | PeerUnavailable)


def _outcome_of(error: KDCError) -> str:
    if isinstance(error, LocalIOError):
        return "failed"
    return "cut" if _may_come_again(error) else "refused"


def _status_of(error: KDCError | None) -> AckStatus:
    if isinstance(error, TooLarge):
        return AckStatus.TOO_LARGE
    refused = isinstance(error, RemoteProtocolError | RefusedByPolicy)
    return AckStatus.NOT_ALLOWED if refused else AckStatus.STORAGE_FAILED


def _reason_of(error: KDCError) -> str:
    """What the sender may know: of our files nothing but that they are the trouble."""
    if isinstance(error, NoRoom):
        return f"no room: {error.why}"
    if isinstance(error, LocalIOError):
        return ""
    return error.detail if isinstance(error, RemoteProtocolError) else str(error)
