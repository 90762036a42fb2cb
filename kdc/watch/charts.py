"""Charts as SVG inside a page: no script, and told in words as well.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["bars", "lines"]

_WIDTH, _HEIGHT = 600, 120


def _chart(title: str, inside: str, highest: str) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" aria-label="{escape(title)}">'
        f'<text x="0" y="12">{escape(highest)}</text>'
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>{inside}'
        f'<text x="0" y="{_HEIGHT + 15}">an hour ago</text>'
        f'<text class="end" x="{_WIDTH}" y="{_HEIGHT + 15}">now</text></svg></figure>'
    )


def _top(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None), default=0)


def bars(title: str, values: Sequence[float]) -> str:
    """One bar a value, the highest as high as there is room."""
    top = _top(values) or 1
    step = _WIDTH / len(values)
    drawn = "".join(
        f'<rect x="{place * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step * 0.8:.1f}"'
        f' height="{height:.1f}"/>'
        for place, value in enumerate(values)
        if (height := (_HEIGHT - 20) * value / top)
    )
    told = f"{title}: {values[-1]:,.0f} in this minute, {_top(values):,.0f} at most"
    return _chart(told, drawn, f"{_top(values):,.0f}")


def lines(title: str, series: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """One line a series, in milliseconds; where there is no value there is no line."""
    highest = max((_top(values) for _, values in series), default=0)
    top = highest or 1
    drawn = []
    for number, (_, values) in enumerate(series):
        step = _WIDTH / len(values)
        points = [
            f"{(place + 0.4) * step:.1f},{_HEIGHT - (_HEIGHT - 20) * value / top:.1f}"
            for place, value in enumerate(values)
            if value is not None
        ]
        drawn += [
            f'<circle class="series{number}" cx="{x}" cy="{y}" r="2.5"/>'
            for x, _, y in (point.partition(",") for point in points)
        ]
        drawn.append(f'<polyline class="series{number}" points="{" ".join(points)}"/>')
    now = ", ".join(
        f"{name} {'-' if values[-1] is None else f'{values[-1] * 1000:g} ms'}"
        for name, values in series
    )
    return _chart(f"{title}: {now} in this minute", "".join(drawn), f"{highest * 1000:g} ms")
