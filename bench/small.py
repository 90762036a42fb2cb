"""One command from its start to the confirmation: small messages, and one file of each size."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.ends import Ends, compare
from bench.peers import SSH, OpenSSL, Sent, socat
from bench.plan import Plan
from bench.processes import Scratch, run
from bench.stream import BLOCK
from bench.ways import IMPORTS, INTERPRETER, PLAIN, SEND, WORMHOLE, Way
from bench.wormhole import Wormhole

__all__ = ["growth", "small"]

# What no client in Python that speaks TLS through Twisted can do without.
_IMPORTS = """\
from twisted.internet import reactor, endpoints
from twisted.protocols import tls
from cryptography.hazmat.primitives.ciphers import aead
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
"""
_TEXT = "Hello, Bob! " * 85 + "Hi!"  # with its end of line a KiB
_WORMHOLES = 2  # messages a round: each takes a second


def small(scratch: Scratch, ends: Ends, plan: Plan) -> list[Way]:
    message = scratch.directory / "message"
    target = scratch.directory / "small"
    message.write_text(f"{_TEXT}\n")
    each = max(1, plan.small_messages // plan.rounds)
    fewer = max(1, each // 4)  # of the others, for the time it takes

    wormhole = functools.cache(lambda: Wormhole(scratch))

    def peer(copy: Callable[[], Sent], times: int = fewer) -> dict[str, float]:
        seconds = cpu = 0.0
        for _ in range(times):
            target.unlink(missing_ok=True)
            sent = copy()
            compare(message, target)
            seconds, cpu = seconds + sent.seconds, cpu + sent.cpu_seconds
        return {"s": seconds / times, "CPU s": cpu / times}

    size = message.stat().st_size
    cipher = "AES-256-GCM"
    return [
        (SEND, lambda: ends.send([message], each)),
        (INTERPRETER, lambda: _interpreter("pass", fewer)),
        (IMPORTS, lambda: _interpreter(_IMPORTS, fewer)),
        ("scp", lambda: peer(lambda: SSH(scratch, cipher).scp(message, target))),
        ("sftp", lambda: peer(lambda: SSH(scratch, cipher).sftp(message, target))),
        (
            "openssl s_client",
            lambda: peer(lambda: OpenSSL(scratch, cipher).stream(size, (message, target))),
        ),
        (WORMHOLE, lambda: peer(lambda: wormhole().text(_TEXT, target), min(fewer, _WORMHOLES))),
        (PLAIN, lambda: peer(lambda: socat(scratch, size, (message, target)))),
    ]


def growth(scratch: Scratch, ends: Ends, plan: Plan) -> list[Way]:
    """One message of each size."""
    target = scratch.directory / "grown"

    def source_of(size: int) -> Path:
        path = scratch.directory / f"of-{size}"
        with path.open("wb") as file:
            while size:
                size -= file.write(BLOCK[:size])
        return path

    def ours(size: int) -> dict[str, float]:
        path = source_of(size)
        try:
            return ends.send([path])
        finally:
            path.unlink()

    def scp(size: int) -> dict[str, float]:
        path = source_of(size)
        try:
            sent = SSH(scratch, "AES-256-GCM").scp(path, target)
            compare(path, target)
            return sent.figures(size)
        finally:
            path.unlink()

    return [
        (f"{name} of {size}", partial(call, size))
        for size in plan.file_sizes
        for name, call in (("kdcclient", ours), ("scp", scp))
    ]


def _interpreter(program: str, repeat: int) -> dict[str, float]:
    done = [run([sys.executable, "-c", program]) for _ in range(repeat)]
    return {
        "s": sum(each.seconds for each in done) / repeat,
        "CPU s": sum(each.cpu_seconds for each in done) / repeat,
    }
