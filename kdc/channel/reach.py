"""How a principal can be reached: directly, or through the realm's relay."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Protocol

from kdc.client.client import RealmClient

__all__ = ["Direct", "Place", "Way", "is_loopback", "place_of_relay"]

Place = tuple[str, int]


class Way(Protocol):
    """How a receiver comes to be reached.  ``changed`` is called when `place` is another."""

    changed: Callable[[], None]

    async def ready(self) -> None:
        """The KDC's connection is new: return when `place` is good; raises `KDCError`."""

    @property
    def place(self) -> Place:
        """What senders are to be told: an address, empty for what the KDC sees, and a port."""

    @property
    def links(self) -> int:
        """How many relays there is a link to."""

    def holds(self, epoch_ids: list[bytes]) -> None:
        """These are the epochs that a sender can present himself to now."""

    def stop(self) -> None:
        """Nobody is to be reached any more; channels that are open go on."""


class Direct:
    """At our own port, and not otherwise."""

    def __init__(self, address: str, port: int) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.place = address, port
        self.links = 0

    async def ready(self) -> None:
        """It is."""

    def holds(self, epoch_ids: list[bytes]) -> None:
        """The listener knows them."""

    def stop(self) -> None:
        """The listener's port is not ours."""


async def place_of_relay(client: RealmClient, relay: str) -> Place:
    """Where the relay of that name is, as the KDC tells whoever may use it.

    Raises `UnknownPeer`, `NotReceiving` or `RefusedByPolicy` where there is none for us.
    """
    reply = (await client.grant(relay)).reply
    address = reply.address
    if not address or is_loopback(address):
        # It runs beside the KDC, and where that is we know better than it does.
        address = (await client.link()).address
    return address, reply.port


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
