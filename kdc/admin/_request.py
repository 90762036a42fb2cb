"""What an operator asks for, as plain values: reading a request, and what its answers say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from kdc.errors import ConfigurationError
from kdc.protocol.names import check_name, plain_address

__all__ = [
    "AdminAnswer",
    "Context",
    "Request",
    "done",
    "name_in",
    "nothing",
    "place_in",
    "whole_in",
]

Request: TypeAlias = dict[str, Any]
AdminAnswer: TypeAlias = dict[str, Any]


@attrs.frozen
class Context:
    """What a command needs besides the store.  ``where``: (host, port, fingerprint) of the KDC.

    ``online`` says, in any thread, whether a principal receives now, if that is known;
    ``last_seen`` when one was with the KDC last, in Unix seconds.
    ``audit`` is told (event, name, detail) of each change; ``more_stats`` is
    what a running server knows; ``rotate_tls`` makes a new TLS key and returns
    its fingerprint; ``running``: it is a running KDC that does it.
    """

    now: int
    random: Callable[[int], bytes]
    audit: Callable[[str, str, str], None]
    where: Callable[[], tuple[str, int, str]]
    rotate_tls: Callable[[], str]
    more_stats: AdminAnswer = attrs.field(factory=dict)
    running: bool = True
    online: Callable[[str], bool] | None = None
    last_seen: Callable[[str], int | None] = lambda name: None


def done(name: str) -> AdminAnswer:
    return {"done": True, "name": name}


def nothing(name: str, why: str) -> AdminAnswer:
    return {"done": False, "name": name, "why": why}


def name_in(request: Request) -> str:
    name = request.get("name")
    try:
        return check_name(name if isinstance(name, str) else "")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def place_in(request: Request) -> dict[str, Any]:
    try:
        address = plain_address(str(request.get("address") or ""))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return {"address": address, "port": whole_in(request, "port", 0, 65535, 0)}


def whole_in(request: Request, key: str, low: int, high: int, default: int) -> int:
    value = request.get(key)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise ConfigurationError(f"{key.replace('_', ' ')} is a number from {low} to {high}")
    return value
