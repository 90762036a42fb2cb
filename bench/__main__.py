"""Measure everything beside other programs, and write docs/performance.md.

`make bench` is the whole of it; ``--quick`` (`make bench-quick`) a report of a
minute without the other programs: CPU per operation in units of a fixed load,
measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from bench import exchanges, idle_channels, plots, profiles, relay, report, scale, transfers
from bench.figures import Results, number, table
from bench.machine import facts, install_peers
from bench.plan import FULL, QUICK, Plan
from bench.processes import HERE, Failed, Scratch
from bench.reference import unit_us

_SECTIONS: dict[str, Callable[[Scratch, Plan, Results], None]] = {
    "exchanges": exchanges.measure,
    "transfers": transfers.measure,
    "scale": scale.measure,
    "idle": idle_channels.measure,
    "relay": relay.measure,
    "profiles": profiles.measure,
}


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, ours alone, printed only")
    parser.add_argument("--rounds", type=int, help="so many of each")
    parser.add_argument("--transfer-mib", type=int, help="the size of the large transfers")
    parser.add_argument(
        "--principals", help="sizes of the database, with commas between: 10,10000,1000000"
    )
    parser.add_argument("--receivers", help="numbers of connected receivers, with commas between")
    parser.add_argument(
        "--only", choices=_SECTIONS, action="append", help="this section; may be repeated"
    )
    parser.add_argument("--output", type=Path, default=HERE / "docs", help="where to write")
    parser.add_argument("--directory", type=Path, help="a disk to measure on, not the temporary")
    parser.add_argument("--save", type=Path, help="keep the raw figures in this file")
    parser.add_argument("--again", type=Path, help="write the document from figures kept by --save")
    return parser.parse_args(arguments)


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    changes: dict[str, Any] = {}
    for name in ("principals", "receivers"):
        if getattr(options, name):
            changes[name] = tuple(int(text) for text in getattr(options, name).split(","))
    if options.rounds:
        changes["rounds"] = options.rounds
    if options.transfer_mib:
        changes["transfer_mib"] = changes["peer_transfer_mib"] = options.transfer_mib
    return attrs.evolve(plan, **changes)


def _measure(plan: Plan, options: argparse.Namespace) -> Results:
    results = Results(facts=facts())
    before, units = os.getloadavg()[1], [unit_us()]
    with Scratch(options.directory) as scratch:
        for name, measure in _SECTIONS.items():
            if options.only and name not in options.only:
                continue
            begun = time.monotonic()
            try:
                measure(scratch, plan, results)
            except Failed as error:
                results.without(name, "all", str(error))
            units.append(unit_us())
            print(f"bench: {name} in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    results.facts["load"] = (
        f"Before this run began, other work kept {before:.1f} processors busy, and a fixed"
        f" load in it took {number(min(units))} to {number(max(units))} us of CPU at different"
        " times: the range tells how far to trust a difference."
    )
    results.add("reference", "unit", {"us": min(units)})
    return results


# What the report shows of each section, and by what it is multiplied to be microseconds.
_GUARDED = {
    (exchanges.ISSUE, "us"): ("key", 1.0),
    (exchanges.CONNECT, "us"): ("connection and key", 1.0),
    (exchanges.REGISTER, "us"): ("registration", 1.0),
    (transfers.MEMORY, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (transfers.FILES, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (transfers.TUNNEL, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (transfers.SMALL, "CPU s"): ("message", 1e6),
    (scale.SCALE, "issue us"): ("key", 1.0),
    (idle_channels.IDLE, "CPU us to open"): ("channel", 1.0),
    (relay.CARRIED, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (relay.LINKS, "CPU us to link"): ("link", 1.0),
}


def _quick(results: Results) -> str:
    """The guard: what each operation costs, in microseconds and in units of the fixed load."""
    unit = results.median("reference", "unit", "us") or 1.0
    rows = []
    for key in results.samples:
        section, row, name = key.split("|")
        if (section, name) not in _GUARDED:
            continue
        what, factor = _GUARDED[section, name]
        value = (results.median(section, row, name) or 0.0) * factor
        rows.append((f"{section}: {row}", what, number(value), number(value / unit)))
    text = f"One unit, the fixed load, is {number(unit)} us of CPU here.\n\n"
    return text + table(("", "CPU of one", "us", "units"), rows)


def _not_measured(results: Results) -> Iterator[str]:
    for key, why in results.missing.items():
        yield f"bench: not measured: {key.replace('|', ', ')}: {why.splitlines()[0][:200]}"


def main() -> int:
    options = _options(sys.argv[1:])
    # SIGTERM unwinds, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = _plan(options)
    # Else each of our programs is compiled anew whenever it starts.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    begun = time.monotonic()
    if options.again:
        kept = json.loads(options.again.read_text())
        results, minutes = Results(**kept["results"]), kept["minutes"]
        plan = Plan(**kept["plan"])
    else:
        for package in install_peers() if plan.peers else ():
            print(f"bench: {package} is missing: its rows will be, too", file=sys.stderr)
        results = _measure(plan, options)
        minutes = (time.monotonic() - begun) / 60
    if options.save:
        kept = {
            "results": attrs.asdict(results),
            "minutes": minutes,
            "plan": attrs.asdict(plan),
        }
        options.save.write_text(json.dumps(kept, indent=1))
    for line in _not_measured(results):
        print(line, file=sys.stderr)
    if options.quick:
        print(_quick(results))
        return 0
    try:
        plots.draw(options.output / "performance", results, plan)
    except ImportError:
        print("bench: no plots without matplotlib", file=sys.stderr)
    report.write(options.output, results, plan, minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
