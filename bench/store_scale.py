"""Measure the flat-file store with very many principals, and the disk beside it.

    python bench/store_scale.py [--principals 1000000] [--directory DIR]

What is measured, each in a process of its own: registrations into an empty and
into the full store; starting with the full store (processor time and resident
memory); looking principals up; looking at every line, and copying the store; one
change by itself; and, on the same file system, how often it can append and
fdatasync at all.

Then what group commit makes of a slow disk: many who register at the same time,
each waiting for its answer before the next, through the one `StoreWriter` of a
KDC.  Once on a disk that is paced to 500 fsyncs a second, whatever it really
could, once on the disk as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from kdc.server._store_writer import StoreWriter
from kdc.store import Create, Outcome, Record, Status, Store
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.flatfile.backup import backup
from kdc.store.flatfile.check import check
from kdc.store.sealed.files import Files

_BATCH = 100
_SYNCS_PER_SECOND = 500
_TOGETHER = (1, 16, 64, 256)
_TOGETHER_SECONDS = 5.0


def record(number: int) -> Record:
    key = number.to_bytes(32, "big")
    return Record(f"user{number:08d}", Status.ACTIVE, "10.4.5.11", 35678, key, key, changed_time=1)


def change(number: int) -> Create:
    return Create(record(number), number.to_bytes(16, "big"))


def memory(field: str) -> float:
    """Return a field of this process's status in MiB."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


class PacedFiles(Files):
    """A disk that does one fsync after the other, and no more than so many a second.

    The real disk is left out of it: nothing waits longer because it is slow
    just now, nor less because it is quick.
    """

    def __init__(self) -> None:
        self._head = threading.Lock()

    def fsync(self, fd: int) -> None:
        with self._head:
            time.sleep(1 / _SYNCS_PER_SECOND)

    fdatasync = fsync


def opened(path: str, files: Files | None = None) -> FlatFileStore:
    return FlatFileStore.open(path, realm="LOCAL", files=files)


def disk(path: str, files: Files | None = None) -> dict[str, float]:
    """Append a batch's bytes and fdatasync, as the journal does, and nothing else."""
    files = files or Files()
    content = b"x" * 230 * _BATCH
    fd = files.create(path + ".raw")
    try:
        count, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < 2:
            files.write(fd, content)
            files.fdatasync(fd)
            count += 1
    finally:
        files.close(fd)
        files.unlink(path + ".raw")
    return {"fdatasync/s": count / seconds, "ms each": seconds / count * 1000}


def fill(path: str, principals: int) -> dict[str, float]:
    """Fill an empty store in random order, fold after fold."""
    store = opened(path)
    numbers = list(range(principals))
    random.Random(1).shuffle(numbers)
    worst, start, cpu = 0.0, time.perf_counter(), time.process_time()
    for at in range(0, principals, _BATCH):
        before = time.perf_counter()
        store.apply([change(number) for number in numbers[at : at + _BATCH]])
        worst = max(worst, time.perf_counter() - before)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    store.close()
    return {
        "registrations/s": principals / seconds,
        "us CPU each": cpu / principals * 1e6,
        "slowest batch ms": worst * 1000,
        "peak MiB": memory("VmHWM"),
    }


def start_up(path: str) -> dict[str, float]:
    cpu, start = time.process_time(), time.perf_counter()
    store = opened(path)
    result = {
        "s CPU": time.process_time() - cpu,
        "s": time.perf_counter() - start,
        "MiB resident": memory("VmRSS"),
        "peak MiB": memory("VmHWM"),
        "principals": len(store),
    }
    store.close()
    return result


def look_through(path: str, work: Callable[[], object]) -> dict[str, float]:
    """Go through every line, beside nobody who has the store in memory."""
    before, cpu, start = memory("VmHWM"), time.process_time(), time.perf_counter()
    work()
    return {
        "s CPU": time.process_time() - cpu,
        "s": time.perf_counter() - start,
        "MiB before": before,
        "peak MiB": memory("VmHWM"),
    }


def backed_up(path: str) -> None:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as there:
        backup(path, there)


def look_up(path: str, principals: int) -> dict[str, float]:
    store = opened(path)
    dice = random.Random(2)
    names = [f"user{dice.randrange(principals):08d}" for _ in range(20_000)]

    def timed(names: list[str]) -> float:
        start = time.perf_counter()
        for name in names:
            store.get(name)
        return (time.perf_counter() - start) / len(names) * 1e6

    result = {
        "us, any": timed(names),
        "us, one of 1000 again": timed(names[-1000:] * 20),
        "us, nobody": timed([name + "x" for name in names]),
    }
    store.close()
    return result


def register(path: str, first: int) -> dict[str, float]:
    """Register in a store that is there: in batches, then one by one."""
    store = opened(path)
    count = 20_000
    start = time.perf_counter()
    for at in range(first, first + count, _BATCH):
        store.apply([change(number) for number in range(at, at + _BATCH)])
    batched = count / (time.perf_counter() - start)
    start, singles = time.perf_counter(), 500
    for number in range(first + count, first + count + singles):
        store.apply([change(number)])
    single = singles / (time.perf_counter() - start)
    # Not closed, as after a crash: the next start finds these in the journal.
    return {"registrations/s in batches of 100": batched, "one by one": single}


def together(path: str, submitters: int, files: Files | None = None) -> dict[str, float]:
    """Register in an empty store, so many at a time."""
    store = opened(path, files)
    results = registered(store, submitters)
    store.close()
    return results


def registered(store: Store, submitters: int, first: int = 0) -> dict[str, float]:
    """Register through a `StoreWriter` of ``store``, so many at a time, for a while."""
    results: dict[str, float] = {}

    async def work(reactor: Any) -> None:
        pool = ThreadPool(minthreads=1, maxthreads=1)
        pool.start()
        writer = StoreWriter(store, lambda *call: deferToThreadPool(reactor, pool, *call))
        numbers, latencies = iter(range(first, 10**9)), []
        start, cpu = time.perf_counter(), time.process_time()

        async def submitter() -> None:
            while (begun := time.perf_counter()) < start + _TOGETHER_SECONDS:
                result = await writer.submit(change(next(numbers)))
                if result.outcome is not Outcome.DONE:
                    raise RuntimeError(f"not registered: {result}")
                latencies.append(time.perf_counter() - begun)

        await gatherResults([Deferred.fromCoroutine(submitter()) for _ in range(submitters)])
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        pool.stop()
        latencies.sort()
        results.update(
            {
                "registrations/s": len(latencies) / seconds,
                "us CPU each": cpu / len(latencies) * 1e6,
                "median ms": latencies[len(latencies) // 2] * 1000,
                "slowest ms": latencies[-1] * 1000,
            }
        )

    try:
        react(lambda reactor: Deferred.fromCoroutine(work(reactor)), ())
    except SystemExit as end:
        if end.code:
            raise
    return results


def in_process(path: str, what: str, number: int) -> None:
    steps: dict[str, Callable[[], dict[str, float]]] = {
        "disk": lambda: disk(path),
        "fill": lambda: fill(path, number),
        "start": lambda: start_up(path),
        "look-up": lambda: look_up(path, number),
        "check": lambda: look_through(path, lambda: check(path)),
        "backup": lambda: look_through(path, lambda: backed_up(path)),
        "register": lambda: register(path, number),
        "together": lambda: together(path, number),
        "paced-disk": lambda: disk(path, PacedFiles()),
        "paced-together": lambda: together(path, number, PacedFiles()),
    }
    print(json.dumps(steps[what]()))


def step(path: str, what: str, title: str, number: int = 0) -> None:
    done = subprocess.run(
        [
            sys.executable,
            __file__,
            "--step",
            what,
            "--directory",
            path,
            "--principals",
            str(number),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    numbers = json.loads(done.stdout)
    shown = ", ".join(f"{value:,.4g} {name}" for name, value in numbers.items())
    print(f"{title}: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--principals", type=int, default=1_000_000)
    parser.add_argument("--directory", default=None, help="on the disk to measure")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        in_process(options.directory, options.step, options.principals)
        return
    count = options.principals
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        small, large = (os.path.join(directory, name) for name in ("small.txt", "pwd.txt"))
        step(large, "disk", "the disk by itself, 23 kB a time")
        step(small, "fill", "10 principals", 10)
        step(small, "register", "registering with 10 there", 1000)
        step(large, "fill", f"filling with {count:,}", count)
        step(large, "start", "starting")
        step(large, "look-up", "looking up", count)
        step(large, "register", f"registering with {count:,} there", count)
        step(large, "start", "starting with changes in the journal")
        step(large, "check", "check")
        step(large, "backup", "backup")
        step(large, "disk", "the disk by itself, afterwards")
        step(large, "paced-disk", "a paced disk by itself")
        for together in _TOGETHER:
            path = os.path.join(directory, f"paced{together}.txt")
            step(path, "paced-together", f"{together} at a time, paced disk", together)
        step(large, "disk", "the disk by itself")
        for together in _TOGETHER:
            path = os.path.join(directory, f"together{together}.txt")
            step(path, "together", f"{together} at a time, this disk", together)
        step(large, "disk", "the disk by itself, afterwards")


if __name__ == "__main__":
    main()
