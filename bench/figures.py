"""Figures as they are measured, several of each, and as they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

import attrs

from bench.processes import Failed

__all__ = ["Figures", "Results", "number", "pooled", "table"]

Figures = dict[str, float]


def number(value: float) -> str:
    """Three significant digits, no more of what noise has made."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or not value else f"{value:.1e}"


@attrs.define
class Results:
    """Samples by section, row and figure; and what could not be measured, and why.

    ``runs``: where several are shown together, each of them by itself.
    """

    samples: dict[str, list[float]] = attrs.field(factory=dict)
    missing: dict[str, str] = attrs.field(factory=dict)
    facts: dict[str, str] = attrs.field(factory=dict)
    runs: list[Results] = attrs.field(factory=list)

    def add(self, section: str, row: str, figures: Figures) -> None:
        for name, value in figures.items():
            self.samples.setdefault(f"{section}|{row}|{name}", []).append(value)

    def without(self, section: str, row: str, why: str) -> None:
        self.missing.setdefault(f"{section}|{row}", why)

    def measure(self, section: str, row: str, call: Callable[[], Figures]) -> None:
        """Add what ``call`` finds; or why it could not."""
        try:
            self.add(section, row, call())
        except Failed as error:
            self.without(section, row, str(error))

    def rows(self, section: str) -> list[str]:
        found = [key.split("|") for key in (*self.samples, *self.missing)]
        return list(dict.fromkeys(parts[1] for parts in found if parts[0] == section))

    def median(self, section: str, row: str, name: str) -> float | None:
        samples = self.samples.get(f"{section}|{row}|{name}")
        return statistics.median(samples) if samples else None

    def least(self, section: str, row: str, name: str) -> float | None:
        return min(self.samples.get(f"{section}|{row}|{name}", ()), default=None)

    def ratio(self, section: str, row: str, to: str, name: str) -> float | None:
        """The median of one row in that of another."""
        one, other = self.median(section, row, name), self.median(section, to, name)
        return one / other if one is not None and other else None

    def ratio_text(self, section: str, row: str, to: str, name: str) -> str:
        """The same; of several runs the least and the greatest, for a machine has its days."""
        found = [run.ratio(section, row, to, name) for run in self.runs or [self]]
        shown = list(dict.fromkeys(f"{ratio:.2f}" for ratio in sorted(filter(None, found))))
        return " - ".join((shown[0], shown[-1])[: len(shown)]) if shown else "-"

    def text(self, section: str, row: str, name: str) -> str:
        """Median, and the range if there is one."""
        samples = self.samples.get(f"{section}|{row}|{name}")
        if not samples:
            return "-"
        middle = number(statistics.median(samples))
        if len(samples) == 1:
            return middle
        return f"{middle} ({number(min(samples))} - {number(max(samples))})"


def pooled(runs: list[Results]) -> Results:
    """All samples of all runs; what one of them has measured is not missing."""
    if len(runs) == 1:
        return runs[0]
    both = Results(facts=dict(runs[-1].facts), runs=runs)
    for run in runs:
        for key, samples in run.samples.items():
            both.samples.setdefault(key, []).extend(samples)
    rows = {key.rpartition("|")[0] for key in both.samples}
    for run in runs:
        for key, why in run.missing.items():
            if key not in rows:
                both.missing.setdefault(key, why)
    return both


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, words: bool = False) -> str:
    """A Markdown table of figures, or of words."""
    heads = list(heads)
    side = "---" if words else "--:"
    lines = [heads, ["---"] + [side] * (len(heads) - 1), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
