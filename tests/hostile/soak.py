"""Requests and connections by the thousand: what a KDC holds stays flat.  ``make soak``.

``python -m tests.hostile.soak --scale 1`` is a million requests and ten thousand
connections; ``--scale 0.01`` a hundredth of each.  After a tenth of them, which
warms it up, the KDC's memory and descriptors are counted; at the end there may
be no more of them than noise.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import react

from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from tests.support.core import keys_of
from tests.support.processes import KDC, UNLIMITED, RunningKDC, Scratch

REQUESTS, CONNECTIONS = 1_000_000, 10_000
# So many newcomers may there be from one address.
AT_ONCE = 10
# Python's allocator gives arenas back when it likes.
MOST_MIB, MOST_DESCRIPTORS = 8.0, 4


def held_by(pid: int) -> tuple[float, int]:
    """Return (MiB of memory, open descriptors) of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir(f"/proc/{pid}/fd"))


def _client(reactor: Any, kdc: RunningKDC, name: str) -> KDCClient:
    return KDCClient(
        reactor=reactor,
        endpoint=TCP4ClientEndpoint(reactor, kdc.host, kdc.port),
        tls=ClientTLS(Pin(kdc.fingerprint), kdc.host),
        keys=keys_of(name),
        where="the KDC",
        random=os.urandom,
    )


async def _together(work: list[Coroutine[Any, Any, object]]) -> None:
    await gatherResults([Deferred.fromCoroutine(each) for each in work], consumeErrors=True)


async def _connect(reactor: Any, kdc: RunningKDC) -> None:
    client = _client(reactor, kdc, "alice")
    link = await client.link()
    client.close()
    await link.lost


async def _live(reactor: Any, kdc: RunningKDC, requests: int, connections: int) -> None:
    alice = _client(reactor, kdc, "alice")
    link = await alice.link()
    for _ in range(requests // AT_ONCE):
        await _together([link.request_key("bob") for _ in range(AT_ONCE)])
    for _ in range(connections // AT_ONCE):
        await _together([_connect(reactor, kdc) for _ in range(AT_ONCE)])
    alice.close()
    await link.lost


async def _soak(reactor: Any, kdc: RunningKDC, scale: float) -> bool:
    for name in ("alice", "bob"):
        await _client(reactor, kdc, name).register("", 0)
    receiving = await _client(reactor, kdc, "bob").link()
    await receiving.receive_under(bytes([9]) + bytes(31), "127.0.0.1", 9)
    requests, connections = int(REQUESTS * scale), int(CONNECTIONS * scale)
    await _live(reactor, kdc, requests // 10, connections // 10)
    before = held_by(kdc.program.pid)
    await _live(reactor, kdc, requests, connections)
    after = held_by(kdc.program.pid)
    receiving.close()
    await receiving.lost
    print(f"{requests:,} requests, {connections:,} connections")
    for when, (mebibytes, descriptors) in (("before", before), ("after", after)):
        print(f"{when:6}  {mebibytes:8.1f} MiB  {descriptors:4} descriptors")
    return after[0] - before[0] <= MOST_MIB and after[1] - before[1] <= MOST_DESCRIPTORS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.soak")
    parser.add_argument("--scale", type=float, default=1.0, help="of the whole of it")
    options = parser.parse_args()
    flat: list[bool] = []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Scratch(Path(directory))
        limits = ("--limit", "keys-per-second=1000000", "--limit", "keys-burst=1000000")
        try:
            argv = (*KDC, "-p", "0", "-o", "out.txt", *UNLIMITED, *limits)
            kdc = RunningKDC(scratch.start(*argv))

            async def soak(reactor: Any) -> None:
                flat.append(await _soak(reactor, kdc, options.scale))

            react(lambda reactor: Deferred.fromCoroutine(soak(reactor)))
        except SystemExit as end:
            if end.code:
                return 1
        finally:
            scratch.end()
    return 0 if flat == [True] else 1


if __name__ == "__main__":
    sys.exit(main())
