"""Tunnels: any program's TCP or unix connections through a channel, service by service.

`expose` offers a local endpoint to peers; `forward` gives a peer's service a
local endpoint; `pipe` connects it to standard input and output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone, TimeoutError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.background import background
from kdc.channel import PrincipalAddress
from kdc.errors import KDCError, PeerUnavailable
from kdc.records import MAX_DATA

__all__ = ["Relay", "expose_factory", "forward_factory", "join_to"]

_log = Logger()


@implementer(IHalfCloseableProtocol)
class Relay(Protocol):
    """One end of a pair: what arrives here leaves at the other end.

    Ends pass on as half-closes, back-pressure as pauses; an end that was cut
    short aborts the other, so that nobody takes half a stream for a whole one.
    """

    def __init__(
        self,
        connected: Callable[[Relay], None] = lambda relay: None,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._connected = connected
        self._gone = gone
        self._other: Relay | None = None
        self._read_ended = False
        self._write_ended = False
        self._lost = False
        self.broken: KDCError | None = None

    @property
    def _transport(self) -> Any:
        return cast(Any, self.transport)

    def connectionMade(self) -> None:
        # A read that is no longer than a record does not leave a small one over.
        if hasattr(self._transport, "bufferSize"):
            self._transport.bufferSize = MAX_DATA
        self._transport.pauseProducing()  # nobody is there yet to take it
        self._connected(self)

    def join(self, other: Relay) -> None:
        """Make ``other``, connected too, the other end."""
        self._other, other._other = other, self
        for one, two in ((self, other), (other, self)):
            one._transport.registerProducer(two._transport, True)
        for one, two in ((self, other), (other, self)):
            if one._lost:
                two.cut()
            else:
                one._transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self._other is not None:
            self._other._transport.write(data)

    def readConnectionLost(self) -> None:
        self._read_ended = True
        if self._other is not None:
            self._other.end()
        self._close_if_done()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def end(self) -> None:
        """Nothing more will leave here."""
        if not self._write_ended and not self._lost:
            self._write_ended = True
            self._transport.unregisterProducer()
            self._transport.loseWriteConnection()
            self._close_if_done()

    def cut(self) -> None:
        """The other end broke: so does this one."""
        if not self._lost:
            # Standard output cannot be aborted, only closed.
            abort = getattr(self._transport, "abortConnection", self._transport.loseConnection)
            abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        other = self._other
        if other is not None and not other._lost:
            other._transport.unregisterProducer()
            if reason.check(ConnectionDone):
                other._transport.loseConnection()
            else:
                other.broken = _error_of(reason)
                other.cut()
        self._gone()

    def _close_if_done(self) -> None:
        if self._read_ended and self._write_ended:
            self._transport.loseConnection()


def _error_of(reason: Failure) -> KDCError:
    error = reason.value
    return error if isinstance(error, KDCError) else PeerUnavailable(str(error))


def _relays(connected: Callable[[Relay], None] = lambda relay: None) -> Factory[Relay]:
    factory: Factory[Relay] = Factory.forProtocol(lambda: Relay(connected))
    factory.noisy = False
    return factory


async def join_to(relay: Relay, target: IStreamClientEndpoint, what: str) -> KDCError | None:
    """Connect to ``target`` for ``relay``; if that fails, cut it and return why."""
    try:
        relay.join(cast(Relay, await target.connect(_relays())))
    except KDCError as error:
        failed = error
    except (ConnectError, ConnectionClosed, TimeoutError, OSError) as error:
        failed = PeerUnavailable(f"cannot connect: {error}")
    else:
        return None
    _log.error("{what}: {error}", what=what, error=failed)
    relay.cut()
    return failed


class _ExposeFactory(Factory["Relay"]):
    """Each channel gets a connection of its own to the local endpoint."""

    noisy = False

    def __init__(self, name: str, target: IStreamClientEndpoint) -> None:
        self._name = name
        self._target = target

    def buildProtocol(self, addr: Any) -> Relay:
        peer = cast(PrincipalAddress, addr)
        what = f"{peer.name} ({peer.host}) at {self._name}"
        _log.info("{what}: connected", what=what)
        return Relay(lambda relay: background(join_to(relay, self._target, what), "exposing"))


def expose_factory(reactor: Any, name: str, endpoint: str) -> IProtocolFactory:
    """What to offer as the service ``name``: the Twisted client endpoint ``endpoint``.

    Each connection is logged with the principal that opened it.  Raises
    `ValueError` if ``endpoint`` is not one.
    """
    return _ExposeFactory(name, clientFromString(reactor, endpoint))


def forward_factory(target: IStreamClientEndpoint, what: str) -> IProtocolFactory:
    """What to listen with locally: each connection gets a channel of its own to ``target``."""
    return _relays(lambda relay: background(join_to(relay, target, what), "forwarding"))
