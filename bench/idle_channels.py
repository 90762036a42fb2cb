"""Channels on which nothing happens: what each takes at its two ends.

``python -m bench.idle_channels receiver|sender SETTINGS`` is one of the two
processes.  Each channel is used once, then nothing but pings passes; at the end
each is used again, so that none is counted that is not there.  The floor is the
same over TCP alone.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.protocols.wire import Echo

from bench.channel import RECEIVER
from bench.figures import Figures, Results
from bench.load import Settings, at_once, client_of
from bench.ours import KDC
from bench.plan import Plan
from bench.population import able, name_of
from bench.processes import Scratch, cpu_of, free_port, go_on, own_memory_of, said
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.listening import Listening
from kdc.channel.services import DEFAULT_SERVICE, Service

__all__ = ["IDLE", "SECTIONS", "measure"]

IDLE = "idle"
SECTIONS = (IDLE,)
_PRINCIPALS = 256
_OF_ONE = 100  # a receiver keeps 128 of one sender
_AT_ONCE = 8  # a receiver takes no more newcomers from one address
_OPENING_SECONDS = 600.0
_REUSING_SECONDS = 120.0


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = plan.idle_channels
    for what, row in (("channel", f"{count:,} channels"), ("tcp", "floor: tcp alone, as many")):
        if count + 500 > hard:
            results.without(IDLE, row, f"only {hard:,} descriptors are allowed here")
            continue
        results.measure(IDLE, row, partial(_measure, scratch, plan, what))


def _measure(scratch: Scratch, plan: Plan, what: str) -> Figures:
    kdc = KDC(scratch, _PRINCIPALS)
    try:
        return _between(scratch, kdc, plan, what)
    finally:
        kdc.stop()


def _between(scratch: Scratch, kdc: KDC, plan: Plan, what: str) -> Figures:
    count = plan.idle_channels
    settings = {**kdc.where(), "listen": free_port(), "count": count, "what": what}
    receiver = _start(scratch, "receiver", settings)
    sender = _start(scratch, "sender", settings)
    try:
        for child in (receiver, sender):
            said(child, _REUSING_SECONDS)
        ends = (receiver.pid, sender.pid)
        empty = [own_memory_of(pid) for pid in ends]
        cpu = cpu_of(receiver.pid)
        go_on(sender)
        said(sender, _OPENING_SECONDS)
        opening = cpu_of(receiver.pid) - cpu
        idle_seconds = plan.idle_seconds if what == "channel" else min(5, plan.idle_seconds)
        time.sleep(idle_seconds)
        # What was needed for opening alone is over, and pings have passed.
        full = [own_memory_of(pid) for pid in ends]
        cpu = cpu_of(receiver.pid)
        time.sleep(idle_seconds)
        idle = cpu_of(receiver.pid) - cpu
        go_on(sender)
        said(sender, _REUSING_SECONDS)
    finally:
        for child in (sender, receiver):
            scratch.stop(child)
    taken = [(after - before) / 1024 / count for before, after in zip(empty, full, strict=True)]
    return {
        "KiB, receiver": taken[0],
        "KiB, sender": taken[1],
        "CPU us to open": opening / count * 1e6,
        "CPU % idle": idle / idle_seconds * 100,
    }


def _start(scratch: Scratch, role: str, settings: Settings) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "bench.idle_channels", role, json.dumps(settings)]
    return scratch.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# The two processes.


class _Waiting(Protocol):
    """Knows when it has been answered."""

    def __init__(self) -> None:
        self._answered: Deferred[None] | None = None

    async def ask(self) -> None:
        assert self.transport is not None
        self._answered = Deferred()
        self.transport.write(b"?")
        await self._answered

    def dataReceived(self, data: bytes) -> None:
        answered, self._answered = self._answered, None
        assert answered is not None
        answered.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        print(reason, file=sys.stderr)
        os._exit(1)  # one that was lost would be counted as if it cost nothing


def _ready() -> None:
    gc.collect()
    print(json.dumps({}), flush=True)


async def _receiver(reactor: Any, settings: Settings) -> None:
    factory: Any = Factory.forProtocol(Echo)
    if settings["what"] == "tcp":
        reactor.listenTCP(settings["listen"], factory, interface="127.0.0.1")
    else:
        listening = Listening(
            client_of(reactor, settings, able(settings["principals"])[RECEIVER]),
            {DEFAULT_SERVICE: Service(factory)},
            f"tcp:{settings['listen']}:interface=127.0.0.1",
        )
        await listening.bind()
        _ = Deferred.fromCoroutine(listening.run())
        await listening.reachable()
    _ready()
    await Deferred()


def _endpoints(reactor: Any, settings: Settings) -> list[Any]:
    """As many senders as it takes."""
    if settings["what"] == "tcp":
        return [TCP4ClientEndpoint(reactor, "127.0.0.1", settings["listen"])]
    receiver, *numbers = able(settings["principals"])
    clients = [client_of(reactor, settings, number) for number in numbers]
    needed = clients[: -(-settings["count"] // _OF_ONE)]
    return [ChannelClientEndpoint(client, name_of(receiver)) for client in needed]


async def _sender(reactor: Any, settings: Settings) -> None:
    endpoints = itertools.cycle(_endpoints(reactor, settings))
    factory = Factory.forProtocol(_Waiting)
    factory.noisy = False

    async def once() -> _Waiting:
        channel: _Waiting = await next(endpoints).connect(factory)
        await channel.ask()
        return channel

    _ready()
    await deferToThread(sys.stdin.readline)
    channels = await at_once([once] * settings["count"], _AT_ONCE)
    _ready()
    await deferToThread(sys.stdin.readline)
    await gatherResults([Deferred.fromCoroutine(channel.ask()) for channel in channels])
    _ready()
    await Deferred()


_ROLES: dict[str, Callable[[Any, Settings], Awaitable[None]]] = {
    "receiver": _receiver,
    "sender": _sender,
}


if __name__ == "__main__":
    role = _ROLES[sys.argv[1]]
    react(lambda reactor: Deferred.fromCoroutine(role(reactor, json.loads(sys.argv[2]))))  # type: ignore[arg-type]
