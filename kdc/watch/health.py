"""Whether a service is alive, and whether it is ready: answers with reasons.  Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from kdc.watch.answers import Answer

__all__ = ["Checks", "alive", "ready"]

# What is wrong with each part, or nothing.
Checks = Mapping[str, Callable[[], str]]


def alive(lag_seconds: float) -> Answer:
    """That it is said at all shows that the reactor turns."""
    return _answer(200, {"status": "alive", "reactor_lag_seconds": round(lag_seconds, 6)})


def ready(checks: Checks) -> Answer:
    found = {name: check() for name, check in checks.items()}
    well = not any(found.values())
    told = {name: reason or "ok" for name, reason in found.items()}
    return _answer(
        200 if well else 503, {"status": "ready" if well else "not ready", "checks": told}
    )


def _answer(status: int, told: object) -> Answer:
    return Answer(status, json.dumps(told).encode() + b"\n", "application/json")
