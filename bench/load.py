"""Load generators; `bench.loads` runs each in a process of its own.

Clients are real ones: each answer is opened with its connection's keys, and
matched to its question; tickets are opened with the key of their receiver.
Nothing is answered from memory.  The result is one line of JSON; what goes
wrong ends in a traceback and status 1.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint

from bench.population import able, keys_of, name_of
from bench.processes import cpu_of
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.client.link import KDCLink
from kdc.protocol.crypto import EpochSecret, ticket_key
from kdc.protocol.kdc_exchange import Grant
from kdc.protocol.messages import Receiving
from kdc.protocol.tickets import TicketCipher

__all__ = ["Settings", "at_once", "client_of", "figures"]

# Connections that wait for their turn to register: few enough for the KDC's limit on newcomers.
_BATCH = 150

Settings = dict[str, Any]


def client_of(reactor: Any, settings: Settings, number: int) -> KDCClient:
    return KDCClient(
        reactor=reactor,
        endpoint=TCP4ClientEndpoint(reactor, "127.0.0.1", settings["port"]),
        tls=ClientTLS(Pin(settings["pin"]), "127.0.0.1"),
        keys=keys_of(number),
        where=f"127.0.0.1 port {settings['port']}",
    )


async def at_once(work: Iterable[Callable[[], Awaitable[Any]]], concurrency: int) -> list[Any]:
    """Do all of ``work``, so many at a time."""
    results: list[Any] = []
    left: Iterator[Callable[[], Awaitable[Any]]] = iter(work)

    async def worker() -> None:
        for each in left:
            results.append(await each())  # noqa: PERF401 - all of them at once is not meant

    await gatherResults([Deferred.fromCoroutine(worker()) for _ in range(concurrency)])
    return results


class Measured:
    """CPU of the server and time passed, from here to `figures`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu, self._begun, self._own = cpu_of(pid), time.monotonic(), time.process_time()

    def figures(self, count: int) -> dict[str, float]:
        seconds = time.monotonic() - self._begun
        return {
            "us": (cpu_of(self._pid) - self._cpu) / count * 1e6,
            "client_us": (time.process_time() - self._own) / count * 1e6,
            "per_second": count / seconds,
            "count": count,
        }


def together(parts: list[dict[str, float]]) -> dict[str, float]:
    """The figures of several measurements as those of one."""
    count = sum(part["count"] for part in parts)
    seconds = sum(part["count"] / part["per_second"] for part in parts)
    of_each = ("us", "client_us")
    means = {name: sum(part[name] * part["count"] for part in parts) / count for name in of_each}
    return {**means, "per_second": count / seconds, "count": count}


def waits(latencies: list[float]) -> dict[str, float]:
    latencies.sort()
    return {
        "median_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


def figures(measured: Measured, count: int, latencies: list[float]) -> dict[str, float]:
    return {**measured.figures(count), **waits(latencies)}


class _Receiver:
    """One that can be reached, and opens the tickets made for it."""

    def __init__(self, link: KDCLink, number: int) -> None:
        self.link = link
        self.number = number
        self.name = name_of(number)
        self._tickets: TicketCipher | None = None

    async def begin(self) -> None:
        public = X25519PrivateKey.generate().public_key().public_bytes_raw()
        reply: Receiving = await self.link.receive_under(public, "127.0.0.1", 60000)
        keys = keys_of(self.number)
        key = ticket_key(
            keys.reply_key, EpochSecret(reply.secret), keys.realm, self.name, reply.epoch_id
        )
        self._tickets = TicketCipher(key, keys.realm, self.name, reply.epoch_id)
        self._epoch_id = reply.epoch_id

    def check(self, grant: Grant) -> None:
        """The ticket is for us, from who asked, and carries the key the asker got."""
        assert self._tickets is not None
        ticket = self._tickets.open(grant.reply.ticket)
        assert grant.reply.epoch_id == self._epoch_id
        assert ticket.sender == grant.sender
        assert ticket.session_key == grant.reply.session_key


async def _parties(reactor: Any, settings: Settings, count: int) -> list[_Receiver]:
    numbers = settings.get("who") or able(settings["principals"])

    async def party(number: int) -> _Receiver:
        link = await client_of(reactor, settings, number).login()
        receiver = _Receiver(link, number)
        await receiver.begin()
        return receiver

    # With fewer principals than connections, several are of one: the last receives.
    first = min(count, len(numbers))
    parties = await at_once([lambda n=n: party(n) for n in numbers[:first]], 8)  # type: ignore[misc]
    for at in range(first, count):
        number = numbers[at % len(numbers)]
        link = await client_of(reactor, settings, number).login()
        parties.append(_Receiver(link, number))
    return parties


async def issue(reactor: Any, settings: Settings) -> dict[str, float]:
    """Session keys on connections that are there, ``depth`` requests in flight on each."""
    # Who is the only one to ask needs another to ask for.
    parties = await _parties(reactor, settings, max(2, settings["connections"]))
    receivers = {party.name: party for party in parties if party._tickets is not None}
    names = sorted(receivers)
    latencies: list[float] = []
    granted: list[Grant] = []

    async def ask(party: _Receiver, at: int, count: int) -> None:
        for turn in range(count):
            peer = names[(at + turn) % len(names)]
            if peer == party.name:
                peer = names[(at + turn + 1) % len(names)]
            begun = time.monotonic()
            grant = await party.link.request_key(peer)
            latencies.append(time.monotonic() - begun)
            assert grant.receiver == peer
            granted.append(grant)

    async def round_of(count: int) -> None:
        depth = range(settings["depth"])
        asking = parties[: settings["connections"]]
        work = [(party, at + 7 * lane) for at, party in enumerate(asking) for lane in depth]
        await gatherResults([Deferred.fromCoroutine(ask(p, at, count)) for p, at in work])

    await round_of(3)  # warm
    granted.clear()
    latencies.clear()
    measured = Measured(settings["pid"])
    await round_of(settings["each"])
    result = figures(measured, len(granted), latencies)
    for grant in granted:
        receivers[grant.receiver].check(grant)
    assert len({grant.reply.session_key for grant in granted}) == len(granted)
    return result


async def connect(reactor: Any, settings: Settings) -> dict[str, float]:
    """TCP, TLS, 311, one key, and leaving again, each time."""
    (receiver,) = await _parties(reactor, settings, 1)
    numbers = able(settings["principals"])[1:]
    # As many as are at work at once: two would share a connection of one.
    count = max(len(numbers), settings["concurrency"])
    idle = [client_of(reactor, settings, numbers[at % len(numbers)]) for at in range(count)]
    latencies: list[float] = []
    granted: list[Grant] = []

    async def once() -> None:
        begun = time.monotonic()
        client = idle.pop(0)
        granted.append(await client.grant(receiver.name))
        latencies.append(time.monotonic() - begun)
        link = await client.link()
        client.close()
        await link.lost
        idle.append(client)

    await at_once([once] * 4, 1)
    granted.clear()
    latencies.clear()
    measured = Measured(settings["pid"])
    concurrency = settings["concurrency"]
    await at_once([once] * settings["count"], concurrency)
    result = figures(measured, len(granted), latencies)
    for grant in granted:
        receiver.check(grant)
    return result


async def register(reactor: Any, settings: Settings) -> dict[str, float]:
    """New names, ``concurrency`` clients at a time, each on a connection of its own.

    With ``open``, the connections are there before the clock starts, a batch of
    them at a time: what is left is one request, the disk, and one answer.
    """
    first, count, concurrency = settings["first"], settings["count"], settings["concurrency"]
    latencies: list[float] = []
    # Prepared before: a client's key derivation is no part of the KDC's work.
    clients = [client_of(reactor, settings, number) for number in range(first, first + count)]

    async def register_on(link: KDCLink) -> None:
        begun = time.monotonic()
        await link.register("127.0.0.1", 60000)
        latencies.append(time.monotonic() - begun)

    async def connect_and_register(client: KDCClient) -> None:
        link = await client.connect()
        await register_on(link)
        link.close()

    parts: list[dict[str, float]] = []
    if settings["open"]:
        for at in range(0, count, _BATCH):
            batch = clients[at : at + _BATCH]
            links = await at_once([client.connect for client in batch], 8)
            measured = Measured(settings["pid"])
            await at_once([lambda link=link: register_on(link) for link in links], concurrency)  # type: ignore[misc]
            parts.append(measured.figures(len(links)))
            for link in links:
                link.close()
            await gatherResults([link.lost for link in links])
    else:
        measured = Measured(settings["pid"])
        await at_once([lambda c=c: connect_and_register(c) for c in clients], concurrency)  # type: ignore[misc]
        parts.append(measured.figures(count))
    # A registration that was acknowledged is one that can log in.
    for client in clients[:: max(1, count // 20)]:
        (await client.login()).close()
    return {**together(parts), **waits(latencies)}
