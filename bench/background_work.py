"""What a key request waits for the KDC while it does long work on its store.

    python -m bench.background_work [--principals N] [--rate 200]

A client asks for a key so many times a second, at set times whether the answer before
has come or not.  Meanwhile, one after the other, everything runs that goes through all
principals: each of ``kdc admin``'s commands, a question to the directory, registrations
that make the store write itself anew.  For each: how long it took, and what the keys
waited, from when they were to be asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react
from twisted.internet.threads import deferToThread

from bench.figures import table
from bench.load import client_of
from bench.ours import KDC, load
from bench.population import able, name_of
from bench.processes import Scratch, free_port, run, said
from kdc.net.background import background

_PATIENCE_SECONDS = 300.0
_QUIET_SECONDS = 5.0
_NEW = 20_000


def _ask(reactor: Any, where: dict[str, Any]) -> Deferred[None]:
    return Deferred.fromCoroutine(_asking(reactor, where))


async def _asking(reactor: Any, where: dict[str, Any]) -> None:
    """Between two lines of stdin: ask, and tell what each answer took."""
    names = able(where["principals"])
    bob = await client_of(reactor, where, names[0]).login()
    await bob.receive_under(os.urandom(32), "", 1)
    alice = await client_of(reactor, where, names[1]).login()
    interval = 1 / where["rate"]
    print("{}", flush=True)
    while await deferToThread(sys.stdin.readline):
        waits: list[float] = []
        begun, count = time.monotonic(), 0

        async def one(due: float, waits: list[float] = waits) -> None:
            await alice.request_key(name_of(names[0]))
            waits.append(time.monotonic() - due)

        def due_ones() -> None:
            nonlocal count
            while (due := begun + count * interval) <= time.monotonic():  # noqa: B023 - at once
                count += 1
                background(one(due), "asking for a key")

        loop = LoopingCall(due_ones)
        loop.clock = reactor
        running = loop.start(interval)
        await deferToThread(sys.stdin.readline)
        loop.stop()
        await running
        while len(waits) < count:
            await alice.request_key(name_of(names[0]))  # behind all others
        print(json.dumps({"waits": sorted(waits)}), flush=True)


def _works(kdc: KDC, directory_key: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    program = Path(sys.executable).parent / "kdc"
    room = kdc.room

    def admin(*words: str | Path) -> Callable[[], object]:
        return lambda: run(
            [program, "admin", *words, "--file", room / "pwd.txt"], stdout=subprocess.DEVNULL
        )

    def loaded() -> object:
        lines = [f":new{n:08d}:10.0.0.1:1:0:\n" for n in range(_NEW)]
        (room / "new.txt").write_text("".join(lines))
        return admin("import", room / "new.txt")()

    yield "nothing", lambda: time.sleep(_QUIET_SECONDS)
    yield "stats", admin("stats")
    yield "list", admin("list")
    yield "dump", admin("dump")
    yield "check", admin("check")
    yield "backup", admin("backup", kdc.scratch.room("backup"))
    yield "rotate-master-key", admin("rotate-master-key")
    yield f"import {_NEW:,}", loaded
    yield (
        "register 2,000",
        lambda: load(
            "register",
            {**kdc.where(), "first": 1 << 30, "count": 2000, "concurrency": 16, "open": 1},
        ),
    )


def _report(principals: int, rate: int, only: str) -> None:
    rows = []
    with Scratch() as scratch:
        kdc = KDC(scratch, principals, options=[f"--directory=tcp:{free_port()}"])
        where = {**kdc.where(), "rate": rate}
        words = [sys.executable, "-m", "bench.background_work", "--be", json.dumps(where)]
        with scratch.running(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asker:
            said(asker, _PATIENCE_SECONDS)
            assert asker.stdin is not None
            for name, work in _works(kdc, scratch.directory / "who.key"):
                if only not in name:
                    continue
                asker.stdin.write(b"\n")
                cpu, begun = kdc.cpu, time.monotonic()
                work()
                seconds, cpu = time.monotonic() - begun, kdc.cpu - cpu
                asker.stdin.write(b"\n")
                waits = said(asker, _PATIENCE_SECONDS)["waits"]
                rows.append([name, *_shown(seconds, cpu, waits)])
                print(rows[-1], file=sys.stderr)
    head = ["work", "took s", "KDC CPU s", "keys", "median ms", "p99 ms", "worst ms"]
    print(table(head, rows))


def _shown(seconds: float, cpu: float, waits: list[float]) -> list[str]:
    at = [waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1]]
    return [f"{seconds:.1f}", f"{cpu:.1f}", str(len(waits)), *(f"{1000 * each:.1f}" for each in at)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.background_work", description=__doc__)
    parser.add_argument("--principals", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=200, help="keys asked for a second")
    parser.add_argument("--only", default="", help="works whose name has this in it")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        react(_ask, [json.loads(options.be)])
    _report(options.principals, options.rate, options.only)


if __name__ == "__main__":
    main()
