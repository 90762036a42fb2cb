"""What systemd is told of a service: sd_notify(3), which is a datagram to a socket."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Any

from kdc.net.waiting import Deadline

__all__ = ["Notify"]


class Notify:
    """``watchdog_seconds``: so often at least it has to be told that the reactor turns."""

    def __init__(self, address: str, clock: Any, watchdog_seconds: float | None = None) -> None:
        # What begins with @ is a name in the abstract space.
        self._address = b"\0" + address[1:].encode() if address[:1] == "@" else address
        self._watchdog_seconds = watchdog_seconds
        self._next = Deadline(clock)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str], clock: Any) -> Notify | None:
        """Return what systemd has asked for, if it has; nobody we start is to speak for us."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        watched = microseconds.isdecimal() and process in ("", str(os.getpid()))
        seconds = int(microseconds) / 1e6 if watched else 0
        return cls(address, clock, seconds or None)

    def ready(self, status: str = "") -> None:
        """The service can be used, at first or again."""
        self._tell("READY=1", f"STATUS={status}")
        if self._watchdog_seconds is not None and not self._next.running:
            self._pat()

    def reloading(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        self._next.end()
        self._tell("STOPPING=1")

    def _pat(self) -> None:
        self._tell("WATCHDOG=1")
        if self._watchdog_seconds is not None:
            self._next.within(self._watchdog_seconds / 2, self._pat)

    def _tell(self, *lines: str) -> None:
        # Nobody may be there, or somebody who does not read: no reason not to serve.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
        ):
            sender.sendto("\n".join(lines).encode(), self._address)
