"""A relay: what it costs to carry, beside other programs; its links; what it does to issuing."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench import wormhole
from bench.figures import Results
from bench.ours import KDC, load
from bench.plan import Plan
from bench.processes import Failed, Scratch, cpu_of, free_port, go_on, own_memory_of, said, until
from kdc.client.secret import write_key_file

__all__ = [
    "ALONE",
    "BESIDE",
    "CARRIED",
    "FLOOR",
    "ISSUING",
    "LINKS",
    "OURS",
    "SECTIONS",
    "TRANSIT",
    "measure",
]

CARRIED, LINKS, ISSUING = "relay", "relay links", "relay issuing"
SECTIONS = (CARRIED, LINKS, ISSUING)
OURS, TRANSIT, FLOOR = "kdc relay", "magic-wormhole's transit relay", "floor: socat"
ALONE, BESIDE, APART = "it carries nothing", "kdc --relay carries", "kdc relay carries"
_SECONDS = 600.0
# Everybody has one address here, and no principal is a crowd.
_LIMITS = {
    "links": 5000,
    "links-per-address": 5000,
    "joined-per-address": 1000,
    "unproven": 1000,
    "unproven-per-address": 1000,
}


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    kdc = KDC(scratch, plan.linked, everybody=True)
    try:
        relay = _Own(scratch, kdc)
        # Before it carries anything: what that leaves free would be used again, and not be seen.
        results.measure(LINKS, f"{plan.linked:,} receivers", partial(relay.links, plan))
        ways: dict[str, Any] = {OURS: relay.carry}
        if plan.peers:
            ways |= {TRANSIT: partial(_transit, scratch), FLOOR: partial(_socat, scratch)}
        for _ in range(plan.few):
            for row, carry in ways.items():
                results.measure(CARRIED, row, partial(carry, plan.relay_mib))
        for _ in range(plan.few):
            results.measure(ISSUING, ALONE, partial(_issue, kdc, plan))
            results.measure(ISSUING, APART, partial(_meanwhile, kdc, relay.settings, plan))
        relay.stop()
    finally:
        kdc.stop()
    port = free_port()
    kdc = KDC(scratch, 10, options=["--relay", str(port)])
    try:
        settings = {**kdc.where(), "middle": port, "middle_pid": kdc.pid}
        for _ in range(plan.few):
            results.measure(ISSUING, BESIDE, partial(_meanwhile, kdc, settings, plan))
    finally:
        kdc.stop()


class _Own:
    """``kdc relay``, a process of its own."""

    def __init__(self, scratch: Scratch, kdc: KDC) -> None:
        self._scratch = scratch
        room, port = scratch.room("relay"), free_port()
        write_key_file(room / "relay.key")
        self._child = scratch.start(
            [
                *(Path(sys.executable).parent / "kdc", "relay", "-a", "127.0.0.1"),
                *("-p", str(kdc.port), "--kdc-fingerprint", kdc.pin, "--key-file", "relay.key"),
                *("--listen", f"tcp:{port}:interface=127.0.0.1"),
                *(f"--limit={name}={value}" for name, value in _LIMITS.items()),
            ],
            cwd=room,
            log=room / "log",
        )
        until(lambda: "receiving on" in (room / "log").read_text(), "a relay starts")
        self.settings = {**kdc.where(), "middle": port, "middle_pid": self._child.pid}

    def stop(self) -> None:
        self._scratch.stop(self._child)

    def carry(self, mib: int) -> dict[str, float]:
        return _carry(self._scratch, {**self.settings, "way": "ours", "mib": mib})

    def links(self, plan: Plan) -> dict[str, float]:
        """Memory for each of so many; then some transfers at once, all of which must be whole."""
        settings = {
            **self.settings,
            "count": plan.linked,
            "at_once": plan.joined,
            "each": 1 << 20,
        }
        child = _start(self._scratch, "links", settings)
        pid = self._child.pid
        try:
            said(child, _SECONDS)
            empty, cpu = own_memory_of(pid), cpu_of(pid)
            go_on(child)
            said(child, _SECONDS)
            full, linking = own_memory_of(pid), cpu_of(pid) - cpu
            go_on(child)
            done = said(child, _SECONDS)
        finally:
            self._scratch.stop(child)
        if done["whole"] != plan.joined:
            raise Failed(f"{done['whole']} of {plan.joined} transfers at once were whole")
        return {
            "KiB each": (full - empty) / 1024 / plan.linked,
            "CPU us to link": linking / plan.linked * 1e6,
            "whole": done["whole"],
            "s": done["seconds"],
        }


def _start(scratch: Scratch, role: str, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "bench.relay_load", role, json.dumps(settings)]
    return scratch.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _carry(scratch: Scratch, settings: dict[str, Any]) -> dict[str, float]:
    child = _start(scratch, "carry", settings)
    try:
        return said(child, _SECONDS)
    finally:
        scratch.stop(child)


def _transit(scratch: Scratch, mib: int) -> dict[str, float]:
    port = free_port()
    child = wormhole.transit_relay(scratch, port)
    try:
        settings = {"way": "transit", "middle": port, "middle_pid": child.pid, "mib": mib}
        return _carry(scratch, settings)
    finally:
        scratch.stop(child)


def _socat(scratch: Scratch, mib: int) -> dict[str, float]:
    port, far = free_port(), free_port()
    where = f"TCP-LISTEN:{port},bind=127.0.0.1", f"TCP:127.0.0.1:{far}"
    child = scratch.start(["socat", "-b", str(1 << 18), *where], port=port)
    try:
        settings = {"way": "socat", "middle": port, "far": far, "middle_pid": child.pid, "mib": mib}
        return _carry(scratch, settings)
    finally:
        scratch.stop(child)


def _issue(kdc: KDC, plan: Plan) -> dict[str, float]:
    """Keys, one in flight on each of a few connections."""
    how = {"connections": 4, "depth": 1, "each": plan.each(50) // 4}
    return load("issue", kdc.where() | how)


def _meanwhile(kdc: KDC, settings: dict[str, Any], plan: Plan) -> dict[str, float]:
    """The same while a relay carries all that it can."""
    child = _start(kdc.scratch, "flood", settings)
    try:
        said(child, _SECONDS)
        figures = _issue(kdc, plan)
        go_on(child)
        return {**figures, **said(child, _SECONDS)}
    finally:
        kdc.scratch.stop(child)
