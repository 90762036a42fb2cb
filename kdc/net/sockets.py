"""Sockets at the edge: ports at endpoint strings, options that every connection wants."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from typing import Any, cast

from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamClientEndpoint

from kdc.errors import ConfigurationError, ErrorKind, LocalIOError

__all__ = [
    "accept_in_turns",
    "connect_to",
    "endpoint_words",
    "host_of",
    "is_local_endpoint",
    "listen_at",
    "notice_dead_peers",
    "passed_descriptor",
    "read_at_once",
    "tcp_endpoint",
]

# Not TCP_USER_TIMEOUT: Linux then also drops a peer that is well but does not
# read for so long, as one that waits for a person.
_KEEPALIVE = {"TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}
# Each connection has a time of its own.  The kernel rounds timers of this length to seconds, and
# the probes of thousands of connections at one moment are more than its queues hold: it would
# drop them all four times, and then the connections.
_IDLE_SECONDS = range(30, 60)
# So many connections wait to be accepted; the system cuts it to what it allows.  Of what is more
# the first packet is dropped, and repeated after a second: with Twisted's 50 any burst costs that.
_BACKLOG = 1024
# So many are accepted before what those who were accepted have said is read.  Twisted takes a
# hundred and ever more: a burst would fill all places with people who could not yet be heard.
_ACCEPTED_AT_ONCE = 8


_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_local_endpoint(endpoint: str) -> bool:
    """Whether a server endpoint string can be reached from this machine only."""
    if endpoint.startswith("unix:"):
        return True
    if not endpoint.startswith(("tcp:", "tcp6:")):
        return False
    words = dict(part.partition("=")[::2] for part in endpoint.replace("\\:", "\0").split(":"))
    return words.get("interface", "").replace("\0", ":") in _LOOPBACK


async def listen_at(
    reactor: Any,
    description: str,
    factory: Any,
    *,
    hint: str = "",
    kind: ErrorKind | None = None,
) -> Any:
    """Return a port at a Twisted server endpoint string, as a person has typed it.

    Raises `ConfigurationError` for what is no endpoint, and `LocalIOError` for a
    port that cannot be had; ``hint`` and ``kind`` are for one that is in use.
    """
    try:
        endpoint = serverFromString(reactor, description)
    except LookupError as error:
        if not description.startswith("systemd:"):
            raise _no_endpoint(description, error) from None
        raise _not_handed_over(description) from None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise _no_endpoint(description, error) from None
    try:
        port = await endpoint.listen(factory)
    except OverflowError as error:  # a port of six digits
        raise _no_endpoint(description, error) from None
    except (CannotListenError, OSError) as error:
        cause = getattr(error, "socketError", error)
        text = f"cannot listen on {description}: {getattr(cause, 'strerror', None) or cause}"
        if getattr(cause, "errno", None) != errno.EADDRINUSE:
            raise LocalIOError(text) from None
        raise LocalIOError(text, hint=hint, kind=kind) from None
    if description.startswith("tcp") and "backlog=" not in description:
        listening = getattr(port, "socket", None)
        if listening is not None:  # not of every reactor
            listening.listen(_BACKLOG)
    accept_in_turns(port)
    return port


def passed_descriptor(reactor: Any, name: str) -> int:
    """Return the socket that systemd has handed over under that name.

    Raises `ConfigurationError`.
    """
    try:
        # Twisted has taken what systemd says out of the environment; of the family nothing is used.
        endpoint = serverFromString(
            reactor, f"systemd:domain=INET:name={quoteStringArgument(name)}"
        )
    except LookupError:
        raise _not_handed_over(name) from None
    return int(endpoint.fileno)


def _not_handed_over(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"systemd has not handed over a socket for {what!r}",
        hint="start this from a .socket unit, with that FileDescriptorName= in it",
    )


def accept_in_turns(port: Any, at_once: int = _ACCEPTED_AT_ONCE) -> None:
    """Accept no more than so many connections in a turn of the reactor: the others wait."""
    accept = getattr(port, "doRead", None)
    if accept is None or not hasattr(port, "numberAccepts"):
        return  # not of every reactor

    def accept_some() -> Any:
        port.numberAccepts = at_once  # Twisted counts it up whenever there are more
        return accept()

    port.doRead = accept_some


def connect_to(reactor: Any, description: str) -> IStreamClientEndpoint:
    """Return what connects to a Twisted client endpoint string, as a person has typed it.

    A host's name may lead to IPv4 and IPv6 addresses, which are tried as they come.  Raises
    `ConfigurationError` for what is no endpoint; nothing is looked up or connected yet.
    """
    kind, *words = endpoint_words(description)
    try:
        if kind == "tcp":
            return _tcp_endpoint(reactor, *words)
        if not any(words):
            raise ValueError("it wants to know where")
        return cast(IStreamClientEndpoint, clientFromString(reactor, description))
    except (ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        raise _no_endpoint(description, error) from None


def _tcp_endpoint(reactor: Any, *words: str) -> IStreamClientEndpoint:
    """Raises `ValueError` unless ``words`` are those of ``tcp:``."""
    named = dict(word.split("=", 1) for word in words if "=" in word)
    rest = [word for word in words if "=" not in word]
    for key in ("host", "port"):
        if key not in named and rest:
            named[key] = rest.pop(0)
    if rest or named.keys() - {"host", "port", "timeout", "bindAddress"}:
        raise ValueError("it takes a host, a port, timeout and bindAddress")
    host, port, timeout = named.get("host", ""), named.get("port", ""), named.get("timeout", "30")
    if not _HOST.fullmatch(host) or not host.encode("idna"):
        raise ValueError("it wants a host")
    if not (_NUMBER.fullmatch(port) and 1 <= int(port) <= 65_535):
        raise ValueError("it wants a port from 1 to 65535")
    if not _NUMBER.fullmatch(timeout):
        raise ValueError("its timeout is a number of seconds")
    bound = named.get("bindAddress")
    endpoint = HostnameEndpoint(
        reactor, host, int(port), int(timeout), None if bound is None else (bound, 0)
    )
    return cast(IStreamClientEndpoint, endpoint)


_NUMBER = re.compile("[0-9]{1,5}")
_HOST = re.compile(r"[^\s/@?#\[\]\\-][^\s/@?#\[\]\\]*")
# One word: what is quoted by a backslash, an IPv6 address in brackets, and anything but a colon.
_WORD = re.compile(r"((?:\\.|\[[0-9A-Fa-f:.]*\]|[^:\\])*)(?::|\Z)", re.DOTALL)


def endpoint_words(description: str) -> list[str]:
    """What stands between the colons of an endpoint string, without brackets and backslashes."""
    words, at = [], 0
    while (found := _WORD.match(description, at)) is not None:
        word = re.sub(r"\[([0-9A-Fa-f:.]*)\]", r"\1", found[1])
        words.append(re.sub(r"\\(.)", r"\1", word))
        if not found[0].endswith(":") or found.end() == at:
            break
        at = found.end()
    return words


def _no_endpoint(description: str, error: Exception) -> ConfigurationError:
    # What Python says of a wrong call is nothing to whoever has typed a string.
    why = str(error)
    if isinstance(error, TypeError):
        why = "it has parts that it does not take"
    elif "()" in why:
        why = "a number is wanted in it"
    return ConfigurationError(f"not an endpoint: {description!r}: {why}")


def tcp_endpoint(
    reactor: Any, host: str, port: int, seconds: float = 30
) -> TCP4ClientEndpoint | TCP6ClientEndpoint:
    """Connects to that IP address, of either family."""
    kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    return kind(reactor, host, port, timeout=seconds)


def notice_dead_peers(transport: Any) -> None:
    """Have the system find out within 100 s that an idle connection's other end is gone.

    While data waits to be acknowledged it takes TCP's own time, a quarter of an hour.

    Records go out at once, too: each is a whole message already.
    """
    with contextlib.suppress(AttributeError):  # not TCP: nothing to set
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        # The handle of a TLS transport is OpenSSL's; the socket is one below.
        handle = getattr(transport, "transport", transport).getHandle()
        idle_seconds = _IDLE_SECONDS[handle.fileno() % len(_IDLE_SECONDS)]
        for option, value in (("TCP_KEEPIDLE", idle_seconds), *_KEEPALIVE.items()):
            if hasattr(socket, option):
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def read_at_once(transport: Any, size: int) -> None:
    """Have a Twisted transport read up to ``size`` bytes at a time.

    It is also how much may wait to be written before the producer is paused.
    """
    if hasattr(transport, "bufferSize"):  # not every transport reads by itself
        transport.bufferSize = size


def host_of(address: Any) -> str:
    """The IP address in a Twisted address, an IPv4 one in its own form; empty if it has none."""
    host: str = getattr(address, "host", "")
    if host.startswith("::ffff:") and "." in host:
        return host.removeprefix("::ffff:")
    return host
