"""Two connections joined: what arrives at one leaves at the other.

Whatever carries bytes for others is made of this: a tunnel's channel and the
program behind it, and the two connections that a relay has brought together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.errors import KDCError, PeerUnavailable
from kdc.net.sockets import read_at_once
from kdc.net.views import ITakesViews
from kdc.net.writing import is_bare
from kdc.protocol.records import EVEN_DATA

__all__ = ["SpliceEnd", "StraightEnd", "error_of"]


@implementer(IHalfCloseableProtocol, ITakesViews)
class SpliceEnd(Protocol):
    """One end of a pair: what arrives here leaves at the other end.

    Ends pass on as half-closes, back-pressure as pauses; an end that was cut
    short aborts the other, so that nobody takes half a stream for a whole one.

    ``received`` counts what arrived here, ``sent`` what came from the other end; ``broken`` is
    why it was cut.
    """

    def __init__(
        self,
        connected: Callable[[SpliceEnd], None] = lambda end: None,
        gone: Callable[[SpliceEnd, Failure], None] = lambda end, reason: None,
    ) -> None:
        self._connected = connected
        self._gone = gone
        self._other: SpliceEnd | None = None
        self._write_ended = False
        self._lost = False
        self.received = self.sent = 0
        self.broken: KDCError | None = None

    @property
    def _transport(self) -> Any:
        return cast(Any, self.transport)

    @property
    def _producer(self) -> Any:
        """What is told to pause while the other end does not take what comes from here."""
        return self._transport

    @property
    def lost(self) -> bool:
        """Whether its connection has gone."""
        return self._lost

    def connectionMade(self) -> None:
        read_at_once(self._transport, EVEN_DATA)
        self._transport.pauseProducing()  # nobody is there yet to take it
        self._connected(self)

    def join(self, other: SpliceEnd) -> None:
        """Make ``other``, connected too, the other end."""
        self._other, other._other = other, self
        for one, two in ((self, other), (other, self)):
            one._hold_up(two)
        for one, two in ((self, other), (other, self)):
            if one._lost:
                two.cut()
            else:
                one._transport.resumeProducing()

    def dataReceived(self, data: bytes | memoryview) -> None:
        self.received += len(data)
        other = self._other
        if other is not None:
            other.sent += len(data)
            other._put(data)

    def _put(self, data: bytes | memoryview) -> None:
        """Have it leave here."""
        self._transport.write(bytes(data))

    def _hold_up(self, source: SpliceEnd) -> None:
        """Pause ``source`` whenever what comes from there cannot leave here."""
        self._transport.registerProducer(source._producer, True)

    def readConnectionLost(self) -> None:
        if self._other is not None:
            self._other.end()

    def writeConnectionLost(self) -> None:
        """Our own doing, or whoever read here has gone, as ``head`` does."""
        if not self._write_ended:
            self.broken = PeerUnavailable("nobody reads what comes out here any more")
            self._part(self.broken)
            self.cut()

    def end(self) -> None:
        """Nothing more will leave here."""
        if not self._write_ended and not self._lost:
            self._write_ended = True
            self._transport.unregisterProducer()
            self._transport.loseWriteConnection()

    def cut(self) -> None:
        """The other end broke: so does this one."""
        if not self._lost:
            # Standard output cannot be aborted, only closed.
            abort = getattr(self._transport, "abortConnection", self._transport.loseConnection)
            abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._part(None if reason.check(ConnectionDone) else error_of(reason))
        self._gone(self, reason)
        other = self._other
        if other is not None and other._lost:
            self._other = other._other = None  # they would keep each other

    def _part(self, broken: KDCError | None) -> None:
        """Close the other end as this one was."""
        other = self._other
        if other is None or other._lost:
            return
        other._transport.unregisterProducer()
        if broken is None:
            other._write_ended = True
            other._transport.loseConnection()
        else:
            other.broken = other.broken or broken
            other.cut()


@implementer(IPullProducer)
class StraightEnd(SpliceEnd):
    """An end that gives its system at once what that takes, if it is a bare TCP connection.

    As `kdc.net.writing`; but the other end is paused as soon as one byte has to wait.
    """

    _is_bare = False
    _behind = False  # what could not leave at once is the transport's to send, and none may pass it

    def connectionMade(self) -> None:
        self._is_bare = is_bare(self.transport) and hasattr(self.transport, "getHandle")
        super().connectionMade()

    def _hold_up(self, source: SpliceEnd) -> None:
        if self._is_bare:
            self._transport.registerProducer(self, False)
        else:
            super()._hold_up(source)

    def _put(self, data: bytes | memoryview) -> None:
        if not self._is_bare:
            super()._put(data)
            return
        if not (self._behind or self._write_ended or self._lost):
            data = data[self._at_once(data) :]
        if data:
            self._transport.write(bytes(data))
            self._fall_behind()

    def _at_once(self, data: bytes | memoryview) -> int:
        try:
            count: int = self._transport.getHandle().send(data)
        except OSError:  # nothing for now; if it is broken, the transport finds that out itself
            return 0
        return count

    def _fall_behind(self) -> None:
        if not self._behind and self._other is not None:
            self._behind = True
            self._other._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Called when nothing is left in the transport."""
        if self._behind and self._other is not None:
            self._behind = False
            self._other._producer.resumeProducing()

    def stopProducing(self) -> None:
        """It ends, and `connectionLost` will tell."""


def error_of(reason: Failure) -> KDCError:
    """Why a connection broke, as an error of ours."""
    error = reason.value
    return error if isinstance(error, KDCError) else PeerUnavailable(str(error))
