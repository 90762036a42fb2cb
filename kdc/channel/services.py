"""Services by name: many applications behind one receiver (docs/protocol.md, "services").

The sender's first DATA names a service, the receiver's first DATA is one status byte.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IProtocolFactory

from kdc.protocol.names import check_name

__all__ = ["DEFAULT_SERVICE", "Service", "ServiceStatus", "service_name"]

DEFAULT_SERVICE = ""


class ServiceStatus(enum.IntEnum):
    """The receiver's first word on the channel."""

    ACCEPTED = 0
    NOT_ALLOWED = 1
    NO_SERVICE = 2


@attrs.frozen
class Service:
    """What a receiver offers under one name, and to whom."""

    factory: IProtocolFactory
    allow: Callable[[str], bool] = lambda name: True


def service_name(data: bytes) -> str:
    """The name in a sender's first record; one that cannot be is nobody's."""
    if not data:
        return DEFAULT_SERVICE
    try:
        return check_name(data.decode("ascii"))
    except ValueError:
        return "?"
