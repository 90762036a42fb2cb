"""What people do: transfers, small messages, tunnels; beside the programs they use for it now."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.channel import RECEIVER, SENDER
from bench.ends import Ends, compare
from bench.figures import Figures, Results
from bench.many_files import many
from bench.ours import KDC
from bench.peers import (
    PSK_CIPHERS,
    SSH,
    TLS_CIPHERS,
    Command,
    Haproxy,
    OpenSSL,
    Sent,
    SocatTLS,
    Spiped,
    Stunnel,
    bare_tls,
    socat,
    through,
)
from bench.plan import Plan
from bench.processes import Scratch, free_port, run
from bench.resume import resume
from bench.rounds import Run
from bench.small import growth, small
from bench.stream import BLOCK
from bench.ways import BARE_TLS, CHANNEL, COPY, PLAIN, SEND, THROUGH, WORMHOLE, Way, is_rival
from bench.wormhole import Wormhole

__all__ = [
    "FILES",
    "GROWTH",
    "MANY",
    "MEMORY",
    "RESUME",
    "SECTIONS",
    "SMALL",
    "TUNNEL",
    "in_turn",
    "measure",
]

MEMORY, FILES, SMALL, TUNNEL, GROWTH = "memory", "files", "small", "tunnel", "growth"
MANY, RESUME = "many", "resume"
SECTIONS = (MEMORY, TUNNEL, FILES, SMALL, GROWTH, MANY, RESUME)
_MIB = 1 << 20


def measure(scratch: Scratch, plan: Plan, results: Run) -> None:
    kdc = KDC(scratch, 10)
    try:
        ends = Ends(scratch, kdc)
        for section, rounds, ways in (
            (MEMORY, plan.few, _memory),
            (TUNNEL, plan.few, _tunnels),
            (FILES, plan.few, _files),
            (SMALL, plan.rounds, small),
            (GROWTH, 1, growth),
            (MANY, 1, many),
            (RESUME, plan.few, resume),
        ):
            if results.wanted(section):  # to make what is to be sent takes time, too
                in_turn(results, section, rounds, ways(scratch, ends, plan), plan.peers)
    finally:
        kdc.stop()


def in_turn(results: Results, section: str, rounds: int, ways: list[Way], peers: bool) -> None:
    for _ in range(rounds):
        for row, way in ways:
            if peers or not is_rival(row):
                results.measure(section, row, way)


def _memory(scratch: Scratch, ends: Ends, plan: Plan) -> list[Way]:
    ours, count = plan.transfer_mib * _MIB, plan.peer_transfer_mib * _MIB
    ways: list[Way] = [
        (CHANNEL, lambda: ends.to_memory(ours)),
        (PLAIN, lambda: socat(scratch, count).figures(count)),
        (BARE_TLS, lambda: bare_tls(scratch, count).figures(count)),
    ]
    for cipher in TLS_CIPHERS:
        ways += [
            (f"ssh, {cipher}", lambda c=cipher: SSH(scratch, c).stream(count).figures(count)),  # type: ignore[misc]
            (
                f"openssl s_client, {cipher}",
                lambda c=cipher: OpenSSL(scratch, c).stream(count).figures(count),  # type: ignore[misc]
            ),
        ]
    return ways


def _tunnels(scratch: Scratch, ends: Ends, plan: Plan) -> list[Way]:
    count = plan.tunnel_mib * _MIB

    def go(make: Callable[[int, int, int], list[tuple[Command, int]]]) -> Figures:
        near, between, sink = free_port(), free_port(), free_port()
        with scratch.running([sys.executable, "-m", "bench.stream", "sink", str(sink)], port=sink):
            return through(scratch, count, make(near, between, sink), near, sink).figures(count)

    def ours(near: int, between: int, far: int) -> list[tuple[Command, int]]:
        listen = f"tcp:{between}:interface=127.0.0.1"
        expose = ends.command(RECEIVER, "expose", f"sink=tcp:127.0.0.1:{far}", "--listen", listen)
        forward = ends.command(
            SENDER, "forward", "--to", ends.names[RECEIVER], "sink", "--listen", f"tcp:{near}"
        )
        return [(expose, between), (forward, near)]

    return [
        (THROUGH, lambda: go(ours)),
        ("spiped", lambda: go(Spiped(scratch).ends)),
        ("socat, AES-256-GCM", lambda: go(SocatTLS(scratch).ends)),
        *((f"haproxy, {c}", lambda c=c: go(Haproxy(scratch, c).ends)) for c in TLS_CIPHERS),
        *((f"ssh -L, {c}", lambda c=c: go(SSH(scratch, c).ends)) for c in TLS_CIPHERS),
        *((f"stunnel PSK, {c}", lambda c=c: go(Stunnel(scratch, c).ends)) for c in PSK_CIPHERS),
    ]


def _files(scratch: Scratch, ends: Ends, plan: Plan) -> list[Way]:
    count = plan.transfer_mib * _MIB
    source = scratch.directory / "source"
    target = scratch.directory / "target"
    with source.open("wb") as file:
        for _ in range(plan.transfer_mib):
            file.write(BLOCK)

    def peer(copy: Callable[[], Sent]) -> Figures:
        target.unlink(missing_ok=True)
        sent = copy()
        compare(source, target)
        return sent.figures(count)

    wormhole = functools.cache(lambda: Wormhole(scratch))
    ways: list[Way] = [
        (SEND, lambda: ends.send([source])),
        (
            PLAIN,
            lambda: peer(lambda: socat(scratch, count, (source, target))),
        ),
        (COPY, lambda: peer(lambda: _copy(source, target))),
        (WORMHOLE, lambda: peer(lambda: wormhole().file(source, target))),
    ]
    for cipher in TLS_CIPHERS:
        ways += [
            (f"scp, {cipher}", lambda c=cipher: peer(lambda: SSH(scratch, c).scp(source, target))),  # type: ignore[misc]
            (
                f"sftp, {cipher}",
                lambda c=cipher: peer(lambda: SSH(scratch, c).sftp(source, target)),  # type: ignore[misc]
            ),
            (
                f"openssl s_client, {cipher}",
                lambda c=cipher: peer(  # type: ignore[misc]
                    lambda: OpenSSL(scratch, c).stream(count, (source, target))
                ),
            ),
        ]
    return ways


def _copy(source: Path, target: Path) -> Sent:
    done = run(["cp", source, target])
    begun = time.monotonic()
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return Sent(done.seconds + time.monotonic() - begun, done.cpu_seconds)
