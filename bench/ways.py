"""The ways of sending: a name, and how it is measured; what is ours, and what is no rival."""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "BARE_TLS",
    "CHANNEL",
    "COPY",
    "IMPORTS",
    "INTERPRETER",
    "PLAIN",
    "SEND",
    "THROUGH",
    "WORMHOLE",
    "Way",
    "is_rival",
]

Way = tuple[str, Callable[[], dict[str, float]]]
CHANNEL, SEND, THROUGH = "kdc channel", "kdcclient send, receive", "kdcclient expose, forward"
PLAIN, BARE_TLS = "floor: socat, plain TCP", "TLS by OpenSSL, two processes without pipes"
COPY = "floor: cp and fsync"
INTERPRETER, IMPORTS = "floor: python alone", "floor: python with Twisted, TLS, AES-GCM"
WORMHOLE = "magic-wormhole"


def is_rival(row: str) -> bool:
    """Whether that is another program that protects what it sends."""
    return not row.startswith(("kdc", "floor: "))
