"""docs/performance.md, made of what was measured."""

from __future__ import annotations

import textwrap
from pathlib import Path

from bench.breaking import breaking
from bench.figures import Results, table
from bench.goals import goals
from bench.paths import paths, shown
from bench.plan import Plan
from bench.profiles import PROFILE
from bench.shown_besides import kerberos_shown, watching_shown
from bench.shown_exchanges import background_shown, connections_shown, exchanges_shown
from bench.shown_transfers import crowds_shown, receivers_shown, relay_shown, transfers_shown

__all__ = ["write"]

_HEAD = """\
# Performance

Made by `make bench`; do not edit. Everything ran on one machine, over loopback, side by side:
the programs took turns, {rounds} rounds of each ({few} of the large transfers){runs}.
`python -m bench --help` tells how to measure less or more; `make bench-quick` tells in a minute
what each operation costs, in units of a fixed load. Each round is a line of
`performance/rounds-*.jsonl`: `python -m bench --report docs/performance/rounds-*.jsonl` makes this
page of them again.

## How to read it

- A figure is a **median, and in brackets the range** of all rounds.
{busy}
- **CPU time of the server** is the figure to go by: it is what an operation costs, and it
  suffers least from other work on the machine. It counts all threads and the kernel's share, to
  the microsecond. For transfers and tunnels it is that of both ends together, the KDC's or other
  servers' share included; of a server that waits for connections it counts from when it listens.
  Rates and times are what clients saw on a machine whose processors they had to share with the
  server: where few clients ask, the server was idle for part of that time.
- **Ratios** compare medians: 2 is twice the figure that the column's head names. Of several runs
  the least and the greatest are shown, and a goal is met only if each run meets it: a verdict that
  depends on the hour is none.
- **Answers are checked**: a client of ours opens each answer with its connection's keys,
  matches it to its question, opens each ticket with the receiver's key, and sees each session
  key once. `kvno` decrypts what krb5kdc sent. A stream counts when the far end has all of it;
  files are compared byte by byte.
- **Floor** is what cannot be saved. For exchanges: a Twisted server that answers each request of
  the same size with as many bytes as ours and does nothing else, over TCP alone and over TLS with
  the KDC's settings. For transfers: socat without protection, OpenSSL between two processes that
  make and drop the bytes themselves, `cp`.
- Load generators run in processes of their own and are not counted. Our KDC writes its activity
  log, krb5kdc its own. Its database is of the kind that it makes unless told otherwise, and all
  principals need pre-authentication. The limits of ours on how often one client may ask are out of
  the way, as all clients have one address.
"""


def write(directory: Path, results: Results, plan: Plan, minutes: float) -> None:
    """Write performance.md; the plots are beside it already, if they could be made."""
    parts = [
        _HEAD.format(
            rounds=plan.rounds,
            few=plan.few,
            runs=f"; all of it {len(results.runs)} times, at different hours" * bool(results.runs),
            busy=textwrap.fill(
                results.facts["load"], 96, initial_indent="  ", subsequent_indent="  "
            ),
        ),
        _goals(results, plan),
        *_sections(results, plan, (directory / "performance").is_dir()),
        "## Where the time goes\n\n" + _floors(results, plan) + _profile(results),
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


def _sections(results: Results, plan: Plan, plots: bool) -> list[str]:
    return [
        *exchanges_shown(results, plots),
        connections_shown(results, plots),
        background_shown(results),
        *transfers_shown(results, plan, plots),
        *crowds_shown(results, plan),
        *receivers_shown(results, plan, plots),
        *relay_shown(results, plan),
        watching_shown(results, plan),
        kerberos_shown(results, plan),
        "## What breaks first\n\n" + breaking(results, plan.principals[-1]),
    ]


def _floors(results: Results, plan: Plan) -> str:
    return (
        "Each path, and beside it what it is made of where nothing of ours is in the way: each part"
        " measured alone in this run. What is above the floor is our own work, in Python, and what"
        " the parts cost each other.\n\n" + shown(paths(results, plan.principals[0])) + "\n"
    )


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
