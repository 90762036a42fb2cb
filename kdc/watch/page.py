"""The status page: answered whole, and told of what changes, once a second at most."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs

from kdc.watch._http import Events, Subscribe
from kdc.watch.answers import Answer, Query
from kdc.watch.html import STATUSES, cells, facts_page, facts_parts, page, parts
from kdc.watch.view import Facts, Filter, Found, Live, LogLine

__all__ = ["FactsPage", "StatusPage", "Watched"]

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


class _Live:
    """The files of a page, and the stream of what happens there: parts that have changed."""

    def __init__(self) -> None:
        self._viewers: set[Events] = set()
        self._sent: dict[str, str] = {}
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
        return Answer(200, await self._page(query), _HTML)

    def beat(self) -> None:
        """A second has gone by: tell those who look what has changed, all of them the same."""
        if not self._viewers:
            self._sent = {}
            return
        made = self._parts()
        changed = {name: html for name, html in made.items() if self._sent.get(name) != html}
        self._sent = made
        told = (_event("parts", changed) if changed else b"") + self._more()
        # A comment: who has gone without a word is noticed by it.
        for viewer in list(self._viewers):
            viewer.send(told or b":\n\n")

    def _came(self, viewer: Events) -> None:
        self._viewers.add(viewer)
        viewer.send(_event("parts", self._parts()))

    async def _page(self, query: Query) -> bytes:
        raise NotImplementedError

    def _parts(self) -> dict[str, str]:
        raise NotImplementedError

    def _more(self) -> bytes:
        """What else has happened since the last time."""
        return b""


class StatusPage(_Live):
    """Answers for the page of a KDC."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched
        self._seen = 0

    def beat(self) -> None:
        self._watched.second()
        super().beat()

    def _came(self, viewer: Events) -> None:
        if not self._viewers:
            self._seen, _ = self._watched.lines_after(self._seen)
        super()._came(viewer)

    async def _page(self, query: Query) -> bytes:
        wanted = _filter(query)
        found = await self._watched.find(wanted)
        log = self._watched.lines(lambda line: fits(line, wanted), _SHOWN_LINES)
        return page(self._watched.title, self._watched.live(), log, found, wanted)

    def _parts(self) -> dict[str, str]:
        return parts(self._watched.live())

    def _more(self) -> bytes:
        self._seen, fresh = self._watched.lines_after(self._seen)
        return _event("lines", [cells(line) for line in fresh]) if fresh else b""


class FactsPage(_Live):
    """A page of facts alone, and what is not well."""

    def __init__(self, title: str, read: Callable[[], Facts]) -> None:
        super().__init__()
        self._title = title
        self._read = read

    async def _page(self, query: Query) -> bytes:
        return facts_page(self._title, self._read())

    def _parts(self) -> dict[str, str]:
        return facts_parts(self._read())


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
