"""Memory of a receiver for each idle channel: ``python -m bench.idle_channels [CHANNELS]``.

A KDC, one receiver, and as many senders as it takes, each a process of its own.
Each channel is used once, then nothing happens on it; at the end each is used
again, so that none is counted that is not there.
"""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.wire import Echo

from kdc.api import Client, run
from kdc.secret import write_key_file

PER_SENDER = 5_000
AT_ONCE = 4  # a receiver takes eight newcomers from one address
LIMITS = ("keys-per-second", "keys-burst", "registrations-per-minute")


def memory_of(pid: int | str) -> int:
    """Bytes that are this process's own, of whatever kind."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)) << 10


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Waiting(Protocol):
    """Knows when it has been answered."""

    def __init__(self) -> None:
        self.answered: Deferred[None] = Deferred()

    def ask(self) -> Deferred[None]:
        self.answered = Deferred()
        if self.transport is None:
            raise RuntimeError("not connected")
        self.transport.write(b"?")
        return self.answered

    def dataReceived(self, data: bytes) -> None:
        self.answered.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        print(reason, file=sys.stderr)
        os._exit(1)  # one that was lost would be counted as if it cost nothing


async def receiver(reactor: Any, options: dict[str, str]) -> None:
    bob = await Client.open(reactor, options, name="bob", key_file="bob.key")
    await bob.listen(Factory.forProtocol(Echo))
    gc.collect()
    print("ready", flush=True)
    await Deferred()


async def sender(reactor: Any, options: dict[str, str], number: int, channels: int) -> None:
    name = f"alice-{number}"
    alice = await Client.open(reactor, options, name=name, key_file=f"{name}.key")
    open_ones: list[Waiting] = []

    async def connect(count: int) -> None:
        for _ in range(count):
            channel: Any = await alice.connect("bob", Factory.forProtocol(Waiting))
            await channel.ask()
            open_ones.append(channel)

    shares = [len(range(n, channels, AT_ONCE)) for n in range(AT_ONCE)]
    await gatherResults([Deferred.fromCoroutine(connect(share)) for share in shares])
    print("ready", flush=True)
    again: Deferred[None] = Deferred()
    reactor.callInThread(lambda: (sys.stdin.readline(), reactor.callFromThread(again.callback, 0)))
    await again
    await gatherResults([channel.ask() for channel in open_ones])
    print("ready", flush=True)
    await Deferred()


def child(*argv: str, directory: str) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-m", "bench.idle_channels", *argv],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": here},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str]) -> None:
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise SystemExit("a process has failed")


def measure(channels: int, idle_seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        command = "from kdc.cli import kdc_main; kdc_main()"
        limits = [f"--limit={limit}=1000000" for limit in LIMITS]
        kdc = subprocess.Popen(
            [sys.executable, "-c", command, "-p", "0", "-f", "pwd.txt", *limits],
            cwd=directory,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = [kdc]
        try:
            said = "".join(next(iter(kdc.stderr or ())) for _ in range(4))
            found = re.search(r"port (\d+)\n(?s:.*)(sha256:[0-9a-f]{64})", said)
            if found is None:
                raise SystemExit(f"no KDC: {said}")
            options = json.dumps({"port": found[1], "kdc-fingerprint": found[2]})
            senders = [
                (n, min(PER_SENDER, channels - at))
                for n, at in enumerate(range(0, channels, PER_SENDER))
            ]
            for name in ["bob", *(f"alice-{n}" for n, _ in senders)]:
                write_key_file(Path(directory) / f"{name}.key")
            bob = child("receiver", options, directory=directory)
            running.append(bob)
            wait_for(bob)
            before = memory_of(bob.pid)
            began, cpu = time.monotonic(), cpu_of(bob.pid)
            alices = [
                child("sender", options, str(n), str(count), directory=directory)
                for n, count in senders
            ]
            running += alices
            for alice in alices:
                wait_for(alice)
            opening, opening_cpu = time.monotonic() - began, cpu_of(bob.pid) - cpu
            after, cpu = memory_of(bob.pid), cpu_of(bob.pid)
            time.sleep(idle_seconds)
            idle_cpu = cpu_of(bob.pid) - cpu
            for alice in alices:
                print(file=alice.stdin, flush=True)
                wait_for(alice)
            return {
                "channels": channels,
                "KiB per channel": (after - before) / 1024 / channels,
                "receiver before, MiB": before / 2**20,
                "receiver after, MiB": after / 2**20,
                "opened per second": channels / opening,
                "receiver's CPU ms to open one": 1000 * opening_cpu / channels,
                "idle seconds": idle_seconds,
                "receiver's CPU % while idle": 100 * idle_cpu / max(idle_seconds, 1),
            }
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()


def main(argv: list[str]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if argv[:1] == ["receiver"]:
        run(lambda reactor: receiver(reactor, json.loads(argv[1])))
    elif argv[:1] == ["sender"]:
        run(lambda reactor: sender(reactor, json.loads(argv[1]), int(argv[2]), int(argv[3])))
    channels = int(argv[0]) if argv else 10_000
    if hard < channels + 100:
        raise SystemExit(f"{channels} channels take as many descriptors; this shell allows {hard}")
    for what, value in measure(channels, float(argv[1]) if argv[1:] else 150).items():
        print(f"{what:32} {value:10.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
