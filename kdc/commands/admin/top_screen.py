"""What ``top`` shows, as lines.  Pure: the KDC's answer and the size of the window go in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdc.hostile_text import cut, harmless

__all__ = ["screen"]

_CELL = 38  # columns of one fact
_NAME = 32
# In a window that is too low for everything, these are what can be left out.
_LAST = ("Limits", "Certificate", "Relay")


def screen(
    answer: Mapping[str, Any], before: Mapping[str, Any] | None, columns: int, rows: int
) -> list[str]:
    """At most so many lines, harmless, but perhaps too long.  ``columns`` 0: one fact a line.

    ``before`` is what was answered last: keys a second are from then to now.
    """
    head = [_title(answer, before), *_troubles(answer), ""]
    facts: dict[str, Any] = dict(answer["facts"])
    refusals = [(why.lower().replace("_", " "), f"{n:,}") for why, n in answer["refusals"].items()]
    facts["Refusals"] = refusals or [("none", "")]
    receivers, log = _receivers(answer), _log(answer)
    # What happens just now gets ten lines at least.
    room = rows - len(head) - min(10, len(receivers) + len(log) + 1)
    order = [name for name in facts if name not in _LAST] + [n for n in _LAST if n in facts]
    for name in order:
        block = [f"-- {name}", *_cells(facts[name], columns)]
        if len(block) <= room:
            head += block
            room -= len(block)
    left = rows - len(head) - 1
    for_log = min(len(log), max(left // 2, left - len(receivers)))
    shown = [*head, *receivers[: max(0, left - for_log)], "", *log[:for_log]][: max(rows, 0)]
    return [harmless(line) for line in shown]


def _title(answer: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    title = f"KDC of {answer['realm']}: {answer['receiving']:,} receiving"
    if before is not None:
        seconds = (answer["milliseconds"] - before["milliseconds"]) / 1000
        keys = answer["keys"] - before["keys"]
        if seconds > 0 and keys >= 0:  # otherwise it was started anew
            title += f", {keys / seconds:,.1f} keys a second"
    return title


def _troubles(answer: Mapping[str, Any]) -> Iterator[str]:
    for name, why in answer["troubles"].items():
        yield f"TROUBLE with the {name}: {why}"
    if not answer["troubles"]:
        yield "Everything is well."


def _cells(facts: Sequence[tuple[str, str]], columns: int) -> list[str]:
    """As many facts beside each other as fit; a long one has a line to itself."""
    lines: list[str] = []
    beside = 0
    for name, value in facts:
        cell = f"{name}: {value}" if value else name
        short = len(cell) < _CELL
        if beside and short and (beside + 1) * _CELL <= columns:
            lines[-1] = lines[-1].ljust(beside * _CELL) + cell
            beside += 1
        else:
            lines.append(cell)
            beside = int(short)
    return lines


def _receivers(answer: Mapping[str, Any]) -> list[str]:
    rows = [
        f"{cut(name, _NAME):<{_NAME}} {_duration(seconds):>9}  {place}"
        for name, place, seconds in answer["receivers"]
    ]
    return [f"-- Receiving: {len(rows)} of {answer['receiving']:,}", *rows]


def _log(answer: Mapping[str, Any]) -> list[str]:
    rows = [
        f"{at} {event} {client or '-'} {address or '-'} {detail}"
        for at, event, client, address, detail in answer["lines"]
    ]
    return ["-- Log, the newest first", *rows]


def _duration(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
