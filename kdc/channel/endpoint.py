"""A Twisted endpoint whose connections are secure channels to a principal."""

from __future__ import annotations

import errno
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from zope.interface import implementer

from kdc.channel._channel import ClosedEarly
from kdc.channel._sender import SenderChannel
from kdc.channel.services import DEFAULT_SERVICE
from kdc.client.client import KDCClient
from kdc.errors import PeerUnavailable
from kdc.net.retry import backoff, reason_of
from kdc.protocol.kdc_exchange import Grant

__all__ = ["ChannelClientEndpoint"]

_TRIES_SECONDS = 10.0


@implementer(IStreamClientEndpoint)
@attrs.frozen
class ChannelClientEndpoint:
    """A principal, by name.

    ``address`` is where to look for it instead of where the KDC says: a hint
    only, since whoever answers has to prove who it is.  ``connect`` fires with
    the application's protocol when the peer has done so, not when TCP is up; it
    fails with a `KDCError`.
    """

    client: KDCClient
    peer: str
    service: str = DEFAULT_SERVICE
    address: str = ""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        reactor = self.client.reactor
        deadline = reactor.seconds() + _TRIES_SECONDS
        attempt = 0
        while True:
            grant = await self.client.grant(self.peer)
            try:
                return await self._present(grant, factory)
            except ClosedEarly:
                # A receiver with too many newcomers closes just so.  Never the
                # same key twice: the next try asks for another.
                pause = backoff(attempt)
                attempt += 1
                if reactor.seconds() + pause > deadline:
                    raise
                await deferLater(reactor, pause)

    async def _present(self, grant: Grant, factory: IProtocolFactory) -> IProtocol:
        reactor, reply = self.client.reactor, grant.reply
        address = self.address or reply.address
        if not address or not reply.port:
            raise PeerUnavailable(f"{grant.receiver} gave no address to be reached at")
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(reactor, address, reply.port)
        # A factory lives as long as its connection: it must not keep the session key.
        sender = SenderChannel(grant, self.service, factory, reactor)
        raw = Factory.forProtocol(lambda: sender)
        raw.noisy = False
        try:
            channel: Any = await endpoint.connect(raw)
        except (ConnectError, ConnectionClosed, TimeoutError, OSError) as error:
            # Reset before we came to write: it has too many newcomers, as in `_connect`.
            reset = getattr(error, "osError", None) == errno.ECONNRESET
            raise (ClosedEarly if reset else PeerUnavailable)(
                f"{grant.receiver} cannot be reached at {address} port {reply.port}:"
                f" {reason_of(error)}",
                hint="is its receiver still running, and no firewall in between?",
            ) from None
        opened: IProtocol = await channel.opened
        return opened
