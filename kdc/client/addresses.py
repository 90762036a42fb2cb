"""Where the KDCs of a realm are: one address or several, as people write them and as we use them.

Each is ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``.  Nothing here connects to anything.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TypeAlias

from kdc.client.typed import host_and_port
from kdc.net.tls import is_address

__all__ = ["MOST", "Place", "key_of", "nodes_of", "places", "read", "shown_places", "typed_as"]

Place: TypeAlias = tuple[str, int]
Typed: TypeAlias = tuple[str, int | None]

# Of one realm: whoever needs more has typed something else.
MOST = 16


def read(typed: Iterable[str]) -> tuple[Typed, ...]:
    """What was typed, each once, in its order; raises `ValueError`."""
    found = {(host.lower(), port): (host, port) for host, port in map(host_and_port, typed)}
    if not 1 <= len(found) <= MOST:
        raise ValueError(f"a realm has from 1 to {MOST} addresses of KDCs, not {len(found)}")
    return tuple(found.values())


def places(typed: Iterable[Typed], port: int | None) -> tuple[Place, ...]:
    """The same with ``port`` where none was typed, each once; `ValueError` if there is none."""
    found: dict[str, Place] = {}
    for host, own in typed:
        number = port if own is None else own
        if number is None:
            raise ValueError(f"no port for {host}")
        found.setdefault(key_of(host, number), (host, number))
    return tuple(found.values())


def key_of(host: str, port: int) -> str:
    """One place in one spelling: capitals, and letters beyond ASCII, make no other KDC of it."""
    where = f"[{host}]" if ":" in host else host.encode("idna").decode()
    return f"{where}:{port}".lower()


def typed_as(place: Place) -> str:
    """As a person would type it."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shown_places(of: Iterable[Place]) -> str:
    """For people, in a sentence."""
    return ", ".join(f"{host} port {port}" for host, port in of)


def nodes_of(place: Place) -> tuple[Place, ...]:
    """The same place, or several if its name has several addresses of one kind.  Blocking.

    An IPv4 address and an IPv6 address are two ways to one KDC, which `Place` leaves to
    whoever connects; two of the same kind are two KDCs.  What cannot be looked up now is
    left as it is, too.
    """
    host, port = place
    if is_address(host):
        return (place,)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return (place,)
    for family in (socket.AF_INET, socket.AF_INET6):
        of_kind = dict.fromkeys(str(entry[4][0]) for entry in found if entry[0] == family)
        if len(of_kind) > 1:
            return tuple((address, port) for address in list(of_kind)[:MOST])
    return (place,)
