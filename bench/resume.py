"""A large file, and both ends are killed on the way: how soon it goes on, how soon it is whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.channel import RECEIVER
from bench.ends import Ends, compare
from bench.figures import Figures
from bench.peers import Command, tool
from bench.plan import Plan
from bench.processes import Failed, Scratch, cpu_of, free_port, run, until
from bench.stream import BLOCK
from bench.ways import SEND, Way

__all__ = ["HASHED", "resume"]

HASHED = "floor: SHA-256 by openssl of what was kept, at one end"
_SHARE = 0.7
_MORE = 1 << 20  # so much has to come before it is said to go on
_SECONDS = 300.0


def resume(scratch: Scratch, ends: Ends, plan: Plan) -> list[Way]:
    source = scratch.directory / "cut"
    size = plan.transfer_mib << 20
    with source.open("wb") as file:
        for number in range(plan.transfer_mib):  # each of them another
            file.write(b"%08d" % number + BLOCK[8:])
    return [
        (SEND, lambda: _ours(scratch, ends, source, size)),
        (HASHED, lambda: _hashed(scratch, source, size)),
    ]


def _ours(scratch: Scratch, ends: Ends, source: Path, size: int) -> Figures:
    """Both are killed when most of it is there, and started again."""
    inbox, port = scratch.room("resumed"), free_port()
    where = ("--inbox", inbox, "--listen", f"tcp:{port}:interface=127.0.0.1")
    receive = ends.command(RECEIVER, "receive", *where)
    cut_at = _cut(scratch, receive, ends.sending([source]), port, inbox / source.name, size)
    with scratch.running(receive, port=port) as receiver:
        time.sleep(0.5)  # until it has told the KDC
        far, begun = -cpu_of(receiver.pid), time.monotonic()
        sender = scratch.start(ends.sending([source]))
        try:
            went_on = _goes_on(inbox / source.name, cut_at) - begun
            if sender.wait(_SECONDS):
                raise Failed("it was not sent at the second time")
            seconds = time.monotonic() - begun
        finally:
            cpu = scratch.stop(sender)
        far += cpu_of(receiver.pid)
        compare(source, inbox / source.name)
    return {"s to go on": went_on, "s": seconds, "CPU s": cpu + far}


def _cut(
    scratch: Scratch, receive: Command, send: Command, port: int, target: Path, size: int
) -> int:
    """Return the number of the attempt that came so far."""
    receiver = scratch.start(receive, port=port)
    try:
        time.sleep(0.5)
        sender = scratch.start(send)
        try:
            until(
                lambda: sender.poll() is not None or _arrived(target)[1] > _SHARE * size,
                "most of it is there",
                _SECONDS,
            )
            sender.kill()
        finally:
            scratch.stop(sender)
        receiver.kill()
    finally:
        scratch.stop(receiver)
    if target.exists():
        raise Failed("it was there before it could be cut")
    return _arrived(target)[0]


def _goes_on(target: Path, cut_at: int) -> float:
    """When it has become longer than what was kept of it."""
    kept = None
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        attempt, size = _arrived(target)
        if attempt > cut_at:
            kept = size if kept is None else kept
            if size > kept + _MORE:
                return time.monotonic()
        elif target.exists():
            break
        time.sleep(0.005)
    raise Failed("it was not seen to go on")


def _arrived(target: Path) -> tuple[int, int]:
    """The newest attempt that has something of it, and how much."""
    return max(_attempts(target), default=(0, 0))


def _attempts(target: Path) -> Iterator[tuple[int, int]]:
    for path in target.parent.glob(f".kdc-partial/*/*/{target.name}"):
        try:
            yield int(path.parent.name), path.stat().st_size
        except FileNotFoundError:  # it was moved
            continue


def _hashed(scratch: Scratch, source: Path, size: int) -> Figures:
    part = scratch.directory / "part"
    with source.open("rb") as file, part.open("wb") as output:
        for _ in range(int(_SHARE * size) >> 20):
            output.write(file.read(1 << 20))
    done = run([tool("openssl"), "dgst", "-sha256", part])
    part.unlink()
    return {"s": done.seconds, "CPU s": done.cpu_seconds}
