"""Kill a writing node of a store in etcd at random moments, again and again.

Each round: a child opens the store, registers names in batches and tells each batch once it is
acknowledged; it is killed after a random time.  A node that is here all the time must know all
of them, and registering again what was under way must succeed.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.cluster import Cluster
from bench.processes import HERE, Failed
from kdc.store import Create, Outcome, Record, Status, StoreUncertain
from kdc.store.etcd.api import EtcdSettings
from kdc.store.etcd.opening import EtcdFiles, connected, open_etcd
from kdc.store.etcd.store import EtcdStore

__all__ = ["KilledWriter"]

_REALM = "KILLED"
_BATCH = 5
_LATE_SECONDS = 30.0


def _record(number: int) -> Record:
    text = f"{number:032d}".encode()
    return Record(f"user{number:07d}", Status.ACTIVE, "127.0.0.1", 35678, text, text[::-1])


def _create(number: int) -> Create:
    return Create(_record(number), number.to_bytes(16, "big"))


def _opened(where: dict[str, Any], room: Path) -> EtcdStore:
    members = tuple((host, port) for host, port in where["members"])
    ca, certificate, key = (Path(where[name]) for name in ("ca", "certificate", "key"))
    links = connected(EtcdSettings(members, ca, certificate, key))
    store = open_etcd(links, EtcdFiles.of(room / "kdc"), realm=_REALM)
    store.start()
    return store


def _write(where: dict[str, Any], room: Path, first: int) -> None:
    """Register until killed; print the first number that is not yet acknowledged."""
    store = _opened(where, room)
    print("open", flush=True)
    while True:
        changes = [_create(number) for number in range(first, first + _BATCH)]
        if any(result.outcome is not Outcome.DONE for result in store.apply(changes)):
            sys.exit("refused")
        first += _BATCH
        print(first, flush=True)


class KilledWriter:
    """The node that is here, and a child for each round."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        tls = cluster.tls
        self._where = {
            "members": [machine.member for machine in cluster.machines],
            "ca": str(tls.ca),
            "certificate": str(tls.certificate),
            "key": str(tls.key),
        }
        self._here, self._there = (cluster.scratch.room(f"writer{n}") for n in range(2))
        self._dice = random.Random(seed)
        self._store = _opened(self._where, self._here)
        shutil.copy(self._here / "kdc.key", self._there)
        self.acknowledged = 0
        self.stored = 0  # rounds in which it was killed between storing and acknowledging

    def round(self) -> list[str]:
        """Kill one; return what was lost or refused."""
        first = self.acknowledged
        words = (json.dumps(self._where), str(self._there), str(first))
        child = subprocess.Popen(
            [sys.executable, "-m", "bench.cluster_writer", *words],
            cwd=HERE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            if child.stdout.readline() != "open\n":
                raise Failed("a node did not start after it had been killed")
            time.sleep(self._dice.uniform(0, 0.2))
            child.send_signal(signal.SIGKILL)
            lines = child.stdout.read().splitlines(keepends=True)
        # A line that the kill cut in two was not yet said.
        said = [int(line) for line in lines if line.endswith("\n")]
        self.acknowledged = max([first, *said])
        return self._look(first)

    def _look(self, first: int) -> list[str]:
        """Do again what was under way; then all that was acknowledged is there."""
        under_way = [_create(self.acknowledged + n) for n in range(_BATCH)]
        before = len(self._store)
        while True:
            try:
                results = self._store.apply(under_way)
                break
            except StoreUncertain:
                continue
        self.stored += before != len(self._store) - _BATCH
        bad = [
            f"wrongly refused: {change.record.name}"
            for change, result in zip(under_way, results, strict=True)
            if result.outcome is not Outcome.DONE
        ]
        for number in range(first, self.acknowledged):
            found = self._store.get(_record(number).name)
            if found is None or found.verify_key != _record(number).verify_key:
                bad.append(f"lost: {_record(number).name}")
        self.acknowledged += _BATCH
        return bad

    def close(self) -> list[str]:
        """Return what is not there in the end, of everything."""
        missing = [n for n in range(self.acknowledged) if self._store.get(_record(n).name) is None]
        more = len(self._store) - self.acknowledged
        self._store.close()
        lost = [f"lost: {_record(number).name}" for number in missing]
        return lost + ([f"{more} more than were registered"] if more else [])


if __name__ == "__main__":
    _write(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
