"""What the KDC does: issue keys, take connections, register; beside krb5kdc."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.figures import Results
from bench.floor import crypto
from bench.kerberos import Realm
from bench.ours import KDC, load
from bench.plan import Plan
from bench.processes import Failed, Scratch, cpu_of, free_port, memory_of

__all__ = [
    "AT_A_TIME",
    "BARE",
    "CONNECT",
    "DISK",
    "EXCHANGES",
    "ISSUE",
    "OPENED",
    "REGISTER",
    "START",
    "label",
    "measure",
]

ISSUE, CONNECT, REGISTER, START = "issue", "connect", "register", "start"
BARE, EXCHANGES, DISK = "floor: bare TLS", "floor: TLS and two exchanges", "floor: fdatasync alone"
AT_A_TIME = {1: "1 at a time", 16: "16 at a time", 64: "64 at a time"}
OPENED = ", connections open"
_CLIENTS = 50


def label(what: str, principals: int) -> str:
    return f"{what}, {principals:,} principals"


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    """One size after the other; within a size, the programs take turns."""
    results.add("crypto", "all", crypto())
    floors = {kind: _Floor(scratch, kind) for kind in ("tcp", "tls")}
    for principals in plan.principals:
        begun = time.monotonic()
        ours = KDC(scratch, principals)
        started = {
            "CPU s": ours.cpu,
            "MiB": memory_of(ours.pid),
            "s with filling": time.monotonic() - begun,
        }
        results.add(START, label("kdc", principals), started)
        peer = _realm(scratch, principals, results) if plan.peers else None
        try:
            for turn in range(plan.rounds):
                _issue(ours, peer, floors, plan, results)
                _connect(ours, peer, floors["tls"], plan, results)
                _register(ours, peer, turn, plan, results)
        finally:
            ours.stop()
            if peer is not None:
                peer.stop()


class _Floor:
    """A server with nothing behind it, see `bench.floor`."""

    def __init__(self, scratch: Scratch, kind: str) -> None:
        port = free_port()
        argv = [sys.executable, "-m", "bench.floor", kind, str(port)]
        child = scratch.start(argv, port=port)
        self.where = {"port": port, "pid": child.pid, "tls": kind == "tls"}


def _realm(scratch: Scratch, principals: int, results: Results) -> Realm | None:
    try:
        return Realm(scratch, principals)
    except Failed as error:
        for section in (ISSUE, CONNECT, REGISTER):
            results.without(section, label("krb5", principals), str(error))
        return None


def _try(results: Results, section: str, row: str, call: Callable[[], dict[str, Any]]) -> None:
    try:
        results.add(section, row, call())
    except Failed as error:
        results.without(section, row, str(error))


def _issue(
    ours: KDC, peer: Realm | None, floors: dict[str, _Floor], plan: Plan, results: Results
) -> None:
    n = ours.principals
    for name, depth in (("1 in flight", 1), ("pipelined", 16)):
        each = max(1, plan.keys // _CLIENTS // depth)
        how = {"connections": _CLIENTS, "depth": depth, "each": each}
        _try(results, ISSUE, label(f"kdc, {name}", n), partial(load, "issue", ours.where() | how))
        for kind, floor in floors.items():
            call = partial(load, "exchange", floor.where | how)
            _try(results, ISSUE, f"floor: {kind} alone, {name}", call)
    if peer is not None:
        for name, clients, udp in (("UDP, 1", 1, True), ("UDP, 8", 8, True), ("TCP, 8", 8, False)):
            call = partial(peer.tickets, clients, max(1, plan.keys // 4 // clients), udp)
            _try(results, ISSUE, label(f"krb5kdc, {name} outstanding", n), call)


def _connect(ours: KDC, peer: Realm | None, floor: _Floor, plan: Plan, results: Results) -> None:
    n = ours.principals
    how = {"count": plan.connects, "concurrency": 4}
    _try(results, CONNECT, label("kdc", n), partial(load, "connect", ours.where() | how))
    for row, asks in ((BARE, 0), (EXCHANGES, 2)):
        call = partial(load, "handshake", floor.where | how | {"asks": asks})
        _try(results, CONNECT, row, call)
    if peer is not None:
        call = partial(peer.login_and_one_ticket, max(5, plan.connects // 10))
        _try(results, CONNECT, label("krb5kdc, kinit and kvno", n), call)


def _register(ours: KDC, peer: Realm | None, turn: int, plan: Plan, results: Results) -> None:
    n = ours.principals
    first = 10_000_000 + 6 * turn * plan.registrations
    for opened, (concurrency, text) in itertools.product((False, True), AT_A_TIME.items()):
        count = plan.registrations // (4 if concurrency == 1 else 1)
        how = {"first": first, "count": count, "concurrency": concurrency, "open": opened}
        row = label(f"kdc, {text}{OPENED if opened else ''}", n)
        _try(results, REGISTER, row, partial(load, "register", ours.where() | how))
        first += count
    _try(results, REGISTER, DISK, partial(_disk, ours.room))
    if peer is not None:
        call = partial(peer.add_principals, plan.registrations, turn * plan.registrations)
        _try(results, REGISTER, label("kadmin.local", n), call)


def _disk(room: Path) -> dict[str, float]:
    """Append what one registration adds to the journal, and wait for the disk."""
    path = room / "raw"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    cpu = cpu_of(os.getpid())
    try:
        count, begun = 0, time.monotonic()
        while time.monotonic() < begun + 0.5:
            os.write(fd, bytes(230))
            os.fdatasync(fd)
            count += 1
        seconds = time.monotonic() - begun
    finally:
        os.close(fd)
        path.unlink()
    return {
        "per_second": count / seconds,
        "us": (cpu_of(os.getpid()) - cpu) / count * 1e6,
        "count": count,
    }
