"""docs/performance.md, made of what was measured."""

from __future__ import annotations

import textwrap
from pathlib import Path

from bench.exchanges import CONNECT, ISSUE, REGISTER, START
from bench.figures import Results, table
from bench.goals import goals
from bench.plan import Plan
from bench.profiles import PROFILE
from bench.scale import SCALE
from bench.transfers import FILES, MEMORY, SMALL, TUNNEL

__all__ = ["write"]

_HEAD = """\
# Performance

Made by `make bench`; do not edit. Everything ran on one machine, over loopback, side by side:
the programs took turns, {rounds} rounds of each (three of the large transfers). `python -m
bench --help` tells how to measure less or more.

## How to read it

- A figure is a **median, and in brackets the range** of all rounds.
{busy}
- **CPU time of the server** is the figure to go by: it is what an operation costs, and it
  suffers least from other work on the machine. It counts all threads and the kernel's share, to
  the microsecond. Where both ends are ours to compare (transfers, tunnels) it is that of both
  together. Rates and times are what clients saw on a machine whose processors they had to share
  with the server.
- **Answers are checked**: a client of ours opens each answer with its connection's keys,
  matches it to its question, opens each ticket with the receiver's key, and sees each session
  key once. `kvno` decrypts what krb5kdc sent. A stream counts when the far end has all of it;
  files are compared byte by byte.
- **Floor** is the same exchange with nothing behind it: a Twisted server that answers each
  request of the same size with as many bytes as ours, over TCP alone and over TLS with the
  KDC's settings.
- Load generators run in processes of their own and are not counted. Ours write the activity
  log, krb5kdc its own.
"""


def write(directory: Path, results: Results, plan: Plan, minutes: float) -> None:
    """Write performance.md; the plots are beside it already, if they could be made."""
    parts = [
        _HEAD.format(
            rounds=plan.rounds,
            busy=textwrap.fill(
                results.facts["load"], 96, initial_indent="  ", subsequent_indent="  "
            ),
        ),
        _goals(results, plan),
        *_sections(results, plan, (directory / "performance").is_dir()),
        "## Where the time goes\n\n" + _profile(results),
        "## The machine\n\n" + _machine(results, minutes),
    ]
    if results.missing:
        parts.append("## Not measured\n\n" + _missing(results))
    (directory / "performance.md").write_text("\n".join(parts), encoding="utf-8")


def _goals(results: Results, plan: Plan) -> str:
    rows = []
    for goal in goals(results, plan.principals):
        met = {True: "met", False: "**not met**", None: "not measured"}[goal.met]
        rows.append((goal.text, goal.figure, met, "" if goal.met else goal.why))
    return "## Goals\n\n" + table(("goal", "figure", "", "why not"), rows, words=True)


def _of(results: Results, section: str, **heads: str) -> str:
    rows = [
        (row, *(results.text(section, row, name) for name in heads))
        for row in results.rows(section)
        if f"{section}|{row}" not in results.missing
    ]
    return table(("", *heads.values()), rows)


def _sections(results: Results, plan: Plan, plots: bool) -> list[str]:
    def plot(name: str) -> str:
        return f"\n![{name}](performance/{name}.png)\n" if plots else ""

    common = {"us": "server CPU, us", "per_second": "per second"}
    waits = {"median_ms": "median, ms", "p99_ms": "99 %, ms"}
    rate = {"MiB/s": "MiB/s", "CPU s/GiB": "CPU s per GiB, both ends", "s": "s"}
    return [
        "## Issuing a session key\n\n50 connections that are there, each with 1 or 16 requests in"
        " flight; krb5kdc: a service ticket for each of many services, 1 or 8 clients at a time,"
        " a fresh authenticator each.\n\n" + _of(results, ISSUE, **common, **waits) + plot("issue"),
        "## Connecting\n\nA new TLS connection, proof of who it is, one key; beside `kinit` with"
        " pre-authentication and one service ticket, and the bare handshake.\n\n"
        + _of(results, CONNECT, **common, **waits),
        "## Registering\n\nEach by a client and a TLS connection of its own, acknowledged when on"
        " the disk; `kadmin.local` writes the database itself, its CPU time is that of the whole"
        " process.\n\n" + _of(results, REGISTER, **common, **waits),
        "## Starting\n\n" + _of(results, START, **{"CPU s": "CPU s", "MiB": "MiB resident"}),
        f"## Transfers, memory to memory\n\nOf {plan.transfer_mib} MiB.\n\n"
        + _of(results, MEMORY, **rate)
        + plot("transfer"),
        "## Transfers, file to file, on the disk at the end\n\n"
        f"Of {plan.transfer_mib} MiB. Real commands, their start included."
        "\n\n" + _of(results, FILES, **rate),
        "## Small messages\n\nOne command each, from its start to the confirmation.\n\n"
        + _of(
            results,
            SMALL,
            **{"s": "s", "CPU s": "CPU s, both ends", "client CPU s": "CPU s, the sender"},
        ),
        f"## Tunnels\n\n{plan.tunnel_mib} MiB over one TCP connection through a pair of processes"
        " that are there already.\n\n"
        + _of(results, TUNNEL, **{"MiB/s": "MiB/s", "CPU s/GiB": "CPU s per GiB, both ends"}),
        "## Very many receivers\n\nConnected and reachable, while ten others ask for keys, one"
        " request in flight each. Then the KDC is started again, and they come back by themselves;"
        " they share one machine with it, and their side of the handshakes takes most of that"
        " time.\n\n"
        + _of(
            results,
            SCALE,
            **{
                "KiB each": "KiB for each, in the KDC",
                "issue us": "issue: server CPU, us",
                "median ms": "median, ms",
                "p99 ms": "99 %, ms",
                "CPU us to connect": "server CPU to connect one, us",
                "s to come back": "s until all are back",
            },
        )
        + plot("growth"),
    ]


def _profile(results: Results) -> str:
    kinds: dict[str, None] = {}
    rows = [row for row in results.rows(PROFILE) if f"{PROFILE}|{row}" not in results.missing]
    for key in results.samples:
        section, _, name = key.split("|")
        if section == PROFILE:
            kinds[name] = None

    def weight(kind: str) -> float:
        return sum(results.median(PROFILE, row, kind) or 0 for row in rows)

    body = [
        (kind, *(f"{results.median(PROFILE, row, kind) or 0:.0f} %" for row in rows))
        for kind in sorted(kinds, key=weight, reverse=True)
    ]
    primitives = "".join(
        f"- {key.rpartition('|')[2]}: {results.text('crypto', 'all', key.rpartition('|')[2])} us\n"
        for key in results.samples
        if key.startswith("crypto|")
    )
    return (
        "Samples of the servers at work, by the innermost frame that belongs to one of these; what"
        " C code does counts to the Python that called it.\n\n"
        + table(("", *rows), body)
        + "\nThe primitives alone, called from Python:\n\n"
        + primitives
    )


def _machine(results: Results, minutes: float) -> str:
    lines = [f"- {name}: {value}\n" for name, value in results.facts.items() if name != "load"]
    return "".join(lines) + f"- this took {minutes:.0f} minutes\n"


def _missing(results: Results) -> str:
    return "".join(
        f"- {key.replace('|', ', ')}: {why.splitlines()[0][:200]}\n"
        for key, why in results.missing.items()
    )
