"""Very many connections through one tunnel at once.

``python -m bench.tunnelled echo|ask SETTINGS`` is what is behind it, or before it.  All of them
begin at the same time, and stay until the last is there: each sends a line and waits for it to
come back, then, when all have been answered, all do it again.  The KDC's limits are those that it
has unless told otherwise.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from functools import partial
from typing import Any

from bench.channel import RECEIVER, SENDER
from bench.ends import Ends
from bench.figures import Figures, Results
from bench.ours import KDC
from bench.plan import Plan
from bench.processes import Scratch, cpu_of, free_port, memory_of, said

__all__ = ["SECTIONS", "TUNNELLED", "measure"]

TUNNELLED = "tunnelled"
SECTIONS = (TUNNELLED,)
_LINE = b"through and back\n"
_SECONDS = 180.0


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for count in plan.tunnelled:
        results.measure(TUNNELLED, f"{count:,} connections", partial(_measure, scratch, count))


def _measure(scratch: Scratch, count: int) -> Figures:
    kdc = KDC(scratch, 10, limits={}, room="kdc-tunnelled")
    try:
        return _between(scratch, Ends(scratch, kdc), count)
    finally:
        kdc.stop()


def _between(scratch: Scratch, ends: Ends, count: int) -> Figures:
    near, between, far = free_port(), free_port(), free_port()
    listen = f"tcp:{between}:interface=127.0.0.1"
    expose = ends.command(RECEIVER, "expose", f"echo=tcp:127.0.0.1:{far}", "--listen", listen)
    to = ends.names[RECEIVER]
    forward = ends.command(SENDER, "forward", "--to", to, "echo", "--listen", f"tcp:{near}")
    with (
        scratch.running(_self("echo", {"port": far}), port=far),
        scratch.running(expose, port=between) as receiver,
        scratch.running(forward, port=near) as sender,
        scratch.running(
            _self("ask", {"port": near, "count": count}), stdout=subprocess.PIPE
        ) as asker,
    ):
        pids = (ends.kdc.pid, receiver.pid, sender.pid)
        before = [cpu_of(pid) for pid in pids]
        found = said(asker, 3 * _SECONDS)
        cpu = [cpu_of(pid) - at for pid, at in zip(pids, before, strict=True)]
        memory = memory_of(receiver.pid, "VmHWM"), memory_of(sender.pid, "VmHWM")
    return {
        **found,
        "CPU ms": sum(cpu) / count * 1e3,
        "MiB, expose": memory[0],
        "MiB, forward": memory[1],
    }


def _self(role: str, settings: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "bench.tunnelled", role, json.dumps(settings)]


# The two processes.


async def _echo(settings: dict[str, Any]) -> None:
    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(back, "127.0.0.1", settings["port"], backlog=4096)
    await server.serve_forever()


async def _ask(settings: dict[str, Any]) -> None:
    """Tell how many were answered, when half and all of them were, and how long once more takes."""
    begun = time.monotonic()
    open_ones: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    answered: list[float] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(_LINE)
        return await reader.readline() == _LINE

    async def one() -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                pair = await asyncio.open_connection("127.0.0.1", settings["port"])
                if await once(*pair):
                    open_ones.append(pair)
                    answered.append(time.monotonic() - begun)
        except OSError as error:  # a connection that was cut, or took too long, is not counted
            print(f"{error!r}", file=sys.stderr)

    await asyncio.gather(*(one() for _ in range(settings["count"])))
    found = {"asked": settings["count"], "opened": len(answered)}
    if answered:
        found |= {"s for half": answered[len(answered) // 2], "s": answered[-1]}
        again = time.monotonic()
        async with asyncio.timeout(_SECONDS):
            whole = await asyncio.gather(*(once(*pair) for pair in open_ones))
        found |= {"again": sum(whole), "s again": time.monotonic() - again}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run({"echo": _echo, "ask": _ask}[sys.argv[1]](json.loads(sys.argv[2])))
