"""``expose``: let peers use local services."""

from __future__ import annotations

from kdc.commands.client.tunnel import TunnelOptions, exposed_of, run_tunnels, tunnel_settings

__all__ = ["ExposeCommand"]


class ExposeCommand(TunnelOptions):
    """``expose SERVICE=ENDPOINT...``"""

    synopsis = "kdcclient expose -n NAME -a HOST -p PORT SERVICE=ENDPOINT... [options]"

    def parseArgs(self, *exposed: str) -> None:
        self["expose"] = tuple(map(exposed_of, exposed))

    def run(self) -> int:
        return run_tunnels(tunnel_settings(self), self)
