"""Very many receivers in one process: ``python -m bench.crowd SETTINGS``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from bench.load import Settings, at_once, client_of
from kdc.client import KDCLink, backoff
from kdc.errors import KDCError


class _Receiver:
    """Stays reachable as `kdc.endpoints.Reception` does, without a port of its own."""

    def __init__(self, reactor: Any, settings: Settings, number: int) -> None:
        self._reactor = reactor
        self._client = client_of(reactor, settings, number)
        self.link: KDCLink | None = None

    async def begin(self) -> None:
        link = await self._client.login()
        public = X25519PrivateKey.generate().public_key().public_bytes_raw()
        await link.receive_under(public, "127.0.0.1", 60000)
        self.link = link

    async def stay(self, lost: Callable[[], None], back: Callable[[], None]) -> None:
        while True:
            assert self.link is not None
            await self.link.lost
            lost()
            attempt = 0
            while True:
                try:
                    await self.begin()
                    break
                except KDCError:
                    await deferLater(self._reactor, backoff(attempt))
                    attempt += 1
            back()


async def crowd(reactor: Any, settings: Settings) -> None:
    """Connect ``count`` from ``first`` on, say so; say when all are back after they were lost."""
    first, count = settings["first"], settings["count"]
    receivers = [_Receiver(reactor, settings, n) for n in range(first, first + count)]
    begun = time.monotonic()
    await at_once([receiver.begin for receiver in receivers], 16)
    print(json.dumps({"connected": count, "s": time.monotonic() - begun}), flush=True)
    away = 0

    def lost() -> None:
        nonlocal away
        away += 1

    def back() -> None:
        nonlocal away
        away -= 1
        if not away:
            print(json.dumps({"back": time.monotonic()}), flush=True)

    for receiver in receivers:
        _ = Deferred.fromCoroutine(receiver.stay(lost, back))
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(crowd(reactor, json.loads(sys.argv[1]))))
