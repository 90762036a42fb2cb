"""``pipe``: connect a peer's service to standard input and output."""

from __future__ import annotations

from twisted.python import usage

from kdc.client.membership import make_client
from kdc.client.settings import client_settings
from kdc.commands.client.options import ClientOptions, run_client
from kdc.commands.client.tunnel import service_of
from kdc.commands.options import name_of
from kdc.tunnel.tunnels import pipe

__all__ = ["PipeCommand"]


class PipeCommand(ClientOptions):
    """``pipe PEER SERVICE``"""

    synopsis = "kdcclient pipe -n NAME -a HOST -p PORT PEER SERVICE"
    longdesc = "Connect a peer's service to standard input and output, as ssh's ProxyCommand."
    optArguments = ("peer",)

    def parseArgs(self, peer: str = "", service: str | None = None) -> None:
        if not peer or service is None:
            raise usage.UsageError("say which: pipe PEER SERVICE")
        self["peer"], self["service"] = name_of(peer), service_of(service)

    def run(self) -> int:
        from twisted.internet import reactor

        settings = client_settings(self)
        client = make_client(reactor, settings)
        return run_client(reactor, lambda: pipe(client, settings, self["peer"], self["service"]))
