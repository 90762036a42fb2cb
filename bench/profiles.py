"""Where the time goes: py-spy looks at the servers while they work, and the samples are grouped."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from bench.figures import Results
from bench.ours import KDC, load
from bench.plan import Plan
from bench.processes import Failed, Scratch, free_port

__all__ = ["PROFILE", "measure"]

PROFILE = "profile"
# The innermost frame that is of one of these says what a sample was spent on.
_KINDS = (
    ("OpenSSL/", "TLS (pyOpenSSL)"),
    ("twisted/protocols/", "TLS (Twisted's part)"),
    ("cryptography/", "cryptography"),
    ("twisted/", "Twisted: reactor, sockets, system calls"),
    ("kdc/noise", "sealing and opening"),
    ("kdc/crypto", "sealing, opening, verifying"),
    ("kdc/tickets", "sealing, opening, verifying"),
    ("kdc/codec", "encoding and decoding"),
    ("kdc/messages", "encoding and decoding"),
    ("kdc/records", "records"),
    ("kdc/channel", "the channel"),
    ("kdc/auditlog", "the activity log"),
    ("kdc/issuer", "deciding"),
    ("kdc/server", "the connection"),
    ("kdc/store", "the store"),
)
_WAITING = ("doPoll (twisted/internet/epollreactor.py:227)", "wait (threading.py")


def _kind_of(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        for part, kind in _KINDS:
            if part in frame:
                return kind
    return "Python and the rest"


def _shares(path: Path) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        last = stack.rpartition(";")[2]
        if not any(waiting in last for waiting in _WAITING):
            counts[_kind_of(stack)] += int(count)
    total = sum(counts.values())
    if not total:
        raise Failed("no samples")
    return {kind: count / total * 100 for kind, count in counts.items()}


def _watched(scratch: Scratch, pid: int, work: Any) -> dict[str, float]:
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise Failed("py-spy is not installed")
    output = scratch.directory / "samples"
    output.unlink(missing_ok=True)
    watch = scratch.start(
        [program, "record", "-r", "250", "-d", "120", "-f", "raw", "-o", output, "-p", str(pid)]
    )
    time.sleep(1)
    try:
        work()
        watch.send_signal(signal.SIGINT)
        try:
            watch.wait(20)
        except subprocess.TimeoutExpired:
            raise Failed("py-spy did not end") from None
    finally:
        scratch.stop(watch)
    if not output.exists():
        raise Failed("py-spy may not look at other processes here")
    return _shares(output)


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    kdc = KDC(scratch, 1000)
    where = kdc.where()
    port = free_port()
    listen = {**where, "listen": port}
    argv = [sys.executable, "-m", "bench.channel", json.dumps(listen)]
    keys = plan.profile_seconds * 2000
    loads = {
        "issue, 1 in flight": ("issue", {"connections": 50, "depth": 1, "each": keys // 50}),
        "issue, pipelined": ("issue", {"connections": 50, "depth": 16, "each": keys // 400}),
        "connect": ("connect", {"count": keys // 20, "concurrency": 4}),
        "register": ("register", {"first": 1 << 30, "count": keys // 20, "concurrency": 16}),
    }
    try:
        for row, (kind, how) in loads.items():
            _add(results, scratch, row, kdc.pid, partial(load, kind, where | how))
        with scratch.running(argv, port=port) as receiver:
            how = {"receiver_pid": receiver.pid, "bytes": plan.profile_seconds << 27}
            work = partial(load, "transfer", listen | how)
            _add(results, scratch, "channel, receiving", receiver.pid, work)
    finally:
        kdc.stop()


def _add(results: Results, scratch: Scratch, row: str, pid: int, work: Any) -> None:
    try:
        results.add(PROFILE, row, _watched(scratch, pid, work))
    except Failed as error:
        results.without(PROFILE, row, str(error))
