"""The goals of what is large, long or many, and of what a realm has besides."""

from __future__ import annotations

from collections.abc import Iterator

from bench.background_work import BACKGROUND
from bench.figures import Results, number
from bench.goal import Goal, bounded, known
from bench.many_files import SYNCED, TAR
from bench.relay import ALONE, BESIDE, CARRIED, FLOOR, ISSUING, OURS, TRANSIT
from bench.resume import HASHED
from bench.senders import SENDERS
from bench.tickets import AS, CHILD, REALMS, TGS, THREAD, TICKETS, ours, theirs
from bench.transfers import MANY, RESUME
from bench.tunnelled import TUNNELLED
from bench.watching import LOOKED_AT, OFF, WATCHING
from bench.ways import SEND

__all__ = ["goals_at_scale"]

_FILES = 100_000
_PRINCIPALS = 1_000_000
_P99_MS, _WORST_MS = 20, 100


def goals_at_scale(results: Results) -> Iterator[Goal]:
    yield from _many(results)
    yield _resumed(results)
    yield from _crowds(results)
    yield from _background(results)
    yield _watched(results)
    yield from _relay(results)
    yield from _kerberos(results)


def _many(results: Results) -> list[Goal]:
    whole = results.median(MANY, SEND, "files") == _FILES
    seconds = results.median(MANY, SEND, "s") if whole else None
    beside = "; ".join(f"{row}: {results.text(MANY, row, 's')} s" for row in (TAR, SYNCED))
    text = f"a directory of {_FILES:,} files of 1 kB, on the disk at the end: at most 10 s"
    return [bounded(text, seconds, "s", lambda value: value <= 10, beside)]


def _resumed(results: Results) -> Goal:
    beside = results.text(RESUME, HASHED, "s")
    return bounded(
        "a large file, both ends killed at 70 %: goes on within 1 s, start included",
        results.median(RESUME, SEND, "s to go on"),
        "s",
        lambda value: value <= 1,
        f"to read what was kept once takes {beside} s",
    )


def _crowds(results: Results) -> list[Goal]:
    """None is lost; the least of all rounds counts."""
    found = []
    for section, name, text in (
        (SENDERS, "stored", "at once to one receiver: all are delivered"),
        (TUNNELLED, "answered", "at once through one tunnel: all are answered"),
    ):
        for row in results.rows(section):
            asked, least = (results.least(section, row, each) for each in ("asked", name))
            if asked is None or least is None:
                found.append(Goal(f"{row} {text}", "-", None))
            else:
                found.append(Goal(f"{row} {text}", f"{least:,.0f}", least >= asked))
    return found


_P99_MS, _WORST_MS = 20, 100


def _background(results: Results) -> list[Goal]:
    """The worst of all works: whichever it is, nobody's key may wait for it."""
    found = []
    for name, what, most in (("p99 ms", "99 %", _P99_MS), ("worst ms", "the worst", _WORST_MS)):
        waits = [
            (value, row)
            for row in results.rows(BACKGROUND)
            if row.endswith(f" {_PRINCIPALS:,} principals")
            and (value := results.median(BACKGROUND, row, name)) is not None
        ]
        text = (
            f"issue while the KDC does long work, {_PRINCIPALS:,} principals, one processor: {what}"
            f" within {most} ms"
        )
        value, row = max(waits, default=(None, ""))
        found.append(bounded(text, value, f"ms: {row}", lambda v, most=most: v <= most))  # type: ignore[misc]
    return found


def _watched(results: Results) -> Goal:
    """By the least of each: whatever else runs on the machine only adds to it."""
    alone, looked_at = (results.least(WATCHING, row, "us") for row in (OFF, LOOKED_AT))
    return bounded(
        "watched: with the page open and figures read each second, a key costs at most 3 % more",
        looked_at / alone if alone and looked_at else None,
        "times",
        lambda value: value <= 1.03,
    )


def _relay(results: Results) -> list[Goal]:
    cost = results.median(CARRIED, OURS, "CPU s/GiB")
    rate = results.ratio(CARRIED, OURS, TRANSIT, "MiB/s")
    late = results.ratio(ISSUING, BESIDE, ALONE, "p99_ms")
    floor = results.median(CARRIED, FLOOR, "CPU s/GiB")
    beside = "" if floor is None else f"socat takes {number(floor)} s"
    return [
        bounded("relay: at most 1.0 CPU s per GiB", cost, "s", lambda value: value <= 1, beside),
        bounded(
            "relay: at least twice the throughput of magic-wormhole's",
            rate,
            "times",
            lambda value: value >= 2,
        ),
        bounded(
            "issue: 99 % at most twice as late while the KDC's own relay carries what it can",
            late,
            "times",
            lambda value: value <= 2,
            "a relay in a process of its own is there for that",
        ),
    ]


def _kerberos(results: Results) -> list[Goal]:
    """A realm for tests, beside MIT's KDC."""
    found = []
    for what, most in ((AS, 0.8), (TGS, 1.0)):
        figures = [results.median(TICKETS, row(what), "us") for row in (ours, theirs)]
        both = known(*figures)
        found.append(
            bounded(
                f"Kerberos, {what}: server CPU over UDP at most {most} of krb5kdc's",
                both[0] / both[1] if both and both[1] else None,
                "of it",
                lambda value, most=most: value <= most,  # type: ignore[misc]
                f"{number(both[0])} us and {number(both[1])} us" if both else "",
            )
        )
    for row, least in ((CHILD, 150), (THREAD, 20)):
        found.append(
            bounded(
                f"Kerberos, {row}: ready in at most {least} ms of CPU",
                results.median(REALMS, row, "CPU ms"),
                "ms",
                lambda value, least=least: value <= least,  # type: ignore[misc]
            )
        )
    return found
