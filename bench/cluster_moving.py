"""Move a store from its file into etcd and back, and kill it on the way, again and again."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import time
from pathlib import Path

from bench.cluster import KDC, Cluster
from bench.cluster_trial import Fault, Found, Trial
from bench.processes import HERE, Failed, run
from kdc.store import Create, Record, Status
from kdc.store.flatfile import FlatFileStore

__all__ = ["MOVES"]

_REALM = "MOVED"
_PRINCIPALS = 5000
_KILLS = 3  # each way


class _Moved:
    """A store of a realm of its own, which is now here and now there."""

    def __init__(self, cluster: Cluster) -> None:
        room = cluster.scratch.room("moving")
        self._file, self._state = room / "pwd.txt", room / "state"
        self._state.mkdir(mode=0o700)
        tls = cluster.tls
        self._url = (
            f"etcd://{','.join(f'{h}:{p}' for h, p in (m.member for m in cluster.machines))}/"
        )
        self._tls = ["--etcd-ca", tls.ca, "--etcd-certificate", tls.certificate]
        self._tls += ["--etcd-key", tls.key]
        _fill(self._file)
        self.killed = 0

    def digest(self) -> str:
        """Of all that is in the file, keys and generations too."""
        dumped = run([*KDC, "admin", "-f", self._file, "dump", "--secrets"])
        return hashlib.sha256(dumped.output).hexdigest()

    def move(self, option: str, dice: random.Random, seconds: float) -> tuple[int, float]:
        """Kill it at moments within ``seconds``, then let it; the generation, and how long."""
        for _ in range(_KILLS if seconds else 0):
            child = self._start(option)
            try:
                child.communicate(timeout=seconds * dice.uniform(0.1, 0.9))
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
                self.killed += 1
        began = time.monotonic()
        child = self._start(option)
        output, errors = child.communicate()
        if child.returncode:
            raise Failed(f"a move that was cut short cannot be finished: {errors.decode()[-500:]}")
        return int(json.loads(output)["generation"]), time.monotonic() - began

    def _start(self, option: str) -> subprocess.Popen[bytes]:
        words = [option, self._url, "--state", self._state, *self._tls]
        return subprocess.Popen(
            [*KDC, "admin", "--json", "-f", str(self._file), "move", *map(str, words)],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def _fill(path: Path) -> None:
    store = FlatFileStore.open(path, realm=_REALM)
    for first in range(0, _PRINCIPALS, store.most_changes):
        numbers = range(first, min(first + store.most_changes, _PRINCIPALS))
        store.apply([_create(number) for number in numbers])
    store.close()


def _create(number: int) -> Create:
    keys = hashlib.sha256(b"%d" % number).digest()
    record = Record(f"user{number:07d}", Status.ACTIVE, "127.0.0.1", 1, keys, keys[::-1])
    return Create(record, number.to_bytes(16, "big"))


def _moved(trial: Trial, rounds: int) -> Found:
    """There and back, killed on each way; a first round, left alone, tells how long that takes."""
    moved, dice, found = _Moved(trial.cluster), random.Random(rounds), Found(rounds=rounds)
    before, generation = moved.digest(), 0
    took = {"--to": 0.0, "--from": 0.0}
    for _ in range(rounds + 1):
        for option, within in list(took.items()):
            reached, seconds = moved.move(option, dice, within)
            took[option] = within or seconds
            if reached < generation:
                found.bad.append(f"generation {reached} after {generation}")
            generation = reached
        if moved.digest() != before:
            found.lost += 1
            found.bad.append("what came back is not what went")
    found.besides.append(f"{_PRINCIPALS:,} principals, killed {moved.killed} times")
    return found


MOVES = (
    Fault(
        "moved",
        "a store is moved into etcd and back, and killed on the way",
        "the same again finishes it; equal dumps, generations grow",
        _moved,
    ),
)
