"""What cannot be saved: the same exchanges with nothing behind them.

``python -m bench.floor tcp|tls PORT``: a Twisted server that answers each
request of `ASK` bytes with `ANSWER` bytes, the sizes of 305 and 306, with the
KDC's own TLS settings.  And the same primitives, without any network.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from bench.load import Measured, Settings, at_once, figures
from kdc.client.identity import ClientTLS
from kdc.net.sockets import notice_dead_peers
from kdc.net.tls import accept_any, peer_fingerprint
from kdc.server.certificate import ServerTLS, make_certificate

__all__ = ["ANSWER", "ASK", "DIGEST", "crypto", "exchange", "handshake"]

DIGEST = "SHA-256, 65,519 bytes"

ASK = 65
ANSWER = 256


class _Answerer(Protocol):
    def __init__(self) -> None:
        self._waiting = 0

    def connectionMade(self) -> None:
        notice_dead_peers(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._waiting += len(data)
        count, self._waiting = divmod(self._waiting, ASK)
        if count:
            self.transport.write(bytes(ANSWER) * count)  # type: ignore[union-attr]


@implementer(IHandshakeListener)
class _Asker(Protocol):
    """Fires ``ready``, then one Deferred for each answer, in order."""

    def __init__(self, tls: bool) -> None:
        self.ready: Deferred[_Asker] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self._tls = tls
        self._waiting: list[Deferred[None]] = []
        self._got = 0

    def connectionMade(self) -> None:
        notice_dead_peers(self.transport)
        if not self._tls:
            self.ready.callback(self)

    def handshakeCompleted(self) -> None:
        self.ready.callback(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)

    def ask(self) -> Deferred[None]:
        answer: Deferred[None] = Deferred()
        self._waiting.append(answer)
        self.transport.write(bytes(ASK))  # type: ignore[union-attr]
        return answer

    def dataReceived(self, data: bytes) -> None:
        assert not data.strip(b"\0")
        self._got += len(data)
        while self._got >= ANSWER:
            self._got -= ANSWER
            self._waiting.pop(0).callback(None)


class _Whoever:
    """As a pin costs it, but any key will do: it is made anew for each measurement."""

    def prepare(self, context: SSL.Context) -> None:
        context.set_verify(SSL.VERIFY_PEER, accept_any)

    def check(self, connection: SSL.Connection) -> None:
        peer_fingerprint(connection)


async def _connect(reactor: Any, settings: Settings) -> _Asker:
    tls = settings["tls"]
    asker = _Asker(tls)
    factory: Any = Factory.forProtocol(lambda: asker)
    if tls:
        factory = TLSMemoryBIOFactory(ClientTLS(_Whoever(), "127.0.0.1"), True, factory, reactor)
    await TCP4ClientEndpoint(reactor, "127.0.0.1", settings["port"]).connect(factory)
    return await asker.ready


async def exchange(reactor: Any, settings: Settings) -> dict[str, float]:
    """As `bench.load.issue`."""
    askers = [await _connect(reactor, settings) for _ in range(settings["connections"])]
    latencies: list[float] = []

    async def ask(asker: _Asker, count: int) -> None:
        for _ in range(count):
            begun = time.monotonic()
            await asker.ask()
            latencies.append(time.monotonic() - begun)

    async def round_of(count: int) -> None:
        lanes = [asker for asker in askers for _ in range(settings["depth"])]
        await gatherResults([Deferred.fromCoroutine(ask(asker, count)) for asker in lanes])

    await round_of(3)
    latencies.clear()
    measured = Measured(settings["pid"])
    await round_of(settings["each"])
    return figures(measured, len(latencies), latencies)


async def handshake(reactor: Any, settings: Settings) -> dict[str, float]:
    """As `bench.load.connect`: TCP and TLS up, ``asks`` exchanges, and down again."""
    latencies: list[float] = []

    async def once() -> None:
        begun = time.monotonic()
        asker = await _connect(reactor, settings)
        for _ in range(settings["asks"]):
            await asker.ask()
        latencies.append(time.monotonic() - begun)
        cast(Any, asker.transport).loseConnection()
        await asker.lost

    await at_once([once] * 4, 4)
    latencies.clear()
    measured = Measured(settings["pid"])
    await at_once([once] * settings["count"], settings["concurrency"])
    return figures(measured, len(latencies), latencies)


def _us(call: Callable[[], object], count: int = 2000) -> float:
    call()
    begun = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - begun) / count * 1e6


def crypto() -> dict[str, float]:
    """CPU microseconds of each primitive, as called from Python."""
    cipher, signing = AESGCM(bytes(32)), Ed25519PrivateKey.generate()
    public, message = signing.public_key(), bytes(120)
    signature = signing.sign(message)
    key = X25519PrivateKey.generate()
    peer = X25519PrivateKey.generate().public_key()
    record = bytearray(65_519)
    nonce = bytes(12)
    return {
        "AES-256-GCM, 200 bytes": _us(lambda: cipher.encrypt(nonce, bytes(200), b"")),
        "AES-256-GCM, 65,519 bytes": _us(lambda: cipher.encrypt(nonce, record, b""), 500),
        DIGEST: _us(lambda: hashlib.sha256(record).digest(), 500),
        "12 random bytes": _us(lambda: os.urandom(12)),
        "Ed25519 verification": _us(lambda: public.verify(signature, message), 500),
        "X25519": _us(lambda: key.exchange(peer), 500),
    }


def serve(kind: str, port: int) -> None:
    from twisted.internet import reactor

    factory: Any = Factory.forProtocol(_Answerer)
    if kind == "tls":
        pair = make_certificate(["127.0.0.1"], dt.datetime.now(dt.UTC))
        factory = TLSMemoryBIOFactory(ServerTLS(*pair), False, factory, reactor)
        factory.protocol = TLSMemoryBIOProtocol  # as the KDC has it
    reactor.listenTCP(port, factory, interface="127.0.0.1", backlog=1000)
    reactor.run()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
