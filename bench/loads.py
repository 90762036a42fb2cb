"""What makes load: ``python -m bench.loads KIND SETTINGS``, in a process of its own.

The result is one line of JSON; what goes wrong ends in a traceback and status 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench import channel, floor, load

__all__ = ["LOADS"]

LOADS: dict[str, Callable[[Any, load.Settings], Awaitable[dict[str, Any]]]] = {
    "issue": load.issue,
    "connect": load.connect,
    "register": load.register,
    "exchange": floor.exchange,
    "handshake": floor.handshake,
    "transfer": channel.transfer,
}


def main() -> None:
    kind, settings = sys.argv[1], json.loads(sys.argv[2])

    async def work(reactor: Any) -> None:
        print(json.dumps(await LOADS[kind](reactor, settings)), flush=True)

    react(lambda reactor: Deferred.fromCoroutine(work(reactor)))


if __name__ == "__main__":
    main()
