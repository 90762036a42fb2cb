"""The KDC on the network: connections in front of `kdc.issuing.issuer`, TLS below them.

The issuer decides; this module reads frames, keeps the deadlines, waits for
the store, and writes what was decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import (
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.errors import RemoteProtocolError
from kdc.issuing.decisions import Audit, Connection, Now, Others, Output, Write
from kdc.issuing.issuer import Issuer
from kdc.issuing.session import Session, State
from kdc.limits import Arrivals, ConnectionLimiter, Limits
from kdc.net import clock
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.net.sockets import host_of, notice_dead_peers
from kdc.net.tls import ALPN, channel_binding
from kdc.net.waiting import Timers
from kdc.protocol.codec import MAX_FRAME, FrameBuffer
from kdc.server._store_writer import StoreWriter
from kdc.store import Record, Result, StoreUnavailable, StoreUncertain

__all__ = ["KDCFactory", "KDCProtocol", "system_now"]

_CLOSE_SECONDS = 5.0
# Of one connection in one turn of the reactor: others have their turn, too.
_FRAMES_AT_ONCE = 16
# A frame in more TLS records than that is an attack: each record costs us, and only frames are
# charged.  A client writes each frame at once.
_MOST_PIECES = 16


def system_now() -> Now:
    return Now(clock.milliseconds(), int(time.time()))


@implementer(IHandshakeListener, IPushProducer)
class KDCProtocol(Protocol):
    """One client, from TCP to the end."""

    log = Logger()
    factory: KDCFactory

    def __init__(self, factory: KDCFactory, address: str) -> None:
        self.factory = factory
        self._address = address
        self._frames = FrameBuffer(MAX_FRAME)
        self._session: Session | None = None
        # All that is still to happen to this connection: its end, and the end of a rest.
        self._timers = Timers(factory.clock)
        self._deadline = self._timers.deadline()
        self._rest = self._timers.deadline()
        self._newcomer = True
        self._answers: list[bytes] = []
        self._working = False
        self._choked = False
        self._closing = False
        self._last_frame = 0.0
        self._pieces = 0  # since the last whole frame

    def connectionMade(self) -> None:
        self.factory.connected += 1
        notice_dead_peers(self.transport)
        self._within(self.factory.limits.tls_seconds)

    def handshakeCompleted(self) -> None:
        transport = cast(Any, self.transport)
        # A client that did not ask for this protocol may have been tricked into
        # speaking another one to us.
        if transport.negotiatedProtocol != ALPN:
            self.abort()
            return
        binding = channel_binding(transport.getHandle())
        self._session = self.factory.issuer.connect(self._address, binding)
        self.factory.attach(self._session, self)
        # Who sends requests and reads no answers is not read from any more.
        transport.registerProducer(self, True)
        self._within(self.factory.limits.first_frame_seconds)

    def pauseProducing(self) -> None:
        """The client does not read what it asked for: ask it nothing more."""
        self._choked = True
        self._pace()

    def resumeProducing(self) -> None:
        self._choked = False
        self._pace()
        self._work()

    def stopProducing(self) -> None:
        """The connection is gone, and `connectionLost` will tell."""

    @property
    def _waits(self) -> bool:
        """Whether the client's change is on its way to the store."""
        return self._session is not None and self._session.state is State.WRITING

    def _pace(self) -> None:
        """Read from the client, or not."""
        if self._closing:
            return
        transport = cast(Any, self.transport)
        if self._choked or self._waits or self._rest.running:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._frames.feed(data)
        self._work()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connected -= 1
        if not self._closing:
            self._let_go()
        self._closing = True
        self._timers.end()
        self._identified()
        if self._session is not None:
            self.factory.detach(self._session)
            self._session.closed()

    def perform(self, output: Output) -> None:
        """Do what the issuer decided."""
        if output.write is not None:
            self._pace()
            background(self._write(output.write), "answering a change")
        if output.data and not self._closing:
            self._answers.append(output.data)
            if not self._working:
                self._flush()
        if output.others:
            self.factory.perform(output.others)
        if output.close:
            self.close()

    def close(self) -> None:
        """Let what was written go out, but do not wait for ever for a peer that does not read."""
        if self._closing:
            return
        self._flush()
        self._closing = True
        self._timers.cancel()
        self._within(_CLOSE_SECONDS)
        self._let_go()
        transport = cast(Any, self.transport)
        # The client's own goodbye has to be seen, or this takes until the deadline.
        transport.resumeProducing()
        transport.loseConnection()

    def _let_go(self) -> None:
        """Produce no more for the transport: what is over, and its keys, is gone at once then.

        As long as each has the other, only the garbage collector finds them, some day.
        """
        if self._session is not None:
            cast(Any, self.transport).unregisterProducer()

    def _work(self) -> None:
        session = self._session
        if session is None or self._working or self._rest.running:
            return
        self._working = True
        try:
            self._answer(session)
        finally:
            self._working = False
            self._flush()

    def _flush(self) -> None:
        """Write all answers to what came together at once: that costs what one of them does."""
        if self._answers:
            answers, self._answers = self._answers, []
            self.transport.write(b"".join(answers))  # type: ignore[union-attr]

    def _answer(self, session: Session) -> None:
        now, seconds = self.factory.now(), self.factory.clock.seconds()
        rest: int | None = None
        for _ in range(_FRAMES_AT_ONCE):
            if self._waits or self._choked or self._closing:
                break
            try:
                body = self._frames.next()
            except RemoteProtocolError as error:
                self.perform(self.factory.issuer.broken_frame(session, error))
                return
            if body is None:
                self._pieces += 1
                if self._pieces > _MOST_PIECES:
                    self.abort()
                break
            self._last_frame = seconds
            self._pieces = 0
            output = self.factory.issuer.receive(session, body, now)
            self.perform(output)
            # Not after each: to be woken for one request costs us as much as several of them.
            rest = output.rest_milliseconds or None
            if self._newcomer and session.state is State.AUTHENTIC:
                self._proved()
        else:
            if self._frames:
                rest = rest or 0  # there is more: others have their turn first
        if rest is not None:
            self._pause(rest / 1000)

    def _pause(self, seconds: float) -> None:
        """Take nothing from this client for so long."""
        if not self._closing and not self._rest.running:
            self._rest.within(seconds, self._go_on)
            self._pace()

    def _go_on(self) -> None:
        self._pace()
        self._work()

    async def _write(self, write: Write) -> None:
        """Make a change durable, then answer; nothing else is taken from this client meanwhile."""
        try:
            result: Result | None = await self.factory.writer.submit(write.change)
        except StoreUnavailable as error:
            self.log.error("the store cannot write: {error}", error=str(error))
            result = None
        except StoreUncertain as error:
            # Neither "done" nor "nothing was changed" would be sure to be true.
            self.log.error("no answer: {error}", error=str(error))
            self.abort()
            return
        except Exception:
            # A defect.  What became of the change nobody knows, so there is no answer; and a
            # connection that waited on would be passed over when its principal is disabled.
            self.abort()
            raise
        # Decided even if the client has gone meanwhile: others may depend on it.
        self.perform(write.then(result))
        if self._newcomer and not self._closing:
            # Registered, so now there is time to authenticate.  Nothing else gives a
            # newcomer more: requests that are refused would keep it here for ever.
            self._within(self.factory.limits.first_frame_seconds)
        self._pace()
        self._work()

    def _idle(self) -> None:
        """Close if nothing came for long, unless this is a receiver: it has nothing to say."""
        silent = self.factory.clock.seconds() - self._last_frame
        remaining = self.factory.limits.idle_seconds - silent
        if self._session is not None and self._session.holds_epoch:
            remaining = self.factory.limits.idle_seconds
        if remaining > 0:
            self._within(remaining, self._idle)
        else:
            self.close()

    def _within(self, seconds: float, late: Callable[[], None] | None = None) -> None:
        self._deadline.within(seconds, late or self.abort)

    def abort(self) -> None:
        """End the connection at once, whatever was still to be said."""
        self._let_go()
        self._closing = True
        self._timers.end()
        cast(Any, self.transport).abortConnection()

    def _proved(self) -> None:
        self._identified()
        self.factory.arrivals.proved(self._address, self.factory.now().milliseconds)
        self._within(self.factory.limits.idle_seconds, self._idle)

    def _identified(self) -> None:
        self._newcomer = False
        self.factory.limiter.release(self)


class KDCFactory(Factory["KDCProtocol"]):
    """All connections of one KDC."""

    noisy = False

    def __init__(
        self,
        issuer: Issuer,
        writer: StoreWriter,
        *,
        clock: IReactorTime,
        limits: Limits | None = None,
        now: Callable[[], Now] = system_now,
    ) -> None:
        self.issuer = issuer
        self.writer = writer
        self.clock = clock
        self.now = now
        self.limits = Limits() if limits is None else limits
        self.limiter: ConnectionLimiter[KDCProtocol] = ConnectionLimiter(
            self.limits.unauthenticated, self.limits.unauthenticated_per_address
        )
        self.arrivals = Arrivals(self.limits)
        self._protocols: dict[Connection, KDCProtocol] = {}
        # How many are there, in TLS or further.
        self.connected = 0
        self._turned_away = {"arrivals": 0, "unauthenticated": 0}

    @property
    def turned_away(self) -> dict[str, int]:
        """How many connections had to go, for which limit."""
        return {**self._turned_away, **self.issuer.realm.turned_away}

    def __len__(self) -> int:
        return len(self._protocols)

    def buildProtocol(self, addr: Any) -> KDCProtocol | None:
        address = host_of(addr)
        if not self.arrivals.admit(address, self.now().milliseconds):
            line = Audit("refused", "", address, "RATE connections", unproven=True)
            self.issuer.realm.audit(line)
            self._turned_away["arrivals"] += 1
            return None
        protocol = KDCProtocol(self, address)
        displaced = self.limiter.admit(protocol, address)
        if displaced is not None:
            displaced.abort()
            self._turned_away["unauthenticated"] += 1
        return protocol

    def limit(self, limits: Limits) -> None:
        """Use other limits from now on."""
        self.limits = limits
        self.limiter.allow(limits.unauthenticated, limits.unauthenticated_per_address)
        self.arrivals.limit(limits)

    def attach(self, session: Session, protocol: KDCProtocol) -> None:
        self._protocols[session] = protocol

    def detach(self, session: Session) -> None:
        del self._protocols[session]

    def perform(self, others: Others) -> None:
        """Do what a decision on one connection means for others."""
        for session, output in others:
            protocol = self._protocols.get(session)
            if protocol is not None:
                protocol.perform(output)

    def record_changed(self, record: Record) -> None:
        """Tell the issuer of a change of the store, whoever made it; in the reactor thread."""
        self.perform(self.issuer.record_changed(record))

    def close_all(self) -> None:
        """End every connection: the KDC stops."""
        for protocol in list(self._protocols.values()):
            protocol.close()
