"""The plots beside docs/performance.md."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.exchanges import ISSUE, label
from bench.figures import Results
from bench.plan import Plan
from bench.scale import SCALE
from bench.transfers import GROWTH, MEMORY

__all__ = ["draw"]

_OURS, _PEER, _FLOOR = "#1f5fa8", "#b0b0b0", "#e0e0e0"


def draw(directory: Path, results: Results, plan: Plan) -> None:
    """Raises `ImportError` where matplotlib is not installed."""
    pyplot = _pyplot()
    pyplot.switch_backend("Agg")
    directory.mkdir(exist_ok=True)
    _save(_issue(results, plan), directory / "issue.png")
    _save(_transfer(results), directory / "transfer.png")
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
        _OURS if row.startswith("kdc") else _FLOOR if "floor" in row or "plain" in row else _PEER
        for row in rows
    ]
    axis.barh(rows, values, xerr=[below, above], color=colours, ecolor="#404040", capsize=2)


def _issue(results: Results, plan: Plan) -> Any:
    figure, (axis,) = _figure(9, 5)
    rows = [row for row in results.rows(ISSUE) if "outstanding" in row or "kdc" in row]
    rows += [row for row in results.rows(ISSUE) if row.startswith("floor: tls")]
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


def _line(axis: Any, text: str, points: list[tuple[float, float | None]], **how: Any) -> None:
    known = [(x, y) for x, y in points if y is not None]
    if known:
        axis.plot(*zip(*known, strict=True), marker="o", label=text, **how)


def _growth(results: Results, plan: Plan) -> Any:
    figure, (principals, receivers, sizes) = _figure(13, 4, 3)
    for what, colour in (
        ("kdc, 1 in flight", _OURS),
        ("kdc, pipelined", "#7aa6d8"),
        ("krb5kdc, UDP, 8 outstanding", _PEER),
    ):
        points = [(float(n), results.median(ISSUE, label(what, n), "us")) for n in plan.principals]
        _line(principals, what, points, color=colour)
    principals.set(xlabel="principals", ylabel="server CPU per key, us")
    for name, text, colour in (
        ("issue us", "server CPU per key, us", _OURS),
        ("KiB each", "memory for each, KiB", _PEER),
        ("s to come back", "s until all are back", "#c06000"),
    ):
        points = [
            (float(n), results.median(SCALE, f"{n:,} receivers", name)) for n in plan.receivers
        ]
        _line(receivers, text, points, color=colour)
    receivers.set(xlabel="connected receivers")
    for what, colour in (("kdcclient", _OURS), ("scp", _PEER)):
        points = [
            (float(n), results.median(GROWTH, f"{what} of {n}", "s")) for n in plan.file_sizes
        ]
        _line(sizes, f"{what}, one file", points, color=colour)
    sizes.set(xlabel="bytes", ylabel="s from start to confirmation")
    for axis in (principals, receivers, sizes):
        axis.set(xscale="log", yscale="log")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    return figure
