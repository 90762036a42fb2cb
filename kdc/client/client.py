"""The client's connection to the KDC, as Twisted sees it.

`KDCLink` is one connection; `KDCClient` makes them when they are needed and
turns every way they can fail into an error that a person can act on.
`RealmClient` is what it has in common with `kdc.client.nodes.Nodes`, which is
several KDCs of one realm.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import CancelledError, DeferredLock, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory

from kdc.client.identity import ClientTLS
from kdc.client.link import KDCLink, _Busy, _Silent, dropped
from kdc.errors import (
    KDCError,
    KDCUnreachable,
    Superseded,
)
from kdc.net.retry import backoff, reason_of
from kdc.protocol.crypto import LongTermKeys
from kdc.protocol.kdc_exchange import Grant
from kdc.protocol.relay import RELAY, Reach

__all__ = ["KDCClient", "RealmClient"]

CONNECT_SECONDS = 10.0
_MOST_PAUSE_SECONDS = 20.0
T = TypeVar("T")


class RealmClient(Protocol):
    """One principal's dealings with its realm, be that one KDC or several."""

    @property
    def reactor(self) -> Any:
        """Where its timers and connections are."""

    @property
    def keys(self) -> LongTermKeys:
        """Our own; who has changed them sets them."""

    @keys.setter
    def keys(self, keys: LongTermKeys) -> None: ...

    @property
    def where(self) -> str:
        """What people call the KDC, the one that answered last of several."""

    @property
    def random(self) -> Callable[[int], bytes]:
        """Makes random bytes."""

    @property
    def reach(self) -> Reach:
        """By which ways peers are reached, and we by them."""

    @property
    def relay(self) -> str:
        """The name of the relay."""

    @property
    def weakness(self) -> str:
        """Why our keys should not become those of a new name, if so."""

    @property
    def nodes(self) -> Sequence[KDCClient]:
        """Each KDC, in an order that is the same for everybody."""

    async def login(self) -> KDCLink:
        """As `KDCClient.login`."""

    async def register(self, address: str, port: int, invitation: bytes = b"") -> int:
        """As `KDCClient.register`."""

    async def link(self) -> KDCLink:
        """As `KDCClient.link`."""

    async def grant(self, peer: str) -> Grant:
        """As `KDCClient.grant`."""

    async def grant_from(self, peer: str) -> tuple[KDCClient, Grant]:
        """The same, and which KDC gave it: only there that epoch of the peer is known."""

    def close(self) -> None:
        """End what is open."""


@attrs.define
class KDCClient:
    """One principal's dealings with its KDC: a connection when it is needed, kept while it lasts.

    ``where`` is how people call the KDC, ``reach`` by which ways peers are reached,
    and we by them, ``relay`` the name of the relay, ``weakness`` why these keys should
    not become those of a new name, if so.  A KDC that closes before TLS has begun is too busy,
    and is tried again for ``patience_seconds``.  Everything raises `KDCError`.
    """

    reactor: Any
    endpoint: IStreamClientEndpoint
    tls: ClientTLS
    keys: LongTermKeys
    where: str
    random: Callable[[int], bytes] = os.urandom
    reach: Reach = Reach.AUTO
    relay: str = RELAY
    weakness: str = ""
    # How long for one connection; and how long a KDC that is too busy for one is tried again.
    connect_seconds: float = CONNECT_SECONDS
    patience_seconds: float = CONNECT_SECONDS
    held_up: Callable[[KDCError], None] = lambda error: None
    _link: KDCLink | None = attrs.field(default=None, init=False)
    _lock: DeferredLock = attrs.field(factory=DeferredLock, init=False)

    @property
    def nodes(self) -> Sequence[KDCClient]:
        return (self,)

    async def connect(self) -> KDCLink:
        """Return a new connection, the KDC's identity checked and nothing said yet."""
        return await self._patiently(self._connect)

    async def login(self) -> KDCLink:
        """Return a new connection on which we are authenticated."""
        return await self._patiently(self._login)

    async def register(self, address: str, port: int, invitation: bytes = b"") -> int:
        """Take our name; returns once the KDC has it on disk."""
        return await self._patiently(lambda: self._register(address, port, invitation))

    async def link(self) -> KDCLink:
        """Return the connection on which we are authenticated: the open one, or a new one."""
        return await self._patiently(self._introduced_link)

    async def grant(self, peer: str) -> Grant:
        """Return a fresh session key for one channel to ``peer``."""
        return await self.with_link(lambda link: link.request_key(peer))

    async def grant_from(self, peer: str) -> tuple[KDCClient, Grant]:
        return self, await self.grant(peer)

    async def with_link(self, ask: Callable[[KDCLink], Awaitable[T]]) -> T:
        """Ask over the connection that is open, or over a new one if it has been lost.

        On a new one the question leaves together with our proof: one round trip for both.
        """
        return await self._patiently(lambda: self._ask_over_link(ask))

    async def _ask_over_link(self, ask: Callable[[KDCLink], Awaitable[T]]) -> T:
        link = await self._some_link()
        try:
            return await ask(link)
        except _Busy:
            raise
        except (KDCUnreachable, Superseded):
            if link.alive:
                raise
        # It may have been closed for idleness at the very moment we asked, or because
        # another receives under our name now: that is no reason not to ask.
        return await ask(await self._some_link())

    async def _some_link(self) -> KDCLink:
        async with self._lock:
            return await self._open_link()

    async def _open_link(self) -> KDCLink:
        """Return the connection that is open, or a new one with our proof on its way."""
        if self._link is None or not self._link.alive:
            self._link = await self._connect()
            self._link.introduce()
        return self._link

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Again and again, if the KDC has no room for us: it may have none at any moment before
        it has heard who we are, so also when it was told already.
        """
        deadline = self.reactor.seconds() + self.patience_seconds
        tries = 0
        while True:
            try:
                return await attempt()
            except _Busy as error:
                pause = backoff(tries, most=_MOST_PAUSE_SECONDS)
                tries += 1
                if self.reactor.seconds() + pause > deadline:
                    raise
                self.held_up(error)
                await deferLater(self.reactor, pause)

    async def _connect(self) -> KDCLink:
        link = await self._connect_once()
        link.use(self.keys)
        return link

    async def _login(self) -> KDCLink:
        link = await self._connect()
        try:
            await link.authenticate()
        except (KDCError, CancelledError):
            link.close()
            raise
        return link

    async def _register(self, address: str, port: int, invitation: bytes) -> int:
        link = await self._connect()
        try:
            generation = await link.register(address, port, invitation)
            await link.authenticate()
        except (KDCError, CancelledError):
            link.close()
            raise
        self._link = link
        return generation

    async def _introduced_link(self) -> KDCLink:
        async with self._lock:
            link = await self._open_link()
            try:
                await link.introduced()
            except CancelledError:
                link.close()
                raise
            return link

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    async def _connect_once(self) -> KDCLink:
        factory = Factory.forProtocol(
            lambda: KDCLink(self.tls, self.where, self.reactor, self.random)
        )
        factory.noisy = False
        # Not wrapClientTLS: that takes its timers from the global reactor.
        secured = TLSMemoryBIOFactory(self.tls, True, factory, self.reactor)
        secured.noisy = False
        try:
            tls: Any = await self.endpoint.connect(secured)
        except (ConnectError, ConnectionClosed, OSError) as error:
            if getattr(error, "osError", None) == errno.ECONNRESET:
                raise dropped(self.where) from None
            raise KDCUnreachable(
                f"no KDC answers at {self.where}: {reason_of(error)}",
                hint="is it running, and are address and port right?",
            ) from None
        link: KDCLink = tls.wrappedProtocol
        try:
            return await link.ready.addTimeout(self.connect_seconds, self.reactor)
        except CancelledError:
            tls.abortConnection()
            raise
        except TimeoutError:
            tls.abortConnection()
            raise _Silent(
                f"the KDC at {self.where} did not begin TLS within {self.connect_seconds:.0f} s"
            ) from None
