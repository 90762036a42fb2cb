"""What the KDC does: issue keys, take connections, register; beside krb5kdc."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.figures import Results
from bench.floor import crypto
from bench.kerberos import Realm
from bench.ours import KDC, load
from bench.plan import Plan
from bench.processes import Failed, Scratch, cpu_of, free_port, memory_of

__all__ = ["CONNECT", "ISSUE", "REGISTER", "label", "measure"]

ISSUE, CONNECT, REGISTER, START = "issue", "connect", "register", "start"
_CLIENTS = 50


def label(what: str, principals: int) -> str:
    return f"{what}, {principals:,} principals"


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    """One size after the other; within a size, the programs take turns."""
    _floors(scratch, plan, results)
    for principals in plan.principals:
        begun, cpu = time.monotonic(), 0.0
        ours = KDC(scratch, principals)
        cpu = ours.cpu
        results.add(
            START,
            label("kdc", principals),
            {
                "CPU s": cpu,
                "MiB": memory_of(ours.pid),
                "s with filling": time.monotonic() - begun,
            },
        )
        peer = _realm(scratch, principals, results)
        try:
            _issue(ours, peer, plan, results)
            _connect(ours, peer, plan, results)
            _register(ours, peer, plan, results)
        finally:
            ours.stop()
            if peer is not None:
                peer.stop()


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


def _floors(scratch: Scratch, plan: Plan, results: Results) -> None:
    results.add("crypto", "all", crypto())
    for kind in ("tcp", "tls"):
        port = free_port()
        argv = [sys.executable, "-m", "bench.floor", kind, str(port)]
        with scratch.running(argv, port=port) as child:
            where = {"port": port, "pid": child.pid, "tls": kind == "tls"}
            for _ in range(plan.rounds):
                for name, depth in (("1 in flight", 1), ("pipelined", 16)):
                    each = max(1, plan.keys // _CLIENTS // depth)
                    how = {**where, "connections": _CLIENTS, "depth": depth, "each": each}
                    call = lambda how=how: load("exchange", how)  # noqa: E731
                    _try(results, ISSUE, f"floor: {kind} alone, {name}", call)
                if kind == "tls":
                    how = {**where, "count": plan.connects, "concurrency": 4}
                    _try(results, CONNECT, "bare TLS", lambda how=how: load("handshake", how))  # type: ignore[misc]


def _issue(ours: KDC, peer: Realm | None, plan: Plan, results: Results) -> None:
    n = ours.principals
    for _ in range(plan.rounds):
        for name, depth in (("1 in flight", 1), ("pipelined", 16)):
            how = {
                **ours.where(),
                "connections": _CLIENTS,
                "depth": depth,
                "each": max(1, plan.keys // _CLIENTS // depth),
            }
            _try(results, ISSUE, label(f"kdc, {name}", n), lambda how=how: load("issue", how))  # type: ignore[misc]
        if peer is None:
            continue
        for name, clients, udp in (("UDP, 1", 1, True), ("UDP, 8", 8, True), ("TCP, 8", 8, False)):
            each = max(1, plan.keys // 4 // clients)
            call = lambda c=clients, e=each, u=udp: peer.tickets(c, e, u)  # noqa: E731
            _try(results, ISSUE, label(f"krb5kdc, {name} outstanding", n), call)


def _connect(ours: KDC, peer: Realm | None, plan: Plan, results: Results) -> None:
    n = ours.principals
    for _ in range(plan.rounds):
        how = {**ours.where(), "count": plan.connects, "concurrency": 4}
        _try(results, CONNECT, label("kdc", n), lambda: load("connect", how))
        if peer is not None:
            count = max(5, plan.connects // 10)
            call = lambda count=count: peer.login_and_one_ticket(count)  # noqa: E731
            _try(results, CONNECT, label("krb5kdc", n), call)


def _register(ours: KDC, peer: Realm | None, plan: Plan, results: Results) -> None:
    n = ours.principals
    first = 10_000_000
    for turn in range(plan.rounds):
        for concurrency in (1, 16, 64):
            count = plan.registrations if concurrency > 1 else plan.registrations // 2
            how = {**ours.where(), "first": first, "count": count, "concurrency": concurrency}
            first += count
            row = label(f"kdc, {concurrency} at a time", n)
            _try(results, REGISTER, row, lambda how=how: load("register", how))  # type: ignore[misc]
        _try(results, REGISTER, "fdatasync alone", lambda: _disk(ours.room))
        if peer is not None:
            count = plan.registrations // 2
            call = lambda turn=turn, count=count: peer.add_principals(count, turn * count)  # noqa: E731
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
