"""Requests and connections by the thousand: what a KDC holds stays flat.  ``make soak``.

``python -m tests.hostile.soak --scale 1`` is a million requests and ten thousand
connections, of which every other one is cut by its client; ``--scale 0.01`` a
hundredth of each.  After a tenth of them, which warms it up, the KDC's memory,
descriptors and objects are counted; at the end there may be no more of them, of
no class, than noise.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater, react

from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from tests.support.core import keys_of
from tests.support.processes import UNLIMITED, RunningKDC, Scratch

REQUESTS, CONNECTIONS = 1_000_000, 10_000
# So many newcomers may there be from one address.
AT_ONCE = 10
# Python's allocator gives arenas back when it likes, and a connection may not be gone yet.
MOST_MIB, MOST_DESCRIPTORS, MOST_OBJECTS = 2.0, 4, 200
_COUNTED = "objects.json"
# The KDC, and one thing more: at SIGUSR1 it writes down how many objects it has of each class.
_KDC = (sys.executable, "-c", "from tests.hostile.soak import counted_kdc; counted_kdc()")


@attrs.frozen
class Holding:
    """What a process has: MiB of memory, open descriptors, objects of each class."""

    mebibytes: float
    descriptors: int
    objects: Counter[str]

    def __str__(self) -> str:
        total = self.objects.total()
        return f"{self.mebibytes:8.1f} MiB  {self.descriptors:4} descriptors  {total:8,} objects"

    def grown(self, before: Holding) -> list[str]:
        """What there is more of than noise."""
        found = []
        if self.mebibytes - before.mebibytes > MOST_MIB:
            found.append(f"{self.mebibytes - before.mebibytes:.1f} MiB")
        if self.descriptors - before.descriptors > MOST_DESCRIPTORS:
            found.append(f"{self.descriptors - before.descriptors} descriptors")
        more = self.objects - before.objects
        return found + [f"{n} {name}" for name, n in more.most_common() if n > MOST_OBJECTS]


def counted_kdc() -> None:
    """Be a KDC that can be asked for its objects."""
    from kdc.commands.main import kdc_main

    def count(*_: object) -> None:
        gc.collect()
        classes = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
        new = Path(f"{_COUNTED}.new")
        new.write_text(json.dumps(classes), encoding="utf-8")
        new.replace(_COUNTED)

    signal.signal(signal.SIGUSR1, count)
    kdc_main()


async def held_by(reactor: Any, kdc: RunningKDC, directory: Path) -> Holding:
    """Count what the KDC has, which works in ``directory``."""
    pid, counted = kdc.program.pid, directory / _COUNTED
    kdc.program.signal(signal.SIGUSR1)
    while not counted.exists():
        if kdc.program.process.poll() is not None:
            raise SystemExit("the KDC has ended")
        await deferLater(reactor, 0.05)
    objects = Counter(json.loads(counted.read_text(encoding="utf-8")))
    counted.unlink()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    mebibytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Holding(mebibytes, len(os.listdir(f"/proc/{pid}/fd")), objects)


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


async def _connect(reactor: Any, kdc: RunningKDC, rude: bool) -> None:
    client = _client(reactor, kdc, "alice")
    link = await client.link()
    if rude:
        cast(Any, link.transport).abortConnection()
    else:
        client.close()
    await link.lost


async def _live(reactor: Any, kdc: RunningKDC, requests: int, connections: int) -> None:
    alice = _client(reactor, kdc, "alice")
    link = await alice.link()
    for _ in range(requests // AT_ONCE):
        await _together([link.request_key("bob") for _ in range(AT_ONCE)])
    for _ in range(connections // AT_ONCE):
        await _together([_connect(reactor, kdc, bool(n % 2)) for n in range(AT_ONCE)])
    alice.close()
    await link.lost


async def _soak(reactor: Any, kdc: RunningKDC, scale: float, directory: Path) -> bool:
    for name in ("alice", "bob"):
        await _client(reactor, kdc, name).register("", 0)
    receiving = await _client(reactor, kdc, "bob").link()
    await receiving.receive_under(bytes([9]) + bytes(31), "127.0.0.1", 9)
    requests, connections = int(REQUESTS * scale), int(CONNECTIONS * scale)
    await _live(reactor, kdc, requests // 10, connections // 10)
    before = await held_by(reactor, kdc, directory)
    await _live(reactor, kdc, requests, connections)
    after = await held_by(reactor, kdc, directory)
    receiving.close()
    await receiving.lost
    print(f"{requests:,} requests, {connections:,} connections")
    print(f"before  {before}\nafter   {after}")
    for what in after.grown(before):
        print(f"GROWN   by {what}")
    return not after.grown(before)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.soak")
    parser.add_argument("--scale", type=float, default=1.0, help="of the whole of it")
    options = parser.parse_args()
    flat: list[bool] = []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Scratch(Path(directory))
        limits = ("--limit", "keys-per-second=1000000", "--limit", "keys-burst=1000000")
        try:
            argv = (*_KDC, "-p", "0", "-o", "out.txt", *UNLIMITED, *limits)
            kdc = RunningKDC(scratch.start(*argv))

            async def soak(reactor: Any) -> None:
                flat.append(await _soak(reactor, kdc, options.scale, Path(directory)))

            react(lambda reactor: Deferred.fromCoroutine(soak(reactor)))
        except SystemExit as end:
            if end.code:
                return 1
        finally:
            scratch.end()
    return 0 if flat == [True] else 1


if __name__ == "__main__":
    sys.exit(main())
