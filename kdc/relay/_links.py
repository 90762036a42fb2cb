"""The relay's end of a link: what a receiver says over it, and how it is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.transport import ChannelTransport, PrincipalAddress
from kdc.errors import RefusedByPolicy, RemoteProtocolError, malformed
from kdc.limits import TokenBuckets
from kdc.net.background import background
from kdc.net.waiting import Deadline
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.relay import (
    MAX_MESSAGE,
    Call,
    Claim,
    Claimed,
    Dialled,
    Message,
    Release,
    Verify,
    decode,
    encode,
)
from kdc.relay._registry import Registry
from kdc.relay.limits import RelayLimits

__all__ = ["LinkEnd", "Links"]

# So long a receiver may read nothing of what it is told.
_DEAF_SECONDS = 30.0
Dial = Callable[[str, int, bytes], Awaitable[bool]]


class Links(Factory["LinkEnd"]):
    """All links; ``dial`` connects to an address and a port and shows a nonce there."""

    noisy = False

    def __init__(
        self,
        registry: Registry[LinkEnd, Any],
        dial: Dial,
        *,
        timers: Any,
        now: Callable[[], int],
        tell: Callable[[str], None],
    ) -> None:
        self.registry = registry
        self.dial = dial
        self.timers = timers
        self.now = now
        self.tell = tell
        self.limit(registry.limits)
        self.open: set[LinkEnd] = set()

    def limit(self, limits: RelayLimits) -> None:
        self.dials = TokenBuckets(limits.dials)

    def buildProtocol(self, addr: Any) -> LinkEnd | None:
        link = LinkEnd(self, addr)
        try:
            displaced = self.registry.link(link, addr.name, addr.host)
        except RefusedByPolicy as error:
            self.tell(f"no link for {addr.name} from {addr.host}: {error}")
            return None
        if displaced is not None:
            displaced.drop()
        return link

    def close(self, principal: str) -> None:
        for link in list(self.open):
            if link.principal == principal:
                link.drop()

    def close_all(self) -> None:
        for link in list(self.open):
            link.drop()


@implementer(IPushProducer)
class LinkEnd(Protocol):
    """One receiver's."""

    def __init__(self, links: Links, peer: PrincipalAddress) -> None:
        self._links = links
        self._peer = peer
        self._frames = FrameBuffer(MAX_MESSAGE)
        self._deaf = Deadline(links.timers)
        self._dialling = False
        self._gone = False

    @property
    def principal(self) -> str:
        return self._peer.name

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    @property
    def hears(self) -> bool:
        """Whether a call would be read at once."""
        return not (self._gone or self._deaf.running)

    def connectionMade(self) -> None:
        self._links.open.add(self)
        self._channel.registerProducer(self, True)
        self._links.tell(f"linked: {self._peer.name} from {self._peer.host}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._deaf.cancel()
        self._links.open.discard(self)
        self._links.registry.unlink(self)
        self._links.tell(f"link ended: {self._peer.name} from {self._peer.host}")

    def dataReceived(self, data: bytes) -> None:
        self._frames.feed(data)
        try:
            while not self._gone and (body := self._frames.next()) is not None:
                self._take(decode(body))
        except RemoteProtocolError as error:
            self._links.tell(f"link of {self._peer.name} dropped: {error}")
            self.drop()

    def call(self, call: Call) -> None:
        """Somebody wants to talk to this receiver."""
        self._say(call)

    def drop(self) -> None:
        self._gone = True
        self._channel.abortConnection()

    # It reads what it is told, or it asks for nothing more, and not for ever.

    def pauseProducing(self) -> None:
        if not self._gone:
            self._channel.pauseProducing()
            self._deaf.within(_DEAF_SECONDS, self.drop)

    def resumeProducing(self) -> None:
        self._deaf.cancel()
        if not self._gone:
            self._channel.resumeProducing()

    def stopProducing(self) -> None:
        """It ends, and `connectionLost` will tell."""

    def _take(self, message: Message) -> None:
        registry = self._links.registry
        if isinstance(message, Claim):
            verdict = registry.claim(self, message.epoch_id)
            self._say(Claimed(message.epoch_id, verdict))
        elif isinstance(message, Release):
            registry.release(self, message.epoch_id)
        elif isinstance(message, Verify):
            background(self._verify(message), "dialling a receiver back")
        else:
            raise malformed(f"a receiver does not say {type(message).__name__}")

    async def _verify(self, asked: Verify) -> None:
        """Only where it is itself, and one after the other: this is no scanner of ports."""
        connected, links = False, self._links
        if self._dialling or links.dials.take(self._peer.name, links.now()):
            links.registry.limited["dials_per_minute"] += 1
        else:
            self._dialling = True
            try:
                connected = await self._links.dial(self._peer.host, asked.port, asked.nonce)
            finally:
                self._dialling = False
        self._say(Dialled(asked.nonce, connected))

    def _say(self, message: Message) -> None:
        if not self._gone:
            self._channel.write(encode(message))
