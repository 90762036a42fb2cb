"""``whoami``: what we are to the KDC, and until when."""

from __future__ import annotations

from kdc.channel.standing import standing, warning
from kdc.client.membership import make_client, whoami
from kdc.client.settings import client_settings
from kdc.commands.client.options import AskingOptions, run_client
from kdc.commands.client.who import DIRECTORY_OPTION
from kdc.commands.options import name_of
from kdc.net.exit_status import say
from kdc.protocol.directory import Standing
from kdc.terminal import date

__all__ = ["WhoamiCommand"]


class WhoamiCommand(AskingOptions):
    """``whoami``"""

    synopsis = "kdcclient whoami -n NAME -a HOST -p PORT"
    longdesc = (
        "Say what we are to the KDC, which KDC it is, and when our time there ends, if its operator"
        " has set an end and keeps a directory.  From 14 days before, that is said on standard"
        " error, too."
    )
    optParameters = [DIRECTORY_OPTION]

    def run(self) -> int:
        from twisted.internet import reactor

        directory = name_of(self["directory"])
        client = make_client(reactor, client_settings(self))

        async def ask() -> int:
            try:
                answer = await whoami(client)
                found = await standing(client, directory)
            finally:
                client.close()
            if found is not None and found.end:
                answer["end"] = found.end if self["json"] else date(found.end)
            self.print(answer)
            _warn(found)
            return 0

        return run_client(reactor, ask)


def _warn(found: Standing | None) -> None:
    line = warning(found)
    if found is not None and line:
        how = "kdcclient renew, or passwd" if found.renewal else "there: kdc admin expire"
        say(f"{line}\n  {how}")
