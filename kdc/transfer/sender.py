"""Sending over a channel: offer, wait for the answer, stream, wait for the acknowledgement.

An application on top of the channel: it knows nothing of tickets or keys.  The
receiver's acknowledgement means that it has everything on its disk, under its
final name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, cast

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.transport import ChannelTransport, IStreamProtocol
from kdc.errors import (
    IntegrityError,
    KDCError,
    PeerUnavailable,
    RefusedByPolicy,
    RemoteProtocolError,
)
from kdc.hostile_text import shown
from kdc.net.background import background
from kdc.net.pace import Pace
from kdc.net.waiting import Deadline
from kdc.protocol.records import AckStatus
from kdc.transfer._framing import AnswerReader
from kdc.transfer._held import HeldByReceiver
from kdc.transfer.messages import Accept, Answer, Held, Offer, Refuse, Remark

__all__ = [
    "TRANSITIONS",
    "Delivery",
    "Interrupted",
    "Phase",
    "SendProtocol",
    "Step",
    "Stream",
    "Unconfirmed",
    "send_factory",
]

# A person may have to be asked, and the receiver may have much to look through.
ANSWER_SECONDS = 3600.0
# That the receiver is alive, the channel's own pings show; a disk may be slow.
ACK_SECONDS = 3600.0
_REASON_COLUMNS = 200
# So many chunks are sent before the reactor gets its turn: a few milliseconds.
_AT_ONCE = 8
FAREWELL_SECONDS = 3.0
Run = Callable[..., "Deferred[Any]"]


class Stream(Protocol):
    """What follows the offer, see `kdc.transfer.source.Outgoing`."""

    done: int

    def read(self) -> memoryview: ...

    def read_at_once(self) -> memoryview | None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


Opener: TypeAlias = Callable[[Mapping[str, Held], frozenset[Remark]], Stream]


@attrs.frozen
class Delivery:
    """What the receiver has confirmed: that it is on its disk, or has been passed on from there."""

    receiver: str
    total_bytes: int
    passed_on: bool = False


class Interrupted(IntegrityError):
    """The connection broke while there was still something to send: it may be tried again."""


class Unconfirmed(Interrupted):
    """It broke behind the end of what there was to send: nobody here knows what became of it.

    It may be tried again, too: an inbox knows what it has shown already.
    """


class Phase(enum.Enum):
    """How far a sender is."""

    OFFERED = enum.auto()
    SENDING = enum.auto()
    SENT = enum.auto()
    DELIVERED = enum.auto()
    FAILED = enum.auto()


class Step(enum.Enum):
    """What happens to it: answers, our own end, and the acknowledgement of that."""

    HAVE = enum.auto()
    ACCEPT = enum.auto()
    REFUSE = enum.auto()
    ALL_SENT = enum.auto()
    STORED = enum.auto()
    NOT_STORED = enum.auto()


# Every step there is; whatever else a receiver says ends in FAILED.
TRANSITIONS: dict[tuple[Phase, Step], Phase] = {
    (Phase.OFFERED, Step.HAVE): Phase.OFFERED,
    (Phase.OFFERED, Step.ACCEPT): Phase.SENDING,
    (Phase.OFFERED, Step.REFUSE): Phase.FAILED,
    (Phase.SENDING, Step.REFUSE): Phase.FAILED,
    (Phase.SENDING, Step.ALL_SENT): Phase.SENT,
    (Phase.SENT, Step.REFUSE): Phase.FAILED,
    (Phase.SENT, Step.STORED): Phase.DELIVERED,
    (Phase.SENT, Step.NOT_STORED): Phase.FAILED,
}
_STEPS: dict[type[Answer], Step] = {Held: Step.HAVE, Accept: Step.ACCEPT, Refuse: Step.REFUSE}


@implementer(IStreamProtocol, IPushProducer)
class SendProtocol(TwistedProtocol):
    """Sends ``offer`` and, when it is accepted, the stream behind it.

    ``open_stream`` is told what the receiver has already, and what it says of itself,
    and called in a worker thread, as the stream's methods are: ``run`` does that.
    ``done`` fires with the acknowledgement; it fails with `Interrupted` if nothing can have been
    stored, with `Unconfirmed` if that is not known, and with another `KDCError`
    if it was refused.
    ``progress`` is told how many bytes of content have been dealt with.  ``pace``
    limits how fast they go.
    """

    def __init__(
        self,
        offer: Offer,
        open_stream: Opener,
        *,
        run: Run,
        timers: Any,
        progress: Callable[[int], None],
        pace: Pace | None = None,
    ) -> None:
        self.done: Deferred[Delivery] = Deferred(lambda _: self._channel.abortConnection())
        self.phase = Phase.OFFERED
        self._offer = offer
        self._open_stream = open_stream
        self._run = run
        self._timers = timers
        self._progress = progress
        self._pace = pace
        self._paced: Deferred[None] | None = None
        self._next = Deadline(timers)
        self._answers = AnswerReader()
        self._held = HeldByReceiver(offer)
        self._stream: Stream | None = None
        self._resumed: Deferred[None] | None = None
        self._ahead = 0
        self._error: KDCError | None = None
        self._late = Deadline(timers)

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        self._channel.registerProducer(self, True)
        self._channel.write(self._offer.encode())
        self._within(ANSWER_SECONDS, "did not say whether it wants it")

    def dataReceived(self, data: bytes) -> None:
        try:
            if self.phase is Phase.OFFERED:
                self._held.arrived(len(data))
            for answer in self._answers.feed(data):
                if self.phase is Phase.FAILED:
                    return
                self._answered(answer)
        except KDCError as error:
            self._fail(error)

    async def endReceived(self) -> AckStatus:
        return AckStatus.STORED

    def readConnectionLost(self) -> None:
        """Nothing more was expected from the receiver."""

    def writeConnectionLost(self) -> None:
        """`acknowledged` tells more."""

    def acknowledged(self, status: AckStatus) -> None:
        try:
            self._step(Step.STORED if status is AckStatus.STORED else Step.NOT_STORED)
        except IntegrityError as error:
            self._fail(error)
            return
        self._late.cancel()
        if self.phase is Phase.FAILED:
            self._fail(self._refusal(Refuse(status)))
            return
        # The receiver is still to hear that we know; then it may forget it.
        self._late.within(FAREWELL_SECONDS, self._delivered)
        self._channel.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._late.cancel()
        self.stopProducing()
        if self.phase is Phase.DELIVERED:
            self._delivered()
        elif not self.done.called:
            self.done.errback(self._error or self._why_lost(reason))

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self._next.cancel()
        self._go_on()
        if self._stream is not None:
            self._stream.stop()
        if self.phase in (Phase.OFFERED, Phase.SENDING):
            self.phase = Phase.FAILED
        self.resumeProducing()

    @property
    def _sent(self) -> int:
        return 0 if self._stream is None else self._stream.done

    def _answered(self, answer: Answer) -> None:
        self._step(_STEPS[type(answer)])
        if isinstance(answer, Held):
            self._held.add(answer)
        elif isinstance(answer, Refuse):
            self._fail(self._refusal(answer))
        else:
            self._late.cancel()
            background(self._send(), "sending")

    def _step(self, step: Step) -> None:
        after = TRANSITIONS.get((self.phase, step))
        if after is None:
            raise IntegrityError("the receiver says more than was asked")
        self.phase = after

    async def _send(self) -> None:
        try:
            self._stream = await self._run(self._open_stream, self._held.of, self._held.remarks)
            await self._send_all(self._stream)
        except KDCError as error:
            self._fail(error)
        if self._stream is not None:
            await self._run(self._stream.close)

    async def _send_all(self, stream: Stream) -> None:
        chunk = await self._run(stream.read)
        while chunk and self.phase is Phase.SENDING:
            ahead = self._read_ahead(stream)
            await self._send_chunk(chunk)
            chunk = await ahead
        if self.phase is not Phase.SENDING:
            return
        self._step(Step.ALL_SENT)
        self._channel.unregisterProducer()
        self._channel.loseWriteConnection()
        self._within(ACK_SECONDS, "was sent everything, but did not confirm it")

    def _read_ahead(self, stream: Stream) -> Deferred[memoryview]:
        """The next chunk: at once, or while the one before is sealed and sent.

        To have a worker read takes longer than to copy what is in memory.  But all of a file
        may be, and all be taken at once: now and then others get their turn.
        """
        self._ahead += 1
        chunk = stream.read_at_once() if self._ahead % _AT_ONCE else None
        return self._run(stream.read) if chunk is None else succeed(chunk)

    async def _send_chunk(self, chunk: memoryview) -> None:
        # In one piece: records are what it is cut into.  With a limit, so that it flows.
        size = len(chunk) if self._pace is None else self._pace.piece
        for at in range(0, len(chunk), size):
            piece = chunk[at : at + size]
            self._channel.write(piece)
            self._progress(self._sent)
            if self._resumed is not None:
                await self._resumed
            await self._keep_pace(len(piece))
            if self.phase is not Phase.SENDING:
                return

    async def _keep_pace(self, count: int) -> None:
        """Behind so many bytes, return when more may go, or nothing has to go any more."""
        seconds = 0.0 if self._pace is None else self._pace.take(count)
        if seconds and self.phase is Phase.SENDING:
            self._paced = Deferred()
            self._next.within(seconds, self._go_on)
            await self._paced

    def _go_on(self) -> None:
        paced, self._paced = self._paced, None
        if paced is not None:
            paced.callback(None)

    def _delivered(self) -> None:
        if not self.done.called:
            passed_on = Remark.PASSES_ON in self._held.remarks
            self.done.callback(Delivery(self._channel.principal, self._sent, passed_on))

    def _refusal(self, refuse: Refuse) -> KDCError:
        peer = self._channel.principal
        told = f", saying {shown(refuse.reason, _REASON_COLUMNS)}" if refuse.reason else ""
        hint = "" if told else "its own log says why"
        if refuse.status is AckStatus.TOO_LARGE:
            return RefusedByPolicy(f"{peer} does not accept so much{told}", hint=hint)
        what = (
            "did not accept it" if refuse.status is AckStatus.NOT_ALLOWED else "could not store it"
        )
        return RefusedByPolicy(f"{peer} {what}{told}", hint=hint)

    def _why_lost(self, reason: Failure) -> BaseException:
        error = cast(BaseException, reason.value)
        cut = isinstance(error, IntegrityError | PeerUnavailable | RemoteProtocolError)
        return self._cut() if cut or reason.check(ConnectionDone) else error

    def _cut(self) -> KDCError:
        text = (
            f"the connection to {self._channel.principal} was cut before it confirmed what it got"
        )
        if self.phase is Phase.SENT:
            return Unconfirmed(
                text,
                hint="it has stored all of it or nothing; send it again: an inbox keeps it once",
            )
        return Interrupted(text, hint="nothing of it is to be seen there; send it again")

    def _within(self, seconds: float, what: str) -> None:
        def late() -> None:
            self._fail(
                PeerUnavailable(
                    f"{self._channel.principal} {what} within {seconds / 60:.0f} minutes",
                    hint="it may have been stored or not; ask, or send it again",
                )
            )

        self._late.within(seconds, late)

    def _fail(self, error: KDCError) -> None:
        if self.phase is not Phase.DELIVERED:  # what was confirmed stays so
            self._error = self._error or error
            self.phase = Phase.FAILED
        self._channel.abortConnection()


def send_factory(
    offer: Offer,
    open_stream: Opener,
    *,
    run: Run,
    timers: Any,
    progress: Callable[[int], None] = lambda done: None,
    pace: Pace | None = None,
) -> Factory[SendProtocol]:
    """A factory of one `SendProtocol`."""
    factory = Factory.forProtocol(
        lambda: SendProtocol(
            offer, open_stream, run=run, timers=timers, progress=progress, pace=pace
        )
    )
    factory.noisy = False
    return factory
