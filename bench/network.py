"""Machines of their own, as network namespaces around a bridge, and cuts between them.

All of it is inside namespaces that are this process's own, so nothing outlives it, whatever
it dies of.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from bench.processes import Failed

__all__ = ["ALONE", "Network", "isolate"]

_PROGRAMS = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "mount": "mount"}
_HERE = "10.214.0.254"
# What follows on the command line of a process that has its own namespaces.
_INSIDE = "--inside"
ALONE = "the machines are this one alone"
_CUT = """
table inet cut {{
  chain coming {{ type filter hook input priority 0; iif lo accept; ip saddr {{ {others} }} drop; }}
  chain going {{ type filter hook output priority 0; oif lo accept; ip daddr {{ {others} }} drop; }}
}}
"""


def isolate(module: str) -> str:
    """Go on in namespaces of our own, as the same module anew; or return why there are none."""
    if _INSIDE in sys.argv:
        sys.argv.remove(_INSIDE)
        return ""
    apart, why = _apart()
    if why:
        return why
    ours = [sys.executable, "-m", module, _INSIDE, *sys.argv[1:]]
    return str(os.execvp(apart[0], [*apart, *ours]))  # it does not return


def _apart() -> tuple[list[str], str]:
    """The command that gives namespaces, and why there can be none."""
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            return [], f"{program} is not installed (Debian: {package})"
    # Without root, too, where the system lets people have namespaces.
    apart = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    # A bridge, cables and rules: whether they can be had is seen by having them.
    probe = (
        "mount -t tmpfs none /run && ip netns add a && ip link add name bridge type bridge"
        " && nft list tables"
    )
    tried = subprocess.run([*apart, "sh", "-c", probe], capture_output=True, text=True, check=False)
    if tried.returncode:
        return [], f"no networks of our own here: {tried.stderr.strip()[-200:]}"
    return apart, ""


class Network:
    """``count`` machines, numbered from 0, and this process; ``apart``: each has its own stack.

    Where they are not, all have the same address, and nothing can be cut.
    """

    def __init__(self, count: int, apart: bool) -> None:
        self.apart = apart
        self.addresses = [f"10.214.0.{n + 1}" if apart else "127.0.0.1" for n in range(count)]
        self.here = _HERE if apart else "127.0.0.1"
        if not apart:
            return
        _run("mount", "-t", "tmpfs", "none", "/run")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "name", "bridge", "type", "bridge")
        _run("ip", "addr", "add", f"{_HERE}/24", "dev", "bridge")
        _run("ip", "link", "set", "bridge", "up")
        for number, address in enumerate(self.addresses):
            self._add(number, address)

    def _add(self, number: int, address: str) -> None:
        space, port = f"machine{number}", f"port{number}"
        _run("ip", "netns", "add", space)
        peer = ("peer", "name", "eth", "netns", space)
        _run("ip", "link", "add", "name", port, "type", "veth", *peer)
        _run("ip", "link", "set", port, "master", "bridge", "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{address}/24", "dev", "eth"),
            ("link", "set", "eth", "up"),
        ):
            _run("ip", "-n", space, *words)

    def inside(self, number: int, argv: Sequence[object]) -> list[str]:
        """The command that runs ``argv`` on that machine."""
        words = list(map(str, argv))
        return ["ip", "netns", "exec", f"machine{number}", *words] if self.apart else words

    def cut(self, number: int) -> None:
        """Its packets to the other machines are lost, and theirs; clients still reach it."""
        others = [a for n, a in enumerate(self.addresses) if n != number]
        rules = _CUT.format(others=", ".join(others))
        _run(*self.inside(number, ["nft", "-f", "-"]), given=rules)

    def mend(self, number: int) -> None:
        _run(*self.inside(number, ["nft", "delete", "table", "inet", "cut"]))


def _run(*argv: str, given: str = "") -> None:
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip()}")
