"""Tables of figures, as docs/performance.md shows them."""

from __future__ import annotations

from collections.abc import Callable

from bench.figures import Results, table

__all__ = ["Ratios", "always", "of", "plot", "same_size"]

Base = Callable[[str], str]
Ratios = dict[str, tuple[str, Base]]


def of(results: Results, section: str, heads: dict[str, str], ratios: Ratios | None = None) -> str:
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


def same_size(row: str) -> Base:
    """``row`` with as many principals."""
    return lambda of: f"{row}, {of.rpartition(', ')[2]}" if " principals" in of else ""


def always(row: str) -> Base:
    return lambda of: row


def plot(name: str, plots: bool) -> str:
    return f"\n![{name}](performance/{name}.png)\n" if plots else ""
