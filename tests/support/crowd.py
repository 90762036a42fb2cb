"""Many senders in one process, at the same time: ``python -m tests.support.crowd``, see `main`."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from kdc.client.membership import make_client
from kdc.client.secret import SecretSource, write_key_file
from kdc.client.settings import ClientSettings
from kdc.net.exit_status import run_to_end
from kdc.transfer.sending import SendSettings, plain_file, send

# Nothing, one byte, around the borders of records, and some that take a while.
SIZES = (0, 1, 1000, 65_518, 65_519, 300_000, 1_048_577)

__all__ = ["SIZES", "content_of", "main", "name_of"]


def name_of(number: int) -> str:
    return f"sender-{number}"


def content_of(number: int) -> bytes:
    """What sender ``number`` sends: different for all, the same whenever it is asked for."""
    return random.Random(number).randbytes(SIZES[number % len(SIZES)])


def _client(reactor: Any, number: int, kdc: tuple[str, int, str]) -> tuple[Any, SendSettings]:
    host, port, fingerprint = kdc
    name = name_of(number)
    key, path = Path(f"{name}.key"), Path(f"{name}.bin")
    write_key_file(key)
    path.write_bytes(content_of(number))
    settings = ClientSettings(
        name, host, port, secret=SecretSource(key_file=key), fingerprint=fingerprint
    )
    sending = SendSettings(settings, ("bob",), plain_file(path), retry=True)
    return make_client(reactor, settings), sending


async def _all_send(crowd: list[tuple[Any, SendSettings]]) -> int:
    sends = [Deferred.fromCoroutine(send(client, settings)) for client, settings in crowd]
    results: Any = await DeferredList(sends, consumeErrors=True)
    failures = [result for done, result in results if not done]
    for failure in failures:
        print(f"failed: {failure.value!r}", file=sys.stderr)
    return min(len(failures), 1)


def main() -> None:
    """HOST PORT FINGERPRINT FIRST COUNT: so many senders to bob, each with a file of its own.

    Keys and files are made here; the exit status is 0 if all of them were
    confirmed.
    """
    from twisted.internet import reactor

    host, port, fingerprint, first, count = sys.argv[1:]
    kdc = (host, int(port), fingerprint)
    numbers = range(int(first), int(first) + int(count))
    crowd = [_client(reactor, number, kdc) for number in numbers]
    raise SystemExit(run_to_end("crowd", reactor, lambda: _all_send(crowd)))


if __name__ == "__main__":
    main()
