"""docs/performance.md, made of what was measured."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

from bench.exchanges import (
    BARE,
    CONNECT,
    DISK,
    ISSUE,
    KADMIN,
    KADMIN_LOCAL,
    LOGIN,
    REGISTER,
    START,
)
from bench.figures import Results, table
from bench.goals import goals
from bench.idle_channels import IDLE
from bench.paths import paths, shown
from bench.plan import Plan
from bench.profiles import PROFILE
from bench.relay import ALONE, CARRIED, ISSUING, LINKS, OURS
from bench.scale import SCALE
from bench.tickets import AS, REALMS, TGS, TICKETS, theirs
from bench.transfers import FILES, MEMORY, SMALL, TUNNEL
from bench.watching import OFF, WATCHING
from bench.ways import CHANNEL, SEND, THROUGH

__all__ = ["write"]

_HEAD = """\
# Performance

Made by `make bench`; do not edit. Everything ran on one machine, over loopback, side by side:
the programs took turns, {rounds} rounds of each ({few} of the large transfers){runs}.
`python -m bench --help` tells how to measure less or more; `make bench-quick` tells in a minute
what each operation costs, in units of a fixed load.

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


Base = Callable[[str], str]
Ratios = dict[str, tuple[str, Base]]


def _of(results: Results, section: str, heads: dict[str, str], ratios: Ratios | None = None) -> str:
    """A table of ``heads``; ``ratios``: by head, which figure is compared with which row's."""
    rows = []
    for row in results.rows(section):
        if f"{section}|{row}" in results.missing:
            continue
        figures = [results.text(section, row, name) for name in heads]
        for name, base in (ratios or {}).values():
            figures.append(results.ratio_text(section, row, base(row), name))
        rows.append((row, *figures))
    return table(("", *heads.values(), *(ratios or ())), rows)


def _same_size(row: str) -> Base:
    """``row`` with as many principals."""
    return lambda of: f"{row}, {of.rpartition(', ')[2]}" if " principals" in of else ""


def _always(row: str) -> Base:
    return lambda of: row


def _plot(name: str, plots: bool) -> str:
    return f"\n![{name}](performance/{name}.png)\n" if plots else ""


def _sections(results: Results, plan: Plan, plots: bool) -> list[str]:
    return [
        *_exchanges(results, plots),
        *_transfers(results, plan, plots),
        "## Very many receivers\n\nConnected and reachable, while ten others ask for keys, one"
        " request in flight each. Then the KDC is started again, and they come back by themselves,"
        " each after pauses that grow and are never the same for two, 256 at a time at their"
        " handshake as everywhere; counted from when the KDC listens again. They share one machine"
        " with it: the CPU time of both sides tells how much of the wait that can explain.\n\n"
        + _of(
            results,
            SCALE,
            {
                "KiB each": "KiB for each, in the KDC",
                "issue us": "issue: server CPU, us",
                "median ms": "median, ms",
                "p99 ms": "99 %, ms",
                "CPU us to connect": "server CPU to connect one, us",
                "s for most": "s until 90 % are back",
                "s to come back": "all",
                "KDC CPU s": "CPU s meanwhile, the KDC",
                "their CPU s": "the receivers",
            },
        )
        + _plot("growth", plots),
        "## Idle channels\n\nBetween one sender and one receiver, opened and used once; then only"
        f" pings pass. After {plan.idle_seconds} s: the memory of each process that no other"
        " shares, for each channel; the kernel's is not counted. Then the CPU time of the receiver"
        " for as long. In the end each is used again.\n\n"
        + _of(
            results,
            IDLE,
            {
                "KiB, receiver": "KiB for each, receiver",
                "KiB, sender": "KiB for each, sender",
                "CPU us to open": "receiver's CPU to open one, us",
                "CPU % idle": "receiver's CPU while idle, % of one processor",
            },
        ),
        *_relay(results, plan),
        _watching(results, plan),
        _kerberos(results, plan),
    ]


def _kerberos(results: Results, plan: Plan) -> str:
    same = {f"kdc.testing, {what}": theirs(what) for what in (AS, TGS)}
    return (
        f"## Kerberos\n\n{plan.tickets:,} tickets in turn from the realm for tests and from"
        " krb5kdc, by one client over UDP, one request after the other: AS with the encrypted"
        " timestamp at once, TGS with a fresh authenticator each. krb5kdc writes nothing into its"
        " database meanwhile.\n\n"
        + _of(
            results,
            TICKETS,
            {"us": "server CPU for a ticket, us", "per_second": "per second"},
            {"CPU, of krb5kdc's": ("us", lambda row: same.get(row, row))},
        )
        + "\nStarting a realm with two people, a host, its keytab and a ticket; the CPU is that of"
        " every process that has a part in it.\n\n"
        + _of(results, REALMS, {"CPU ms": "CPU for each, ms", "ms": "until it is ready, ms"})
    )


def _watching(results: Results, plan: Plan) -> str:
    return (
        "## Watched\n\nKeys from a KDC without a status port, from one that has one, and from one"
        " of which the page is open while Prometheus' figures are read each second:"
        f" {plan.watched_turns} turns of {plan.watched_keys:,} keys each, one request in flight on"
        " each connection. Other work on the machine only adds to a turn: the least is what"
        " to compare.\n\n"
        + _of(
            results,
            WATCHING,
            {"us": "server CPU for a key, us", "per_second": "keys/s"},
            {"times": ("us", _always(OFF))},
        )
    )


def _relay(results: Results, plan: Plan) -> list[str]:
    return [
        f"## Through a relay\n\n{plan.relay_mib} MiB from one TCP connection to another, as they"
        " are, and the CPU of the process in the middle alone. The ends make and drop the"
        " bytes.\n\n"
        + _of(
            results,
            CARRIED,
            {"MiB/s": "MiB/s", "CPU s/GiB": "CPU s per GiB, in the middle"},
            {
                "rate, of ours": ("MiB/s", _always(OURS)),
                "CPU, of ours": ("CPU s/GiB", _always(OURS)),
            },
        )
        + f"\nReceivers that are linked to it and wait; then {plan.joined} transfers of a MiB at"
        " once, each to another of them, and how many came whole.\n\n"
        + _of(
            results,
            LINKS,
            {
                "KiB each": "KiB for each, in the relay",
                "CPU us to link": "its CPU to link one, us",
                "whole": "whole",
                "s": "s",
            },
        )
        + "\nHow long a key takes meanwhile, one in flight on each of four connections, when the"
        " relay carries as much as it can: in the KDC's process, where the CPU counts both, and in"
        " one of its own, which shares the machine's processors with it all the same.\n\n"
        + _of(
            results,
            ISSUING,
            {
                "median_ms": "median, ms",
                "p99_ms": "99 %, ms",
                "us": "KDC's CPU for each, us",
                "MiB/s": "carried, MiB/s",
            },
            {"99 %, of alone": ("p99_ms", _always(ALONE))},
        ),
    ]


def _exchanges(results: Results, plots: bool) -> list[str]:
    common = {"us": "server CPU, us", "per_second": "per second"}
    waits = {"median_ms": "median, ms", "p99_ms": "99 %, ms"}
    krb5 = _same_size("krb5kdc, UDP, 8 outstanding")
    kadmin, far = _same_size(KADMIN_LOCAL), _same_size(KADMIN)
    return [
        "## Issuing a session key\n\n50 connections that are there, each with 1 or 16 requests in"
        " flight; krb5kdc: a service ticket for each of many services, 1 or 8 clients at a time,"
        " one request with a fresh authenticator each.\n\n"
        + _of(results, ISSUE, common | waits, {"CPU, of krb5kdc's (UDP, 8)": ("us", krb5)})
        + _plot("issue", plots),
        "## Connecting\n\nA new TLS connection, proof of who it is, one key; beside `kinit` with"
        " pre-authentication and one service ticket (three requests over UDP, without TLS: the"
        " first is refused and tells `kinit` what to prove), the bare handshake of a server with"
        " the KDC's own TLS settings that does nothing but take it and close, and the same with two"
        " exchanges of the sizes of ours. krb5kdc writes into its database when somebody logs in,"
        " unless it is told not to (`disable_last_success`, `disable_lockout`): both are shown.\n\n"
        + _of(
            results,
            CONNECT,
            common | waits,
            {
                "CPU, of the bare handshake": ("us", _always(BARE)),
                "of kinit and kvno": ("us", _same_size(LOGIN)),
            },
        ),
        "## Registering\n\nEach by a client and a TLS connection of its own, acknowledged when on"
        " the disk. With *connections open* they are there before the clock starts, so that one"
        " request, the disk and one answer are left; without, connecting is part of it.\n"
        "`kadmin.local addprinc -randkey` writes into the database itself, without any network or"
        " proof of who asks, one after the other and with one fsync each; its CPU time is that of"
        " the whole process, its start included. `kadmin` asks `kadmind` over the network, one"
        " after the other, too; its CPU time is the server's. *fdatasync alone* appends as many"
        " bytes as a registration. The store by itself, on a disk of 500 fsyncs a second too:"
        " [store-runs.md](store-runs.md).\n\n"
        + _of(
            results,
            REGISTER,
            common | waits,
            {
                "rate, of kadmin.local": ("per_second", kadmin),
                "CPU, of kadmin.local": ("us", kadmin),
                "rate, of kadmin": ("per_second", far),
                "CPU, of kadmind": ("us", far),
                "rate, of fdatasync": ("per_second", _always(DISK)),
            },
        ),
        "## Starting\n\n" + _of(results, START, {"CPU s": "CPU s", "MiB": "MiB resident"}),
    ]


def _transfers(results: Results, plan: Plan, plots: bool) -> list[str]:
    rate = {"MiB/s": "MiB/s", "CPU s/GiB": "CPU s per GiB, both ends"}

    def beside(row: str) -> Ratios:
        return {
            "rate, of ours": ("MiB/s", _always(row)),
            "CPU, of ours": ("CPU s/GiB", _always(row)),
        }

    return [
        f"## Transfers, memory to memory\n\nOf {plan.transfer_mib} MiB. Our channel between two"
        " processes that make the bytes and drop them, the session key and both handshakes"
        " included. The other programs are commands: they get their bytes through one pipe and"
        " pass them on through another, which is part of their figures as it is of their use, and"
        " their start is, too. *Two processes without pipes* do as ours do, with the same OpenSSL"
        " (pyOpenSSL in blocking sockets): the hardest comparison.\n\n"
        + _of(results, MEMORY, rate | {"s": "s"}, beside(CHANNEL))
        + _plot("transfer", plots),
        "## Transfers, file to file, on the disk at the end\n\n"
        f"Of {plan.transfer_mib} MiB. Real commands, their start included; the receiving end is"
        " there already, except with magic-wormhole, whose both ends are started.\n\n"
        + _of(results, FILES, rate | {"s": "s"}, beside(SEND)),
        "## Small messages\n\nOne command each, from its start to the confirmation. 12 bytes, in a"
        " file; with magic-wormhole a text, and both ends are started.\n\n"
        + _of(
            results,
            SMALL,
            {"s": "s", "CPU s": "CPU s, both ends", "client CPU s": "CPU s, the sender"},
            {"time, of ours": ("s", _always(SEND)), "CPU, of ours": ("CPU s", _always(SEND))},
        ),
        f"## Tunnels\n\n{plan.tunnel_mib} MiB over one TCP connection through a pair of processes"
        " that are there already; the CPU time of those that they start for a connection is in"
        " it.\n\n" + _of(results, TUNNEL, rate, beside(THROUGH)),
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
