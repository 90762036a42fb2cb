"""The secure channel: what both of its ends have in common.

A `Channel` is the protocol on the raw connection: it does the handshake, then
opens what arrives and seals what leaves.  The application's protocol is given
a `ChannelTransport`, after the peer has shown who it is and never before.

    TCP  <->  Channel (handshake, RecordStream)  <->  ChannelTransport  <->  application

A side that has nothing to say sends an empty DATA now and then: that keeps
the way open through whatever forgets idle connections, and shows the other
side that it is there.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from kdc.channel._ending import LINGERS, LOST, UNREAD, WRITABLE, Ending, Step, after
from kdc.channel._liveness import Expected, Liveness
from kdc.channel.transport import ChannelTransport, IStreamProtocol, PrincipalAddress
from kdc.errors import IntegrityError, KDCError, PeerUnavailable, Refusal, RemoteProtocolError
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.net.sockets import notice_dead_peers, read_at_once
from kdc.net.views import ITakesViews
from kdc.net.waiting import Timers
from kdc.net.writing import is_bare, write_at_once
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.records import EVEN_RECORD, Ack, AckStatus, Data, End, Event, RecordStream, Room

__all__ = ["Channel", "ClosedEarly", "Phase"]

LINGER_SECONDS = 30.0
# With room for one record, every record would pause its producer.
_AT_ONCE = 2 * EVEN_RECORD


class _Own(threading.local):
    """Of each thread: its channels write one after the other, and never two at a time."""

    def __init__(self) -> None:
        self.room = Room()


_own = _Own()


class ClosedEarly(PeerUnavailable):
    """The receiver closed the connection without a word, as it does with whatever it distrusts."""


class Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class Channel(Protocol):
    """What both ends have in common once the handshake is done."""

    log = Logger()

    def __init__(self, reactor: IReactorTime, handshake: FrameBuffer) -> None:
        # All that is still to happen to this connection: its end at a deadline, and its beats.
        self._timers = Timers(reactor)
        self._deadline = self._timers.deadline()
        self._liveness = Liveness(
            self._timers, ping=self._ping, expected=self._expected, lost=self.fail
        )
        self._phase = Phase.HANDSHAKE
        self._handshake: FrameBuffer | None = handshake
        self._stream: RecordStream | None = None
        self._application: IProtocol | None = None
        self._paused = False
        self._delivering = False
        self._storing = False
        self._producer: Any = None
        self._ending = Ending.OPEN
        self._capture: Callable[[bytes], None] | None = None
        self._captured: list[bytes] | None = []
        self._error: KDCError | None = None
        self._is_bare = False
        self._takes_views = False
        self._begun = 0

    # from the raw transport

    def connectionMade(self) -> None:
        notice_dead_peers(self.transport)
        self._is_bare = is_bare(self.transport)
        read_at_once(self.transport, _AT_ONCE)

    def dataReceived(self, data: bytes) -> None:
        try:
            if self._handshake is not None and self._phase is Phase.HANDSHAKE:
                self._handshake.feed(data)
                body = self._handshake.next()
                if body is None:
                    return
                self._phase = Phase.OPEN
                data = self._handshake.take_rest()
                self._handshake = None
                self._shake(body)
            if self._stream is not None and self._phase is Phase.OPEN:
                self._keep(data)
                self._stream.feed(data)
                self._deliver()
                self._read_whole_records(self._stream.begun)
        except RemoteProtocolError as error:
            self.fail(error)

    def _read_whole_records(self, begun: int) -> None:
        """Read next so much that it ends with a record, if those are even ones.

        Otherwise a stream that once got out of step has every read joined to what the one
        before has left, which is to copy all of it.
        """
        if begun != self._begun:
            self._begun = begun
            read_at_once(self.transport, _AT_ONCE - begun % EVEN_RECORD)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._phase = Phase.CLOSED
        self._timers.end()
        self._liveness.end()
        application, self._application = self._application, None
        try:
            if application is None:
                self._never_opened(self._error or self._why_never(reason))
            else:
                application.connectionLost(self._why_lost())
        finally:
            # Where it was raised is a frame of ours: it would hold us, and our keys.
            self._error = None

    def fail(self, error: KDCError) -> None:
        """Drop the connection: the first error is what the application is told."""
        if self._error is None:
            self._error = error
        self._phase = Phase.CLOSED
        cast(Any, self.transport).abortConnection()

    # from the facade

    def send(self, data: bytes | memoryview) -> None:
        stream = self._stream
        if stream is None or not data or not self._writable:
            return
        self._write(stream.stream_data(data, _own.room))

    def end(self) -> None:
        """Make our direction whole once the producer is done; the other goes on."""
        self._step(Step.END)
        if self._producer is None:
            self._end_now()

    def leave(self) -> None:
        """End our direction once the producer is done, then wait for the peer's end."""
        if self._ending in UNREAD:
            return
        self._step(Step.LEAVE)
        if self._producer is None:
            self._leave_now()

    def produce(self, producer: Any, streaming: bool) -> None:
        if not self._writable:
            producer.stopProducing()
            return
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._producer = producer
        cast(Any, self.transport).registerProducer(producer, streaming)

    def stop_producing(self) -> None:
        self._producer = None
        cast(Any, self.transport).unregisterProducer()
        if self._ending in UNREAD:
            self._leave_now()
        elif self._ending is Ending.ENDING:
            self._end_now()

    def pause(self) -> None:
        self._paused = True
        cast(Any, self.transport).pauseProducing()

    def resume(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if self._phase is not Phase.OPEN:
            return
        try:
            self._deliver()
        except RemoteProtocolError as error:
            self.fail(error)
            return
        if not self._paused and self._phase is Phase.OPEN:
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
            while stream is not None and self._phase is Phase.OPEN and not self._paused:
                event = stream.next_event()
                if event is None:
                    return
                self._act(event)
        finally:
            self._delivering = False

    def _act(self, event: Event) -> None:
        # Only what is authentic is a sign of life: a forged length would otherwise have us wait
        # for hours, for the end of a record that grows by a ping a minute.
        self._liveness.heard()
        if isinstance(event, Data):
            self._data(event.data)
        elif isinstance(event, End):
            self._end_received()
        else:
            self._acknowledged(event)

    def _data(self, data: bytes | memoryview) -> None:
        if self._application is None:
            self._first_data(bytes(data))
        elif data and self._ending in UNREAD:
            self._step(Step.DATA_NOT_READ)
        elif data:
            self._application.dataReceived(cast(bytes, data) if self._takes_views else bytes(data))

    def _end_received(self) -> None:
        application = self._application
        if application is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the end before the first data")
        if self._ending in LOST:  # nobody has consumed that, and the peer must not think so
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
        self._step(Step.LEAVE)
        producer, self._producer = self._producer, None
        if producer is not None:
            cast(Any, self.transport).unregisterProducer()
            producer.stopProducing()
        self._leave_now()

    async def _store(self, storing: Awaitable[AckStatus]) -> None:
        self._storing = True
        try:
            status = await storing
        finally:
            self._storing = False
        if self._phase is Phase.OPEN:
            self._acknowledge(status)
            if self._application is not None:
                cast(Any, self._application).readConnectionLost()

    def _acknowledge(self, status: AckStatus) -> None:
        if self._stream is not None:
            self._write([self._stream.send_ack(status)])
            self._close_if_complete()

    def _acknowledged(self, ack: Ack) -> None:
        self._step(Step.END_CONFIRMED)
        application = self._application
        if IStreamProtocol.providedBy(application):
            application.acknowledged(ack.status)
        elif IHalfCloseableProtocol.providedBy(application):
            application.writeConnectionLost()
        self._close_if_complete()

    def _close_if_complete(self) -> None:
        if self._stream is not None and self._stream.complete and self._phase is Phase.OPEN:
            transport = cast(Any, self.transport)
            transport.loseConnection()
            # All is said and answered; one who reads nothing must not keep our last word here.
            self._within(LINGER_SECONDS, transport.abortConnection)

    def _write(self, records: Iterable[bytes | memoryview]) -> None:
        self._liveness.spoke()
        write_at_once(self.transport, records, bare=self._is_bare)

    def _end_now(self) -> None:
        stream = self._stream
        if stream is not None and self._writable:
            self._step(Step.END_SENT)
            self._write([stream.send_end()])

    @property
    def _writable(self) -> bool:
        return self._phase is Phase.OPEN and self._ending in WRITABLE

    def _step(self, step: Step) -> None:
        before, self._ending = self._ending, after(self._ending, step)
        # Not sooner: the peer may be slow, and what was written is still to arrive.
        if self._ending in LINGERS and before not in LINGERS:
            self._within(LINGER_SECONDS, self._linger)

    def _leave_now(self) -> None:
        if self._phase is not Phase.OPEN:
            return
        # What is still to be read decides nothing any more, but its end must be
        # seen: closing with unread bytes would reset the connection under ours.
        self._end_now()
        self.resume()

    def _linger(self) -> None:
        self.fail(PeerUnavailable("the peer did not close its side in time"))

    def _ping(self) -> None:
        if self._stream is not None and self._writable:
            self._write(self._stream.send_data(b""))

    def _expected(self) -> Expected:
        """What the peer has to say next, if we are there to hear it."""
        stream = self._stream
        if stream is None or self._paused or self._storing or stream.complete:
            return Expected.NOTHING
        if not stream.received_end:
            return Expected.WORD
        return Expected.ANSWER if stream.sent_end else Expected.NOTHING

    # start and end

    def _shake(self, body: bytes) -> None:
        raise NotImplementedError

    def _first_data(self, data: bytes) -> None:
        raise NotImplementedError

    def _never_opened(self, error: BaseException) -> None:
        raise NotImplementedError

    def _open(self, application: IProtocol, peer: PrincipalAddress) -> None:
        self._application = application
        self._takes_views = ITakesViews.providedBy(application)
        self._liveness.begin()
        application.makeConnection(ChannelTransport(self, peer))
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
        self._deadline.within(seconds, late)
