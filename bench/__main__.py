"""Measure everything beside other programs, and write docs/performance.md.

`make bench` is the whole of it; ``--quick`` (`make bench-quick`) a report of a
minute without the other programs: CPU per operation in units of a fixed load,
measured in the same run, beside what was written down when it was last kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from bench import (
    background_work,
    connections,
    exchanges,
    idle_channels,
    plots,
    profiles,
    quick,
    relay,
    report,
    scale,
    senders,
    tickets,
    transfers,
    tunnelled,
    watching,
)
from bench.figures import number, pooled
from bench.machine import facts, install_peers, python_built
from bench.plan import FULL, QUICK, SHORT, Plan
from bench.processes import HERE, Failed, Scratch
from bench.reference import unit_us
from bench.rounds import UNMEASURED, Kept, Run, Wanted, mend, read

_MODULES: tuple[ModuleType, ...] = (
    *(exchanges, connections, background_work, transfers, senders, tunnelled, scale),
    *(idle_channels, relay, watching, tickets, profiles),
)
_SECTIONS = tuple(section for module in _MODULES for section in module.SECTIONS)
_DOCS = HERE / "docs"
_LINE_SECONDS = 15.0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, ours alone, printed only")
    parser.add_argument(
        "--keep", action="store_true", help="with --quick: what the next ones are compared with"
    )
    parser.add_argument(
        "--short", action="store_true", help="the whole of it in ten minutes, for a first look"
    )
    parser.add_argument("--rounds", type=int, help="so many of each")
    parser.add_argument(
        "--seconds", type=float, help="server CPU for each row of exchanges, all rounds together"
    )
    parser.add_argument("--transfer-mib", type=int, help="the size of the large transfers")
    parser.add_argument(
        "--principals", help="sizes of the database, with commas between: 10,10000,1000000"
    )
    parser.add_argument("--receivers", help="numbers of connected receivers, with commas between")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="SECTION[/ROW]",
        help="this section, or its rows with these words in them; may be repeated."
        f" Sections: {', '.join(_SECTIONS)}",
    )
    parser.add_argument("--output", type=Path, default=_DOCS, help="where to write the document")
    parser.add_argument("--directory", type=Path, help="a disk to measure on, not the temporary")
    parser.add_argument(
        "--save", type=Path, help="a file for the rounds as they come (build/bench/DATE.jsonl)"
    )
    parser.add_argument("--go-on", type=Path, metavar="FILE", help="a run that was cut short")
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing: write the document from these runs",
    )
    options = parser.parse_args(arguments)
    for only in options.only:
        if only.partition("/")[0] not in _SECTIONS:
            parser.error(f"--only {only}: there is no such section; see --help")
    return options


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else SHORT if options.short else FULL
    changes: dict[str, Any] = {}
    for name in ("principals", "receivers"):
        if getattr(options, name):
            changes[name] = tuple(int(text) for text in getattr(options, name).split(","))
    if options.rounds:
        changes["rounds"] = options.rounds
    if options.seconds:
        changes["cpu_seconds"] = options.seconds
    if options.transfer_mib:
        names = ("transfer_mib", "peer_transfer_mib", "tunnel_mib", "relay_mib")
        changes |= dict.fromkeys(names, options.transfer_mib)
    return attrs.evolve(plan, **changes)


def _measure(run: Run, plan: Plan, directory: Path | None) -> None:
    """Every section that is wanted, and how busy the machine was with other things meanwhile."""
    busy, units = os.getloadavg()[1], [unit_us()]
    with Scratch(directory) as scratch:
        for module in _MODULES:
            if not any(run.wanted(section) for section in module.SECTIONS):
                continue
            begun = time.monotonic()
            try:
                module.measure(scratch, plan, run)
            except UNMEASURED as error:
                run.without(module.SECTIONS[0], "all", str(error) or repr(error))
            units.append(unit_us())
            name = module.__name__.rpartition(".")[2]
            _tell(f"bench: {name} in {time.monotonic() - begun:.0f} s")
    run.note(
        load=f"Before this run began, other work kept {busy:.1f} processors busy, and a fixed load"
        f" in it took {number(min(units))} to {number(max(units))} us of CPU at different times:"
        " the range tells how far to trust a difference."
    )
    run.add("reference", "unit", {"us": min(units)})


def _tell(text: str) -> None:
    print("\r\x1b[K" * sys.stderr.isatty() + text, file=sys.stderr, flush=True)


@attrs.define
class _Progress:
    """What is measured now: a line that the next replaces; in a file one of them now and then."""

    _said: float = 0.0

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty():
            width = os.get_terminal_size(2).columns - 1
            print(f"\r\x1b[Kbench: {text}"[:width], end="", file=sys.stderr, flush=True)
        elif time.monotonic() > self._said + _LINE_SECONDS:
            self._said = time.monotonic()
            _tell(f"bench: {text}")


def _refuse_for_docs(output: Path, python: str) -> None:
    """The page that people read tells what their Python does, and no other."""
    if output.resolve() == _DOCS and "self-built" in python:
        raise Failed(
            f"that Python is {python}: it costs up to 1.4 times as much as the one people have."
            " Use the distribution's (make bench does), or write elsewhere with --output"
        )


def _check_output(options: argparse.Namespace) -> None:
    """Whether the document could be written: asked before half an hour of measuring, not after."""
    if options.quick and not options.keep:
        return
    if not options.report:
        _refuse_for_docs(options.output, python_built())
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "performance").mkdir(exist_ok=True)
        probe = options.output / "performance" / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Failed(f"nothing can be written to {options.output}: {error.strerror}") from None


@contextlib.contextmanager
def _run(options: argparse.Namespace) -> Iterator[tuple[Run, Plan, Path]]:
    """The run, what is left of it to measure, and the file it is kept in."""
    kept: Kept | None = read(options.go_on) if options.go_on else None
    if options.go_on:
        mend(options.go_on)
    plan = kept.plan if kept is not None else _plan(options)
    path = options.go_on or options.save
    if path is None:
        kind = "quick-" if options.quick else ""
        path = HERE / "build" / "bench" / f"{kind}{time.strftime('%Y-%m-%dT%H%M%S')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _before(path.parent, plan, "quick-*.jsonl" if options.quick else "2*.jsonl")
    with path.open("a" if kept is not None else "x", encoding="utf-8") as file:
        run = Run(
            file=file,
            wanted=Wanted(tuple(options.only)),
            kept=kept,
            before=before,
            show=_Progress(),
        )
        if kept is None:
            run.begin(plan)
        yield run, plan, path


def _before(directory: Path, plan: Plan, pattern: str) -> Kept | None:
    """The last run, of the same plan if there is one; else the one that is in the repository."""
    found = []
    for path in (
        *sorted((_DOCS / "performance").glob("*.jsonl")),
        *sorted(directory.glob(pattern)),
    ):
        with contextlib.suppress(ValueError):
            found.append(read(path))
    same = [kept for kept in found if kept.plan == plan]
    return (same or found)[-1] if found else None


def _report(files: list[Path], output: Path) -> None:
    kept = [read(path) for path in files]
    for each in kept:
        _refuse_for_docs(output, each.results.facts.get("Python", ""))
    plans = {json.dumps(attrs.asdict(each.plan)) for each in kept}
    if len(plans) > 1:
        raise Failed("those runs did not measure the same, so they are no page together")
    results = pooled([each.results for each in kept])
    minutes = sum(each.seconds for each in kept) / 60
    try:
        plots.draw(output / "performance", results, kept[-1].plan)
    except ImportError:
        _tell("bench: no plots without matplotlib")
    report.write(output, results, kept[-1].plan, minutes)
    _publish(files, output / "performance")


def _publish(files: list[Path], directory: Path) -> None:
    """The rounds beside the page that is made of them, so that anybody can make it again."""
    contents = [path.read_bytes() for path in files]
    for old in directory.glob("rounds-*.jsonl"):
        old.unlink()
    for number_of, content in enumerate(contents, 1):
        (directory / f"rounds-{number_of}.jsonl").write_bytes(content)


def _go(options: argparse.Namespace) -> None:
    _check_output(options)
    if options.report:
        _report(options.report, options.output)
        return
    with _run(options) as (run, plan, path):
        _tell(f"bench: the rounds are kept in {path}; --go-on goes on with them")
        for package in install_peers() if plan.peers else ():
            _tell(f"bench: {package} is missing: its rows will be, too")
        run.note(**facts())  # the peers' versions among them
        _measure(run, plan, options.directory)
    for key, why in run.missing.items():
        reason = why.splitlines()[0][:200]
        _tell(f"bench: not measured: {key.replace('|', ', ')}: {reason}")
    if options.quick:
        print(quick.shown(run, options.output / "performance"))
        if options.keep:
            quick.keep(run, options.output / "performance")
    else:
        _report([path], options.output)


def main() -> int:
    options = _options(sys.argv[1:])
    # SIGTERM unwinds, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Else each of our programs is compiled anew whenever it starts.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        _go(options)
    except (Failed, OSError, ValueError) as error:
        _tell(f"bench: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
