"""``kdc relay`` and ``twistd kdc-relay``: a relay in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.application.service import IService

from kdc.client.client import RealmClient
from kdc.client.membership import enter, make_client
from kdc.client.settings import ClientSettings, client_settings
from kdc.client.typed import advertised
from kdc.commands.client.options import ClientOptions
from kdc.commands.hints import complain
from kdc.commands.options import Limited, server_endpoints, whole_number
from kdc.commands.process_limits import set_limits
from kdc.commands.twistd import Work, WorkService, ends_twistd
from kdc.commands.watched import Side, StatusOptions, watched
from kdc.net.clock import use_monotonic_timers
from kdc.net.exit_status import run_to_end
from kdc.protocol.relay import RELAY
from kdc.relay.limits import LIMITS, RelayLimits, RelaySettings, lowest
from kdc.relay.relay import Relay
from kdc.terminal import say

__all__ = ["Options", "makeService"]

PROGRAM = "kdc relay"
DEFAULT_PORT = 60_600


class Options(Limited, StatusOptions, ClientOptions):
    """Options of a relay of its own."""

    synopsis = "kdc relay -a HOST -p PORT --key-file FILE [--listen ENDPOINT] [options]"
    longdesc = (
        "Carry the channels of those whom nobody can connect to, for a KDC that does not do it"
        " itself.  It is a principal like any other, named relay unless told otherwise, and"
        " learns nothing of what it carries."
    )
    optRepeated = ("limit",)
    optParameters = [
        [
            "listen",
            None,
            None,
            "port or Twisted endpoint to listen on; by default port 60600, on all interfaces",
        ],
        ["advertise", None, "", "the address to tell others, if it is not the one the KDC sees"],
    ]

    limits = LIMITS
    lowest = staticmethod(lowest)

    def run(self) -> int:
        from twisted.internet import reactor

        running = _Running(reactor, self)
        work = _watched(self, reactor, running)
        return run_to_end(PROGRAM, reactor, work.run, serves=True, complain=complain)


class _Running:
    """One relay: made while there is a terminal, run later."""

    def __init__(self, reactor: Any, options: Any) -> None:
        if options["name"] is None:
            options["name"] = RELAY
        self._settings: ClientSettings = client_settings(options)
        listen = options["listen"] or str(DEFAULT_PORT)
        if ":" not in listen:
            kind = "tcp6" if self._settings.ipv6 else "tcp"
            listen = f"{kind}:{whole_number(listen, 0, 65535, 'a port')}"
        settings = RelaySettings(
            server_endpoints(listen),
            advertised(options["advertise"]),
            RelayLimits(**{LIMITS[name].name: n for name, n in options["limit"].items()}),
        )
        self._client: RealmClient = make_client(reactor, self._settings)
        self.relay = Relay(self._client, settings, status=self._say)

    async def run(self) -> int:
        """Raises `KDCError` when there is no point in going on."""
        try:
            await self.relay.bind()
            await enter(self._client, self._settings, self.relay.port_number)
            await self.relay.run()
        finally:
            await self.close()
        return 0

    async def close(self) -> None:
        await self.relay.close()

    @property
    def name(self) -> str:
        return self._client.keys.name

    def _say(self, line: str) -> None:
        say(f"{self.name}: {line}")


def _watched(options: Any, reactor: Any, running: _Running) -> Work:
    relay = running.relay

    def sides() -> Iterator[Side]:
        from kdc.watch.relay import relay_facts, relay_figures

        figures = list(relay_figures(lambda: relay.figures))
        yield Side("Relay", figures, lambda: relay_facts(relay.figures))

    return watched(options, reactor, running, running.name, lambda: relay.channels, sides)


def makeService(options: Any) -> IService:
    """Ask what has to be asked now, while there is a terminal."""
    from twisted.internet import reactor

    set_limits()
    use_monotonic_timers(reactor)
    with ends_twistd(PROGRAM):
        running = _Running(reactor, options)
        return WorkService(PROGRAM, _watched(options, reactor, running), reactor)
