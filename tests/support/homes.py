"""Networks around this machine's one: an open host, and homes behind routers that let nothing in.

Each host, and each router, is a network namespace.  A home's router has one address, which stands
for all that is behind it, and throws away what nobody there has asked for; the open host leads
from one to the other, as the Internet does.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable

from twisted.trial.unittest import SkipTest

__all__ = ["OPEN", "Homes"]

OPEN = "open"
_PROGRAMS = {"ip": "iproute2", "ss": "iproute2", "nft": "nftables", "sysctl": "procps"}
# What a system says that has no such things, or not for us.
_LACKING = (
    *("not permitted", "denied", "not supported", "Unknown device type", "Read-only"),
    *("cache initialization failed", "Protocol not available"),
)
# {n}: the home's number; {port}: what the open host alone may connect to, 0 for nothing.
_ROUTER = """
table ip home {{
  chain leaving {{
    type nat hook postrouting priority srcnat; oifname "out" masquerade;
  }}
  chain coming {{
    type nat hook prerouting priority dstnat;
    iifname "out" ip saddr 10.213.{n}.1 tcp dport {port} dnat to 192.168.{n}.2;
  }}
  chain through {{
    type filter hook forward priority filter; policy drop;
    iifname "in" accept;
    ct state established,related accept;
    ct status dnat accept;
  }}
  chain router {{
    type filter hook input priority filter; policy drop;
    iifname {{ "in", "lo" }} accept;
    ct state established,related accept;
  }}
}}
"""


class Homes:
    """Raises `SkipTest`, which says what is missing, where there can be none."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("networks of our own need root")
        for program, package in _PROGRAMS.items():
            if shutil.which(program) is None:
                raise SkipTest(f"{program} is not installed (Debian: {package})")
        self._made: list[str] = []
        # Of its own, whoever else runs these tests.
        self._stem = f"kdc{secrets.token_hex(4)}"
        self._numbers: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        try:
            self._space(OPEN)
            self._run(OPEN, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        except BaseException:
            self.end()
            raise

    def add(self, name: str, port: int = 0) -> str:
        """A home with the host ``name``; return the address of the open host as seen from there.

        ``port``: what its router lets through to it, from the open host and nobody else.
        """
        number = self._numbers[name] = len(self._numbers) + 1
        router = f"{name}-router"
        self._space(name)
        self._space(router)
        self._cable(router, "in", f"192.168.{number}.1", name, "eth", f"192.168.{number}.2")
        self._run(name, "ip", "route", "add", "default", "via", f"192.168.{number}.1")
        self._cable(router, "out", "", OPEN, f"home{number}", f"10.213.{number}.1")
        self.move(name)
        self._run(router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        self._run(router, "nft", "-f", "-", given=_ROUTER.format(n=number, port=port))
        return f"10.213.{number}.1"

    def inside(self, name: str, argv: Iterable[str]) -> tuple[str, ...]:
        """The command that runs ``argv`` on the host ``name``."""
        return ("ip", "netns", "exec", f"{self._stem}-{name}", *argv)

    # what happens to homes

    def move(self, name: str) -> None:
        """The link goes down, and its router comes back with another address.

        What was connected finds out when it says something, and whoever only listens does not.
        """
        number, router = self._numbers[name], f"{name}-router"
        last = self._addresses[name] = self._addresses.get(name, 1) + 1
        self._run(router, "ip", "link", "set", "out", "down")
        self._run(router, "ip", "addr", "flush", "dev", "out")
        self._run(router, "ip", "addr", "add", f"10.213.{number}.{last}/24", "dev", "out")
        self._up(router)

    def cut(self, name: str, port: int) -> None:
        """The link goes down, and every connection to ``port`` breaks, for both of its ends."""
        self._run(name, "ss", "-K", "dport", "=", str(port))
        router = f"{name}-router"
        self._run(router, "ip", "link", "set", "out", "down")
        self._up(router)

    def end(self) -> None:
        for space in reversed(self._made):
            subprocess.run(("ip", "netns", "del", space), check=False, capture_output=True)

    # of what they are made

    def _space(self, name: str) -> None:
        space = f"{self._stem}-{name}"
        _asked("ip", "netns", "add", space)
        self._made.append(space)
        self._run(name, "ip", "link", "set", "lo", "up")

    def _cable(self, one: str, end: str, address: str, two: str, far: str, there: str) -> None:
        """Connect two of them; an end without an address stays down."""
        spaces = [f"{self._stem}-{name}" for name in (one, two)]
        _asked(
            *("ip", "link", "add", end, "netns", spaces[0], "type", "veth"),
            *("peer", "name", far, "netns", spaces[1]),
        )
        for name, interface, its in ((one, end, address), (two, far, there)):
            if its:
                self._run(name, "ip", "addr", "add", f"{its}/24", "dev", interface)
                self._run(name, "ip", "link", "set", interface, "up")

    def _up(self, router: str) -> None:
        number = self._numbers[router.removesuffix("-router")]
        self._run(router, "ip", "link", "set", "out", "up")
        # With the link its routes have gone.
        self._run(router, "ip", "route", "replace", "default", "via", f"10.213.{number}.1")

    def _run(self, name: str, *argv: str, given: str = "") -> None:
        _asked(*self.inside(name, argv), given=given)


def _asked(*argv: str, given: str = "") -> None:
    done = subprocess.run(argv, check=False, input=given, capture_output=True, text=True)
    if done.returncode == 0:
        return
    if any(lacking in done.stderr for lacking in _LACKING):
        raise SkipTest(f"no networks of our own here: {done.stderr.strip()}")
    raise AssertionError(f"{' '.join(argv)}: {done.stderr}")
