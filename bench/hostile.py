"""What an honest client waits, and what it costs the KDC, while others mean harm.

    python -m bench.hostile

An honest client logs in and gets a key, again and again: in quiet, then while
many connections of one account or of five pipeline requests without end, and
while strangers hold as many silent connections and come back when one is ended.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Coroutine
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHandshakeListener, IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from bench.figures import table
from bench.ours import KDC
from bench.population import able, keys_of, name_of
from bench.processes import Failed, Scratch, run, said
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.net.tls import channel_binding
from kdc.protocol.kdc_exchange import Exchange

_PRINCIPALS = 20
_HOST = "127.0.0.1"
_BACK_SECONDS = 0.1  # a hostile client that was dropped comes back
_SETTLE_SECONDS = 4.0
_FRAMES = 200


@implementer(IHandshakeListener, IPullProducer)
class _Insider(Protocol):
    """Logs in and asks for keys without end, reading all that comes."""

    def __init__(self, factory: _Attack, number: int) -> None:
        self.factory: Any = factory
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
        self.factory.again(self._number)


class _Stranger(Protocol):
    """Says nothing."""

    def __init__(self, factory: _Attack, number: int) -> None:
        self.factory: Any = factory
        self._number = number

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.factory.again(self._number)


class _Attack:
    """``connections`` of them, each with a number: its account, or a part of its address."""

    def __init__(self, reactor: Any, where: dict[str, Any]) -> None:
        self._reactor = reactor
        self._where = where
        self._tls = ClientTLS(Pin(where["pin"]), _HOST)

    def start(self) -> None:
        accounts = self._where["accounts"]
        for number in range(self._where["connections"]):
            self._reactor.callLater(number * 0.002, self._dial, accounts[number % len(accounts)])

    def again(self, number: int) -> None:
        self._reactor.callLater(_BACK_SECONDS, self._dial, number)

    def _dial(self, number: int) -> None:
        stranger = self._where["strangers"]
        kind: Any = _Stranger if stranger else _Insider
        factory: Any = Factory.forProtocol(lambda: kind(self, number))
        if not stranger:
            factory = TLSMemoryBIOFactory(self._tls, True, factory, self._reactor)
        source = (f"127.0.1.{number % 250 + 1}" if stranger else _HOST, 0)
        endpoint = TCP4ClientEndpoint(self._reactor, _HOST, self._where["port"], bindAddress=source)
        _ = endpoint.connect(factory).addErrback(lambda _: self.again(number))


def _attack(reactor: Any, where: dict[str, Any]) -> Deferred[None]:
    _Attack(reactor, where).start()
    print("{}", flush=True)
    return Deferred()


def _honest(reactor: Any, where: dict[str, Any]) -> Deferred[None]:
    return Deferred.fromCoroutine(_work(reactor, where))


async def _work(reactor: Any, where: dict[str, Any]) -> None:
    """Log in and get a key, so many times; print how long each took."""

    def client(number: int) -> KDCClient:
        return KDCClient(
            reactor=reactor,
            endpoint=TCP4ClientEndpoint(reactor, _HOST, where["port"]),
            tls=ClientTLS(Pin(where["pin"]), _HOST),
            keys=keys_of(number),
            where="the KDC",
        )

    bob = client(where["bob"])
    await (await bob.link()).receive_under(os.urandom(32), "", 1)
    took = []
    for _ in range(where["rounds"]):
        begun = time.monotonic()
        link = await client(where["alice"]).login()
        await link.request_key(name_of(where["bob"]))
        took.append(time.monotonic() - begun)
        link.close()
        # So that alice stays below her own rate.
        await cast(Coroutine[Any, Any, None], deferLater(reactor, 0.03))
    bob.close()
    print(json.dumps(took), flush=True)


def _measure(kdc: KDC, rounds: int, people: list[int]) -> tuple[float, float, float]:
    """CPU seconds of the KDC for one log-in with a key, and its median and 99th percentile."""
    where = {**kdc.where(), "alice": people[0], "bob": people[1], "rounds": rounds}
    before = kdc.cpu
    done = run([sys.executable, "-m", "bench.hostile", "--be", "honest", json.dumps(where)])
    cpu = (kdc.cpu - before) / rounds
    took = sorted(json.loads(done.output))
    return cpu, statistics.median(took), took[max(0, int(len(took) * 0.99) - 1)]


def _report(rounds: int, most: int) -> None:
    people = able(_PRINCIPALS)
    rows = []
    with Scratch() as scratch:
        kdc = KDC(scratch, _PRINCIPALS, everybody=True, limits={})
        quiet = _measure(kdc, rounds, people)
        rows.append(["quiet", "", *_shown(quiet, quiet)])
        for kind, accounts in (
            ("one account", people[2:3]),
            ("five accounts", people[2:7]),
            ("strangers", list(range(250))),
        ):
            for connections in (10, 100, 1000):
                if connections > most:
                    continue
                where = {
                    **kdc.where(),
                    "accounts": accounts,
                    "connections": connections,
                    "strangers": kind == "strangers",
                }
                words = [sys.executable, "-m", "bench.hostile", "--be", "attack", json.dumps(where)]
                with scratch.running(words, stdout=subprocess.PIPE) as attacker:
                    said(attacker, 30)
                    time.sleep(_SETTLE_SECONDS + connections * 0.004)
                    if attacker.poll() is not None:
                        raise Failed("the attacker gave up")
                    found = _measure(kdc, rounds, people)
                rows.append([kind, str(connections), *_shown(found, quiet)])
                print(rows[-1], file=sys.stderr)
    print(table(["hostile", "connections", "KDC CPU ms", "x", "median ms", "p99 ms", "x"], rows))


def _shown(found: tuple[float, float, float], quiet: tuple[float, float, float]) -> list[str]:
    cpu, median, worst = found
    return [
        f"{1000 * cpu:.1f}",
        f"{cpu / quiet[0]:.1f}",
        f"{1000 * median:.1f}",
        f"{1000 * worst:.1f}",
        f"{worst / quiet[2]:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--most", type=int, default=1000, help="hostile connections at most")
    parser.add_argument("--be", choices=("attack", "honest"), help=argparse.SUPPRESS)
    parser.add_argument("where", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        role = {"attack": _attack, "honest": _honest}[options.be]
        react(role, [json.loads(options.where)])
    _report(options.rounds, options.most)


if __name__ == "__main__":
    main()
