"""``whoami``: what we are to the KDC."""

from __future__ import annotations

from kdc.client.membership import make_client, whoami
from kdc.client.settings import client_settings
from kdc.commands.client.options import AskingOptions, run_client

__all__ = ["WhoamiCommand"]


class WhoamiCommand(AskingOptions):
    """``whoami``"""

    synopsis = "kdcclient whoami -n NAME -a HOST -p PORT"
    longdesc = "Say what we are to the KDC, and which KDC it is."

    def run(self) -> int:
        from twisted.internet import reactor

        client = make_client(reactor, client_settings(self))

        async def ask() -> int:
            self.print(await whoami(client))
            return 0

        return run_client(reactor, ask)
