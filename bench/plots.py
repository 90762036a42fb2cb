"""The plots beside docs/performance.md."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.connections import CONNECTIONS, KRB5, MOST_OUTSTANDING, WORKS, row
from bench.exchanges import ISSUE, label, native
from bench.figures import Results, number
from bench.plan import Plan
from bench.scale import SCALE
from bench.transfers import GROWTH, MEMORY

__all__ = ["draw"]

_OURS, _OURS_TOO, _PEER, _FLOOR = "#1f5fa8", "#7aa6d8", "#909090", "#d8d8d8"


def draw(directory: Path, results: Results, plan: Plan) -> None:
    """Raises `ImportError` where matplotlib is not installed."""
    pyplot = _pyplot()
    pyplot.switch_backend("Agg")
    directory.mkdir(exist_ok=True)
    _save(_issue(results, plan), directory / "issue.png")
    _save(_transfer(results), directory / "transfer.png")
    _save(_connections(results, plan), directory / "connections.png")
    _save(_growth(results, plan), directory / "growth.png")


def _pyplot() -> Any:
    # Looked up late: a dependency of the measurements only.
    return importlib.import_module("matplotlib.pyplot")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    # Without the version of matplotlib, so that the same figures give the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    _pyplot().close(figure)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    figure, axes = _pyplot().subplots(1, columns, figsize=(width, height), squeeze=False)
    return figure, list(axes[0])


def _bars(axis: Any, results: Results, section: str, rows: Sequence[str], name: str) -> None:
    rows = [row for row in rows if results.median(section, row, name) is not None][::-1]
    values = [results.median(section, row, name) or 0 for row in rows]
    samples = [results.samples[f"{section}|{row}|{name}"] for row in rows]
    below = [value - min(each) for value, each in zip(values, samples, strict=True)]
    above = [max(each) - value for value, each in zip(values, samples, strict=True)]
    colours = [
        _OURS if row.startswith("kdc") else _FLOOR if row.startswith("floor: ") else _PEER
        for row in rows
    ]
    axis.barh(rows, values, xerr=[below, above], color=colours, ecolor="#404040", capsize=2)


def _issue(results: Results, plan: Plan) -> Any:
    figure, (axis,) = _figure(10, 6)
    # The sizes of one kind stand together.
    ours, krb5 = ("kdc, 1 in flight", "kdc, pipelined"), ("UDP, 1", "UDP, 8", "TCP, 8")
    made = (native(1), native(8))
    kinds = (*ours, *(f"krb5kdc, {how} " for how in krb5), *made, "floor: tls")
    rows = [row for kind in kinds for row in results.rows(ISSUE) if row.startswith(kind)]
    _bars(axis, results, ISSUE, rows, "us")
    axis.set_xlabel("server CPU per session key, us; median and range")
    return figure


def _transfer(results: Results) -> Any:
    figure, axes = _figure(11, 3.5, 2)
    for axis, (name, text) in zip(
        axes,
        (("MiB/s", "goodput, MiB/s"), ("CPU s/GiB", "CPU s per GiB, both ends")),
        strict=True,
    ):
        _bars(axis, results, MEMORY, results.rows(MEMORY), name)
        axis.set_xlabel(text)
    axes[1].set_yticklabels([])
    return figure


def _line(
    axis: Any, results: Results, section: str, points: dict[float, str], name: str, **how: Any
) -> None:
    """The medians of rows, by what they grow with, and their ranges."""
    known = {x: row for x, row in points.items() if results.median(section, row, name) is not None}
    middle = [results.median(section, row, name) or 0 for row in known.values()]
    samples = [results.samples[f"{section}|{row}|{name}"] for row in known.values()]
    below = [value - min(each) for value, each in zip(middle, samples, strict=True)]
    above = [max(each) - value for value, each in zip(middle, samples, strict=True)]
    if known:
        axis.errorbar(list(known), middle, yerr=[below, above], marker="o", capsize=3, **how)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.0f} GiB"


def _both_logarithmic(axis: Any, ticks: Sequence[float], text: Callable[[float], str]) -> None:
    """Ticks where something was measured; a decade at least, so that noise is no mountain."""
    ticker = importlib.import_module("matplotlib.ticker")
    axis.set(xscale="log", yscale="log")
    axis.set_xticks(ticks, [text(tick) for tick in ticks])
    axis.minorticks_off()
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, high / 12) / 1.3, high * 1.3)
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


_WAYS = ("#1f5fa8", "#7aa6d8", "#c9dff2", "#909090")


def _connections(results: Results, plan: Plan) -> Any:
    """Each work by connections, a line for each size; and by size, a line for so many of them."""
    figure, grid = _pyplot().subplots(2, len(WORKS), figsize=(13, 8))
    for column, work in enumerate(WORKS):
        name = f"kdc, {work}"
        for n, colour in zip(plan.principals, _WAYS, strict=False):
            points = {float(c): row(name, c, n) for c in plan.connections}
            how = {"color": colour, "label": f"{n:,} principals"}
            _line(grid[0][column], results, CONNECTIONS, points, "us", **how)
        for c, colour in zip(plan.connections, _WAYS, strict=False):
            points = {float(n): row(name, c, n) for n in plan.principals}
            how = {"color": colour, "label": f"{c:,} at once"}
            _line(grid[1][column], results, CONNECTIONS, points, "us", **how)
        grid[0][column].set(
            title=work, xlabel="connections at once", ylabel="server CPU of one, us"
        )
        grid[1][column].set(xlabel="principals", ylabel="server CPU of one, us")
    largest = plan.principals[-1]
    outstanding = [c for c in plan.connections if c < MOST_OUTSTANDING] + [MOST_OUTSTANDING]
    points = {float(c): row(KRB5, c, largest) for c in outstanding}
    how = {"color": "#404040", "linestyle": "--", "label": f"krb5kdc, {largest:,}"}
    _line(grid[0][0], results, CONNECTIONS, points, "us", **how)
    for axis in grid[0]:
        _both_logarithmic(axis, plan.connections, _count)
    for axis in grid[1]:
        _both_logarithmic(axis, plan.principals, _count)
    return figure


def _growth(results: Results, plan: Plan) -> Any:
    figure, grid = _pyplot().subplots(2, 2, figsize=(11, 8))
    principals, sizes, receivers, back = grid.flatten()
    for what, colour in (
        ("kdc, 1 in flight", _OURS),
        ("kdc, pipelined", _OURS_TOO),
        (native(8), _PEER),
    ):
        points = {float(n): label(what, n) for n in plan.principals}
        _line(principals, results, ISSUE, points, "us", color=colour, label=what)
    principals.set(title="issuing", xlabel="principals", ylabel="server CPU per key, us")
    for what, colour in (("kdcclient", _OURS), ("scp", _PEER)):
        points = {float(n): f"{what} of {n}" for n in plan.file_sizes}
        _line(sizes, results, GROWTH, points, "s", color=colour, label=what)
    sizes.set(title="one file", xlabel="size", ylabel="s from start to confirmation")
    points = {float(n): f"{n:,} receivers" for n in plan.receivers}
    for axis, name, text, colour in (
        (receivers, "issue us", "server CPU per key, us", _OURS),
        (receivers, "KiB each", "memory for each, KiB", _PEER),
        (back, "s to come back", "all are back", _OURS),
        (back, "s for most", "90 % are back", _OURS_TOO),
    ):
        _line(axis, results, SCALE, points, name, color=colour, label=text)
    receivers.set(title="receivers", xlabel="connected receivers", ylabel="us, KiB")
    back.set(title="the KDC starts again", xlabel="connected receivers", ylabel="s from then on")
    for axis, ticks, say in (
        (principals, plan.principals, _count),
        (sizes, plan.file_sizes, _bytes),
        (receivers, plan.receivers, _count),
        (back, plan.receivers, _count),
    ):
        _both_logarithmic(axis, ticks, say)
    return figure
