"""What breaks first when there is more and more of it, said in figures of this run."""

from __future__ import annotations

from collections.abc import Iterator

from bench.exchanges import AT_A_TIME, CONNECT, ISSUE, OPENED, REGISTER, label
from bench.figures import Results, number
from bench.scale import SCALE
from bench.senders import SENDERS
from bench.tunnelled import TUNNELLED

__all__ = ["breaking"]

_CROWDS = ((SENDERS, "confirmed", "delivered"), (TUNNELLED, "answered", "answered"))


def breaking(results: Results, principals: int) -> str:
    """Lines of Markdown."""
    return "".join(f"- {line}\n" for line in (*_crowds(results), *_bounds(results, principals)))


def _crowds(results: Results) -> Iterator[str]:
    """What was refused of all that came at once; the fewest of all rounds count."""
    for section, name, done in _CROWDS:
        for row in results.rows(section):
            asked, least = (results.least(section, row, each) for each in ("asked", name))
            if asked is None or least is None:
                continue
            if least < asked:
                yield f"**{row} at once: only {least:,.0f} were {done}.**"
            else:
                seconds = number(results.median(section, row, "s") or 0)
                yield f"{row} at once: all were {done}, the last after {seconds} s."


def _bounds(results: Results, principals: int) -> Iterator[str]:
    """A processor of the KDC is the first thing to be full: so many a second it can do."""
    rows = (
        (CONNECT, label("kdc", principals), "log-ins with a key"),
        (REGISTER, label(f"kdc, {AT_A_TIME[16]}{OPENED}", principals), "registrations"),
        (ISSUE, label("kdc, 1 in flight", principals), "keys, one in flight on each connection"),
        (ISSUE, label("kdc, pipelined", principals), "keys, 16 in flight on each"),
    )
    known = [(results.median(section, row, "us"), what) for section, row, what in rows]
    each = [f"{number(1e6 / us)} {what}" for us, what in known if us]
    if each:
        yield (
            f"The KDC works on one processor. With {principals:,} principals it is full at"
            f" {'; or '.join(each)}, a second."
        )
    if results.rows(TUNNELLED):
        yield (
            "A receiver keeps 128 channels of one sender at a time: of more connections through one"
            " tunnel the others wait until one of those ends."
        )
    sizes = results.rows(SCALE)
    kib = results.median(SCALE, sizes[-1], "KiB each") if sizes else None
    if kib:
        yield (
            f"A connected receiver takes {number(kib)} KiB of the KDC and a file descriptor:"
            f" a GiB is full with {number((1 << 20) / kib)} of them."
        )
