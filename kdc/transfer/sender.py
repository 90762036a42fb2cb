"""Sending over a channel: offer, wait for the answer, stream, wait for the acknowledgement.

An application on top of the channel: it knows nothing of tickets or keys.  The
receiver's acknowledgement means that it has everything on its disk, under its
final name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import attrs
from twisted.internet.defer import Deferred
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
from kdc.net.background import background
from kdc.protocol.records import EVEN_DATA, AckStatus
from kdc.transfer._framing import AnswerReader
from kdc.transfer.messages import Accept, Held, Offer, Refuse

__all__ = ["Delivery", "Interrupted", "SendProtocol", "Stream", "Unconfirmed", "send_factory"]

# A person may have to be asked, and the receiver may have much to look through.
ANSWER_SECONDS = 3600.0
# That the receiver is alive, the channel's own pings show; a disk may be slow.
ACK_SECONDS = 3600.0
FAREWELL_SECONDS = 3.0
_MAX_HELD = 100_000
# Sealed and sent at a time: larger pieces miss the cache, and cost more.
_PIECE_BYTES = 4 * EVEN_DATA
Run = Callable[..., "Deferred[Any]"]


class Stream(Protocol):
    """What follows the offer, see `kdc.transfer.source.Outgoing`."""

    done: int

    def read(self) -> memoryview: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


@attrs.frozen
class Delivery:
    """What the receiver has confirmed."""

    receiver: str
    total_bytes: int


class Interrupted(IntegrityError):
    """The connection broke while there was still something to send: it may be tried again."""


class Unconfirmed(Interrupted):
    """It broke behind the end of what there was to send: nobody here knows what became of it.

    It may be tried again, too: an inbox knows what it has shown already.
    """


@implementer(IStreamProtocol, IPushProducer)
class SendProtocol(TwistedProtocol):
    """Sends ``offer`` and, when it is accepted, the stream behind it.

    ``open_stream`` is told what the receiver has already, and called in a worker
    thread, as the stream's methods are: ``run`` does that.  ``done`` fires with
    the acknowledgement; it fails with `Interrupted` if nothing can have been
    stored, with `Unconfirmed` if that is not known, and with another `KDCError`
    if it was refused.
    ``progress`` is told how many bytes of content have been dealt with.
    """

    def __init__(
        self,
        offer: Offer,
        open_stream: Callable[[Mapping[str, Held]], Stream],
        *,
        run: Run,
        timers: Any,
        progress: Callable[[int], None],
    ) -> None:
        self.done: Deferred[Delivery] = Deferred(lambda _: self._channel.abortConnection())
        self._offer = offer
        self._open_stream = open_stream
        self._run = run
        self._timers = timers
        self._progress = progress
        self._answers = AnswerReader()
        self._held: dict[str, Held] = {}
        self._accepted = False
        self._ended = False
        self._stream: Stream | None = None
        self._resumed: Deferred[None] | None = None
        self._failed: KDCError | None = None
        self._stopped = False
        self._delivery: Delivery | None = None
        self._late: Any = None

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        self._channel.registerProducer(self, True)
        self._channel.write(self._offer.encode())
        self._within(ANSWER_SECONDS, "did not say whether it wants it")

    def dataReceived(self, data: bytes) -> None:
        if self._failed is not None:
            return
        try:
            for answer in self._answers.feed(data):
                if isinstance(answer, Refuse):
                    self._fail(self._refusal(answer))
                    return
                if self._accepted:
                    self._fail(IntegrityError("the receiver says more than was asked"))
                    return
                if isinstance(answer, Accept):
                    self._accepted = True
                    self._cancel()
                    background(self._send(), "sending")
                elif len(self._held) < _MAX_HELD:
                    self._held[answer.name] = answer
        except RemoteProtocolError as error:
            self._fail(error)

    async def endReceived(self) -> AckStatus:
        return AckStatus.STORED

    def readConnectionLost(self) -> None:
        """Nothing more was expected from the receiver."""

    def writeConnectionLost(self) -> None:
        """`acknowledged` tells more."""

    def acknowledged(self, status: AckStatus) -> None:
        self._cancel()
        if status is not AckStatus.STORED:
            self._fail(self._refusal(Refuse(status)))
            return
        self._delivery = Delivery(self._channel.principal, self._sent)
        # The receiver is still to hear that we know; then it may forget it.
        self._late = self._timers.callLater(FAREWELL_SECONDS, self._delivered)
        self._channel.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel()
        self.stopProducing()
        if self._delivery is not None:
            self._delivered()
            return
        if self.done.called:
            return
        error = self._failed or reason.value
        cut = isinstance(error, IntegrityError | PeerUnavailable | RemoteProtocolError)
        if self._failed is None and (cut or reason.check(ConnectionDone)):
            error = self._cut()
        self.done.errback(error)

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self._stopped = True
        if self._stream is not None:
            self._stream.stop()
        self.resumeProducing()

    @property
    def _sent(self) -> int:
        return 0 if self._stream is None else self._stream.done

    async def _send(self) -> None:
        try:
            self._stream = await self._run(self._open_stream, self._held)
            await self._send_all(self._stream)
        except KDCError as error:
            self._fail(error)
        if self._stream is not None:
            await self._run(self._stream.close)

    async def _send_all(self, stream: Stream) -> None:
        reading = self._run(stream.read)
        while (chunk := await reading) and not self._stopped:
            # The next one is read while this is sealed and sent.
            reading = self._run(stream.read)
            for at in range(0, len(chunk), _PIECE_BYTES):
                self._channel.write(chunk[at : at + _PIECE_BYTES])
                self._progress(stream.done)
                if self._resumed is not None:
                    await self._resumed
        if self._stopped:
            return
        self._ended = True
        self._channel.unregisterProducer()
        self._channel.loseWriteConnection()
        self._within(ACK_SECONDS, "was sent everything, but did not confirm it")

    def _delivered(self) -> None:
        self._late = None
        if self._delivery is not None and not self.done.called:
            self.done.callback(self._delivery)

    def _refusal(self, refuse: Refuse) -> KDCError:
        peer = self._channel.principal
        told = f": {refuse.reason}" if refuse.reason else ""
        hint = "" if told else "its own log says why"
        if refuse.status is AckStatus.TOO_LARGE:
            return RefusedByPolicy(f"{peer} does not accept so much{told}", hint=hint)
        what = (
            "did not accept it" if refuse.status is AckStatus.NOT_ALLOWED else "could not store it"
        )
        return RefusedByPolicy(f"{peer} {what}{told}", hint=hint)

    def _cut(self) -> KDCError:
        text = (
            f"the connection to {self._channel.principal} was cut before it confirmed what it got"
        )
        if self._ended:
            return Unconfirmed(
                text,
                hint="it has stored all of it or nothing; send it again: an inbox keeps it once",
            )
        return Interrupted(text, hint="nothing of it is to be seen there; send it again")

    def _within(self, seconds: float, what: str) -> None:
        def late() -> None:
            self._late = None
            self._fail(
                PeerUnavailable(
                    f"{self._channel.principal} {what} within {seconds / 60:.0f} minutes",
                    hint="it may have been stored or not; ask, or send it again",
                )
            )

        self._late = self._timers.callLater(seconds, late)

    def _fail(self, error: KDCError) -> None:
        if self._failed is None:
            self._failed = error
        self._channel.abortConnection()

    def _cancel(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def send_factory(
    offer: Offer,
    open_stream: Callable[[Mapping[str, Held]], Stream],
    *,
    run: Run,
    timers: Any,
    progress: Callable[[int], None] = lambda done: None,
) -> Factory[SendProtocol]:
    """A factory of one `SendProtocol`."""
    factory = Factory.forProtocol(
        lambda: SendProtocol(offer, open_stream, run=run, timers=timers, progress=progress)
    )
    factory.noisy = False
    return factory
