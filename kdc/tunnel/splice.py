"""Tunnels: any program's TCP or unix connections through a channel, service by service.

`expose` offers a local endpoint to peers; `forward` gives a peer's service a
local endpoint; `pipe` connects it to standard input and output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone, TimeoutError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.transport import PrincipalAddress
from kdc.errors import KDCError, PeerUnavailable
from kdc.net.background import background
from kdc.net.sockets import read_at_once
from kdc.protocol.records import EVEN_DATA

__all__ = ["Relay", "expose_factory", "forward_factory", "join_to"]


@implementer(IHalfCloseableProtocol)
class Relay(Protocol):
    """One end of a pair: what arrives here leaves at the other end.

    Ends pass on as half-closes, back-pressure as pauses; an end that was cut
    short aborts the other, so that nobody takes half a stream for a whole one.

    ``received`` counts what arrived here; ``broken`` is why it was cut.
    """

    def __init__(
        self,
        connected: Callable[[Relay], None] = lambda relay: None,
        gone: Callable[[Relay, Failure], None] = lambda relay, reason: None,
    ) -> None:
        self._connected = connected
        self._gone = gone
        self._other: Relay | None = None
        self._write_ended = False
        self._lost = False
        self.received = 0
        self.broken: KDCError | None = None

    @property
    def _transport(self) -> Any:
        return cast(Any, self.transport)

    @property
    def sent(self) -> int:
        return 0 if self._other is None else self._other.received

    def connectionMade(self) -> None:
        read_at_once(self._transport, EVEN_DATA)
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
        self.received += len(data)
        if self._other is not None:
            self._other._transport.write(data)

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
        self._part(None if reason.check(ConnectionDone) else _error_of(reason))
        self._gone(self, reason)

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


def _error_of(reason: Failure) -> KDCError:
    error = reason.value
    return error if isinstance(error, KDCError) else PeerUnavailable(str(error))


async def join_to(relay: Relay, target: IStreamClientEndpoint) -> KDCError | None:
    """Connect to ``target`` for ``relay``; if that fails, cut it and return why."""
    factory: Factory[Relay] = Factory.forProtocol(Relay)
    factory.noisy = False
    try:
        relay.join(cast(Relay, await target.connect(factory)))
    except KDCError as error:
        failed = error
    except (ConnectError, ConnectionClosed, TimeoutError, OSError) as error:
        failed = PeerUnavailable(f"cannot connect: {error}")
    else:
        return None
    relay.broken = failed
    relay.cut()
    return failed


class _RelayFactory(Factory["Relay"]):
    """Each connection gets one of its own to ``target``."""

    noisy = False

    def __init__(self, target: IStreamClientEndpoint, what: str, tell: Callable[[str], None]):
        self._target = target
        self._what = what
        self._tell = tell

    def _joined(self, relay: Relay) -> None:
        background(join_to(relay, self._target), self._what)


class _ExposeFactory(_RelayFactory):
    def buildProtocol(self, addr: Any) -> Relay:
        peer = cast(PrincipalAddress, addr)
        what = f"{self._what}: {peer.name} from {peer.host} port {peer.port}"
        self._tell(f"{what}: connected")
        return Relay(
            self._joined, lambda relay, reason: self._tell(f"{what}: {_farewell(relay, reason)}")
        )


class _ForwardFactory(_RelayFactory):
    def buildProtocol(self, addr: Any) -> Relay:
        return Relay(self._joined, self._gone)

    def _gone(self, relay: Relay, reason: Failure) -> None:
        if relay.broken is not None:
            self._tell(f"{self._what}: {relay.broken}")


def _farewell(relay: Relay, reason: Failure) -> str:
    amounts = f"{relay.received} bytes in, {relay.sent} bytes out"
    if reason.check(ConnectionDone):
        return f"closed after {amounts}"
    return f"broken after {amounts}: {relay.broken or _error_of(reason)}"


def expose_factory(
    target: IStreamClientEndpoint, what: str, tell: Callable[[str], None]
) -> IProtocolFactory:
    """What to offer as a service: each channel gets a connection of its own to ``target``.

    ``tell`` is given a line whenever a channel opens or closes, with the
    principal that opened it.
    """
    return _ExposeFactory(target, what, tell)


def forward_factory(
    target: IStreamClientEndpoint, what: str, tell: Callable[[str], None]
) -> IProtocolFactory:
    """What to listen with locally: each connection gets a channel of its own to ``target``.

    ``tell`` is given a line for each that could not be opened, or broke.
    """
    return _ForwardFactory(target, what, tell)
