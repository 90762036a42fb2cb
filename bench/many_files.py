"""A directory of very many small files, beside ``tar`` that writes into a TCP connection."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

from bench.ends import Ends
from bench.figures import Figures
from bench.peers import tool
from bench.plan import Plan
from bench.processes import Failed, Scratch, cpu_of, free_port, run
from bench.stream import BLOCK
from bench.ways import SEND, Way

__all__ = ["SYNCED", "TAR", "many"]

TAR, SYNCED = "tar over plain TCP", "tar over plain TCP, and sync"
_SIZE = 1000
_SECONDS = 300.0
_IN_ONE = 1000  # files of a directory


def many(scratch: Scratch, ends: Ends, plan: Plan) -> list[Way]:
    source = scratch.directory / "many"
    _make(source, plan.many_files)
    return [
        (SEND, lambda: {**_ours(ends, source), "files": plan.many_files}),
        (TAR, partial(_tar, scratch, source, False)),
        (SYNCED, partial(_tar, scratch, source, True)),
    ]


def _make(directory: Path, count: int) -> None:
    """All of another content."""
    for number in range(count):
        place = directory / f"{number // _IN_ONE:04d}"
        if not number % _IN_ONE:
            place.mkdir(parents=True)
        content = b"%08d" % number + BLOCK[number : number + _SIZE - 8]
        (place / f"{number:08d}").write_bytes(content)


def _ours(ends: Ends, source: Path) -> Figures:
    with ends.receiving() as (receiver, inbox):
        far = -cpu_of(receiver.pid) - ends.kdc.cpu
        done = run(ends.sending([source]))
        far += cpu_of(receiver.pid) + ends.kdc.cpu
        _compare(source, inbox / source.name)
    return {"s": done.seconds, "CPU s": done.cpu_seconds + far}


def _tar(scratch: Scratch, source: Path, sync: bool) -> Figures:
    target = scratch.room("untarred")
    port = free_port()
    listen = f"{tool('socat')} -u -b 65536 TCP-LISTEN:{port},bind=127.0.0.1 STDOUT"
    then = f" && sync -f {target}" if sync else ""
    before = os.times()
    far = scratch.start(["sh", "-c", f"{listen} | tar -x -C {target}{then}"], port=port)
    try:
        send = f"{tool('socat')} -u -b 65536 STDIN TCP:127.0.0.1:{port}"
        near = run(["sh", "-c", f"tar -c -C {source.parent} {source.name} | {send}"])
        begun = time.monotonic()
        if far.wait(_SECONDS):
            raise Failed("tar did not take it all")
        rest = time.monotonic() - begun
    finally:
        scratch.stop(far)
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of all that were started here, and have ended
    _compare(source, target / source.name)
    return {"s": near.seconds + rest, "CPU s": cpu}


def _compare(source: Path, target: Path) -> None:
    """Every file; raises `Failed`."""
    done = subprocess.run(
        ["diff", "-r", "-q", source, target], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"what arrived is something else: {(done.stdout + done.stderr)[:300]}")
    shutil.rmtree(target)
