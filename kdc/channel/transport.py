"""The secure channel as the application sees it: a Twisted transport, its peer, its protocol.

Nothing here knows of records or keys: a `ChannelTransport` leads to an `Outlet`,
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, cast

import attrs
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from zope.interface import Interface, implementer

from kdc.errors import IntegrityError, KDCError
from kdc.protocol.records import AckStatus

__all__ = ["ChannelTransport", "IStreamProtocol", "Outlet", "PrincipalAddress"]


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


class IStreamProtocol(IHalfCloseableProtocol, Interface):
    """A protocol that says itself when the peer's stream has been dealt with.

    Other protocols need not know of ends and acknowledgements: for them a whole
    stream counts as consumed once it has been delivered.
    """

    def endReceived() -> Awaitable[AckStatus]:
        """The peer's stream is whole.  Store it; the result is what the peer is told."""

    def acknowledged(status: AckStatus) -> None:
        """The peer has answered our end."""


class Outlet(Protocol):
    """One end of a channel: what a transport does is done here, sealed."""

    transport: Any

    def send(self, data: bytes | memoryview) -> None: ...

    def end(self) -> None: ...

    def leave(self) -> None: ...

    def fail(self, error: KDCError) -> None: ...

    def produce(self, producer: Any, streaming: bool) -> None: ...

    def stop_producing(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def capture(self, sink: Callable[[bytes], None]) -> None: ...


@implementer(ITransport, IConsumer, IPushProducer)
class ChannelTransport:
    """What the application's protocol writes to.

    Every way out is here and goes through the channel: there is no attribute
    that leads to the raw transport, and none is looked up elsewhere.
    """

    disconnecting = False

    def __init__(self, channel: Outlet, peer: PrincipalAddress) -> None:
        self._channel = channel
        self._peer = peer

    @property
    def principal(self) -> str:
        """The name of the peer, proved by the handshake."""
        return self._peer.name

    def write(self, data: bytes | memoryview) -> None:
        self._channel.send(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self._channel.send(b"".join(data))

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
