"""The status page: answered whole, and told of what changes, once a second at most."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs

from kdc.watch._http import Events, Subscribe
from kdc.watch.answers import Answer, Query
from kdc.watch.html import STATUSES, cells, page, parts
from kdc.watch.view import Filter, Found, Live, LogLine

__all__ = ["StatusPage", "Watched"]

_HTML = "text/html; charset=utf-8"
_SHOWN_LINES = 100
_TYPED = 64
_WORDS = tuple(field.name for field in attrs.fields(Filter))


class Watched(Protocol):
    """Whoever has a page: what it is called, and what there is to see just now."""

    title: str

    def live(self) -> Live: ...

    def second(self) -> None:
        """One more has gone by."""

    def lines(self, wanted: Callable[[LogLine], bool], most: int) -> Sequence[LogLine]:
        """The newest lines of the log first."""

    def lines_after(self, number: int) -> tuple[int, Sequence[LogLine]]:
        """Those since then, oldest first, and what to ask with for those that follow."""

    def find(self, wanted: Filter) -> Awaitable[Found]: ...


class StatusPage:
    """Answers for the page, its files, and the stream of what happens."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._viewers: set[Events] = set()
        self._sent: dict[str, str] = {}
        self._seen = 0
        self._files = {
            "/style.css": Answer(200, _file("style.css"), "text/css; charset=utf-8"),
            "/script.js": Answer(200, _file("script.js"), "text/javascript; charset=utf-8"),
        }
        self.paths = ("/", "/events", *self._files)

    async def answer(self, query: Query) -> Answer | Subscribe:
        if query.path in self._files:
            return self._files[query.path]
        if query.path == "/events":
            if query.method != "GET":
                return Answer(200, b"", "text/event-stream")
            return Subscribe(self._came, self._viewers.discard)
        wanted = _filter(query)
        found = await self._watched.find(wanted)
        log = self._watched.lines(lambda line: fits(line, wanted), _SHOWN_LINES)
        made = page(self._watched.title, self._watched.live(), log, found, wanted)
        return Answer(200, made, _HTML)

    def beat(self) -> None:
        """A second has gone by: tell those who look what has changed, all of them the same."""
        self._watched.second()
        if not self._viewers:
            self._sent = {}
            return
        made = parts(self._watched.live())
        changed = {name: html for name, html in made.items() if self._sent.get(name) != html}
        self._sent = made
        self._seen, fresh = self._watched.lines_after(self._seen)
        told = _event("parts", changed) if changed else b""
        if fresh:
            told += _event("lines", [cells(line) for line in fresh])
        # A comment: who has gone without a word is noticed by it.
        for viewer in list(self._viewers):
            viewer.send(told or b":\n\n")

    def _came(self, viewer: Events) -> None:
        if not self._viewers:
            self._seen, _ = self._watched.lines_after(self._seen)
        self._viewers.add(viewer)
        viewer.send(_event("parts", parts(self._watched.live())))


def fits(line: LogLine, wanted: Filter) -> bool:
    return wanted.client in ("", line.client) and wanted.event in ("", line.event)


def _filter(query: Query) -> Filter:
    typed = {name: query.words.get(name, "").strip()[:_TYPED] for name in _WORDS}
    if typed["status"] not in STATUSES:
        typed["status"] = ""
    return Filter(**{**typed, "name": typed["name"].lower()})


def _event(kind: str, told: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(told)}\n\n".encode()


def _file(name: str) -> bytes:
    found = pkgutil.get_data("kdc.watch", f"static/{name}")
    if found is None:
        raise FileNotFoundError(name)
    return found
