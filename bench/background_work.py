"""What a key request waits for the KDC while it does long work on its store.

    python -m bench.background_work [--principals N] [--rate 200]

A client asks for a key so many times a second, at set times whether the answer before
has come or not, of a KDC that has one processor.  Meanwhile, one after the other, everything
runs that goes through all principals: each of ``kdc admin``'s commands, a question to the
directory, registrations that make the store write itself anew; and somebody looks at the
status page.  For each: how long it took, and what the keys waited, from when they were to be
asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react
from twisted.internet.threads import deferToThread

from bench.channel import SENDER
from bench.ends import Ends
from bench.exchanges import label
from bench.figures import Figures, Results, table
from bench.load import client_of
from bench.ours import KDC, load
from bench.plan import Plan
from bench.population import able, name_of
from bench.processes import Failed, Scratch, free_port, go_on, run, said
from bench.rounds import Run, Wanted
from kdc.net.background import background

__all__ = ["BACKGROUND", "HEADS", "SECTIONS", "measure"]

_PATIENCE_SECONDS = 300.0
_QUIET_SECONDS = 5.0
_NEW = 20_000
_RATE = 200  # keys asked for a second
BACKGROUND = "background"
SECTIONS = (BACKGROUND,)
HEADS = {
    "s": "took, s",
    "KDC CPU s": "KDC's CPU, s",
    "keys": "keys meanwhile",
    "median ms": "median, ms",
    "p99 ms": "99 %, ms",
    "worst ms": "worst, ms",
}


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


def _works(kdc: KDC) -> Iterator[tuple[str, Callable[[], object]]]:
    """Everything that goes through all principals, and a quiet while to compare with."""
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

    more = {"first": 1 << 30, "count": 2000, "concurrency": 16, "open": True}
    yield "nothing", lambda: time.sleep(_QUIET_SECONDS)
    yield "stats", admin("stats")
    yield "list", admin("list")
    yield "dump", admin("dump")
    yield "check", admin("check")
    yield "backup", admin("backup", kdc.scratch.room("backup"))
    yield "rotate-master-key", admin("rotate-master-key")
    yield f"import {_NEW:,}", loaded
    yield "register 2,000", lambda: load("register", kdc.where() | more)
    yield "everybody, of the directory", lambda: _everybody(kdc)
    yield "the status page and its figures", lambda: _status(kdc)


def _everybody(kdc: KDC) -> None:
    """``kdcclient who`` without a name: all that there are, and who can be reached."""
    run(Ends(kdc.scratch, kdc).command(SENDER, "who"), stdout=subprocess.DEVNULL)


def _status(kdc: KDC) -> None:
    """Whoever looks at the page and at the figures, ten times a second."""
    found = re.search(r"status at (http://\S+)/", kdc.said)
    if found is None:
        raise Failed("the KDC does not say where its status page is")
    end = time.monotonic() + _QUIET_SECONDS
    while time.monotonic() < end:
        for path in ("/", "/metrics", "/readyz"):
            with urllib.request.urlopen(found[1] + path) as answer:  # noqa: S310 - our own
                answer.read()
        time.sleep(0.1)


@attrs.define
class _Watched:
    """A KDC on a processor of its own, and who asks it for keys all the while."""

    kdc: KDC
    asker: subprocess.Popen[bytes]

    def during(self, work: Callable[[], object]) -> Figures:
        before, begun = self.kdc.cpu, time.monotonic()
        go_on(self.asker)
        try:
            work()
        finally:
            seconds, cpu = time.monotonic() - begun, self.kdc.cpu - before
            go_on(self.asker)
            waits = said(self.asker, _PATIENCE_SECONDS)["waits"]
        return {
            "s": seconds,
            "KDC CPU s": cpu,
            "keys": len(waits),
            "median ms": waits[len(waits) // 2] * 1000,
            "p99 ms": waits[len(waits) * 99 // 100] * 1000,
            "worst ms": waits[-1] * 1000,
        }


@contextlib.contextmanager
def _watched(scratch: Scratch, principals: int, rate: int) -> Iterator[_Watched]:
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})  # what is started has it from us
    try:
        options = [f"--directory=tcp:{free_port()}", "--status=0"]
        kdc = KDC(scratch, principals, options=options)
    finally:
        os.sched_setaffinity(0, everywhere)
    try:
        where = {**kdc.where(), "rate": rate}
        words = [sys.executable, "-m", "bench.background_work", "--be", json.dumps(where)]
        with scratch.running(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asker:
            said(asker, _PATIENCE_SECONDS)
            yield _Watched(kdc, asker)
    finally:
        kdc.stop()


def _all(scratch: Scratch, principals: int, rate: int, results: Results) -> None:
    with _watched(scratch, principals, rate) as watched:
        for name, work in _works(watched.kdc):
            call = partial(watched.during, work)
            results.measure(BACKGROUND, label(name, principals), call)


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    for principals in plan.background:
        _all(scratch, principals, _RATE, results)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.background_work", description=__doc__)
    parser.add_argument("--principals", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=_RATE, help="keys asked for a second")
    parser.add_argument("--only", default="", help="works whose name has this in it")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        react(_ask, [json.loads(options.be)])
    with Scratch() as scratch:
        wanted = Wanted((f"{BACKGROUND}/{options.only}",))
        show = partial(print, file=sys.stderr)
        results = Run(wanted=wanted, show=show)
        _all(scratch, options.principals, options.rate, results)
    rows = [
        (row, *(results.text(BACKGROUND, row, name) for name in HEADS))
        for row in results.rows(BACKGROUND)
    ]
    print(table(("", *HEADS.values()), rows))


if __name__ == "__main__":
    main()
