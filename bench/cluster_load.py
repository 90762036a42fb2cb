"""Clients of several KDCs, in a process of their own: they register, open channels, ask for keys.

It is told what to do in lines of JSON, and answers each with one; times are of the monotonic
clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Coroutine
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.wire import Echo

from bench.population import keys_of
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.listening import Listening
from kdc.channel.query import Asking
from kdc.channel.services import DEFAULT_SERVICE, Service
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.client.nodes import CONNECT_SECONDS, Nodes
from kdc.errors import KDCError, KDCUnreachable, TooBusy
from kdc.net.background import background
from kdc.net.clock import use_monotonic_timers
from kdc.protocol.relay import Reach

__all__ = ["EVE", "RECEIVER"]

# Numbers of principals, `bench.population`: newcomers come after them.
RECEIVER, EVE, _SENDERS, _FIRST = 1, 2, 10, 1000
_NEWCOMER_SECONDS = 0.06
_MOST_WAITING = 150
_PAUSE_SECONDS = 0.02
_LATER = (KDCUnreachable, TooBusy)
_QUESTION = b"is anybody there?"


@attrs.define
class Stretch:
    """When something went well; ``longest`` says for how long nothing did."""

    began: float
    last: float = attrs.field(init=False)
    longest: float = 0.0
    count: int = 0

    def __attrs_post_init__(self) -> None:
        self.last = self.began

    def well(self) -> None:
        self.until(time.monotonic())
        self.count += 1

    def until(self, now: float) -> None:
        self.longest = max(self.longest, now - self.last)
        self.last = now


class Alone:
    """Asks one KDC for keys, again and again: which were given, and what was said instead."""

    def __init__(self, client: KDCClient, peer: str) -> None:
        self.client = client
        self.begun: list[float] = []
        self.refused: list[tuple[float, str]] = []
        self.stopped = False
        self._peer = peer

    async def run(self) -> None:
        while not self.stopped:
            began = time.monotonic()
            try:
                await self.client.grant(self._peer)
                self.begun.append(began)
            except KDCError as error:
                self.refused.append((began, type(error).__name__))
            await _pause(self.client.reactor, _PAUSE_SECONDS)
        self.client.close()


class Clients:
    """Everybody, in one reactor."""

    def __init__(self, reactor: Any, where: dict[str, Any]) -> None:
        self._reactor = reactor
        self._where = where
        self._next = _FIRST
        self.acknowledged: list[int] = []
        self.wrong: list[str] = []
        self.errors: list[str] = []
        self._waiting = 0
        self._longest = 0.0
        self._registrations = Stretch(time.monotonic())
        self._channels: list[Stretch] = []
        self._senders: list[Nodes] = []
        self._round = 0
        self._writing = False
        self._alone: list[Alone] = []

    def client(self, number: int, at: int) -> KDCClient:
        host, port = self._where["kdcs"][at]
        return KDCClient(
            reactor=self._reactor,
            endpoint=TCP4ClientEndpoint(self._reactor, host, port, CONNECT_SECONDS),
            tls=ClientTLS(Pin(self._where["pin"]), host),
            keys=keys_of(number),
            where=f"{host} port {port}",
            reach=Reach.DIRECT,
            connect_seconds=CONNECT_SECONDS,
            patience_seconds=0.0,
        )

    def nodes(self, number: int, first: int) -> Nodes:
        """Somebody who begins at that KDC, as if by lot."""
        count = len(self._where["kdcs"])

        def order(nodes: list[KDCClient]) -> None:
            by_place = {node.where: node for node in nodes}
            places = [f"{host} port {port}" for host, port in self._where["kdcs"]]
            nodes[:] = [by_place[places[(first + n) % count]] for n in range(count)]

        return Nodes((self.client(number, at) for at in range(count)), order)

    async def start(self) -> None:
        """Somebody who receives at all of them, and whoever is needed later."""
        senders = range(_SENDERS, _SENDERS + len(self._where["kdcs"]))
        for number in (RECEIVER, EVE, *senders):
            nodes = self.nodes(number, 0)
            await nodes.register("", 0)
            nodes.close()
        services = {DEFAULT_SERVICE: Service(Factory.forProtocol(Echo))}
        endpoint = f"tcp:0:interface={self._where['here']}"
        self._listening = Listening(self.nodes(RECEIVER, 0), services, endpoint)
        await self._listening.bind()
        background(self._listening.run(), "receiving")
        await self._listening.reachable()

    # what is asked of us

    async def begin(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Register, and open channels, each sender beginning at another KDC; count from here."""
        now = time.monotonic()
        self.wrong, self.errors, self._longest = [], [], 0.0
        self._registrations = Stretch(now)
        for sender in self._senders:
            sender.close()
        count = len(self._where["kdcs"])
        self._round += 1
        self._senders = [self.nodes(_SENDERS + n, n) for n in range(count)]
        self._channels = [Stretch(now) for _ in self._senders]
        for sender, stretch in zip(self._senders, self._channels, strict=True):
            background(self._send(sender, stretch, self._round), "sending")
        if not self._writing:
            self._writing = True
            background(self._newcomers(), "newcomers")
        return {}

    async def end(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What has come of it since `begin`; nobody registers or sends any more."""
        now = time.monotonic()
        self._writing = False
        self._round += 1
        for stretch in (self._registrations, *self._channels):
            stretch.until(now)
        return {
            "registrations": self._registrations.count,
            "registration_gap": self._registrations.longest,
            "wrong": self.wrong,
            "registration_wait": self._longest,
            "channels": sum(stretch.count for stretch in self._channels),
            "channel_gap": max(stretch.longest for stretch in self._channels),
            "errors": self.errors,
        }

    async def names(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Whose registration was acknowledged, ever."""
        return {"numbers": self.acknowledged}

    async def receiving(self, asked: dict[str, Any]) -> dict[str, Any]:
        """At how many KDCs there is a receiver."""
        return {"count": self._listening.figures.kdc_links}

    async def alone(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Ask the KDCs of these numbers for keys from now on, each by a client of it alone."""
        for at in asked["at"]:
            self._alone.append(Alone(self.client(EVE, at), keys_of(RECEIVER).name))
            background(self._alone[-1].run(), "asking alone")
        return {}

    async def asked(self, asked: dict[str, Any]) -> dict[str, Any]:
        """When what was given by each was asked for, and what was refused."""
        return {
            "begun": [a.begun for a in self._alone],
            "refused": [a.refused for a in self._alone],
        }

    async def no_more(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Those who ask alone stop."""
        found = await self.asked(asked)
        for alone in self._alone:
            alone.stopped = True
        self._alone.clear()
        return found

    # what they do

    async def _newcomers(self) -> None:
        """One comes after the other, however long those before still wait."""
        while self._writing:
            number, self._next = self._next, self._next + 1
            if self._waiting < _MOST_WAITING:
                background(self._register(number), "registering")
            await _pause(self._reactor, _NEWCOMER_SECONDS)

    async def _register(self, number: int) -> None:
        self._waiting += 1
        nodes, began = self.nodes(number, number), time.monotonic()
        if await self._registered(nodes):
            self.acknowledged.append(number)
            self._registrations.well()
            self._longest = max(self._longest, time.monotonic() - began)
        nodes.close()
        self._waiting -= 1

    async def _registered(self, nodes: Nodes) -> bool:
        """Whether it was acknowledged in the end: who is told to wait, or nothing, asks again."""
        while self._writing:
            try:
                await nodes.register("", 0)
                return True
            except _LATER:
                await _pause(self._reactor, 5 * _PAUSE_SECONDS)
            except KDCError as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                return False
        return False

    async def _send(self, nodes: Nodes, stretch: Stretch, round_: int) -> None:
        endpoint = ChannelClientEndpoint(nodes, keys_of(RECEIVER).name, DEFAULT_SERVICE)
        while self._round == round_:
            try:
                if await _asked(endpoint) != _QUESTION:
                    raise RuntimeError("another answer")
            except KDCError as error:
                if self._round == round_:
                    self.errors.append(f"{type(error).__name__}: {error}")
            else:
                stretch.well()
            await _pause(self._reactor, 2 * _PAUSE_SECONDS)
        nodes.close()


async def _asked(endpoint: ChannelClientEndpoint) -> bytes:
    """Over a channel of its own."""
    asking = Asking(_QUESTION, len(_QUESTION))
    await endpoint.connect(Factory.forProtocol(lambda: asking))
    return await asking.answer


async def _pause(reactor: Any, seconds: float) -> None:
    await cast(Coroutine[Any, Any, None], deferLater(reactor, seconds))


class Commands(LineOnlyReceiver):
    """One line of JSON in, one out."""

    delimiter = b"\n"

    def __init__(self, clients: Clients, done: Deferred[None]) -> None:
        self._clients = clients
        self._done = done

    def lineReceived(self, line: bytes) -> None:
        asked = json.loads(line)
        background(self._answer(asked), asked["do"])

    async def _answer(self, asked: dict[str, Any]) -> None:
        answer = await getattr(self._clients, asked["do"])(asked)
        self.sendLine(json.dumps(answer).encode())

    def connectionLost(self, reason: Any = None) -> None:
        self._done.callback(None)


def main(reactor: Any, where: str) -> Deferred[None]:
    use_monotonic_timers(reactor)
    return Deferred.fromCoroutine(_main(reactor, json.loads(where)))


async def _main(reactor: Any, where: dict[str, Any]) -> None:
    clients, done = Clients(reactor, where), Deferred[None]()
    await clients.start()
    StandardIO(Commands(clients, done))
    os.write(1, b"{}\n")
    await done


if __name__ == "__main__":
    react(main, sys.argv[1:])
