"""The status page as HTML.  Pure: values go in, and every text of theirs is escaped here.

Without script it is whole; with it, the parts that `parts` names are replaced by newer ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import urlencode

from kdc.hostile_text import harmless
from kdc.watch.charts import bars, lines
from kdc.watch.view import Facts, Filter, Found, Live, LogLine

__all__ = ["STATUSES", "cells", "facts_page", "facts_parts", "page", "parts"]

STATUSES = ("active", "disabled", "invited", "deleted")


def text(value: str, columns: int = 60) -> str:
    """What somebody else has chosen: inert, on one line, and no longer than fits."""
    return escape(cut(value, columns)) if value else "-"


def cut(value: str, columns: int = 200) -> str:
    """The same before it becomes HTML."""
    plain = harmless(value[:columns])
    return plain if len(value) <= columns else f"{plain[: columns - 3]}..."


def _row(cells: Iterable[str]) -> str:
    first, *rest = cells
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'


def _table(caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    if not rows:
        return f"<p>{escape(caption)}: none.</p>"
    # What is wider than a phone is scrolled, by keyboard too.
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    told = "".join(f"<dt>{escape(name)}</dt><dd>{text(value, 200)}</dd>" for name, value in facts)
    return f"<dl>{told}</dl>"


def _duration(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def facts_parts(told: Facts) -> dict[str, str]:
    """What changes, by the id of its place."""
    made = {f"facts-{name.lower()}": _facts(facts) for name, facts in told.facts.items()}
    made["health"] = (
        "".join(
            f'<p class="bad">{escape(name)}: {text(why, 200)}</p>' for name, why in told.troubles
        )
        or '<p class="good">Everything is well.</p>'
    )
    return made


def parts(live: Live) -> dict[str, str]:
    """The same of a KDC."""
    made = facts_parts(live)
    minutes = live.minutes
    made["charts"] = bars("Keys a minute", [minute.count for minute in minutes]) + lines(
        "Time for a key",
        [
            ("half of them within", [minute.median for minute in minutes]),
            ("99 of 100 within", [minute.slowest for minute in minutes]),
        ],
    )
    made["receivers"] = _table(
        f"{len(live.receivers)} of {live.receiving:,} who are receiving",
        ("name", "at", "for"),
        [
            _row((text(each.name), text(each.place), _duration(each.seconds)))
            for each in live.receivers
        ],
    )
    made["refusals"] = _table(
        "Refusals since the start",
        ("why", "how often"),
        [_row((escape(why.replace("_", " ")), f"{count:,}")) for why, count in live.refusals],
    )
    return made


def _section(name: str, title: str, inside: str) -> str:
    head = f'<section aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(title)}</h2>'
    return f"{head}{inside}</section>"


def _live(name: str, made: dict[str, str]) -> str:
    return f'<div id="{name}" data-live>{made[name]}</div>'


def _log(shown_lines: Sequence[LogLine], wanted: Filter) -> str:
    rows = "".join(
        "<li>" + " ".join(f"<span>{escape(part) or '-'}</span>" for part in cells(line)) + "</li>"
        for line in shown_lines
    )
    return (
        '<form method="get" action="/#h-log" id="log-filter"><label for="client">Client</label>'
        f' <input id="client" name="client" value="{escape(wanted.client)}" maxlength="64">'
        ' <label for="event">Event</label>'
        f' <input id="event" name="event" value="{escape(wanted.event)}" maxlength="32">'
        " <button>Show</button></form>"
        '<div class="wide" tabindex="0" role="group" aria-label="The last lines">'
        f'<ol id="log">{rows}</ol></div>'
    )


def cells(line: LogLine) -> tuple[str, ...]:
    """What a line of the log shows, as plain text."""
    return tuple(map(cut, (line.time, line.event, line.client, line.address, line.detail)))


def _principals(found: Found, wanted: Filter) -> str:
    options = "".join(
        f"<option{' selected' if status == wanted.status else ''}>{status}</option>"
        for status in ("", *STATUSES)
    )
    more = ""
    if found.more:
        words = {"name": wanted.name, "status": wanted.status, "after": found.more}
        link = escape("/?" + urlencode(words) + "#h-principals")
        more = f'<p><a href="{link}" rel="next">The next ones</a></p>'
    return (
        '<form method="get" action="/#h-principals" role="search">'
        '<label for="name">Name begins with</label>'
        f' <input id="name" name="name" value="{escape(wanted.name)}" maxlength="64">'
        ' <label for="status">Status</label>'
        f' <select id="status" name="status">{options}</select> <button>Search</button></form>'
        + _table(
            "Principals",
            ("name", "status", "address", "changed"),
            [
                _row((text(p.name), escape(p.status), text(p.place), escape(p.changed)))
                for p in found.principals
            ],
        )
        + more
    )


def _whole(title: str, told: Facts, made: dict[str, str], more: str = "") -> bytes:
    facts = "".join(
        _section(f"s-{name.lower()}", name, _live(f"facts-{name.lower()}", made))
        for name in told.facts
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title>"
        '<link rel="stylesheet" href="/style.css"><script src="/script.js" defer></script></head>'
        f'<body><header><h1>{text(title)}</h1><p id="live" role="status">As of now; load it again'
        " for newer figures.</p></header><main>"
        f"{_section('health', 'Health', _live('health', made))}{facts}{more}"
        "</main></body></html>\n"
    ).encode()


def facts_page(title: str, told: Facts) -> bytes:
    return _whole(title, told, facts_parts(told))


def page(title: str, live: Live, log: Sequence[LogLine], found: Found, wanted: Filter) -> bytes:
    made = parts(live)
    more = (
        _section("charts", "The last hour", _live("charts", made))
        + _section("receivers", "Receiving", _live("receivers", made))
        + _section("refusals", "Refusals", _live("refusals", made))
        + _section("principals", "Principals", _principals(found, wanted))
        + _section("log", "Log", _log(log, wanted))
    )
    return _whole(title, live, made, more)
