"""The secure channel as a Twisted transport.

A `_Channel` is the protocol on the raw connection: it does the handshake, then
opens what arrives and seals what leaves.  The application's protocol is given
a `ChannelTransport`, after the peer has shown who it is and never before.

    TCP  <->  _Channel (handshake, RecordStream)  <->  ChannelTransport  <->  application

Conventions above the records (docs/protocol.md, "services"): the sender's
first DATA names a service, the receiver's first DATA is one status byte.

A side that has nothing to say sends an empty DATA now and then: that keeps
the way open through whatever forgets idle connections, and shows the other
side that it is there.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc import clock
from kdc.background import background
from kdc.codec import FrameBuffer
from kdc.errors import (
    IntegrityError,
    KDCError,
    PeerUnavailable,
    Refusal,
    RefusedByPolicy,
    RemoteProtocolError,
)
from kdc.exchange import Grant
from kdc.handshake import MAX_PRESENT, SECOND_BYTES, Epochs, Presentation
from kdc.limiter import ConnectionLimiter
from kdc.principal import check_name
from kdc.records import Ack, AckStatus, Data, End, Event, RecordStream
from kdc.sockets import host_of, notice_dead_peers

__all__ = [
    "DEFAULT_SERVICE",
    "ChannelListener",
    "ChannelTransport",
    "ClosedEarly",
    "IStreamProtocol",
    "PrincipalAddress",
    "SenderChannel",
    "Service",
]

DEFAULT_SERVICE = ""
PRESENT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
LINGER_SECONDS = 30.0
PING_SECONDS = 60.0
# The other side's pings are up to two intervals apart: it counts from its own beat.
_MOST_SILENT_BEATS = 3
_MAX_UNPROVEN = 64
_MAX_UNPROVEN_PER_ADDRESS = 8


class _Status(enum.IntEnum):
    """The receiver's first word on the channel."""

    ACCEPTED = 0
    NOT_ALLOWED = 1
    NO_SERVICE = 2


class ClosedEarly(PeerUnavailable):
    """The receiver closed the connection without a word, as it does with whatever it distrusts."""


@implementer(IAddress)
@attrs.frozen
class PrincipalAddress:
    """Who is at the other end, proved; and where its packets come from, not proved."""

    name: str
    realm: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}@{self.realm}"


class IStreamProtocol(IHalfCloseableProtocol):
    """A protocol that says itself when the peer's stream has been dealt with.

    Other protocols need not know of ends and acknowledgements: for them a whole
    stream counts as consumed once it has been delivered.
    """

    def endReceived() -> Awaitable[AckStatus]:
        """The peer's stream is whole.  Store it; the result is what the peer is told."""

    def acknowledged(status: AckStatus) -> None:
        """The peer has answered our end."""


class _Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class _Channel(Protocol):
    """What both ends have in common once the handshake is done."""

    log = Logger()

    def __init__(self, timers: IReactorTime) -> None:
        self._timers = timers
        self._phase = _Phase.HANDSHAKE
        self._handshake: FrameBuffer | None = FrameBuffer(MAX_PRESENT)
        self._stream: RecordStream | None = None
        self._application: IProtocol | None = None
        self._facade: ChannelTransport | None = None
        self._deadline: IDelayedCall | None = None
        self._beat: IDelayedCall | None = None
        self._silent_beats = 0
        self._spoke = False
        self._paused = False
        self._delivering = False
        self._producer: Any = None
        self._ending = False
        self._leaving = False
        self._end_acknowledged = False
        self._dropped = False
        self._capture: Callable[[bytes], None] | None = None
        self._captured: list[bytes] | None = []
        self._error: KDCError | None = None

    # from the raw transport

    def connectionMade(self) -> None:
        notice_dead_peers(self.transport)

    def dataReceived(self, data: bytes) -> None:
        try:
            if self._handshake is not None and self._phase is _Phase.HANDSHAKE:
                self._handshake.feed(data)
                body = self._handshake.next()
                if body is None:
                    return
                self._phase = _Phase.OPEN
                data = self._handshake.take_rest()
                self._handshake = None
                self._shake(body)
            if self._stream is not None and self._phase is _Phase.OPEN:
                self._silent_beats = 0
                self._keep(data)
                self._stream.feed(data)
                self._deliver()
        except RemoteProtocolError as error:
            self.fail(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._phase = _Phase.CLOSED
        self._cancel_deadline()
        if self._beat is not None:
            self._beat.cancel()
        application, self._application = self._application, None
        if application is None:
            self._never_opened(self._error or self._why_never(reason))
        else:
            application.connectionLost(self._why_lost())

    def fail(self, error: KDCError) -> None:
        """Drop the connection: the first error is what the application is told."""
        if self._error is None:
            self._error = error
        self._phase = _Phase.CLOSED
        cast(Any, self.transport).abortConnection()

    # from the facade

    def send(self, pieces: Iterable[bytes]) -> None:
        stream = self._stream
        if stream is None or self._phase is not _Phase.OPEN or stream.sent_end:
            return
        self._write([record for piece in pieces if piece for record in stream.send_data(piece)])

    def end(self) -> None:
        """Make our direction whole once the producer is done; the other goes on."""
        self._ending = True
        if self._producer is None:
            self._end_now()

    def leave(self) -> None:
        """End our direction once the producer is done, then wait for the peer's end."""
        if self._leaving:
            return
        self._leaving = True
        if self._producer is None:
            self._leave_now()

    def produce(self, producer: Any, streaming: bool) -> None:
        stream = self._stream
        if stream is None or self._phase is not _Phase.OPEN or stream.sent_end:
            producer.stopProducing()
            return
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._producer = producer
        cast(Any, self.transport).registerProducer(producer, streaming)

    def stop_producing(self) -> None:
        self._producer = None
        cast(Any, self.transport).unregisterProducer()
        if self._leaving:
            self._leave_now()
        elif self._ending:
            self._end_now()

    def pause(self) -> None:
        self._paused = True
        cast(Any, self.transport).pauseProducing()

    def resume(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if self._phase is not _Phase.OPEN:
            return
        try:
            self._deliver()
        except RemoteProtocolError as error:
            self.fail(error)
            return
        if not self._paused and self._phase is _Phase.OPEN:
            cast(Any, self.transport).resumeProducing()

    def capture(self, sink: Callable[[bytes], None]) -> None:
        self._capture = sink
        for chunk in self._captured or ():
            sink(chunk)

    # records

    def _deliver(self) -> None:
        if self._delivering:
            return  # resumed in the middle of dataReceived: the loop below goes on
        self._delivering = True
        try:
            stream = self._stream
            while stream is not None and self._phase is _Phase.OPEN and not self._paused:
                event = stream.next_event()
                if event is None:
                    return
                self._act(event)
        finally:
            self._delivering = False

    def _act(self, event: Event) -> None:
        if isinstance(event, Data):
            self._data(event.data)
        elif isinstance(event, End):
            self._end_received()
        else:
            self._acknowledged(event)

    def _data(self, data: bytes) -> None:
        if self._application is None:
            self._first_data(data)
        elif data and self._leaving:
            self._dropped = True
        elif data:
            self._application.dataReceived(data)

    def _end_received(self) -> None:
        application = self._application
        if application is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the end before the first data")
        if self._dropped:  # nobody has consumed that, and the peer must not think so
            self._acknowledge(AckStatus.NOT_ALLOWED)
            return
        if IStreamProtocol.providedBy(application):
            background(self._store(application.endReceived()), "storing a stream")
            return
        self._acknowledge(AckStatus.STORED)
        if IHalfCloseableProtocol.providedBy(application):
            application.readConnectionLost()
        else:
            self._leave_with_the_peer()

    def _leave_with_the_peer(self) -> None:
        """The application takes the peer's end for that of all; its producer has to stop."""
        self._leaving = True
        producer, self._producer = self._producer, None
        if producer is not None:
            cast(Any, self.transport).unregisterProducer()
            producer.stopProducing()
        self._leave_now()

    async def _store(self, storing: Awaitable[AckStatus]) -> None:
        status = await storing
        if self._phase is _Phase.OPEN:
            self._acknowledge(status)
            if self._application is not None:
                cast(Any, self._application).readConnectionLost()

    def _acknowledge(self, status: AckStatus) -> None:
        if self._stream is not None:
            self._write([self._stream.send_ack(status)])
            self._close_if_complete()

    def _acknowledged(self, ack: Ack) -> None:
        self._end_acknowledged = True
        application = self._application
        if IStreamProtocol.providedBy(application):
            application.acknowledged(ack.status)
        elif IHalfCloseableProtocol.providedBy(application):
            application.writeConnectionLost()
        if self._leaving:
            self._within(LINGER_SECONDS, self._linger)
        self._close_if_complete()

    def _close_if_complete(self) -> None:
        if self._stream is not None and self._stream.complete and self._phase is _Phase.OPEN:
            cast(Any, self.transport).loseConnection()

    def _write(self, records: list[bytes]) -> None:
        self._spoke = True
        cast(Any, self.transport).writeSequence(records)

    def _end_now(self) -> None:
        stream = self._stream
        if stream is not None and self._phase is _Phase.OPEN and not stream.sent_end:
            self._write([stream.send_end()])

    def _leave_now(self) -> None:
        if self._phase is not _Phase.OPEN:
            return
        # What is still to be read decides nothing any more, but its end must be
        # seen: closing with unread bytes would reset the connection under ours.
        self._end_now()
        # Before that the peer may be slow, and what was written is still to arrive.
        if self._end_acknowledged:
            self._within(LINGER_SECONDS, self._linger)
        self.resume()

    def _linger(self) -> None:
        self.fail(PeerUnavailable("the peer did not close its side in time"))

    def _on_beat(self) -> None:
        """Show the peer that we are here, and see whether it is."""
        self._beat = self._timers.callLater(PING_SECONDS, self._on_beat)
        stream = cast(RecordStream, self._stream)
        if not self._spoke and not stream.sent_end:
            self._write(stream.send_data(b""))
        self._spoke = False
        # Who has ended says nothing more, and from whom we do not read nothing comes.
        expected = not (self._paused or stream.received_end)
        self._silent_beats = self._silent_beats + 1 if expected else 0
        if self._silent_beats > _MOST_SILENT_BEATS:
            self.fail(PeerUnavailable("the peer has fallen silent: not even a ping came from it"))

    # start and end

    def _shake(self, body: bytes) -> None:
        raise NotImplementedError

    def _first_data(self, data: bytes) -> None:
        raise NotImplementedError

    def _never_opened(self, error: BaseException) -> None:
        raise NotImplementedError

    def _open(self, application: IProtocol, peer: PrincipalAddress) -> None:
        self._application = application
        self._facade = ChannelTransport(self, peer)
        self._beat = self._timers.callLater(PING_SECONDS, self._on_beat)
        application.makeConnection(self._facade)
        if self._capture is None:
            self._captured = None

    def _keep(self, data: bytes) -> None:
        if self._capture is not None:
            self._capture(data)
        elif self._captured is not None:
            self._captured.append(data)

    def _why_never(self, reason: Failure) -> BaseException:
        if reason.value is not None and not isinstance(reason.value, ConnectionClosed):
            return reason.value  # the application's factory raised it
        if self._stream is not None:
            return PeerUnavailable(
                "the peer closed the connection before it had accepted it",
                hint="its own log may say why",
            )
        return ClosedEarly(
            "the peer closed the connection without an answer",
            hint="it refuses in silence; its own log says why",
        )

    def _why_lost(self) -> Failure:
        stream = self._stream
        if self._error is None and stream is not None:
            if stream.complete:
                return Failure(ConnectionDone())
            what = "it confirmed what it got" if stream.received_end else "the end of its stream"
            self._error = IntegrityError(
                f"the connection was cut before {what}: nothing after that is known"
            )
        return Failure(self._error)

    def _within(self, seconds: float, late: Callable[[], None]) -> None:
        self._cancel_deadline()
        self._deadline = self._timers.callLater(seconds, late)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None


@implementer(ITransport, IConsumer, IPushProducer)
class ChannelTransport:
    """What the application's protocol writes to.

    Every way out is here and goes through the channel: there is no attribute
    that leads to the raw transport, and none is looked up elsewhere.
    """

    disconnecting = False

    def __init__(self, channel: _Channel, peer: PrincipalAddress) -> None:
        self._channel = channel
        self._peer = peer

    @property
    def principal(self) -> str:
        """The name of the peer, proved by the handshake."""
        return self._peer.name

    def write(self, data: bytes) -> None:
        self._channel.send((data,))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self._channel.send((b"".join(data),))

    def loseConnection(self) -> None:
        """Send what was written and an authenticated end, then close."""
        self.disconnecting = True
        self._channel.leave()

    def loseWriteConnection(self) -> None:
        """Send an authenticated end; go on receiving."""
        self._channel.end()

    def abortConnection(self) -> None:
        """Close at once; the peer sees a stream cut short."""
        self.disconnecting = True
        self._channel.fail(IntegrityError("the channel was aborted"))

    def getPeer(self) -> PrincipalAddress:
        return self._peer

    def getHost(self) -> Any:
        return cast(Any, self._channel.transport).getHost()

    # As of a TCP transport.  Both are always on below, whatever an application thinks best.

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._channel.produce(producer, streaming)

    def unregisterProducer(self) -> None:
        self._channel.stop_producing()

    def pauseProducing(self) -> None:
        self._channel.pause()

    def resumeProducing(self) -> None:
        self._channel.resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    def capture(self, sink: Callable[[bytes], None]) -> None:
        """Hand ``sink`` the records of the peer as they came, sealed, the first one included.

        To be called in ``connectionMade``.
        """
        self._channel.capture(sink)


class SenderChannel(_Channel):
    """The side that asked the KDC.

    ``opened`` fires with the application's protocol once the receiver has
    accepted the service, and fails if it does not: until then there is no
    application.
    """

    def __init__(
        self, grant: Grant, service: str, factory: IProtocolFactory, timers: IReactorTime
    ) -> None:
        super().__init__(timers)
        self._receiver = grant.receiver
        self._realm = grant.realm
        self._presentation: Presentation | None = grant.presentation()
        self._service = service
        self._factory = factory
        self._handshake = FrameBuffer(SECOND_BYTES, SECOND_BYTES)
        self.opened: Deferred[IProtocol] = Deferred(lambda _: self._cancelled())

    def connectionMade(self) -> None:
        super().connectionMade()
        self._within(ANSWER_SECONDS, self._unanswered)
        try:
            cast(Any, self.transport).write(cast(Presentation, self._presentation).present())
        except RemoteProtocolError as error:
            self.fail(error)

    def _shake(self, body: bytes) -> None:
        # The session key goes with it: what it protected is not to be had any more.
        presentation, self._presentation = self._presentation, None
        self._stream = cast(Presentation, presentation).finish(body)
        self._write(self._stream.send_data(self._service.encode()))

    def _first_data(self, data: bytes) -> None:
        if data != bytes([_Status.ACCEPTED]):
            self.fail(self._refused(data))
            return
        self._cancel_deadline()
        raw = cast(Any, self.transport).getPeer()
        peer = PrincipalAddress(self._receiver, self._realm, host_of(raw), getattr(raw, "port", 0))
        application = self._factory.buildProtocol(peer)
        if application is None:
            self.fail(RefusedByPolicy(f"our own side does not want a channel to {peer.name}"))
            return
        self._open(application, peer)
        self.opened.callback(application)

    def _refused(self, status: bytes) -> KDCError:
        peer, service = self._receiver, self._service or "its default service"
        if status == bytes([_Status.NOT_ALLOWED]):
            return RefusedByPolicy(f"{peer} does not allow us to use {service}")
        if status == bytes([_Status.NO_SERVICE]):
            return RefusedByPolicy(
                f"{peer} does not offer {service}", hint="ask what its receiver was started for"
            )
        return RemoteProtocolError(Refusal.MALFORMED, "the peer's first word is not a status")

    def _never_opened(self, error: BaseException) -> None:
        if not self.opened.called:
            self.opened.errback(error)

    def _unanswered(self) -> None:
        self.fail(
            PeerUnavailable(
                f"{self._receiver} did not answer within {ANSWER_SECONDS:.0f} s",
                hint="what listens at its address may be another program",
            )
        )

    def _cancelled(self) -> None:
        self.fail(PeerUnavailable("given up"))


@attrs.frozen
class Service:
    """What a receiver offers under one name, and to whom."""

    factory: IProtocolFactory
    allow: Callable[[str], bool] = lambda name: True


class _ReceiverChannel(_Channel):
    """The side that was asked for; the application learns of it once a record has opened."""

    def __init__(self, listener: ChannelListener, address: str) -> None:
        super().__init__(listener.timers)
        self._listener = listener
        self._address = address
        self._unproven = True
        self._sender = ""

    def connectionMade(self) -> None:
        super().connectionMade()
        self._within(PRESENT_SECONDS, self._late)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._listener.forget(self)
        super().connectionLost(reason)

    def _shake(self, body: bytes) -> None:
        accepted = self._listener.accept(body)
        self._sender = accepted.sender
        self._stream = accepted.stream
        cast(Any, self.transport).write(accepted.answer)
        # A copied first message gets this far, so the clock goes on.
        self._within(PRESENT_SECONDS, self._late)

    def _first_data(self, data: bytes) -> None:
        self._cancel_deadline()
        self._proved()
        raw = cast(Any, self.transport).getPeer()
        peer = PrincipalAddress(
            self._sender, self._listener.realm, self._address, getattr(raw, "port", 0)
        )
        status, application = self._listener.choose(data, peer)
        stream = cast(RecordStream, self._stream)
        cast(Any, self.transport).writeSequence(stream.send_data(bytes([status])))
        if application is None:
            self._captured = None
            self._refuse(status, data)
        else:
            self._listener.opened(self)
            self._open(application, peer)

    def _refuse(self, status: _Status, service: bytes) -> None:
        self.log.info(
            "{sender} from {address}: {status} {service!r}",
            sender=self._sender,
            address=self._address,
            status=status.name.lower(),
            service=service[:64],
        )
        self._phase = _Phase.CLOSED
        # The status has to arrive: no reset because of what is still unread.
        cast(Any, self.transport).loseWriteConnection()
        self._within(PRESENT_SECONDS, lambda: cast(Any, self.transport).abortConnection())

    def _never_opened(self, error: BaseException) -> None:
        self._proved()
        if not isinstance(error, PeerUnavailable):
            self._listener.distrusted(self._address, error)

    def _late(self) -> None:
        self.fail(RemoteProtocolError(Refusal.MALFORMED, "no whole first message in time"))

    def _proved(self) -> None:
        if self._unproven:
            self._unproven = False
            self._listener.limiter.release(self._address)


class ChannelListener(Factory["_ReceiverChannel"]):
    """Takes connections from senders: what a receiver's port is given.

    ``services``: what is offered, by name; "" is the default one.  ``allow``
    is asked before the handshake is answered: who is not allowed there learns
    nothing, not even that somebody is here.
    """

    noisy = False
    log = Logger()

    def __init__(
        self,
        realm: str,
        services: dict[str, Service],
        *,
        timers: IReactorTime,
        random: Callable[[int], bytes],
        allow: Callable[[str], bool] = lambda name: True,
        now_milliseconds: Callable[[], int] = clock.milliseconds,
        limiter: ConnectionLimiter | None = None,
    ) -> None:
        self.realm = realm
        self.services = services
        self.epochs = Epochs()
        self.timers = timers
        self.limiter = limiter or ConnectionLimiter(_MAX_UNPROVEN, _MAX_UNPROVEN_PER_ADDRESS)
        self.due: Callable[[], None] = lambda: None
        self._random = random
        self._allow = allow
        self._now = now_milliseconds
        self._channels: set[_ReceiverChannel] = set()
        self._idle: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> _ReceiverChannel | None:
        address = host_of(addr)
        if not self.limiter.admit(address):
            return None
        return _ReceiverChannel(self, address)

    def accept(self, body: bytes) -> Any:
        now = self._now()
        accepted = self.epochs.accept(
            body, now_milliseconds=now, allow=self._allow, random=self._random
        )
        current = self.epochs.current
        if current is not None and current.due(now):
            self.due()
        return accepted

    def choose(self, name: bytes, peer: PrincipalAddress) -> tuple[_Status, IProtocol | None]:
        """Find the service that the sender named."""
        service = self.services.get(_service_name(name))
        if service is None:
            return _Status.NO_SERVICE, None
        if not service.allow(peer.name):
            return _Status.NOT_ALLOWED, None
        application = service.factory.buildProtocol(peer)
        if application is None:
            return _Status.NOT_ALLOWED, None
        return _Status.ACCEPTED, application

    def distrusted(self, address: str, error: BaseException) -> None:
        self.log.info("refused a connection from {address}: {error}", address=address, error=error)

    def opened(self, channel: _ReceiverChannel) -> None:
        self._channels.add(channel)

    def forget(self, channel: _ReceiverChannel) -> None:
        self._channels.discard(channel)
        if not self._channels:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    async def when_idle(self) -> None:
        """Return when no channel is open."""
        if self._channels:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle


def _service_name(data: bytes) -> str:
    """The name in a sender's first record; one that cannot be is nobody's."""
    if not data:
        return DEFAULT_SERVICE
    try:
        return check_name(data.decode("ascii"))
    except ValueError:
        return "?"
