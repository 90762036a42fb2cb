"""Very many senders to one receiver at once, each from an address of its own.

    python -m bench.senders [--senders 5000] [--processes 4] [--size 1000]

Real ones: each logs in, gets a key, opens a channel, sends a file, and counts only if
the receiver has confirmed that it is on its disk; the inbox is looked through
besides.  Nobody is known to the KDC from before, and its limits and the receiver's are
those that they have unless told otherwise.
"""

from __future__ import annotations

import argparse
import collections
import json
import resource
import subprocess
import sys
import time
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from bench.channel import RECEIVER
from bench.ends import Ends
from bench.figures import Figures, Results, number
from bench.load import Settings, client_of
from bench.ours import KDC
from bench.plan import Plan
from bench.population import name_of
from bench.processes import Scratch, cpu_of, go_on, memory_of, said
from kdc.client.settings import ClientSettings
from kdc.transfer.sending import SendSettings, send
from kdc.transfer.survey import Thing

__all__ = ["SECTIONS", "SENDERS", "measure"]

_READY_SECONDS = 120.0
_END_SECONDS = 900.0
_PROCESSES, _SIZE = 4, 1000
_IN_A_MINUTE, _WAIT_SECONDS = 1000, 600.0
SENDERS = "senders"
SECTIONS = (SENDERS,)


def _address_of(number: int) -> str:
    """Another network's for each, all of them this machine's."""
    return f"127.{1 + (number >> 8)}.{number & 255}.1"


async def _send(reactor: Any, settings: Settings) -> None:
    """When a line comes: ``count`` of them at once; tell how many came through, and why not."""
    print("{}", flush=True)
    await deferToThread(sys.stdin.readline)
    begun = time.monotonic()
    told: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []

    async def one(number: int) -> None:
        client = client_of(reactor, settings, number)
        place = _address_of(number), 0
        client.endpoint = TCP4ClientEndpoint(
            reactor, "127.0.0.1", settings["port"], timeout=30, bindAddress=place
        )
        thing = Thing(f"{name_of(number)}.txt", text=b"x" * settings["size"])
        who = ClientSettings(name_of(number), "127.0.0.1", settings["port"])
        try:
            how = {"retry": True, "wait": bool(settings["wait"]), "wait_seconds": settings["wait"]}
            await send(client, SendSettings(who, (settings["to"],), (thing,), **how))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            told[f"{type(error).__name__}: {error}"[:200]] += 1
        else:
            seconds.append(time.monotonic() - begun)

    everybody = [n for n in range(settings["principals"]) if name_of(n) != settings["to"]]
    numbers = everybody[settings["first"] :: settings["every"]]
    await DeferredList([Deferred.fromCoroutine(one(number)) for number in numbers])
    print(json.dumps({"seconds": sorted(seconds), "told": told}), flush=True)


def _crowd(scratch: Scratch, settings: Settings) -> subprocess.Popen[bytes]:
    return scratch.start(
        [sys.executable, "-m", "bench.senders", "--be", json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _sent(scratch: Scratch, senders: int, processes: int, size: int, wait: float) -> Figures:
    """How many came through, how long it took, and what it cost; why not, on stderr."""
    kdc = KDC(scratch, senders + 1, everybody=True, limits={})
    try:
        return _to_one(scratch, kdc, senders, processes, size, wait)
    finally:
        kdc.stop()


def _to_one(
    scratch: Scratch, kdc: KDC, senders: int, processes: int, size: int, wait: float
) -> Figures:
    ends = Ends(scratch, kdc)
    with ends.receiving() as (receiver, inbox):
        to = ends.names[RECEIVER]
        settings = {**kdc.where(), "to": to, "size": size, "every": processes, "wait": wait}
        crowds = [_crowd(scratch, {**settings, "first": first}) for first in range(processes)]
        for crowd in crowds:
            said(crowd, _READY_SECONDS)
        before = kdc.cpu, cpu_of(receiver.pid)
        for crowd in crowds:
            go_on(crowd)
        results = [said(crowd, _END_SECONDS) for crowd in crowds]
        cpu = kdc.cpu - before[0], cpu_of(receiver.pid) - before[1]
        paths = list(inbox.glob("*.txt"))
        stored = sum(path.stat().st_size == size for path in paths)
        memory = memory_of(kdc.pid, "VmHWM"), memory_of(receiver.pid, "VmHWM")
    for path in paths:
        path.unlink()
    told = sum((collections.Counter(result["told"]) for result in results), collections.Counter())
    for line, count in told.most_common():
        print(f"{count:,} times: {line}", file=sys.stderr)
    seconds = sorted(each for result in results for each in result["seconds"])
    half = {"s for half": seconds[len(seconds) // 2], "s": seconds[-1]} if seconds else {}
    return {
        "asked": senders,
        "confirmed": len(seconds),
        "stored": stored,
        **half,
        "KDC CPU ms": cpu[0] / senders * 1e3,
        "receiver CPU ms": cpu[1] / senders * 1e3,
        "KDC MiB": memory[0],
        "receiver MiB": memory[1],
    }


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for senders in plan.senders:
        # More than this machine can serve in the minute that they have patience are told to wait.
        wait = _WAIT_SECONDS if senders > _IN_A_MINUTE else 0.0
        row = f"{senders:,} senders{f', --wait {wait:.0f}' if wait else ''}"
        results.measure(SENDERS, row, partial(_sent, scratch, senders, _PROCESSES, _SIZE, wait))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.senders", description=__doc__)
    parser.add_argument("--senders", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=_PROCESSES)
    parser.add_argument("--size", type=int, default=_SIZE)
    parser.add_argument("--wait", type=float, default=0, help="as of `send`; 0: a minute")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.be:
        react(lambda reactor: Deferred.fromCoroutine(_send(reactor, json.loads(options.be))))
    with Scratch() as scratch:
        found = _sent(scratch, options.senders, options.processes, options.size, options.wait)
    for name, value in found.items():
        print(f"{name}: {number(value)}")
    if (found["confirmed"], found["stored"]) != (options.senders, options.senders):
        sys.exit("not all of them came through")


if __name__ == "__main__":
    main()
