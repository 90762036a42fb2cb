"""The status page: what it shows, and that nothing that others have chosen does anything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from kdc.watch._http import StatusFactory
from kdc.watch.answers import Query
from kdc.watch.charts import bars, lines
from kdc.watch.history import History, Minute, quantile
from kdc.watch.html import page, parts
from kdc.watch.page import StatusPage, fits
from kdc.watch.view import Filter, Found, Live, LogLine, Principal, Receiver

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "\u202egnp.exe",
    "\x1b[31m\0",
    "a" * 100_000,
    "</svg><a href=javascript:alert(1)>",
)
KNOWN = {
    *("html", "head", "meta", "title", "link", "script", "body", "header", "main", "section"),
    *("h1", "h2", "p", "div", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th"),
    *("td", "figure", "figcaption", "svg", "text", "line", "rect", "circle", "polyline", "form"),
    *("label", "input", "select", "option", "button", "ol", "li", "span", "a"),
}


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def live(name: str = "bob") -> Live:
    return Live(
        facts={"Now": [(name, name)]},
        receivers=[Receiver(name, name, 3700)],
        receiving=1,
        minutes=[Minute(), Minute(3, 0.001, 0.01)],
        refusals=[(name, 2)],
        troubles=[(name, name)],
    )


def whole(name: str) -> str:
    log = [LogLine(name, name, name, name, name)]
    found = Found([Principal(name, name, name, name)], more=name)
    return page(name, live(name), log, found, Filter(name, "active", name, name, name)).decode()


class InertTests(SynchronousTestCase):
    def test_hostile_texts(self) -> None:
        """Whatever a text says: the page has the same elements, and none that acts."""
        plain = Elements(whole("bob")).found
        for text in HOSTILE:
            elements = Elements(whole(text)).found
            self.assertEqual([tag for tag, _ in elements], [tag for tag, _ in plain], text[:40])
            for (tag, attributes), (_, expected) in zip(elements, plain, strict=True):
                self.assertIn(tag, KNOWN)
                self.assertEqual(set(attributes), set(expected), text[:40])
                for name in attributes:
                    self.assertFalse(name.startswith("on") or name == "style", text[:40])
                for name in ("href", "src", "action"):
                    self.assertTrue((attributes.get(name) or "/").startswith("/"), text[:40])

    def test_what_cannot_be_seen_is_shown(self) -> None:
        """Controls and what turns the direction of writing are spelled out, and length is cut."""
        made = whole("\u202egnp\x1b")
        body = re.sub(r'value="[^"]*"', "", made)
        self.assertIn("\\u202egnp\\x1b", body)
        self.assertLess(len(whole("a" * 100_000).replace("a" * 100_000, "")), 20_000)

    def test_outside(self) -> None:
        """Nothing comes from elsewhere, and no script or style stands in the page."""
        made = whole("bob")
        self.assertNotRegex(made, "https?:")
        scripts = re.findall(r"<script([^>]*)>(.*?)</script>", made)
        self.assertEqual(scripts, [(' src="/script.js" defer', "")])
        self.assertNotRegex(made, "<style|style=")

    def test_labels(self) -> None:
        """Each field has a label, each section a heading, each picture words."""
        made = whole("bob")
        elements = Elements(made).found
        fields = {a["id"] for tag, a in elements if tag in ("input", "select")}
        self.assertEqual(fields, {a["for"] for tag, a in elements if tag == "label"})
        headings = {a["id"] for tag, a in elements if tag == "h2"}
        named = {a["aria-labelledby"] for tag, a in elements if tag == "section"}
        self.assertEqual(headings, named)
        for tag, attributes in elements:
            if tag == "svg":
                self.assertTrue(attributes["aria-label"] and attributes["role"] == "img")


class Watched:
    title = "KDC of LOCAL"

    def __init__(self) -> None:
        self.log: list[LogLine] = []
        self.seconds = 0
        self.now = live()
        self.wanted: list[Filter] = []

    def live(self) -> Live:
        return self.now

    def second(self) -> None:
        self.seconds += 1

    def lines(self, wanted: Callable[[LogLine], bool], most: int) -> Sequence[LogLine]:
        return [line for line in reversed(self.log) if wanted(line)][:most]

    def lines_after(self, number: int) -> tuple[int, Sequence[LogLine]]:
        return len(self.log), self.log[number:]

    async def find(self, wanted: Filter) -> Found:
        self.wanted.append(wanted)
        return Found([])


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.watched = Watched()
        self.page = StatusPage(self.watched)
        self.factory = StatusFactory(self.page.answer, Clock())

    def ask(self, path: str, **words: str) -> Any:
        answer = self.page.answer(Query("GET", path, words))
        return self.successResultOf(Deferred.fromCoroutine(answer))

    def look(self) -> StringTransport:
        channel: Any = self.factory.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
        return transport

    def events(self, transport: StringTransport) -> list[tuple[str, Any]]:
        text = transport.value().decode()
        transport.clear()
        return [
            (kind, json.loads(data))
            for kind, data in re.findall(r"event: (\w+)\ndata: (.*)\n", text)
        ]

    def test_files(self) -> None:
        for path, kind in (("/style.css", "text/css"), ("/script.js", "text/javascript")):
            answer = self.ask(path)
            self.assertTrue(answer.kind.startswith(kind))
            self.assertGreater(len(answer.body), 1000)

    def test_filters(self) -> None:
        """What was typed is used, cut, and an unknown status is none."""
        self.watched.log = [LogLine("t", "issued", name, "a", "") for name in ("bob", "eve")]
        typed = {"client": "bob", "name": " BOB ", "status": "no", "after": "x" * 1000}
        body = self.ask("/", **typed).body.decode()
        self.assertIn("<span>bob</span>", body)
        self.assertNotIn("<span>eve</span>", body)
        self.assertEqual(self.watched.wanted, [Filter("bob", "", "x" * 64, "bob", "")])
        self.assertTrue(fits(self.watched.log[0], Filter(event="issued")))
        self.assertFalse(fits(self.watched.log[0], Filter(event="refused")))

    def test_only_what_changed(self) -> None:
        """Who looks gets all once, then what is another, then nothing but a sign of life."""
        transport = self.look()
        ((kind, made),) = self.events(transport)
        self.assertEqual((kind, set(made)), ("parts", set(parts(live()))))
        self.page.beat()
        transport.clear()
        self.page.beat()
        self.assertEqual(self.events(transport), [])
        self.watched.now = attrs.evolve(live(), receiving=2)
        self.page.beat()
        ((_, made),) = self.events(transport)
        self.assertEqual(set(made), {"receivers"})

    def test_lines(self) -> None:
        """Each line of the log comes once, as texts, and those from before do not come again."""
        line = LogLine("t", "issued", "<b>", "a", "\u202e")
        self.watched.log.append(line)
        transport = self.look()
        self.page.beat()
        self.assertNotIn("lines", dict(self.events(transport)))
        self.watched.log.append(line)
        self.page.beat()
        found = dict(self.events(transport))["lines"]
        self.assertEqual(found, [["t", "issued", "<b>", "a", "\\u202e"]])
        self.page.beat()
        self.assertEqual(self.events(transport), [])

    def test_nobody_looks(self) -> None:
        """Then the second is counted and nothing is made."""
        self.watched.now = None  # type: ignore[assignment] # what would be made fails
        self.page.beat()
        self.assertEqual(self.watched.seconds, 1)


class HistoryTests(SynchronousTestCase):
    def test_minutes(self) -> None:
        """What grew in a minute is that minute's; an hour is kept."""
        history = History((0.1, 1.0))
        history.note(0, 10, [10, 0, 0])
        history.note(59, 15, [10, 5, 0])
        history.note(61, 18, [10, 5, 3])
        *_, before, now = history.minutes
        self.assertEqual((before, now), (Minute(15, 0.1, 1.0), Minute(3, 1.0, 1.0)))
        self.assertEqual(len(history.minutes), 60)
        history.note(61 + 3 * 3600, 18, [10, 5, 3])
        self.assertEqual(set(history.minutes), {Minute()})

    def test_clock_set_back(self) -> None:
        """A step of the wall clock loses nothing."""
        history = History((1.0,))
        history.note(6000, 5, [5, 0])
        history.note(60, 7, [7, 0])
        self.assertEqual(history.minutes[-1].count, 7)

    def test_quantile(self) -> None:
        for counts, part, expected in (
            ([0, 0, 0], 0.5, None),
            ([1, 1, 0], 0.5, 0.1),
            ([1, 1, 0], 0.99, 1.0),
            ([0, 0, 4], 0.5, 1.0),
        ):
            self.assertEqual(quantile((0.1, 1.0), counts, part), expected)

    def test_charts(self) -> None:
        """The highest bar fills the room; where there is no value there is no point."""
        self.assertIn('height="100.0"', bars("Keys", [1, 2]))
        self.assertEqual(bars("Keys", [0, 0]).count("<rect"), 0)
        drawn = lines("Time", [("half", [None, 0.5, None])])
        self.assertEqual(drawn.count("<circle"), 1)
        self.assertIn("half - in this minute", drawn)
