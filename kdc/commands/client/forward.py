"""``forward``: use a peer's service as if it were local."""

from __future__ import annotations

from twisted.python import usage

from kdc.client.settings import client_settings
from kdc.commands.client.options import ClientOptions
from kdc.commands.client.tunnel import run_tunnels, service_of
from kdc.commands.options import local_endpoint, name_of
from kdc.tunnel.tunnels import Forwarded, TunnelSettings

__all__ = ["ForwardCommand"]


class ForwardCommand(ClientOptions):
    """``forward --to PEER SERVICE --listen ENDPOINT``"""

    synopsis = "kdcclient forward -n NAME -a HOST -p PORT --to PEER --listen ENDPOINT SERVICE"
    optValues = {"to": "peer"}
    optParameters = [
        ["to", None, None, "whose service"],
        [
            "listen",
            None,
            None,
            "port (on this machine only) or Twisted endpoint where it is reached",
        ],
    ]

    def parseArgs(self, service: str | None = None) -> None:
        self["service"] = service

    def run(self) -> int:
        if self["service"] is None or not (self["to"] and self["listen"]):
            raise usage.UsageError("say which: forward --to PEER SERVICE --listen ENDPOINT")
        forwarded = Forwarded(
            name_of(self["to"]), service_of(self["service"]), local_endpoint(self["listen"])
        )
        return run_tunnels(TunnelSettings(client_settings(self), forwarded=(forwarded,)))
