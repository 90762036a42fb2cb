"""A relay: whoever can reach it can also be reached, through it.

An ordinary receiver, with a key of its own, to which other receivers open a
channel (the link); and, at the same port, the connections that are brought
together.  It is trusted with nothing: to those whose channels it carries it is
a piece of the network (docs/protocol.md section 6.6).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Factory, Protocol

from kdc.channel.figures import ChannelFigures
from kdc.channel.listening import Listening
from kdc.channel.receiver import ChannelListener
from kdc.channel.services import Service
from kdc.client.client import RealmClient
from kdc.limits import Rate, TokenBuckets
from kdc.net import clock
from kdc.net.log import Logger
from kdc.net.sockets import tcp_endpoint
from kdc.protocol.relay import SERVICE, Reach, dial_back
from kdc.relay._links import LinkEnd, Links
from kdc.relay._port import Joined, Port
from kdc.relay._registry import Owns, Registry
from kdc.relay.limits import RelayLimits, RelaySettings

__all__ = ["Figures", "Relay"]

DIAL_SECONDS = 3.0
# What is told in the log of those who come and go: enough to see what goes on.
_TOLD = Rate(10, 1, 200)


@attrs.frozen
class Figures:
    """What there is at the moment; and since the start what was joined, carried and limited.

    ``joined`` are those whose receiver has come, ``waiting`` the others.  ``limited`` tells how
    often each limit was reached, by its name in `RelayLimits`.
    """

    links: int
    joined: int
    waiting: int
    joins: int
    bytes: int
    limited: Mapping[str, int]


class Relay:
    """Serves from `bind` and `run` to `close`, under the name of ``client``.

    ``owns`` says whose an epoch is, where that can be known; ``make_port`` makes what
    brings connections together and carries them.
    """

    log = Logger()

    def __init__(
        self,
        client: RealmClient,
        settings: RelaySettings,
        *,
        owns: Owns = lambda principal, epoch_id: None,
        status: Callable[[str], None] = lambda line: None,
        random: Callable[[int], bytes] = os.urandom,
        now_milliseconds: Callable[[], int] = clock.milliseconds,
        make_port: Callable[..., Port] = Port,
    ) -> None:
        self._client = client
        self._now = now_milliseconds
        self._told = TokenBuckets(_TOLD, capacity=1)
        self._make_port = make_port
        registry: Registry[LinkEnd, Joined] = Registry(settings.limits, random, owns)
        self._registry = registry
        self._links = Links(
            registry, self._dial, timers=client.reactor, now=now_milliseconds, tell=self._tell
        )
        self._listening = Listening(
            client,
            {SERVICE: Service(self._links)},
            settings.listen,
            advertise=settings.advertise,
            status=status,
            reach=Reach.DIRECT,
            front=self._front,
        )

    @property
    def figures(self) -> Figures:
        registry = self._registry
        return Figures(
            registry.links,
            registry.joined,
            registry.waiting,
            registry.joins,
            self._port.bytes,
            {**registry.limited},
        )

    @property
    def channels(self) -> ChannelFigures:
        """Of the links, each of which is a channel, and of our own to the KDC."""
        return self._listening.figures

    def limit(self, limits: RelayLimits) -> None:
        """Use other limits from now on; who is there already stays."""
        self._registry.limits = limits
        self._links.limit(limits)
        self._port.limit(limits)

    def unlink(self, principal: str) -> None:
        """End its links; who is joined stays so."""
        self._links.close(principal)

    async def bind(self) -> None:
        """Take the port; raises `LocalIOError` or `ConfigurationError`."""
        await self._listening.bind()

    @property
    def port_number(self) -> int:
        return self._listening.port_number

    async def run(self) -> None:
        """Be there until `close`; raises `KDCError` when there is no point in going on."""
        await self._listening.run()

    async def close(self) -> None:
        """Leave the KDC, and break off all that is carried."""
        await self._listening.close()
        self._links.close_all()
        self._port.close_all()
        self._client.close()

    def _front(self, listener: ChannelListener) -> Port:
        """What the port is given: it tells links from what is to be carried."""
        self._port = self._make_port(
            self._registry,
            listener,
            timers=self._client.reactor,
            now=self._now,
            tell=self._tell,
        )
        return self._port

    async def _dial(self, host: str, port: int, nonce: bytes) -> bool:
        """Show ``nonce`` at a receiver's own port; say whether there was anybody."""
        factory = Factory.forProtocol(lambda: _Showing(nonce))
        factory.noisy = False
        try:
            await tcp_endpoint(self._client.reactor, host, port, DIAL_SECONDS).connect(factory)
        except (ConnectError, ConnectionClosed, TimeoutError, OSError):
            return False
        return True

    def _tell(self, line: str) -> None:
        if not self._told.take(None, self._now()):
            self.log.info("{line}", line=line)


class _Showing(Protocol):
    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(dial_back(self._nonce))
        transport.loseConnection()
