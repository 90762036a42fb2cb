"""``who``: which principals are there, as the KDC says of some, or its directory of all."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs

from kdc.channel.standing import ask_directory
from kdc.client.client import RealmClient
from kdc.client.membership import make_client
from kdc.client.settings import client_settings
from kdc.commands.client.options import AskingOptions, run_client
from kdc.commands.client.peers import remember
from kdc.commands.options import name_of
from kdc.errors import NotReceiving, PeerUnavailable, RefusedByPolicy, TooBusy, UnknownPeer
from kdc.net.exit_status import say
from kdc.protocol.directory import (
    DIRECTORY,
    MAX_ANSWER,
    SERVICE,
    Presence,
    decode_answer,
)
from kdc.terminal import answer as answer_line

__all__ = ["DIRECTORY_OPTION", "Found", "WhoCommand", "everybody", "who"]


DIRECTORY_OPTION = [
    "directory",
    None,
    DIRECTORY,
    "the name of the directory, if this KDC calls it otherwise",
]


class WhoCommand(AskingOptions):
    """``who [NAME...]``"""

    synopsis = "kdcclient who -n NAME -a HOST -p PORT [PEER...]"
    longdesc = (
        "Say which of these are registered, and which can be reached now; without names,"
        " everybody whom we may send to, as far as this KDC has a directory.  With --json each"
        " is a line."
    )
    optArguments = ("peer", "...")
    optParameters = [DIRECTORY_OPTION]

    def parseArgs(self, *names: str) -> None:
        self["names"] = tuple(map(name_of, names))

    def run(self) -> int:
        from twisted.internet import reactor

        client = make_client(reactor, client_settings(self))

        async def ask() -> int:
            more = False
            if self["names"]:
                found = await who(client, self["names"])
            else:
                found, more = await everybody(client, name_of(self["directory"]))
                remember(each.name for each in found)
            for each in found:
                answer_line(json.dumps(attrs.asdict(each)) if self["json"] else str(each))
            if len(client.nodes) > 1:
                say(f"as {client.where} says")
            if more:
                say("there are more than a directory tells at once; name whom you mean")
            return 0

        return run_client(reactor, ask)


@attrs.frozen
class Found:
    """``state``: receiving, registered, unknown or not allowed; where, if that is known."""

    name: str
    state: str
    address: str = ""
    port: int = 0

    def __str__(self) -> str:
        where = f" at {self.address} port {self.port}" if self.address else ""
        return f"{self.name}: {self.state}{where}"


async def who(client: RealmClient, names: Sequence[str]) -> list[Found]:
    """What becomes of each of ``names``.

    The KDC is asked for a key to each, which is thrown away: it tells this to
    whoever may have one.
    """
    try:
        return [await _state_of(client, name) for name in names]
    finally:
        client.close()


async def _state_of(client: RealmClient, name: str) -> Found:
    try:
        grant = await client.grant(name)
    except NotReceiving:
        return Found(name, "registered")
    except UnknownPeer:
        return Found(name, "unknown")
    except TooBusy:
        raise
    except RefusedByPolicy:
        return Found(name, "not allowed")
    return Found(name, "receiving", grant.reply.address, grant.reply.port)


async def everybody(client: RealmClient, directory: str) -> tuple[list[Found], bool]:
    """Everybody whom we may know of, and whether there are more of them.

    Raises `PeerUnavailable` if there is no directory at this KDC.
    """
    try:
        answer = decode_answer(await ask_directory(client, directory, SERVICE, MAX_ANSWER))
    except (NotReceiving, UnknownPeer):
        raise PeerUnavailable(
            f"the KDC at {client.where} has no directory: nobody answers there as {directory}",
            hint="name whom you mean: kdcclient who PEER...; a directory is the operator's to"
            " start, with kdc --directory",
        ) from None
    finally:
        client.close()
    if answer.wait_seconds:
        raise TooBusy(
            "the directory limits how often it may be asked",
            retry_after=answer.wait_seconds,
            hint=f"try again in {answer.wait_seconds} s",
        )
    return list(map(_found, answer.presences)), answer.more


def _found(presence: Presence) -> Found:
    state = "receiving" if presence.receiving else "registered"
    return Found(presence.name, state, presence.address, presence.port)
