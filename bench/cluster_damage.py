"""What is done to etcd's processes and disks, a function for each fault."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.cluster import Machine
from bench.cluster_trial import SHORT_SECONDS, Fault, Found, Trial, text
from bench.processes import Failed, run, until
from kdc.store.etcd.api import EtcdError

__all__ = ["DAMAGE", "QUOTA_BYTES"]

QUOTA_BYTES = 64 << 20
_DISK_BYTES = 256 << 20
_PIECE = 1 << 20
_BEFORE_SECONDS = 1.0
_FULL_SECONDS = 5.0


def _all_killed(trial: Trial, rounds: int) -> Found:
    cluster = trial.cluster
    kept: list[float] = []
    back: list[float] = []

    def one(number: int, found: Found) -> None:
        trial.ask_alone(*cluster.machines)
        for machine in cluster.machines:
            cluster.kill(machine.etcd)
        gone = time.monotonic()
        time.sleep(trial.confirm_seconds + 2.0)
        started = time.monotonic()
        for machine in cluster.machines:
            cluster.start_etcd(machine)
        cluster.wait_for_leader()
        led = time.monotonic()
        until(
            lambda: all(each and each[-1] > led for each in trial.ask("asked")["begun"]),
            "every KDC gives keys again",
        )
        asked = trial.ask("no_more")
        without = [at - gone for each in asked["begun"] for at in each if gone < at < started]
        kept.append(max(without, default=0.0))
        back.append(
            max(min(at for at in each if at > started) - started for each in asked["begun"])
        )
        if kept[-1] > trial.confirm_seconds:
            found.bad.append(
                "keys that were asked for when nothing had been confirmed for too long"
            )
        trial.only_later(asked, found)

    found = trial.rounds(rounds, one)
    found.besides.append(
        f"keys until {max(kept):.1f} s later, and again {max(back):.1f} s after etcd was started"
    )
    return found


# A member's disk.


@contextlib.contextmanager
def _small_disk(trial: Trial, machine: Machine) -> Iterator[Path]:
    """Its data is on a disk of its own, which is small."""
    cluster, data = trial.cluster, machine.room / "etcd"
    aside = machine.room / "etcd-aside"

    def change(before: Callable[[], object]) -> None:
        cluster.kill(machine.etcd)
        before()
        cluster.start_etcd(machine)
        trial.settle()

    def begin() -> None:
        data.rename(aside)
        data.mkdir(mode=0o700)
        run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", data])
        shutil.copytree(aside, data, dirs_exist_ok=True)

    def end() -> None:
        shutil.rmtree(aside)
        shutil.copytree(data, aside)
        run(["umount", data])
        data.rmdir()
        aside.rename(data)

    change(begin)
    try:
        yield data
    finally:
        change(end)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(_PIECE)):
            pass


def _disk_full(trial: Trial, rounds: int) -> Found:
    trial.need_network()  # what is mounted is seen by nobody else
    cluster = trial.cluster
    ended = 0
    found = Found()
    for number in range(rounds):
        machine = cluster.machines[number % len(cluster.machines)]
        with _small_disk(trial, machine) as data:

            def one(_: int, __: Found, machine: Machine = machine, data: Path = data) -> None:
                nonlocal ended
                time.sleep(_BEFORE_SECONDS)
                _fill(data / "filler")
                time.sleep(_FULL_SECONDS)
                (data / "filler").unlink()
                assert machine.etcd is not None
                if machine.etcd.poll() is not None:
                    ended += 1
                    cluster.kill(machine.etcd)
                    cluster.start_etcd(machine)

            found.join(trial.rounds(1, one))
    found.besides.append(f"the member ended by itself in {ended} of {found.rounds}")
    return found


def _quota(trial: Trial, rounds: int) -> Found:
    cluster = trial.cluster
    piece = text(bytes(_PIECE))

    def one(number: int, found: Found) -> None:
        time.sleep(_BEFORE_SECONDS)
        try:
            for count in range(2 * QUOTA_BYTES // _PIECE):
                key = text(f"/filler/{count:04}".encode())
                cluster.ask("/v3/kv/put", {"key": key, "value": piece})
        except EtcdError:
            pass
        else:
            raise Failed("etcd takes more than its quota")
        time.sleep(_FULL_SECONDS)
        _make_room(trial)

    return trial.rounds(rounds, one)


def _make_room(trial: Trial) -> None:
    """As etcd's manual has it: remove, compact, defragment each, disarm."""
    cluster = trial.cluster
    ends = {"key": text(b"/filler/"), "range_end": text(b"/filler0")}
    revision = cluster.ask("/v3/kv/deleterange", ends)["header"]["revision"]
    cluster.ask("/v3/kv/compaction", {"revision": revision, "physical": True})
    for machine in cluster.machines:
        cluster.ask("/v3/maintenance/defragment", {}, machine)
    for alarm in cluster.ask("/v3/maintenance/alarm", {"action": "GET"}).get("alarms", []):
        cluster.ask("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})
    trial.put(b"/filler", b"")  # which shows that there is room


DAMAGE = (
    Fault(
        "all-killed",
        "all of etcd is killed, and started again",
        'keys for 3 s, the KDCs\' bound, then "later"; < 5 s after there is a leader again',
        _all_killed,
        confirm_seconds=SHORT_SECONDS,
        times=0.6,
    ),
    Fault(
        "disk-full",
        "a member's disk is full",
        "0 lost, 0 wrongly refused",
        _disk_full,
        times=0.4,
    ),
    Fault(
        "quota",
        "etcd's quota is used up, until room is made",
        "the same; no registrations, channels all the time",
        _quota,
        times=0.2,
    ),
)
