"""A cluster under load, and what is found when something is done to it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from bench.cluster import Cluster, Machine
from bench.population import name_of
from bench.processes import HERE, Failed, Scratch, said, until
from kdc.store.etcd.wire import page_of
from tests.hostile.mutants import MUTANTS, mutated

__all__ = ["CHECK", "SHORT_SECONDS", "Fault", "Found", "Skipped", "Trial", "text"]

_ANSWER_SECONDS = 60.0
_SETTLE_SECONDS = 90.0
_LOST_SECONDS = 30.0
SHORT_SECONDS = 3  # the shortest bound that a KDC takes
CHECK = "nothing is decided on what was not confirmed"


def text(key: bytes) -> str:
    """As etcd's gateway has keys and values."""
    return base64.b64encode(key).decode()


class Skipped(Exception):
    """It cannot be tried here; the text says why."""


@attrs.define
class Found:
    """What came of a fault.  ``bad``: what must never be; without any it is as it must be."""

    rounds: int = 0
    registrations: int = 0
    lost: int = 0
    registration_gap: float | None = None
    registration_wait: float = 0.0
    channels: int = 0
    channel_gap: float | None = None
    wrong: int = 0
    errors: int = 0
    besides: list[str] = attrs.field(factory=list)
    bad: list[str] = attrs.field(factory=list)

    def add(self, figures: dict[str, Any]) -> None:
        """One round's, as the load tells them."""
        self.rounds += 1
        self.registrations += figures["registrations"]
        self.registration_wait = max(self.registration_wait, figures["registration_wait"])
        self.registration_gap = max(self.registration_gap or 0.0, figures["registration_gap"])
        self.channels += figures["channels"]
        self.channel_gap = max(self.channel_gap or 0.0, figures["channel_gap"])
        self.wrong += len(figures["wrong"])
        self.errors += len(figures["errors"])
        self.bad += [f"wrongly refused: {text}" for text in figures["wrong"]]

    def join(self, other: Found) -> None:
        """Take in what came of more rounds."""
        self.rounds += other.rounds
        for name in ("registrations", "lost", "channels", "wrong", "errors"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.registration_gap = max(self.registration_gap or 0.0, other.registration_gap or 0.0)
        self.registration_wait = max(self.registration_wait, other.registration_wait)
        self.channel_gap = max(self.channel_gap or 0.0, other.channel_gap or 0.0)
        self.besides += other.besides
        self.bad += other.bad


@attrs.frozen
class Fault:
    """``key`` chooses it, ``must`` is what has to hold, ``confirm_seconds`` the KDCs' bound."""

    key: str
    title: str
    must: str
    run: Callable[[Trial, int], Found]
    confirm_seconds: int = 10
    checked: bool = True  # whether the KDCs have the check that what they know is new enough
    times: float = 1.0  # rounds for each round that is asked for
    short: bool = False  # whether it is one of those that are tried at every change


class Trial:
    """The cluster, the load, and how soon a node has to be confirmed."""

    def __init__(self, cluster: Cluster, scratch: Scratch) -> None:
        self.cluster = cluster
        self._scratch = scratch
        self._load: subprocess.Popen[bytes] | None = None
        self._started: tuple[int, bool] | None = None
        self.confirm_seconds = 0

    def kdcs(self, confirm_seconds: int, checked: bool = True) -> None:
        """Have all KDCs run with that bound, and ``checked``: they are as they are."""
        if self._started != (confirm_seconds, checked):
            self._started = confirm_seconds, checked
            self.confirm_seconds = confirm_seconds
            program = HERE if checked else self._without_the_check()
            self.cluster.start_kdcs(confirm_seconds, program)
        if self._load is None:
            self._load = self._start_load()
        self.settle()

    def _without_the_check(self) -> Path:
        """A copy of the program that decides on what it knows, however old that is."""
        program = self._scratch.room("unchecked")
        if not (program / "kdc").exists():
            shutil.copytree(
                HERE / "kdc", program / "kdc", ignore=shutil.ignore_patterns("__pycache__")
            )
            (mutant,) = (m for m in MUTANTS if m.defence == CHECK)
            path = program / mutant.path
            path.write_text(mutated(mutant, path.read_text(encoding="utf-8")), encoding="utf-8")
        return program

    def _start_load(self) -> subprocess.Popen[bytes]:
        where = {
            "kdcs": [(m.address, m.kdc_port) for m in self.cluster.machines],
            "pin": self.cluster.pin,
            "here": self.cluster.network.here,
        }
        load = self._scratch.start(
            [sys.executable, "-m", "bench.cluster_load", json.dumps(where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            log=self._scratch.directory / "load.log",
        )
        self._answered(load)
        return load

    def _answered(self, load: subprocess.Popen[bytes]) -> dict[str, Any]:
        try:
            return said(load, _ANSWER_SECONDS)
        except Failed as error:
            log = (self._scratch.directory / "load.log").read_text()[-1000:]
            raise Failed(f"the clients: {error}: {log}") from None

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Have the clients do something."""
        load = self._load
        assert load is not None and load.stdin is not None
        load.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")
        load.stdin.flush()
        return self._answered(load)

    def settle(self) -> None:
        """Wait until etcd has a leader, and the receiver is at every KDC."""
        self.cluster.wait_for_leader()
        every = len(self.cluster.machines)
        until(
            lambda: self.ask("receiving")["count"] == every,
            "the receiver is at every KDC",
            _SETTLE_SECONDS,
        )

    def need_network(self) -> None:
        if not self.cluster.network.apart:
            raise Skipped("needs networks of its own, as root or with user namespaces")

    def rounds(self, count: int, one: Callable[[int, Found], None]) -> Found:
        """So many rounds under load; then look for what was acknowledged."""
        found = Found()
        for number in range(count):
            self.ask("begin")
            one(number, found)
            self.settle()
            time.sleep(0.5)
            found.add(self.ask("end"))
        self.look(found)
        return found

    def look(self, found: Found) -> None:
        """Whether everybody whose registration was acknowledged is known at every node."""
        wanted = {name_of(number) for number in self.ask("names")["numbers"]}
        for machine in self.cluster.machines:
            lost = self._missing(machine, wanted)
            found.lost += len(lost)
            if lost:
                found.bad.append(f"lost: {', '.join(sorted(lost)[:5])} at KDC {machine.number}")

    def _missing(self, machine: Machine, wanted: set[str]) -> set[str]:
        """Who does not come to be known there."""
        end = time.monotonic() + _LOST_SECONDS
        while True:
            missing = wanted - self.cluster.names(machine)
            if not missing or time.monotonic() > end:
                return missing

    def only_later(self, asked: dict[str, Any], found: Found) -> None:
        """Who asked alone and was refused was told to try later, and nothing else."""
        kinds = {error for each in asked["refused"] for _, error in each} - {"KDCUnreachable"}
        found.wrong += len(kinds)
        found.bad += [f"wrongly refused: {kind}" for kind in kinds]

    def value(self, key: bytes) -> bytes:
        """What is in etcd under ``key``."""
        answer = self.cluster.ask("/v3/kv/range", {"key": text(key)})
        ((_, value, _),) = page_of(answer).pairs
        return value

    def put(self, key: bytes, value: bytes | None) -> None:
        """Write it, or delete it, as whoever owns etcd could."""
        if value is None:
            self.cluster.ask("/v3/kv/deleterange", {"key": text(key)})
        else:
            self.cluster.ask("/v3/kv/put", {"key": text(key), "value": text(value)})

    def ask_alone(self, *machines: Machine) -> None:
        """Have these KDCs be asked for keys, each by a client of it alone; each has given one."""
        self.ask("alone", at=[machine.number for machine in machines])
        until(lambda: all(self.ask("asked")["begun"]), "every KDC gives keys", _SETTLE_SECONDS)

    def gives_keys(self, *machines: Machine) -> None:
        """Wait until each of these KDCs gives keys, to whoever is always there."""
        try:
            self.ask_alone(*machines)
        finally:
            self.ask("no_more")
