"""Very many receivers: memory for each, issuing meanwhile, and all of them coming back."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from functools import partial

from bench.figures import Figures, Results
from bench.ours import KDC, load
from bench.plan import Plan
from bench.processes import Scratch, cpu_of, memory_of, said

__all__ = ["SCALE", "SECTIONS", "measure"]

SCALE = "scale"
SECTIONS = (SCALE,)
_PER_PROCESS = 2500
_ASKING = 50
_WAIT_SECONDS = 240.0


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for receivers in plan.receivers:
        row = f"{receivers:,} receivers"
        if receivers + 500 > hard:
            results.without(SCALE, row, f"only {hard:,} descriptors are allowed here")
            continue
        results.measure(SCALE, row, partial(_measure, scratch, plan, receivers))


def _measure(scratch: Scratch, plan: Plan, receivers: int) -> Figures:
    kdc = KDC(scratch, receivers + 256, everybody=True)
    crowds = []
    try:
        empty = memory_of(kdc.pid)
        begun, cpu = time.monotonic(), kdc.cpu
        for first in range(0, receivers, _PER_PROCESS):
            count = min(_PER_PROCESS, receivers - first)
            crowds.append(_crowd(scratch, kdc, first, count))
        for crowd in crowds:
            said(crowd, _WAIT_SECONDS)
        figures = {
            "connected/s": receivers / (time.monotonic() - begun),
            "CPU us to connect": (kdc.cpu - cpu) / receivers * 1e6,
            "KiB each": (memory_of(kdc.pid) - empty) * 1024 / receivers,
        }
        others = list(range(receivers, receivers + _ASKING))
        each = max(20, plan.each(50, rounds=1) // _ASKING)
        how = {"who": others, "connections": _ASKING, "depth": 1, "each": each}
        issued = load("issue", kdc.where() | how)
        figures |= {"issue us": issued["us"], "median ms": issued["median_ms"]}
        figures |= {"p99 ms": issued["p99_ms"]}
        return figures | _again(kdc, crowds)
    finally:
        for crowd in crowds:
            scratch.stop(crowd)
        kdc.stop()


def _again(kdc: KDC, crowds: list[subprocess.Popen[bytes]]) -> Figures:
    """Start the KDC again; all of them come back by themselves."""
    kdc.stop()
    before = sum(cpu_of(crowd.pid) for crowd in crowds)
    kdc.start()
    begun, cpu = time.monotonic(), kdc.cpu
    most, back = [], []
    for crowd in crowds:
        news = said(crowd, _WAIT_SECONDS)
        while "back" not in news:
            most.append(news["most"])
            news = said(crowd, _WAIT_SECONDS)
        back.append(news["back"])
    return {
        "s for most": max(most) - begun,
        "s to come back": max(back) - begun,
        "KDC CPU s": kdc.cpu - cpu,
        "their CPU s": sum(cpu_of(crowd.pid) for crowd in crowds) - before,
    }


def _crowd(scratch: Scratch, kdc: KDC, first: int, count: int) -> subprocess.Popen[bytes]:
    settings = {**kdc.where(), "first": first, "count": count}
    argv = [sys.executable, "-m", "bench.crowd", json.dumps(settings)]
    return scratch.start(argv, stdout=subprocess.PIPE)
