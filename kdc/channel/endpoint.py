"""A Twisted endpoint whose connections are secure channels to a principal."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred
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
from kdc.channel._ways import Ways
from kdc.channel.services import DEFAULT_SERVICE
from kdc.client.client import RealmClient
from kdc.errors import KDCError, TooBusy
from kdc.net import clock
from kdc.net.retry import backoff
from kdc.protocol.kdc_exchange import Grant
from kdc.protocol.relay import Reach

__all__ = ["ChannelClientEndpoint"]

_PATIENCE_SECONDS = 10.0
# A crowd that comes back is spread over so long.
_MOST_PAUSE_SECONDS = 8.0


@implementer(IStreamClientEndpoint)
@attrs.frozen
class ChannelClientEndpoint:
    """A principal, by name.

    ``address`` is where to look for it instead of where the KDC says: a hint
    only, since whoever answers has to prove who it is.  So is the realm's relay,
    where it is looked for too if ``reach`` allows it.  A ``resident`` is part of the KDC, and
    where that is we know better than it does.  ``connect`` fires with
    the application's protocol when the peer has shown who it is, not when TCP is
    up; it fails with a `KDCError`.

    A receiver that has too many newcomers closes without a word, as one does that wants
    nothing of us; and the KDC may limit how often it is asked.  Then it is tried again for
    ``patience_seconds``, each pause of another length, and ``held_up`` is told why.
    """

    client: RealmClient
    peer: str
    service: str = DEFAULT_SERVICE
    address: str = ""
    reach: Reach | None = None  # as the client
    relay: str | None = None  # the same
    resident: bool = False
    patience_seconds: float = _PATIENCE_SECONDS
    held_up: Callable[[KDCError], None] = lambda error: None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        client, now = self.client, self.client.reactor.seconds
        deadline = now() + self.patience_seconds
        ways = Ways(client, self.peer, self.reach or client.reach, self.relay or client.relay)
        granted: tuple[RealmClient, Grant] | None = None
        attempt = 0
        while True:
            failed: KDCError
            try:
                if granted is None or not granted[1].is_good(clock.milliseconds()):
                    granted = await client.grant_from(self.peer)
                node, grant = granted
                return await self._present(grant, factory, ways, node)
            except ClosedEarly as error:
                # A receiver with too many newcomers closes just so.  Never the same key twice:
                # unless nothing was sent under it, the next try asks for another.
                failed, pause = error, backoff(attempt, most=_MOST_PAUSE_SECONDS)
            except TooBusy as error:
                failed, pause = error, error.retry_after + backoff(0, first=1.0)
            if now() + pause > deadline:
                raise failed
            attempt += 1
            self.held_up(failed)
            await deferLater(client.reactor, pause)

    async def _present(
        self, grant: Grant, factory: IProtocolFactory, ways: Ways, node: RealmClient
    ) -> IProtocol:
        address = (await node.link()).address if self.resident else self.address
        place = address or grant.reply.address, grant.reply.port
        sender = SenderChannel(grant, self.service, factory, self.client.reactor)
        held = [sender]
        raw = Factory.forProtocol(lambda: held[0])
        raw.noisy = False
        try:
            _ = await ways.connect(raw, place, node)
        except CancelledError:
            _ = sender.opened.addErrback(lambda failure: None)  # nobody waits for it any more
            raise
        finally:
            # A factory lives longer than its connection: it must not keep what has the keys.
            held.clear()
        try:
            return await sender.opened
        except CancelledError:
            sender.give_up()
            raise
