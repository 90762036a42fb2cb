"""A link to a relay, the receiver's end; and what can be found out over one.

It is an ordinary channel, opened directly: a relay is not reached through a relay.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.reach import Place, place_of_relay
from kdc.client.client import RealmClient
from kdc.errors import RemoteProtocolError
from kdc.net.log import Logger
from kdc.net.waiting import Deadline, Waiters
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.relay import (
    MAX_MESSAGE,
    SERVICE,
    Claim,
    Dialled,
    Message,
    Reach,
    Release,
    Verify,
    decode,
    encode,
)

__all__ = ["NONCE_BYTES", "VERIFY_SECONDS", "Link", "Looked", "look"]

NONCE_BYTES = 16
# So long a relay may take to dial back.
VERIFY_SECONDS = 4.0


class Link(Protocol):
    """One link, from when the relay has shown who it is: ``take`` gets what it says.

    ``take`` raises `RemoteProtocolError` for what a relay does not say, and that ends it.
    """

    log = Logger()

    def __init__(self, take: Callable[[Message], None], unlinked: Callable[[], None]) -> None:
        self.alive = True
        self._take = take
        self._unlinked = unlinked
        self._frames = FrameBuffer(MAX_MESSAGE)
        self._ended = Waiters()

    async def open(self, client: RealmClient, relay: str, place: Place) -> None:
        """Be linked to the relay of that name at ``place``; raises `KDCError`."""
        endpoint = ChannelClientEndpoint(client, relay, SERVICE, place[0], reach=Reach.DIRECT)
        await endpoint.connect(Factory.forProtocol(lambda: self))

    @property
    def _channel(self) -> Any:
        return cast(Any, self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._frames.feed(data)
        try:
            while self.alive and (body := self._frames.next()) is not None:
                self._take(decode(body))
        except RemoteProtocolError as error:
            self.log.info("the link to the relay is dropped: {error}", error=error)
            self.drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.alive = False
        self._unlinked()
        self._ended.release()

    async def lost(self) -> None:
        """Return when it is gone."""
        if self.alive:
            await self._ended.wait()

    def tell(self, before: list[bytes], now: list[bytes]) -> None:
        """Claim what is new, release what is no more."""
        for epoch_id in before:
            if epoch_id not in now:
                self.say(Release(epoch_id))
        for epoch_id in now:
            if epoch_id not in before:
                self.say(Claim(epoch_id))

    def say(self, message: Message) -> None:
        if self.alive:
            self._channel.write(encode(message))

    def leave(self) -> None:
        if self.alive:
            self._channel.loseConnection()

    def drop(self) -> None:
        if self.alive:
            self._channel.abortConnection()


@attrs.frozen
class Looked:
    """Where a relay is, and whether it could connect to our own port from there."""

    place: Place
    reaches_us: bool


async def look(
    client: RealmClient, relay: str, port: int, random: Callable[[int], bytes] = os.urandom
) -> Looked:
    """Have the relay try our ``port``; raises `KDCError`, as `place_of_relay` where there is none.

    That somebody answers there does not say that it is us.
    """
    place = await place_of_relay(client, relay)
    nonce = random(NONCE_BYTES)
    answers: list[Dialled] = []
    answered = Waiters()

    def take(message: Message) -> None:
        if isinstance(message, Dialled) and message.nonce == nonce:
            answers.append(message)
            answered.release()

    link = Link(take, answered.release)
    await link.open(client, relay, place)
    late = Deadline(client.reactor)
    late.within(VERIFY_SECONDS, answered.release)
    link.say(Verify(port, nonce))
    try:
        await answered.wait()
    finally:
        late.cancel()
        link.leave()
    return Looked(place, any(answer.connected for answer in answers))
