"""The guard: what each operation costs in units of a fixed load, beside what it cost before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench import (
    exchanges,
    idle_channels,
    relay,
    scale,
    senders,
    tickets,
    transfers,
    tunnelled,
    watching,
)
from bench.figures import Results, number, table

__all__ = ["keep", "shown"]

# What is shown of each section, and by what it is multiplied to be microseconds.
_GUARDED = {
    (exchanges.ISSUE, "us"): ("key", 1.0),
    (exchanges.CONNECT, "us"): ("connection and key", 1.0),
    (exchanges.REGISTER, "us"): ("registration", 1.0),
    (transfers.MEMORY, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (transfers.FILES, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (transfers.TUNNEL, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (transfers.SMALL, "CPU s"): ("message", 1e6),
    (transfers.MANY, "CPU s"): ("directory of files", 1e6),
    (senders.SENDERS, "receiver CPU ms"): ("message", 1e3),
    (tunnelled.TUNNELLED, "CPU ms"): ("connection", 1e3),
    (scale.SCALE, "issue us"): ("key", 1.0),
    (idle_channels.IDLE, "CPU us to open"): ("channel", 1.0),
    (relay.CARRIED, "CPU s/GiB"): ("MiB", 1e6 / 1024),
    (relay.LINKS, "CPU us to link"): ("link", 1.0),
    (watching.WATCHING, "us"): ("key", 1.0),
    (tickets.TICKETS, "us"): ("ticket", 1.0),
    (tickets.REALMS, "CPU ms"): ("realm", 1e3),
}
_DEARER = 1.25  # two runs of the same code differ by as much on a busy machine
_FILE = "quick.json"


def _unit(results: Results) -> float:
    return results.median("reference", "unit", "us") or 1.0


def _costs(results: Results) -> Iterator[tuple[str, str, float]]:
    """Row, what is counted, and microseconds."""
    for key in results.samples:
        section, row, name = key.split("|")
        if (section, name) in _GUARDED:
            what, factor = _GUARDED[section, name]
            yield f"{section}: {row}", what, (results.median(section, row, name) or 0.0) * factor


def _kept(directory: Path) -> tuple[dict[str, float], str]:
    """The units of each row, and the Python that took them."""
    path = directory / _FILE
    if not path.exists():
        return {}, ""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept["units"], kept["Python"]


def keep(results: Results, directory: Path) -> None:
    """Write down what the next ones are compared with."""
    units = {row: round(us / _unit(results), 3) for row, _, us in _costs(results)}
    kept = {"Python": results.facts.get("Python", ""), "units": units}
    directory.mkdir(exist_ok=True)
    (directory / _FILE).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def shown(results: Results, directory: Path) -> str:
    """A table, and below it what became dearer than when it was last kept in ``directory``."""
    unit, (before, python) = _unit(results), _kept(directory)
    rows, dearer = [], []
    for row, what, us in _costs(results):
        units = us / unit
        ratio = units / before[row] if before.get(row) else None
        times = "-" if ratio is None else f"{ratio:.2f}"
        rows.append((row, what, number(us), number(units), times))
        if ratio is not None and ratio > _DEARER and not row.partition(": ")[2].startswith("floor"):
            dearer.append(f"{row}: {ratio:.2f} times\n")
    text = f"One unit, the fixed load, is {number(unit)} us of CPU here.\n\n"
    text += table(("", "CPU of one", "us", "units", "of kept"), rows)
    if not before:
        text += f"\nThere is nothing to compare with: --keep makes {_FILE}.\n"
    elif python != results.facts.get("Python", ""):
        text += f"\nWhat was kept is of another Python, {python}: that alone can be a third.\n"
    if before and not dearer:
        text += "\nNothing is dearer than when it was kept.\n"
    if dearer:
        text += "\nDearer than when it was kept:\n" + "".join(f"- {line}" for line in dearer)
    return text
