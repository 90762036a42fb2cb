"""Where the time goes: py-spy looks at the servers while they work, and the samples are grouped."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.ends import Ends
from bench.figures import Results
from bench.ours import KDC, load
from bench.peers import Command
from bench.plan import Plan
from bench.processes import Failed, Scratch, free_port, run
from bench.stream import BLOCK

__all__ = ["PROFILE", "SECTIONS", "measure", "shares"]

PROFILE = "profile"
SECTIONS = (PROFILE,)
# The innermost frame that is of one of these says what a sample was spent on.
_KINDS = (
    ("OpenSSL/", "TLS (pyOpenSSL)"),
    ("twisted/protocols/", "TLS (Twisted's part)"),
    ("cryptography/", "cryptography"),
    ("twisted/", "Twisted: reactor, sockets, system calls"),
    ("kdc/protocol/noise", "sealing and opening"),
    ("kdc/protocol/crypto", "sealing, opening, verifying"),
    ("kdc/protocol/tickets", "sealing, opening, verifying"),
    ("kdc/protocol/codec", "encoding and decoding"),
    ("kdc/protocol/messages", "encoding and decoding"),
    ("kdc/protocol/records", "records"),
    ("kdc/channel", "the channel"),
    ("kdc/server/audit_log", "the activity log"),
    ("kdc/issuing", "deciding"),
    ("kdc/server", "the connection"),
    ("kdc/store", "the store"),
)
_WAITING = ("doPoll (twisted/internet/epollreactor.py", "wait (threading.py")


def _kind_of(stack: str) -> str:
    if "importlib._bootstrap" in stack:
        return "imports"
    for frame in reversed(stack.split(";")):
        for part, kind in _KINDS:
            if part in frame:
                return kind
    return "Python and the rest"


def shares(path: Path) -> dict[str, float]:
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


def _py_spy(output: Path, *what: str | Path) -> list[str | Path]:
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise Failed("py-spy is not installed")
    output.unlink(missing_ok=True)
    return [program, "record", "-r", "250", "-d", "120", "-f", "raw", "-o", output, *what]


def _read(output: Path) -> dict[str, float]:
    if not output.exists():
        raise Failed("py-spy may not look at other processes here")
    return shares(output)


def _watched(scratch: Scratch, pid: int, work: Callable[[], object]) -> dict[str, float]:
    """The shares of a server, while ``work`` keeps it busy."""
    output = scratch.directory / "samples"
    watch = scratch.start(_py_spy(output, "-p", str(pid)))
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
    return _read(output)


def _whole(scratch: Scratch, command: Command) -> dict[str, float]:
    """The shares of a command, from its start to its end."""
    output = scratch.directory / "samples"
    run(_py_spy(output, "--", *command))
    return _read(output)


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    if not plan.profile_seconds:
        return
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
        "register": (
            "register",
            {"first": 1 << 30, "count": keys // 20, "concurrency": 16, "open": False},
        ),
    }
    try:
        for row, (kind, how) in loads.items():
            work = partial(load, kind, where | how)
            results.measure(PROFILE, row, partial(_watched, scratch, kdc.pid, work))
        with scratch.running(argv, port=port) as receiver:
            how = {"receiver_pid": receiver.pid, "bytes": plan.profile_seconds << 27}
            work = partial(load, "transfer", listen | how)
            results.measure(
                PROFILE, "channel, receiving", partial(_watched, scratch, receiver.pid, work)
            )
        _commands(scratch, Ends(scratch, kdc), plan, results)
    finally:
        kdc.stop()


def _commands(scratch: Scratch, ends: Ends, plan: Plan, results: Results) -> None:
    """Both ends of a file, and a small message."""
    large, small = scratch.directory / "large", scratch.directory / "small"
    small.write_bytes(b"Hello, Bob!\n")
    with large.open("wb") as file:
        for _ in range(plan.profile_seconds * 64):
            file.write(BLOCK)
    with ends.receiving() as (receiver, inbox):
        for row, path in (("file, sending", large), ("small, sending", small)):
            results.measure(PROFILE, row, partial(_whole, scratch, ends.sending([path])))
            (inbox / path.name).unlink(missing_ok=True)
        work = partial(run, ends.sending([large]))
        results.measure(PROFILE, "file, receiving", partial(_watched, scratch, receiver.pid, work))
    large.unlink()
