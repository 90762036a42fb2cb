"""A realm in etcd with very many principals, and what etcd costs whoever has none.

    make cluster-scale        python -m bench.cluster_scale [--principals 1000000] [--rounds 12]

One member of etcd on this machine, without TLS, its settings those of etc/etcd.conf.  A line for
each of: loading (as many at a time as one transaction takes); etcd's memory and disk then; a
node that starts with them all; registrations through one `StoreWriter`, so many at a time, as a
KDC makes them; session keys (305) of a KDC on etcd and of one on pwd.txt.

Those two take turns, so that whatever else the machine does meets both alike, and so do with
``--before DIRECTORY``, a checkout of an older version, the starts of a KDC there and here, both on
pwd.txt.  Compared is processor time: its least, and its median.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import population
from bench.ours import load
from bench.population import ABLE, REALM, batches
from bench.processes import HERE, Failed, Scratch, cpu_of, free_port, run, until
from bench.store_scale import memory, registered
from kdc.store.etcd.api import EtcdSettings
from kdc.store.opened import open_store

_KDC = (sys.executable, "-c", "from kdc.commands.main import kdc_main; kdc_main()")
_TOGETHER = (1, 16, 64, 256)
_LIMITS = (
    "keys-per-second",
    "keys-burst",
    "arrivals-per-second",
    "arrivals-per-second-per-address",
)
_ISSUE = {"connections": 16, "depth": 4, "each": 600}


def show(title: str, **figures: float) -> None:
    text = ", ".join(f"{value:,.4g} {name.replace('_', ' ')}" for name, value in figures.items())
    print(f"{title}: {text}", flush=True)


class Etcd:
    """One member, with what it has used."""

    def __init__(self, scratch: Scratch) -> None:
        self.port, peer = free_port(), free_port()
        self.data = scratch.room("etcd")
        text = (HERE / "etc" / "etcd.conf").read_text(encoding="utf-8")
        client, peers = (f"http://127.0.0.1:{port}" for port in (self.port, peer))
        settings = dict(re.findall(r"^(ETCD_\w+)=(.*)$", text, re.MULTILINE))
        kept = {name: value for name, value in settings.items() if re.search("COMPACT|QUOTA", name)}
        words = {
            "name": "m",
            "data-dir": str(self.data),
            "initial-cluster": f"m={peers}",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
        }
        options = [f"--{name}={value}" for name, value in words.items()]
        self._child = scratch.start(["etcd", *options], env=kept, port=self.port)
        until(lambda: "leader" in self._status(), "etcd has a leader", 60)

    @property
    def url(self) -> str:
        return f"etcd://127.0.0.1:{self.port}/"

    def _status(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/v3/maintenance/status", "{}")
        status: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return status

    def figures(self) -> dict[str, float]:
        lines = Path(f"/proc/{self._child.pid}/status").read_text(encoding="ascii")
        resident, peak = (
            int(re.findall(rf"^{name}:\s+(\d+)", lines, re.MULTILINE)[0]) / 1024
            for name in ("VmRSS", "VmHWM")
        )
        disk = sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file())
        return {
            "s_CPU": self.cpu,
            "MiB_resident": resident,
            "peak_MiB": peak,
            "MiB_database": int(self._status()["dbSize"]) / 2**20,
            "MiB_on_disk": disk / 2**20,
        }

    @property
    def cpu(self) -> float:
        return cpu_of(self._child.pid)


def opened(room: Path, port: int) -> Any:
    settings = EtcdSettings((("127.0.0.1", port),))
    return open_store(room / "kdc", realm=REALM, etcd=settings)


def fill(room: Path, port: int, principals: int) -> dict[str, float]:
    store = opened(room, port)
    start, cpu = time.perf_counter(), time.process_time()
    for batch in batches(principals, store.most_changes):
        store.apply(batch)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    store.close()
    return {
        "s": seconds,
        "registrations/s": principals / seconds,
        "us_CPU_each": cpu / principals * 1e6,
    }


def start(room: Path, port: int, principals: int) -> dict[str, float]:
    cpu, begun = time.process_time(), time.perf_counter()
    store = opened(room, port)
    figures = {
        "s": time.perf_counter() - begun,
        "s_CPU": time.process_time() - cpu,
        "MiB_resident": memory("VmRSS"),
        "peak_MiB": memory("VmHWM"),
        "principals": float(len(store)),
    }
    store.close()
    if figures["principals"] < principals:
        raise Failed(f"only {figures['principals']} of {principals} principals are there")
    return figures


def together(room: Path, port: int, submitters: int) -> dict[str, float]:
    store = opened(room, port)
    figures = registered(store, submitters, first=200_000_000 + 1_000_000 * submitters)
    store.close()
    return figures


_STEPS: dict[str, Callable[[Path, int, int], dict[str, float]]] = {
    "fill": fill,
    "start": start,
    "together": together,
}


def step(what: str, title: str, room: Path, etcd: Etcd, number: int) -> None:
    """In a process of its own, so that its memory is its own."""
    words = [sys.executable, "-m", "bench.cluster_scale", "--step", what]
    words += ["--room", str(room), "--port", str(etcd.port), "--principals", str(number)]
    before = etcd.cpu
    figures = json.loads(run(words, stdout=subprocess.PIPE, seconds=3600).output)
    show(title, **figures, s_CPU_in_etcd=etcd.cpu - before)


class KDC:
    """One as people start it, for `bench.load`."""

    def __init__(self, scratch: Scratch, room: Path, *store: str) -> None:
        self.port, log = free_port(), room / "log"
        limits = [f"--limit={name}=10000000" for name in _LIMITS]
        words = [*_KDC, "-p", str(self.port), "-o", str(room / "out.txt"), *store, *limits]
        self._child = scratch.start(words, log=log, cwd=room, env={"PYTHONPATH": str(HERE)})

        def pin() -> list[str]:
            if self._child.poll() is not None:
                raise Failed(f"the KDC ended: {log.read_text()[-500:]}")
            return re.findall(r"fingerprint (sha256:[0-9a-f]{64})", log.read_text())

        until(lambda: bool(pin()), "a KDC starts", 120)
        self._pin = pin()[0]

    def issue(self) -> float:
        """Microseconds of its processor for a key."""
        where = {"port": self.port, "pid": self._child.pid, "pin": self._pin, "principals": ABLE}
        figures: dict[str, float] = load("issue", {**where, **_ISSUE})
        return figures["us"]


def compare(title: str, unit: str, rounds: int, **each: Callable[[], float]) -> None:
    """In turns; say the least and the median of each, and how the second is to the first."""
    found: dict[str, list[float]] = {name: [] for name in each}
    for number in range(rounds):
        order = list(each.items())
        for name, measured in order if number % 2 else reversed(order):
            found[name].append(measured())
    for name, values in found.items():
        figures = {f"{unit}_least": min(values), f"{unit}_median": statistics.median(values)}
        show(f"{title}, {name.replace('_', ' ')}", **figures)
    one, two = found.values()
    least, median = min(two) / min(one), statistics.median(two) / statistics.median(one)
    names = [name.replace("_", " ") for name in each]
    print(f"{title}, {names[1]} to {names[0]}: {least:.3f} least, {median:.3f} median", flush=True)


def issue(scratch: Scratch, rounds: int) -> None:
    """Session keys of two KDCs that know the same principals, each in a store of its own."""
    flat, node = scratch.room("flat"), scratch.room("node")
    population.fill(flat / "pwd.txt", ABLE)
    etcd = Etcd(scratch)
    store = opened(node, etcd.port)
    for batch in batches(ABLE, store.most_changes):
        store.apply(batch)
    store.close()
    with_file = KDC(scratch, flat, "-f", "pwd.txt")
    # One key for both, as for the nodes of a realm.
    shutil.copy(flat / "pwd.txt.tls", node / "kdc.tls")
    with_etcd = KDC(scratch, node, "--store", etcd.url, "--state", ".")
    compare("a session key", "us_CPU", rounds, with_file=with_file.issue, with_etcd=with_etcd.issue)


def begin(scratch: Scratch, tree: Path, room: str) -> float:
    """Milliseconds of processor for a KDC on a pwd.txt that is there, from nothing to its end."""
    place = scratch.room(room)
    words = [*_KDC, "-p", "0", "-f", "pwd.txt", "-o", "out.txt"]
    log = place / "log"
    log.unlink(missing_ok=True)
    child = scratch.start(words, cwd=place, env={"PYTHONPATH": str(tree)}, log=log)
    until(lambda: "principals in" in log.read_text(), "a KDC starts", 60)
    return scratch.stop(child) * 1000


def measure(options: argparse.Namespace, scratch: Scratch) -> None:
    if options.principals:
        etcd, room = Etcd(scratch), scratch.room("big")
        count = options.principals
        step("fill", f"{count:,} principals are loaded", room, etcd, count)
        show("etcd then", **etcd.figures())
        step("start", "a node starts with them", room, etcd, count)
        show("etcd then", **etcd.figures())
        for submitters in _TOGETHER:
            step("together", f"registrations, {submitters} at a time", room, etcd, submitters)
    if options.before:
        trees = {"before": options.before.absolute(), "here": HERE}
        for name, tree in trees.items():
            begin(scratch, tree, name)  # it makes the files, and compiles
        compare(
            *("a start and an end of a KDC on pwd.txt", "ms_CPU", options.rounds),
            before=lambda: begin(scratch, trees["before"], "before"),
            here=lambda: begin(scratch, trees["here"], "here"),
        )
    if options.rounds:
        with Scratch(options.directory) as another:
            issue(another, options.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--principals", type=int, default=1_000_000, help="0: leave that out")
    parser.add_argument("--rounds", type=int, default=12, help="0: leave out what is compared")
    parser.add_argument("--before", type=Path, help="a checkout of an older version")
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    for hidden in ("--step", "--room", "--port"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        figures = _STEPS[options.step](Path(options.room), int(options.port), options.principals)
        print(json.dumps(figures))
        return
    with Scratch(options.directory) as scratch:
        measure(options, scratch)


if __name__ == "__main__":
    main()
