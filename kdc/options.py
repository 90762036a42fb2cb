"""What the command lines of both programs have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.python import usage

from kdc import __version__
from kdc.principal import check_realm

__all__ = ["Command", "absolute", "is_loopback", "realm_of", "server_endpoints", "whole_number"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Command(usage.Options):
    """What every command of ours answers to besides its own options."""

    def opt_version(self) -> None:
        """show the version, and end"""
        print(f"kdc {__version__}")
        raise SystemExit(0)


def absolute(path: str | None) -> Path | None:
    """Absolute now: a daemon changes its directory later."""
    return None if not path else Path(os.path.abspath(os.path.expanduser(path)))


def realm_of(options: Any) -> str:
    try:
        return check_realm(options["realm"])
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


def whole_number(text: str, low: int, high: int, what: str) -> int:
    """Raises `usage.UsageError` unless ``text`` is a number from ``low`` to ``high``."""
    if text.isascii() and text.isdigit() and low <= int(text) <= high:
        return int(text)
    raise usage.UsageError(f"{what} is a number from {low} to {high}, not {text[:40]!r}")


def server_endpoints(text: str) -> str:
    """A Twisted endpoint string for ``text``: itself, or a port number on loopback."""
    if ":" in text:
        return text
    return f"tcp:{whole_number(text, 0, 65535, 'a port')}:interface=127.0.0.1"


def is_loopback(endpoint: str) -> bool:
    """Whether an endpoint string can be reached from this machine only."""
    if endpoint.startswith("unix:"):
        return True
    if not endpoint.startswith(("tcp:", "tcp6:")):
        return False
    words = dict(part.partition("=")[::2] for part in endpoint.replace("\\:", "\0").split(":"))
    return words.get("interface", "").replace("\0", ":") in _LOOPBACK
