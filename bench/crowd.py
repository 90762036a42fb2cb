"""Very many receivers in one process: ``python -m bench.crowd SETTINGS``."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.load import Settings, at_once, client_of
from bench.population import REALM
from kdc.channel.receiver import ChannelListener
from kdc.channel.reception import Reception
from kdc.errors import KDCError

_AT_ONCE = 16


def _say(**what: float) -> None:
    print(json.dumps(what), flush=True)


class _Crowd:
    """How many are reachable; says so when nine of ten are again, and when all are."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._count = settings["count"]
        self._here = 0

    async def begin(self, number: int) -> None:
        """Return when that one is reachable; what is a receiver's own affair goes on."""
        begun: Deferred[None] = Deferred()

        def here() -> None:
            self._here += 1
            if not begun.called:
                begun.callback(None)
            elif self._here == self._count * 9 // 10:
                _say(most=time.monotonic())
            elif self._here == self._count:
                _say(back=time.monotonic())

        def lost(error: KDCError, seconds: float) -> None:
            if reception.reachable:
                reception.reachable = False
                self._here -= 1

        reception = _Reception(self._reactor, self._settings, number, here, lost)
        _ = Deferred.fromCoroutine(reception.run()).addErrback(begun.errback)
        await begun


class _Reception(Reception):
    """As every receiver of ours, but without a port to listen at."""

    def __init__(self, reactor: Any, settings: Settings, number: int, here: Any, lost: Any) -> None:
        self.reachable = False

        def begun() -> None:
            self.reachable = True
            here()

        listener = ChannelListener(REALM, {}, timers=reactor, random=os.urandom)
        client = client_of(reactor, settings, number)
        super().__init__(client, listener, port=60000, address="127.0.0.1", begun=begun, lost=lost)


async def crowd(reactor: Any, settings: Settings) -> None:
    """Connect ``count`` from ``first`` on, say so; say when they are back after they were lost."""
    first, count = settings["first"], settings["count"]
    people = _Crowd(reactor, settings)
    begun = time.monotonic()
    await at_once([lambda n=n: people.begin(n) for n in range(first, first + count)], _AT_ONCE)  # type: ignore[misc]
    _say(connected=count, s=time.monotonic() - begun)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(crowd(reactor, json.loads(sys.argv[1]))))
