"""What people do: transfers, small messages, tunnels; beside the programs they use for it now."""

from __future__ import annotations

import base64
import filecmp
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.channel import RECEIVER, SENDER
from bench.figures import Results
from bench.ours import KDC, load
from bench.peers import (
    PSK_CIPHERS,
    SSH,
    TLS_CIPHERS,
    Command,
    OpenSSL,
    Sent,
    Spiped,
    Stunnel,
    socat,
    through,
)
from bench.plan import Plan
from bench.population import able, name_of
from bench.processes import Failed, Scratch, cpu_of, free_port, run
from bench.stream import BLOCK

__all__ = ["FILES", "GROWTH", "MEMORY", "SMALL", "TUNNEL", "measure"]

MEMORY, FILES, SMALL, TUNNEL, GROWTH = "memory", "files", "small", "tunnel", "growth"
_MIB = 1 << 20
Way = tuple[str, Callable[[], dict[str, float]]]


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    kdc = KDC(scratch, 10)
    try:
        ends = _Ends(scratch, kdc)
        rounds = min(3, plan.rounds)
        _in_turn(results, MEMORY, rounds, _memory(scratch, ends, plan))
        _in_turn(results, TUNNEL, rounds, _tunnels(scratch, ends, plan))
        _in_turn(results, FILES, rounds, _files(scratch, ends, plan))
        _in_turn(results, SMALL, plan.rounds, _small(scratch, ends, plan))
        _in_turn(results, GROWTH, 1, _growth(scratch, ends, plan))
    finally:
        kdc.stop()


def _in_turn(results: Results, section: str, rounds: int, ways: list[Way]) -> None:
    for _ in range(rounds):
        for row, way in ways:
            try:
                results.add(section, row, way())
            except Failed as error:
                results.without(section, row, str(error))


class _Ends:
    """Our own commands, their key files, and what they need to know."""

    def __init__(self, scratch: Scratch, kdc: KDC) -> None:
        self.scratch = scratch
        self.kdc = kdc
        self.room = scratch.room("ends")
        self.names = [name_of(number) for number in able(kdc.principals)]
        for number in able(kdc.principals)[:2]:
            secret = hashlib.sha256(f"bench {number}".encode()).digest()
            path = self.key(number)
            path.touch(mode=0o600)
            path.write_text(f"kdc-key:1:{base64.b64encode(secret).decode()}\n")

    def key(self, number: int) -> Path:
        return self.room / f"{name_of(number)}.key"

    def command(self, who: int, *words: str | Path) -> list[str | Path]:
        number = able(self.kdc.principals)[who]
        return [
            *(Path(sys.executable).parent / "kdcclient", *words[:1]),
            *("-n", name_of(number), "--key-file", self.key(number), "-a", "127.0.0.1"),
            *("-p", str(self.kdc.port), "--kdc-fingerprint", self.kdc.pin, *words[1:]),
        ]

    def to_memory(self, count: int) -> dict[str, float]:
        """Memory to memory, in two processes that are there already."""
        port = free_port()
        where = {**self.kdc.where(), "listen": port}
        receiver = self.scratch.start(
            [sys.executable, "-m", "bench.channel", json.dumps(where)], port=port
        )
        try:
            done = load("transfer", {**where, "receiver_pid": receiver.pid, "bytes": count})
        finally:
            self.scratch.stop(receiver)
        cpu = done["sender CPU s"] + done["receiver CPU s"]
        return {**done, **Sent(done["s"], cpu).figures(count)}

    def receiver(self, inbox: Path) -> Command:
        return self.command(
            RECEIVER,
            "receive",
            "--inbox",
            inbox,
            "--listen",
            f"tcp:{self.port}:interface=127.0.0.1",
        )

    port = 0

    def send(self, sources: list[Path], repeat: int = 1) -> dict[str, float]:
        """``kdcclient send`` of each of ``sources`` to ``kdcclient receive``."""
        self.port = free_port()
        inbox = self.scratch.room("inbox")
        receiver = self.scratch.start(self.receiver(inbox), port=self.port)
        seconds = cpu = far = 0.0
        try:
            time.sleep(0.5)  # until it has told the KDC
            for _ in range(repeat):
                before = cpu_of(receiver.pid)
                command = self.command(SENDER, "send", self.names[RECEIVER], *sources)
                done = run(command)
                seconds, cpu = seconds + done.seconds, cpu + done.cpu_seconds
                far += cpu_of(receiver.pid) - before
                _compare(sources[0], inbox / sources[0].name)
        finally:
            self.scratch.stop(receiver)
        count = repeat * sum(source.stat().st_size for source in sources)
        return {
            **Sent(seconds / repeat, (cpu + far) / repeat).figures(max(1, count // repeat)),
            "client CPU s": cpu / repeat,
            "server CPU s": far / repeat,
        }


def _compare(one: Path, other: Path) -> None:
    if not filecmp.cmp(one, other, shallow=False):
        raise Failed(f"{other.name} differs from what was sent")
    other.unlink()


def _memory(scratch: Scratch, ends: _Ends, plan: Plan) -> list[Way]:
    ours, count = plan.transfer_mib * _MIB, plan.peer_transfer_mib * _MIB
    ways: list[Way] = [
        ("kdc channel", lambda: ends.to_memory(ours)),
        ("socat, plain TCP", lambda: socat(scratch, count).figures(count)),
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


def _tunnels(scratch: Scratch, ends: _Ends, plan: Plan) -> list[Way]:
    count = plan.tunnel_mib * _MIB

    def go(make: Callable[[int, int, int], list[tuple[Command, int]]]) -> dict[str, float]:
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
        ("kdcclient expose, forward", lambda: go(ours)),
        ("spiped", lambda: go(Spiped(scratch).ends)),
        *((f"stunnel PSK, {c}", lambda c=c: go(Stunnel(scratch, c).ends)) for c in PSK_CIPHERS),
    ]


def _files(scratch: Scratch, ends: _Ends, plan: Plan) -> list[Way]:
    count = plan.transfer_mib * _MIB
    source = scratch.directory / "source"
    target = scratch.directory / "target"
    with source.open("wb") as file:
        for _ in range(plan.transfer_mib):
            file.write(BLOCK)

    def peer(copy: Callable[[], Sent]) -> dict[str, float]:
        target.unlink(missing_ok=True)
        sent = copy()
        _compare(source, target)
        return sent.figures(count)

    ways: list[Way] = [
        ("kdcclient send, receive", lambda: ends.send([source])),
        (
            "socat, plain TCP",
            lambda: peer(lambda: socat(scratch, count, (source, target))),
        ),
        ("cp and fsync", lambda: peer(lambda: _copy(source, target))),
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


def _small(scratch: Scratch, ends: _Ends, plan: Plan) -> list[Way]:
    message = scratch.directory / "message"
    target = scratch.directory / "small"
    message.write_bytes(b"Hello, Bob!\n")
    each = max(1, plan.small_messages // plan.rounds)
    fewer = max(1, each // 4)  # of the others, for the time it takes

    def peer(copy: Callable[[], Sent]) -> dict[str, float]:
        seconds = cpu = 0.0
        for _ in range(fewer):
            target.unlink(missing_ok=True)
            sent = copy()
            _compare(message, target)
            seconds, cpu = seconds + sent.seconds, cpu + sent.cpu_seconds
        return {"s": seconds / fewer, "CPU s": cpu / fewer}

    size = message.stat().st_size
    cipher = "AES-256-GCM"
    return [
        ("kdcclient send, receive", lambda: ends.send([message], each)),
        ("python, nothing at all", lambda: _interpreter(fewer)),
        ("scp", lambda: peer(lambda: SSH(scratch, cipher).scp(message, target))),
        ("sftp", lambda: peer(lambda: SSH(scratch, cipher).sftp(message, target))),
        (
            "openssl s_client",
            lambda: peer(lambda: OpenSSL(scratch, cipher).stream(size, (message, target))),
        ),
        ("socat, plain TCP", lambda: peer(lambda: socat(scratch, size, (message, target)))),
    ]


def _growth(scratch: Scratch, ends: _Ends, plan: Plan) -> list[Way]:
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
            _compare(path, target)
            return sent.figures(size)
        finally:
            path.unlink()

    return [
        (f"{name} of {size}", partial(call, size))
        for size in plan.file_sizes
        for name, call in (("kdcclient", ours), ("scp", scp))
    ]


def _interpreter(repeat: int) -> dict[str, float]:
    done = [run([sys.executable, "-c", "pass"]) for _ in range(repeat)]
    return {
        "s": sum(each.seconds for each in done) / repeat,
        "CPU s": sum(each.cpu_seconds for each in done) / repeat,
    }
