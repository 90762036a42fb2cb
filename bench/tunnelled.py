"""Very many connections through one tunnel at once.

``python -m bench.tunnelled echo|ask SETTINGS`` is what is behind it, or before it.  All of them
begin at the same time: each sends a line, waits for it to come back, and ends.  A receiver keeps so
many channels of one sender at a time, and a KDC makes so many keys a second for one: the others
wait.  All limits are those that there are unless told otherwise.
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
        found = said(asker, 2 * _SECONDS)
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
    """Tell how many were answered, and when half and all of them were."""
    begun = time.monotonic()
    answered: list[float] = []

    async def one() -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", settings["port"])
                writer.write(_LINE)
                if await reader.readline() == _LINE:
                    answered.append(time.monotonic() - begun)
                writer.close()
        except OSError as error:  # one that was cut, or took too long, is not counted
            print(f"{error!r}", file=sys.stderr)

    await asyncio.gather(*(one() for _ in range(settings["count"])))
    found = {"asked": settings["count"], "answered": len(answered)}
    if answered:
        found |= {"s for half": answered[len(answered) // 2], "s": answered[-1]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run({"echo": _echo, "ask": _ask}[sys.argv[1]](json.loads(sys.argv[2])))
