"""What an honest client waits, and what it costs the KDC, while others mean harm.

    python -m bench.hostile

An honest client logs in and gets a key, again and again, each time under another
name so that no name comes near its own limits: in quiet, then while many
connections of one account or of five pipeline requests without end or ask the
directory, while strangers hold as many silent connections and come back when one
is ended, and while they do whole TLS handshakes: from many addresses, from one,
and from the honest client's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Coroutine
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHandshakeListener, IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from bench.figures import table
from bench.ours import KDC
from bench.population import able, keys_of, name_of
from bench.processes import Failed, Scratch, free_port, said
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.query import Asking
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.client.link import KDCLink
from kdc.errors import KDCError
from kdc.net.background import background
from kdc.net.tls import channel_binding
from kdc.protocol.directory import DIRECTORY, MAX_ANSWER, SERVICE
from kdc.protocol.kdc_exchange import Exchange

_PRINCIPALS = 60
_HONEST = slice(10, 60)
_HOST = "127.0.0.1"
_ADDRESSES = 250
_BACK_SECONDS = 0.1  # a hostile client that was dropped comes back
_SETTLE_SECONDS = 4.0
_FRAMES = 200
_ALONE_SECONDS = 2.0
_PATIENCE_SECONDS = 120.0
_ENOUGH_SECONDS = 30.0


@implementer(IHandshakeListener, IPullProducer)
class _Insider(Protocol):
    """Logs in and asks for keys without end, reading all that comes."""

    def __init__(self, attack: _Attack, number: int) -> None:
        self._attack = attack
        self._number = number
        self._frames = b""

    def handshakeCompleted(self) -> None:
        transport = cast(Any, self.transport)
        binding = channel_binding(transport.getHandle())
        exchange = Exchange(keys_of(self._number), binding, os.urandom)
        transport.write(exchange.authenticate().data)
        one = exchange.request_key("nobody")[0].data
        self._frames = one * _FRAMES
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        cast(Any, self.transport).write(self._frames)

    def stopProducing(self) -> None:
        """`connectionLost` will tell."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._attack.again(self._number)


class _Stranger(Protocol):
    """Says nothing."""

    def __init__(self, attack: _Attack, number: int) -> None:
        self._attack = attack
        self._number = number

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._attack.again(self._number)


@implementer(IHandshakeListener)
class _Handshaker(_Stranger):
    """Does all of TLS, and proves nothing."""

    def handshakeCompleted(self) -> None:
        cast(Any, self.transport).abortConnection()


class _Just(Factory[Any]):
    """A factory of this one protocol."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Protocol:
        return self._protocol


class _Attack:
    """``connections`` of them, each with a number: its account, or a part of its address."""

    def __init__(self, reactor: Any, where: dict[str, Any]) -> None:
        self._reactor = reactor
        self._where = where
        self._tls = ClientTLS(Pin(where["pin"]), _HOST)

    def start(self) -> None:
        begin = self._ask if self._where["kind"] == "askers" else self._dial
        numbers = self._where["numbers"]
        for number in range(self._where["connections"]):
            self._reactor.callLater(number * 0.002, begin, numbers[number % len(numbers)])

    def again(self, number: int) -> None:
        self._reactor.callLater(_BACK_SECONDS, self._dial, number)

    def _dial(self, number: int) -> None:
        make: Any = {"insiders": _Insider, "silent": _Stranger, "handshakes": _Handshaker}[
            self._where["kind"]
        ]
        factory: Any = Factory.forProtocol(lambda: make(self, number))
        if make is not _Stranger:
            factory = TLSMemoryBIOFactory(self._tls, True, factory, self._reactor)
        _ = self._endpoint(number).connect(factory).addErrback(lambda _: self.again(number))

    def _ask(self, number: int) -> None:
        background(self._asking(number), "asking the directory")

    async def _asking(self, number: int) -> None:
        """As one connection to the KDC, and as many channels to its directory as it allows."""
        client = KDCClient(
            reactor=self._reactor,
            endpoint=self._endpoint(number),
            tls=self._tls,
            keys=keys_of(number),
            where="the KDC",
        )
        while True:
            asking = Asking(b"", MAX_ANSWER)
            endpoint = ChannelClientEndpoint(client, DIRECTORY, SERVICE, _HOST)
            try:
                await endpoint.connect(_Just(asking))
                await asking.answer
            except KDCError:
                await cast(Coroutine[Any, Any, None], deferLater(self._reactor, _BACK_SECONDS))

    def _endpoint(self, number: int) -> TCP4ClientEndpoint:
        address = self._where["address"] or f"127.0.1.{number % _ADDRESSES + 1}"
        return TCP4ClientEndpoint(
            self._reactor, _HOST, self._where["port"], bindAddress=(address, 0)
        )


@attrs.frozen
class _Found:
    """How much of a CPU the KDC needed before (a part of one), what it then cost, and took.

    ``cpu`` is of one log-in with a key: without what the KDC needs for the others anyway,
    which depends on how long this machine leaves all of them waiting.
    """

    alone: float
    cpu: float
    median: float
    worst: float


def _attack(reactor: Any, where: dict[str, Any]) -> Deferred[None]:
    _Attack(reactor, where).start()
    print("{}", flush=True)
    return Deferred()


def _honest(reactor: Any, where: dict[str, Any]) -> Deferred[None]:
    return Deferred.fromCoroutine(_work(reactor, where))


async def _work(reactor: Any, where: dict[str, Any]) -> None:
    """When told to, log in and get a key, so many times; print how long each took."""

    def client(number: int) -> KDCClient:
        return KDCClient(
            reactor=reactor,
            endpoint=TCP4ClientEndpoint(reactor, _HOST, where["port"]),
            tls=ClientTLS(Pin(where["pin"]), _HOST),
            keys=keys_of(number),
            where="the KDC",
        )

    names = where["honest"]
    bob = await _in(client(names[0]))
    await bob.receive_under(os.urandom(32), "", 1)
    # What the KDC does until now, for nobody or for enemies, is not what these rounds cost.
    print("{}", flush=True)
    await deferToThread(sys.stdin.readline)
    took: list[float] = []
    while len(took) < where["rounds"] and sum(took) < _ENOUGH_SECONDS:
        begun = time.monotonic()
        link = await _in(client(names[1 + len(took) % (len(names) - 1)]))
        await link.request_key(name_of(names[0]))
        took.append(time.monotonic() - begun)
        link.close()
        await cast(Coroutine[Any, Any, None], link.lost.addBoth(lambda _: None))
    bob.close()
    print(json.dumps({"took": took}), flush=True)


async def _in(client: KDCClient) -> KDCLink:
    """Log in; who is kept out tries again."""
    while True:
        with contextlib.suppress(KDCError):
            return await client.login()


def _measure(scratch: Scratch, kdc: KDC, rounds: int) -> _Found:
    where = {**kdc.where(), "honest": able(_PRINCIPALS)[_HONEST], "rounds": rounds}
    words = [sys.executable, "-m", "bench.hostile", "--be", "honest", json.dumps(where)]
    with scratch.running(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as honest:
        said(honest, _PATIENCE_SECONDS)
        alone, begun = kdc.cpu, time.monotonic()
        time.sleep(_ALONE_SECONDS)
        alone, seconds = kdc.cpu - alone, time.monotonic() - begun
        before = kdc.cpu
        assert honest.stdin is not None
        honest.stdin.write(b"\n")
        took = sorted(said(honest, _PATIENCE_SECONDS)["took"])
        cpu = (kdc.cpu - before - alone / seconds * sum(took)) / len(took)
    worst = took[max(0, int(len(took) * 0.99) - 1)]
    return _Found(alone / seconds, cpu, statistics.median(took), worst)


def _attacks() -> list[tuple[str, dict[str, Any]]]:
    people, many = able(_PRINCIPALS), list(range(_ADDRESSES))
    return [
        ("one account", {"kind": "insiders", "numbers": people[:1], "address": ""}),
        ("five accounts", {"kind": "insiders", "numbers": people[:5], "address": ""}),
        ("five ask the directory", {"kind": "askers", "numbers": people[:5], "address": ""}),
        ("silent strangers", {"kind": "silent", "numbers": many, "address": ""}),
        ("TLS, many addresses", {"kind": "handshakes", "numbers": many, "address": ""}),
        ("TLS, one address", {"kind": "handshakes", "numbers": many, "address": "127.0.3.1"}),
        ("TLS, our own address", {"kind": "handshakes", "numbers": many, "address": _HOST}),
    ]


def _report(rounds: int, most: int, only: str) -> None:
    rows = []
    with Scratch() as scratch:
        port = free_port()
        kdc = KDC(
            scratch,
            _PRINCIPALS,
            everybody=True,
            limits={},
            options=[f"--directory=tcp:{port}:interface={_HOST}"],
        )
        quiet = _measure(scratch, kdc, rounds)
        rows.append(["quiet", "", *_shown(quiet, quiet)])
        for name, attack in _attacks():
            for connections in (10, 100, 1000):
                if connections > most or only not in name:
                    continue
                where = {**kdc.where(), **attack, "connections": connections}
                words = [sys.executable, "-m", "bench.hostile", "--be", "attack", json.dumps(where)]
                with scratch.running(words, stdout=subprocess.PIPE) as attacker:
                    said(attacker, 30)
                    time.sleep(_SETTLE_SECONDS + connections * 0.004)
                    if attacker.poll() is not None:
                        raise Failed("the attacker gave up")
                    try:
                        shown = _shown(_measure(scratch, kdc, rounds), quiet)
                    except Failed:
                        shown = ["nobody got in", *[""] * 5]
                rows.append([name, str(connections), *shown])
                print(rows[-1], file=sys.stderr)
    head = ["hostile", "connections", "KDC CPU % without", "KDC CPU ms", "x"]
    print(table([*head, "median ms", "p99 ms", "x"], rows))


def _shown(found: _Found, quiet: _Found) -> list[str]:
    return [
        f"{100 * found.alone:.0f}",
        f"{1000 * found.cpu:.1f}",
        f"{found.cpu / quiet.cpu:.1f}",
        f"{1000 * found.median:.1f}",
        f"{1000 * found.worst:.1f}",
        f"{found.worst / quiet.worst:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--most", type=int, default=1000, help="hostile connections at most")
    parser.add_argument("--only", default="", help="attacks whose name has this in it")
    parser.add_argument("--be", choices=("attack", "honest"), help=argparse.SUPPRESS)
    parser.add_argument("where", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        role = {"attack": _attack, "honest": _honest}[options.be]
        react(role, [json.loads(options.where)])
    _report(options.rounds, options.most, options.only)


if __name__ == "__main__":
    main()
