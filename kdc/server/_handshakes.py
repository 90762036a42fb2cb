"""TLS in front of the KDC's connections: its handshakes take turns, by address.

A handshake is most of what a connection costs that proves nothing.  So one begins in
each turn of the reactor, and all else that is to be done comes in between; the next is
another address's, if one waits, however many connections one address has made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from kdc.limits import address_prefix
from kdc.net.sockets import host_of
from kdc.net.tls_listening import ListeningTLSFactory
from kdc.server._connections import KDCFactory
from kdc.server.certificate import ServerTLS

__all__ = ["Turns", "tls_factory"]


class Turns:
    """One thing in each turn of the reactor; from all who wait, each address's in turn."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[str, deque[Callable[[], bool]]] = {}
        self._taken = False

    def take(self, prefix: str, begin: Callable[[], bool]) -> bool:
        """Return whether ``prefix`` has its turn now; if not, ``begin`` is called when it has.

        ``begin`` returns whether it has taken it: whoever has gone meanwhile costs nobody one.
        """
        if not self._taken:
            self._taken = True
            self._clock.callLater(0, self._next)
            return True
        self._waiting.setdefault(prefix, deque()).append(begin)
        return False

    def _next(self) -> None:
        if not self._waiting:
            self._taken = False
            return
        self._clock.callLater(0, self._next)
        while self._waiting:
            prefix = next(iter(self._waiting))
            crowd = self._waiting.pop(prefix)
            begin = crowd.popleft()
            if crowd:
                self._waiting[prefix] = crowd  # behind all others
            if begin():
                break


class _Waiting(Protocol):
    """A connection whose turn has not come: nothing is read from it, and nothing made for it."""

    _gone = False

    def __init__(self, secured: TLSMemoryBIOProtocol) -> None:
        self._secured = secured
        self._inner: Any = secured.wrappedProtocol

    def connectionMade(self) -> None:
        cast(Any, self.transport).pauseProducing()
        # Should it have to go before its turn comes.
        self._inner.transport = self.transport

    def begin(self) -> bool:
        if self._gone:
            return False
        transport: Any = self.transport
        transport.protocol = self._secured
        transport.protocol.makeConnection(transport)
        transport.resumeProducing()
        return True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._inner.connectionLost(reason)


class _InTurnFactory(ListeningTLSFactory):
    def __init__(self, factory: KDCFactory, tls: ServerTLS, clock: IReactorTime) -> None:
        super().__init__(factory, tls, clock)
        self._turns = Turns(clock)

    def buildProtocol(  # type: ignore[override] # who has to wait has no TLS yet
        self, addr: Any
    ) -> Protocol | None:
        """Have who is taken wait for a turn."""
        secured: Any = super().buildProtocol(addr)
        if secured is None:
            return None
        waiting = _Waiting(secured)
        if self._turns.take(address_prefix(host_of(addr)), waiting.begin):
            return cast(Protocol, secured)
        return waiting


def tls_factory(factory: KDCFactory, tls: ServerTLS, clock: IReactorTime) -> IProtocolFactory:
    """Put TLS in front of ``factory``: what a listening port is given."""
    return _InTurnFactory(factory, tls, clock)
