"""Other programs' connections through channels: expose, forward, pipe, tunnel."""

from __future__ import annotations

from twisted.python import usage

from kdc.client.membership import make_client
from kdc.client.settings import client_settings
from kdc.commands.client.options import PROGRAM, ClientOptions
from kdc.commands.client.tunnel_options import TunnelOptions, exposed_of, tunnel_settings
from kdc.commands.options import local_endpoint, name_of
from kdc.net.exit_status import run_to_end
from kdc.tunnel.tunnels import Forwarded, Tunnels, TunnelSettings, pipe

__all__ = ["Expose", "Forward", "Pipe", "Tunnel"]


class Tunnel(TunnelOptions):
    """``tunnel``: any number of services, both ways."""

    def run(self) -> int:
        return _tunnel(tunnel_settings(self))


class Expose(TunnelOptions):
    """``expose SERVICE=ENDPOINT...``"""

    synopsis = "kdcclient expose -n NAME -a HOST -p PORT SERVICE=ENDPOINT... [options]"

    def parseArgs(self, *exposed: str) -> None:
        self["expose"] = tuple(map(exposed_of, exposed))

    def run(self) -> int:
        return _tunnel(tunnel_settings(self))


class Forward(ClientOptions):
    """``forward --to PEER SERVICE --listen ENDPOINT``"""

    synopsis = "kdcclient forward -n NAME -a HOST -p PORT --to PEER --listen ENDPOINT SERVICE"
    optParameters = [
        ["to", None, None, "whose service"],
        [
            "listen",
            None,
            None,
            "port (on this machine only) or Twisted endpoint where it is reached",
        ],
    ]

    def parseArgs(self, service: str = "") -> None:
        self["service"] = service

    def run(self) -> int:
        if not (self["service"] and self["to"] and self["listen"]):
            raise usage.UsageError("say which: forward --to PEER SERVICE --listen ENDPOINT")
        forwarded = Forwarded(
            name_of(self["to"]), name_of(self["service"]), local_endpoint(self["listen"])
        )
        return _tunnel(TunnelSettings(client_settings(self), forwarded=(forwarded,)))


class Pipe(ClientOptions):
    """``pipe PEER SERVICE``"""

    synopsis = "kdcclient pipe -n NAME -a HOST -p PORT PEER SERVICE"
    longdesc = "Connect a peer's service to standard input and output, as ssh's ProxyCommand."

    def parseArgs(self, peer: str = "", service: str = "") -> None:
        if not peer or not service:
            raise usage.UsageError("say which: pipe PEER SERVICE")
        self["peer"], self["service"] = name_of(peer), name_of(service)

    def run(self) -> int:
        from twisted.internet import reactor

        settings = client_settings(self)
        client = make_client(reactor, settings)
        return run_to_end(
            PROGRAM, reactor, lambda: pipe(client, settings, self["peer"], self["service"])
        )


def _tunnel(settings: TunnelSettings) -> int:
    from twisted.internet import reactor

    tunnels = Tunnels(make_client(reactor, settings.client), settings)
    return run_to_end(PROGRAM, reactor, tunnels.run)
