"""``tunnel``: any number of services, both ways; and what its relatives have in common with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from kdc.channel.services import DEFAULT_SERVICE
from kdc.client.membership import make_client
from kdc.client.settings import client_settings
from kdc.client.typed import advertised
from kdc.commands.client.options import LISTEN_OPTIONS, ClientOptions, listen_endpoints, run_client
from kdc.commands.options import local_endpoint, name_of, service_endpoint
from kdc.commands.watched import Side, StatusOptions, watched
from kdc.tunnel.tunnels import (
    Exposed,
    Forwarded,
    Tunnels,
    TunnelSettings,
    check_exposed,
)

if TYPE_CHECKING:
    from kdc.commands.twistd import Work

__all__ = [
    "TunnelCommand",
    "TunnelOptions",
    "exposed_of",
    "run_tunnels",
    "service_of",
    "tunnel_settings",
    "watched_tunnels",
]


class TunnelOptions(StatusOptions, ClientOptions):
    """Options of tunnels, which ``twistd kdcclient tunnel`` has too."""

    synopsis = (
        "kdcclient tunnel -n NAME -a HOST -p PORT [--expose SERVICE=ENDPOINT ...]"
        " [--forward PEER/SERVICE=ENDPOINT ...] [options]"
    )
    longdesc = (
        "Expose local services to peers, and reach theirs.  Endpoints are Twisted's, such as"
        " tcp:127.0.0.1:5432, udp:127.0.0.1:53 or unix:/run/service.sock."
    )
    optValues = {"allow": "peer"}
    optRepeated = ("expose", "forward", "allow")
    optParameters = LISTEN_OPTIONS

    def opt_expose(self, value: str) -> None:
        """SERVICE=ENDPOINT: let peers connect to this endpoint as SERVICE; may be repeated"""
        self["expose"] = (*self.get("expose", ()), exposed_of(value))

    def opt_forward(self, value: str) -> None:
        """PEER/SERVICE=ENDPOINT: listen here for a peer's service (a port alone: on this
        machine only); may be repeated"""
        far, _, near = value.partition("=")
        peer, _, service = far.partition("/")
        if not near:
            raise usage.UsageError(f"--forward is PEER/SERVICE=ENDPOINT, not {value[:80]!r}")
        self["forward"] = (
            *self.get("forward", ()),
            Forwarded(name_of(peer), service_of(service), local_endpoint(near)),
        )

    def opt_allow(self, value: str) -> None:
        """who may use what is exposed: NAME[,NAME...]; may be repeated"""
        self["allow"] = self.get("allow", frozenset()) | {name_of(n) for n in value.split(",")}


class TunnelCommand(TunnelOptions):
    """``tunnel``"""

    def run(self) -> int:
        return run_tunnels(tunnel_settings(self), self)


def exposed_of(text: str) -> Exposed:
    """Parse SERVICE=ENDPOINT; raises `usage.UsageError`."""
    name, _, endpoint = text.partition("=")
    if not endpoint:
        raise usage.UsageError(f"what to expose is SERVICE=ENDPOINT, not {text[:80]!r}")
    return Exposed(service_of(name), service_endpoint(endpoint))


def service_of(typed: str) -> str:
    """The service a person meant, who may mean the one without a name by nothing."""
    return name_of(typed) if typed else DEFAULT_SERVICE


def tunnel_settings(options: Any) -> TunnelSettings:
    """Raises `usage.UsageError` or `KDCError`."""
    from twisted.internet import reactor

    client = client_settings(options)
    settings = TunnelSettings(
        client,
        tuple(options.get("expose", ())),
        tuple(options.get("forward", ())),
        options.get("allow", frozenset()),
        *listen_endpoints(options.get("listen"), client.on_loopback, client.ipv6),
        advertise=advertised(options.get("advertise")),
    )
    if not settings.exposed and not settings.forwarded:
        raise usage.UsageError("say what to expose or to forward")
    for exposed in settings.exposed:
        check_exposed(reactor, exposed.endpoint)
    return settings


def run_tunnels(settings: TunnelSettings, options: TunnelOptions | None = None) -> int:
    """``options``: what was typed about a status port, where there can be one."""
    from twisted.internet import reactor

    tunnels = Tunnels(make_client(reactor, settings.client), settings)
    work: Work = tunnels
    if options is not None:
        work = watched_tunnels(options, reactor, tunnels, settings)
    return run_client(reactor, work.run)


def watched_tunnels(options: Any, reactor: Any, tunnels: Tunnels, settings: TunnelSettings) -> Work:
    """Raises `usage.UsageError` or `KDCError`."""

    def sides() -> Iterator[Side]:
        from kdc.watch.receiver import tunnel_facts, tunnel_figures

        figures = list(tunnel_figures(lambda: tunnels.figures))
        yield Side("Tunnels", figures, lambda: tunnel_facts(tunnels.figures))

    channels = (lambda: tunnels.channels) if settings.exposed else None
    return watched(options, reactor, tunnels, tunnels.name, channels, sides)
