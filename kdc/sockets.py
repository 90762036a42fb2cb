"""Socket options that both servers and clients want, and endpoint strings."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

__all__ = ["host_of", "notice_dead_peers"]

_OPTIONS = (
    ("TCP_KEEPIDLE", 30),
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 4),
    # Not TCP_USER_TIMEOUT: Linux then also drops a peer that is well but does not
    # read for so long, as one that waits for a person.
)


def notice_dead_peers(transport: Any) -> None:
    """Have the system find out within about a minute that an idle connection's other end is gone.

    While data waits to be acknowledged it takes TCP's own time, a quarter of an hour.

    Records go out at once, too: each is a whole message already.
    """
    with contextlib.suppress(AttributeError):  # not TCP: nothing to set
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        # The handle of a TLS transport is OpenSSL's; the socket is one below.
        handle = getattr(transport, "transport", transport).getHandle()
        for option, value in _OPTIONS:
            if hasattr(socket, option):
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def host_of(address: Any) -> str:
    """The IP address in a Twisted address, an IPv4 one in its own form; empty if it has none."""
    host: str = getattr(address, "host", "")
    if host.startswith("::ffff:") and "." in host:
        return host.removeprefix("::ffff:")
    return host
