"""What people type: numbers, and where something is."""

from __future__ import annotations

import ipaddress
import re

from kdc.errors import ConfigurationError
from kdc.hostile_text import shown
from kdc.protocol.names import plain_address

__all__ = ["advertised", "host_and_port", "whole_number"]

# What neither the resolver nor TLS could take for a host.
_NO_HOST = re.compile(r"[\s/@:?#\[\]\\\0]")


def whole_number(text: str, low: int, high: int, what: str) -> int:
    """Raises `ValueError` unless ``text`` is a number from ``low`` to ``high``."""
    # Python refuses to read thousands of digits, and none of ours has more than ten.
    if text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high:
        return int(text)
    raise ValueError(f"{what} is a number from {low} to {high}, not {shown(text)}")


def host_and_port(typed: str, lowest: int = 1) -> tuple[str, int | None]:
    """Read HOST, HOST:PORT, [IPV6]:PORT, [IPV6] or an IPv6 address; raises `ValueError`."""
    if _is_ipv6(typed):
        return typed, None
    host, colon, port = typed.rpartition(":")
    if typed.endswith("]") or not colon:
        host, colon, port = typed, "", ""
    if host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1]):
        host = host[1:-1]
    elif not _is_host(host):
        raise ValueError(f"not a host, HOST:PORT or [IPV6]:PORT: {shown(typed)}")
    if colon and not port.isdigit():
        raise ValueError(f"not a host, HOST:PORT or [IPV6]:PORT: {shown(typed)}")
    return host, whole_number(port, lowest, 65535, "a port") if colon else None


def advertised(typed: str | None) -> str:
    """The address that peers are told: an IP address or nothing; raises `ConfigurationError`."""
    address = typed or ""
    try:
        return plain_address(address[1:-1] if address[:1] + address[-1:] == "[]" else address)
    except ValueError:
        raise ConfigurationError(
            f"not an IP address, which is what peers are told: {shown(typed or '')}"
        ) from None


def _is_host(text: str) -> bool:
    try:
        return text[:1] not in ("", "-") and not _NO_HOST.search(text) and bool(text.encode("idna"))
    except UnicodeError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
