"""What the KDC does: issue keys, take connections, register; beside krb5kdc."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.figures import Figures, Results
from bench.floor import crypto
from bench.kerberos import Realm
from bench.kload import PROOF, TICKET, UNPROVED
from bench.ours import KDC, load
from bench.plan import Plan
from bench.processes import Late, Scratch, cpu_of, free_port, memory_of

__all__ = [
    "AT_A_TIME",
    "BARE",
    "CONNECT",
    "DISK",
    "EXCHANGES",
    "ISSUE",
    "KADMIN",
    "KADMIN_LOCAL",
    "LOGIN",
    "NATIVE",
    "NATIVE_LOGIN",
    "OPENED",
    "REGISTER",
    "SECTIONS",
    "START",
    "TUNED_LOGIN",
    "label",
    "measure",
    "native",
]

ISSUE, CONNECT, REGISTER, START = "issue", "connect", "register", "start"
SECTIONS = ("crypto", ISSUE, CONNECT, REGISTER, START)
LOGIN = "krb5kdc, kinit and kvno"
NATIVE_LOGIN = "krb5kdc, the same requests made before, 8 outstanding"
TUNED_LOGIN = "krb5kdc that writes nothing at a log-in, the same"
NATIVE = (1, 8, 64)
KADMIN_LOCAL, KADMIN = "kadmin.local", "kadmin over kadmind"
BARE, EXCHANGES, DISK = "floor: bare TLS", "floor: TLS and two exchanges", "floor: fdatasync alone"
AT_A_TIME = {1: "1 at a time", 16: "16 at a time", 64: "64 at a time"}
OPENED = ", connections open"
_CLIENTS = 50


def native(outstanding: int) -> str:
    return f"krb5kdc, UDP, requests made before, {outstanding} outstanding"


def label(what: str, principals: int) -> str:
    return f"{what}, {principals:,} principals"


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    """One size after the other; within a size, the programs take turns."""
    results.measure("crypto", "all", crypto)
    floors = {kind: Late(partial(_Floor, scratch, kind)) for kind in ("tcp", "tls")}
    for principals in plan.principals:
        ours = Late(partial(KDC, scratch, principals))
        peer = Late(partial(Realm, scratch, principals)) if plan.peers else None
        try:
            results.measure(START, label("kdc", principals), partial(_start, ours))
            for turn in range(plan.rounds):
                _issue(ours, peer, floors, plan, results, principals)
                _connect(ours, peer, floors["tls"], plan, results, principals)
                _register(ours, peer, turn, plan, results, principals)
        finally:
            ours.stop()
            if peer is not None:
                peer.stop()


def _start(ours: Late[KDC]) -> Figures:
    begun = time.monotonic()
    kdc = ours()
    return {
        "CPU s": kdc.cpu,
        "MiB": memory_of(kdc.pid),
        "s with filling": time.monotonic() - begun,
    }


class _Floor:
    """A server with nothing behind it, see `bench.floor`."""

    def __init__(self, scratch: Scratch, kind: str) -> None:
        port = free_port()
        argv = [sys.executable, "-m", "bench.floor", kind, str(port)]
        child = scratch.start(argv, port=port)
        self.where = {"port": port, "pid": child.pid, "tls": kind == "tls"}

    def stop(self) -> None:
        """The scratch directory's end is its own."""


def _load(kind: str, server: Late[KDC], how: dict[str, Any]) -> Figures:
    return load(kind, server().where() | how)


def _floor(kind: str, server: Late[_Floor], how: dict[str, Any]) -> Figures:
    return load(kind, server().where | how)


def _issue(
    ours: Late[KDC],
    peer: Late[Realm] | None,
    floors: dict[str, Late[_Floor]],
    plan: Plan,
    results: Results,
    n: int,
) -> None:
    for name, depth, us in (("1 in flight", 1, 50), ("pipelined", 16, 16)):
        each = max(1, plan.each(us) // _CLIENTS // depth)
        how = {"connections": _CLIENTS, "depth": depth, "each": each}
        results.measure(ISSUE, label(f"kdc, {name}", n), partial(_load, "issue", ours, how))
        for kind, floor in floors.items():
            call = partial(_floor, "exchange", floor, how)
            results.measure(ISSUE, f"floor: {kind} alone, {name}", call)
    if peer is None:
        return
    for outstanding in NATIVE:
        results.measure(
            ISSUE,
            label(native(outstanding), n),
            lambda o=outstanding: peer().native([TICKET], plan.each(130), o),  # type: ignore[misc]
        )
    for name, clients, udp in (("UDP, 1", 1, True), ("UDP, 8", 8, True), ("TCP, 8", 8, False)):
        each = max(1, plan.each(170) // clients)
        results.measure(
            ISSUE,
            label(f"krb5kdc, {name} outstanding", n),
            lambda c=clients, e=each, u=udp: peer().tickets(c, e, u),  # type: ignore[misc]
        )


def _connect(
    ours: Late[KDC],
    peer: Late[Realm] | None,
    floor: Late[_Floor],
    plan: Plan,
    results: Results,
    n: int,
) -> None:
    how = {"count": plan.each(700), "concurrency": 4}
    results.measure(CONNECT, label("kdc", n), partial(_load, "connect", ours, how))
    for row, asks in ((BARE, 0), (EXCHANGES, 2)):
        call = partial(_floor, "handshake", floor, how | {"asks": asks})
        results.measure(CONNECT, row, call)
    if peer is None:
        return
    results.measure(CONNECT, label(LOGIN, n), lambda: peer().login_and_one_ticket(plan.each(800)))
    for row, tuned, us in ((NATIVE_LOGIN, False, 450), (TUNED_LOGIN, True, 350)):
        count = plan.each(us)
        results.measure(
            CONNECT,
            label(row, n),
            lambda c=count, t=tuned: peer().native([UNPROVED, PROOF, TICKET], c, 8, t),  # type: ignore[misc]
        )


# What one registration costs, about, by how many are at a time: connecting included, and not.
_REGISTRATION_US = {False: {1: 1500, 16: 850, 64: 850}, True: {1: 650, 16: 330, 64: 330}}


def _register(
    ours: Late[KDC], peer: Late[Realm] | None, turn: int, plan: Plan, results: Results, n: int
) -> None:
    first = (turn + 1) * 10_000_000
    for opened, costs in _REGISTRATION_US.items():
        for concurrency, us in costs.items():
            count = plan.each(us)
            how = {"first": first, "count": count, "concurrency": concurrency, "open": opened}
            row = label(f"kdc, {AT_A_TIME[concurrency]}{OPENED if opened else ''}", n)
            results.measure(REGISTER, row, partial(_load, "register", ours, how))
            first += count
    results.measure(REGISTER, DISK, lambda: _disk(ours().room))
    if peer is not None:
        here, far = plan.each(240), plan.each(400)
        results.measure(
            REGISTER, label(KADMIN_LOCAL, n), lambda: peer().add_principals(here, turn * here)
        )
        results.measure(
            REGISTER, label(KADMIN, n), lambda: peer().add_over_network(far, turn * far)
        )


def _disk(room: Path) -> Figures:
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
