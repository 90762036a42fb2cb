"""Our own commands and channel between two principals of a KDC under measurement."""

from __future__ import annotations

import base64
import contextlib
import filecmp
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.channel import RECEIVER, SENDER
from bench.ours import KDC, load
from bench.peers import Command, Sent
from bench.population import able, name_of
from bench.processes import Failed, Scratch, cpu_of, free_port, run

__all__ = ["Ends", "compare"]


class Ends:
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

    def sending(self, sources: list[Path]) -> Command:
        return self.command(SENDER, "send", self.names[RECEIVER], *sources)

    @contextlib.contextmanager
    def receiving(self) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """``kdcclient receive`` while it lasts, and its inbox."""
        port = free_port()
        inbox = self.scratch.room("inbox")
        listen = f"tcp:{port}:interface=127.0.0.1"
        argv = self.command(RECEIVER, "receive", "--inbox", inbox, "--listen", listen)
        with self.scratch.running(argv, port=port) as receiver:
            time.sleep(0.5)  # until it has told the KDC
            yield receiver, inbox

    def send(self, sources: list[Path], repeat: int = 1) -> dict[str, float]:
        """``kdcclient send`` of each of ``sources`` to ``kdcclient receive``."""
        seconds = cpu = 0.0
        with self.receiving() as (receiver, inbox):
            far = -cpu_of(receiver.pid) - self.kdc.cpu
            for _ in range(repeat):
                done = run(self.sending(sources))
                seconds, cpu = seconds + done.seconds, cpu + done.cpu_seconds
                compare(sources[0], inbox / sources[0].name)
            far += cpu_of(receiver.pid) + self.kdc.cpu
        count = sum(source.stat().st_size for source in sources)
        return {
            **Sent(seconds / repeat, (cpu + far) / repeat).figures(max(1, count)),
            "client CPU s": cpu / repeat,
            "server CPU s": far / repeat,
        }


def compare(one: Path, other: Path) -> None:
    if not filecmp.cmp(one, other, shallow=False):
        raise Failed(f"{other.name} differs from what was sent")
    other.unlink()
