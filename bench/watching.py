"""What it costs to be watched: keys from a KDC that is not, from one that is, and looked at."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from bench.figures import Results
from bench.ours import KDC, load
from bench.plan import Plan
from bench.processes import Failed, Scratch, until

__all__ = ["LOOKED_AT", "OFF", "SECTIONS", "WATCHED", "WATCHING", "measure"]

WATCHING = "watching"
SECTIONS = (WATCHING,)
OFF, WATCHED = "without --status", "with --status"
LOOKED_AT = "the page open, figures read each second"
_PRINCIPALS = 1000
_CONNECTIONS = 50
_SECONDS = 600.0
_PLACE = r"status at (http://\S+)/\n"


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    """In turn, many short ones: what else the machine does is shared by all three."""
    kdcs = {
        OFF: KDC(scratch, _PRINCIPALS, room="unwatched"),
        WATCHED: KDC(scratch, _PRINCIPALS, options=["--status", "0"], room="watched"),
        LOOKED_AT: KDC(scratch, _PRINCIPALS, options=["--status", "0"], room="looked-at"),
    }
    try:
        with _looked_at(kdcs[LOOKED_AT]):
            each = plan.watched_keys // _CONNECTIONS
            how: dict[str, Any] = {"connections": _CONNECTIONS, "depth": 1, "each": each}
            ways = list(kdcs.items())
            for turn in range(plan.watched_turns):
                for row, kdc in ways if turn % 2 else reversed(ways):
                    results.measure(WATCHING, row, partial(load, "issue", kdc.where() | how))
    finally:
        for kdc in kdcs.values():
            kdc.stop()


@contextlib.contextmanager
def _looked_at(kdc: KDC) -> Iterator[None]:
    """Somebody has the page open, and Prometheus asks each second."""
    until(lambda: re.search(_PLACE, kdc.said), "a status port")
    url = re.search(_PLACE, kdc.said)[1]  # type: ignore[index] # just seen
    ended = threading.Event()
    wrong: list[str] = []

    def scrape() -> None:
        while not ended.wait(1.0):
            try:
                with urllib.request.urlopen(f"{url}/metrics") as answer:  # noqa: S310 - our own
                    if b"kdc_keys_issued_total" not in answer.read():
                        wrong.append("no figures")
            except urllib.error.HTTPError as error:  # without prometheus-client, for example
                with error:
                    wrong.append(f"{error.code}: {error.read()[:200]!r}")

    place = urlsplit(url)
    page = socket.create_connection((place.hostname or "", place.port or 0))
    page.settimeout(_SECONDS)
    page.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    seen = [0]

    def look() -> None:
        with contextlib.suppress(OSError):
            while data := page.recv(1 << 16):
                seen[0] += data.count(b"event: ")

    threads = [threading.Thread(target=work, daemon=True) for work in (scrape, look)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            page.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        page.close()
    if wrong or not seen[0]:
        raise Failed(f"nobody saw anything: {wrong[:1]}")
