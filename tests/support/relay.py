"""A realm with a relay on the network in memory, and receivers that nobody can reach."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.listening import Listening
from kdc.channel.services import Service
from kdc.client.client import KDCClient
from kdc.protocol.relay import RELAY, Reach
from kdc.relay.limits import RelayLimits, RelaySettings
from kdc.relay.relay import Relay
from tests.channel.test_api import ListeningHost
from tests.support.core import SeededRandom
from tests.support.edge import EdgeTestCase, Host, Wire, factory_of

__all__ = ["RELAY_HOST", "RELAY_PORT", "RelayTestCase"]

RELAY_HOST, RELAY_PORT = "192.0.2.77", 60600


class RelayTestCase(EdgeTestCase):
    """The relay is at `RELAY_HOST`; whoever a test makes is closed at its end."""

    relay_limits = RelayLimits()

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        self.parts: list[Any] = []
        self.clients: list[KDCClient] = []
        self.running: list[Deferred[None]] = []  # of each receiver, in their order
        self.relay = self.start_relay()

    def tearDown(self) -> None:
        """In the end nothing is left of it all."""
        for part in [*self.parts, self.relay]:
            self.do(part.close())
        for client in self.clients:
            client.close()
        self.network.settle()
        self.assertEqual((self.network.wires, self.network.getDelayedCalls()), ([], []))

    def host(self, address: str | None = None) -> Host:
        return ListeningHost(self.network, address or next(self._addresses))

    def known_client(self, name: str, **options: Any) -> KDCClient:
        self.clients.append(super().known_client(name, **options))
        return self.clients[-1]

    def start_relay(self, **options: Any) -> Relay:
        port = options.pop("port", RELAY_PORT)
        relay = Relay(
            self.known_client(RELAY, address=RELAY_HOST),
            RelaySettings(f"tcp:{port}", limits=self.relay_limits),
            random=SeededRandom("relay"),
            now_milliseconds=self.network.milliseconds,
            **options,
        )
        self.do(relay.bind())
        running = self.begin(relay.run())
        self.assertNoResult(running)
        return relay

    def stop_relay(self) -> None:
        """As when its process is killed: whoever has a connection to it has none."""
        self.do(self.relay.close())
        for wire in list(self.network.wires):
            if wire.host.port == RELAY_PORT:
                wire.abortConnection()
        self.network.settle()

    def listen(
        self,
        name: str,
        *protocols: IProtocol,
        reach: Reach = Reach.AUTO,
        silent: bool = True,
        port: int = 60000,
        **options: Any,
    ) -> Listening:
        """A receiver; ``silent`` if nobody can reach it."""
        client = self.known_client(name)
        if silent:
            self.network.silent.add(client.reactor.address)
        factory = factory_of(*protocols) if protocols else Factory.forProtocol(Echo)
        listening = Listening(
            client,
            {"": Service(factory)},
            f"tcp:{port}",
            reach=reach,
            status=lambda line: self.said.append(f"{name}: {line}"),
            **options,
        )
        self.parts.append(listening)
        self.do(listening.bind())
        running = self.begin(listening.run())
        self.assertNoResult(running)
        self.running.append(running)
        return listening

    def address_of(self, listening: Listening) -> str:
        address: str = listening._client.reactor.address
        return address

    def told(self, name: str) -> tuple[str, int] | None:
        """Where the KDC sends others who want ``name``."""
        epoch = self.kdc.realm.epoch_of(name)
        return None if epoch is None else (epoch.address, epoch.port)

    def reach(
        self, name: str, protocol: IProtocol, sender: str = "alice", **options: Any
    ) -> Deferred[IProtocol]:
        endpoint = ChannelClientEndpoint(self.known_client(sender), name, **options)
        connecting = endpoint.connect(factory_of(protocol))
        self.network.settle()
        return connecting

    def relayed(self) -> list[Wire]:
        """The relay's ends of its connections."""
        return [wire for wire in self.network.wires if wire.host.port == RELAY_PORT]
