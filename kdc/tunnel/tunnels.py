"""What the tunnel commands do: expose services, forward to those of others, pipe one."""

from __future__ import annotations

import os
from typing import Any, cast

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.figures import NOTHING, ChannelFigures
from kdc.channel.listening import Listening
from kdc.channel.services import DEFAULT_SERVICE, Service
from kdc.client.client import RealmClient
from kdc.client.membership import enter
from kdc.client.settings import ClientSettings
from kdc.net.exit_status import say
from kdc.net.sockets import connect_to, listen_at
from kdc.net.splice import SpliceEnd
from kdc.tunnel.datagrams import (
    ExposedDatagrams,
    ForwardedDatagrams,
    is_udp,
    listen_udp,
    near_place,
    place_of,
)
from kdc.tunnel.splice import expose_factory, forward_factory, join_to
from kdc.tunnel.traffic import Traffic, TunnelFigures

__all__ = ["Exposed", "Forwarded", "TunnelSettings", "Tunnels", "check_exposed", "pipe"]


@attrs.frozen
class Exposed:
    """A local endpoint that peers reach as the service ``name``."""

    name: str
    endpoint: str


@attrs.frozen
class Forwarded:
    """A peer's service that is reached at the local endpoint ``listen``."""

    peer: str
    service: str
    listen: str


@attrs.frozen
class TunnelSettings:
    """``allow``: who may use what is exposed, everybody if empty.

    ``otherwise``: where to listen if the port of ``listen`` is in use.
    """

    client: ClientSettings
    exposed: tuple[Exposed, ...] = ()
    forwarded: tuple[Forwarded, ...] = ()
    allow: frozenset[str] = frozenset()
    listen: str = ""
    otherwise: str = ""
    advertise: str = ""


def check_exposed(reactor: Any, endpoint: str) -> None:
    """Raises `ConfigurationError` for what no service can be at; it connects to nothing."""
    if is_udp(endpoint):
        place_of(endpoint)
    else:
        connect_to(reactor, endpoint)


class Tunnels:
    """Keeps all of one principal's tunnels open until it is stopped."""

    def __init__(self, client: RealmClient, settings: TunnelSettings) -> None:
        self._client = client
        self._settings = settings
        self._ports: list[Any] = []
        self._listening: Listening | None = None
        self._stopped: Deferred[None] = Deferred()
        self._traffic = Traffic()

    @property
    def name(self) -> str:
        return self._client.keys.name

    @property
    def channels(self) -> ChannelFigures:
        return NOTHING if self._listening is None else self._listening.figures

    @property
    def figures(self) -> TunnelFigures:
        return self._traffic.figures

    async def run(self) -> int:
        """Raises `KDCError` when there is no point in going on."""
        settings = self._settings
        try:
            number = 0
            if settings.exposed:
                self._listening = self._make_listening()
                await self._listening.bind()
                number = self._listening.port_number
            for forwarded in settings.forwarded:
                await self._forward(forwarded)
            await enter(self._client, settings.client, number)
            for forwarded, port in zip(settings.forwarded, self._ports, strict=True):
                self._say(f"{_what(forwarded)} is at {_place(port.getHost())}")
            if self._listening is not None:
                await self._listening.run()
            else:
                await self._stopped
        finally:
            await self.close()
        return 0

    async def close(self) -> None:
        if self._listening is not None:
            await self._listening.close()
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        self._client.close()
        if not self._stopped.called:
            self._stopped.callback(None)

    def _make_listening(self) -> Listening:
        settings = self._settings
        services = {}
        for exposed in settings.exposed:
            name = _named(exposed.name)
            services[exposed.name] = Service(self._target(exposed, name), self._allowed)
            self._say(f"exposing {exposed.endpoint} as {name}")
        return Listening(
            self._client,
            services,
            settings.listen,
            otherwise=settings.otherwise,
            advertise=settings.advertise,
            status=self._say,
            ending=self._say,
        )

    def _target(self, exposed: Exposed, name: str) -> IProtocolFactory:
        """What takes channels for ``exposed``."""
        reactor = self._client.reactor
        if is_udp(exposed.endpoint):
            place = place_of(exposed.endpoint)
            return ExposedDatagrams(reactor, place, name, self._say, traffic=self._traffic)
        target = connect_to(reactor, exposed.endpoint)
        return expose_factory(target, name, self._say, self._traffic)

    def _say(self, line: str) -> None:
        say(f"{self._client.keys.name}: {line}")

    def _allowed(self, name: str) -> bool:
        return not self._settings.allow or name in self._settings.allow

    async def _forward(self, forwarded: Forwarded) -> None:
        target = ChannelClientEndpoint(self._client, forwarded.peer, forwarded.service)
        reactor, what = self._client.reactor, _what(forwarded)
        if is_udp(forwarded.listen):
            datagrams = ForwardedDatagrams(target, what, self._say, reactor, traffic=self._traffic)
            self._ports.append(listen_udp(reactor, near_place(forwarded.listen), datagrams))
            return
        factory = forward_factory(target, what, self._say, self._traffic)
        self._ports.append(await listen_at(reactor, forwarded.listen, factory))


def _what(forwarded: Forwarded) -> str:
    return f"{_named(forwarded.service)} of {forwarded.peer}"


def _named(service: str) -> str:
    return "the unnamed service" if service == DEFAULT_SERVICE else service


def _place(address: Any) -> str:
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"")
    return f"{address.host} port {address.port}"


class _StandardStreams(SpliceEnd):
    """Standard input and output.

    Their transport loses its two halves one by one, and says so; but when the
    second one is gone it does not say that now it is lost as a whole.
    """

    _input_gone = False
    _output_gone = False

    def readConnectionLost(self) -> None:
        self._input_gone = True
        super().readConnectionLost()
        self._finish()

    def writeConnectionLost(self) -> None:
        self._output_gone = True
        super().writeConnectionLost()
        self._finish()

    def cut(self) -> None:
        self._input_gone = True
        super().cut()
        self._finish()

    def _finish(self) -> None:
        if self._output_gone and self._input_gone and not self._lost:
            self._transport.connectionLost(Failure(ConnectionDone()))


async def pipe(client: RealmClient, settings: ClientSettings, peer: str, service: str) -> int:
    """Connect a peer's service to standard input and output, until both have ended."""
    await enter(client, settings, 0)
    ended: Deferred[None] = Deferred()
    target = ChannelClientEndpoint(client, peer, service)
    local = _StandardStreams(gone=lambda end, reason: ended.callback(None))
    StandardIO(local, reactor=client.reactor)
    failed = await join_to(local, cast(Any, target))
    if failed is not None:
        raise failed
    await ended
    client.close()
    if local.broken is not None:
        raise local.broken
    return 0
