"""The lines of the activity log: what stands in them, and that they are read as they were meant."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.admin.log_lines import EVENTS, Entry, json_line, parse, text_line
from kdc.errors import Refusal
from kdc.hostile_text import harmless
from kdc.issuing.decisions import Audit
from tests.project.test_layers import sources
from tests.support.core import PROPERTY

TOP = Path(__file__).parent.parent.parent
LINE = Audit("issued", "alice", "192.0.2.1", "bob")
WHEN = 1795410735.1239
AT = "2026-11-23T05:12:15.123Z"
HOSTILE = (
    "x\n2026-11-23T05:12:15.123Z issued client=mallory address=- bob",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe \u0430lice",
    '{"event": "issued"}',
    "'\"\\",
    "x" * 100_000,
    "\U0001f600" * 1000,
    "\ud800",
)


def events_in(source: str) -> Iterator[str]:
    """The events that ``source`` notes; one that is put together has a star in it."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name not in ("Audit", "audit", "tell") or not call.args:
            continue
        first = call.args[0]
        if isinstance(first, ast.JoinedStr):
            yield "".join(
                str(getattr(part, "value", "*")) if isinstance(part, ast.Constant) else "*"
                for part in first.values
            )
        elif isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


_KINDS = {"string": str, "null": type(None), "object": dict, "integer": int}
_WORDS = frozenset(
    (
        *("$schema", "title", "type", "enum", "pattern", "maxLength", "minimum"),
        *("required", "properties", "additionalProperties"),
    )
)


def problems(value: Any, schema: dict[str, Any]) -> list[str]:
    """What of ``value`` is not as ``schema`` says: the words of JSON Schema that ours uses."""
    if schema.keys() - _WORDS:
        return [f"a word that this does not know: {schema.keys() - _WORDS}"]
    named = schema["type"]
    kinds = [_KINDS[each] for each in ([named] if isinstance(named, str) else named)]
    if type(value) not in kinds:
        return [f"{value!r} is none of {named}"]
    if isinstance(value, dict):
        return _problems_in(value, schema)
    wrong = {
        "enum": lambda choice: value not in choice,
        "pattern": lambda pattern: not re.search(pattern, value),
        "maxLength": lambda most: value is not None and len(value) > most,
        "minimum": lambda least: value < least,
    }
    return [f"{value!r}: {word}" for word in wrong if word in schema and wrong[word](schema[word])]


def _problems_in(value: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    known = schema["properties"]
    found = [f"no {name}" for name in schema["required"] if name not in value]
    if schema["additionalProperties"] is False:
        found += [f"{name} is not known" for name in value.keys() - known.keys()]
    for name in value.keys() & known.keys():
        found += problems(value[name], known[name])
    return found


class TextTests(SynchronousTestCase):
    def test_line(self) -> None:
        """Time in UTC to the millisecond, event, who, from where, and what."""
        self.assertEqual(text_line(LINE, WHEN), f"{AT} issued client=alice address=192.0.2.1 bob")
        self.assertTrue(text_line(Audit("started", "", ""), 0).endswith("client=- address=-"))

    @PROPERTY
    @given(st.text(), st.text(), st.text(), st.floats(0, 4e9))
    def test_one_line(self, principal: str, address: str, detail: str, when: float) -> None:
        """Whatever gets into it, a line is one line of printable ASCII, and not long."""
        audit = Audit("refused", principal[:64], address[:64], detail)
        for form in (text_line, json_line):
            line = form(audit, when)
            self.assertTrue(line.isascii() and line.isprintable())
            self.assertLess(len(line), 4000)
            parse(line.encode())

    def test_long_details(self) -> None:
        """200 characters of a detail are written, and no more."""
        for length in (199, 200, 201, 100_000):
            audit = Audit("stopped", "", "", "x" * length)
            for form in (text_line, json_line):
                self.assertEqual(form(audit, 0).count("x"), min(length, 200))

    def test_no_forged_lines(self) -> None:
        """A detail with a line break or an escape does not make a line of its own."""
        for form in (text_line, json_line):
            for detail in HOSTILE:
                line = form(Audit("refused", "", "", detail), 0)
                self.assertTrue(line.isprintable() and line.isascii(), line)


class JSONTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.schema = json.loads((TOP / "docs" / "log.schema.json").read_text(encoding="utf-8"))

    def values(self, audit: Audit) -> Any:
        return json.loads(json_line(audit, WHEN, stamped=False))

    def test_events(self) -> None:
        """The list has every event that is noted anywhere, and no other."""
        found: set[str] = set()
        for path in sources().values():
            found |= set(events_in(path.read_text(encoding="utf-8")))
        # Those that are put together, and what they can become.
        made = {
            "admin-*": {"admin-enabled", "admin-disabled"},
            "admin-*ed": {"admin-loaded", "admin-imported"},
        }
        self.assertEqual(found & made.keys(), made.keys())
        # Of one call the event is in a variable.
        named = {"changed", "deleted"}
        whole = {event for event in found - made.keys() if re.fullmatch("[a-z-]+", event)}
        self.assertEqual(whole.union(named, *made.values()), set(EVENTS))
        self.assertEqual(self.schema["properties"]["event"]["enum"], list(EVENTS))

    def test_finds_events(self) -> None:
        """The test above sees what it looks for."""
        source = "audit(Audit('a', x))\ncontext.audit(f'b-{c}d', y)\nself.tell('e')\ntell()"
        self.assertEqual(set(events_in(source)), {"a", "b-*d", "e"})

    def test_documented(self) -> None:
        """The document has a row for each event, with the words of the list."""
        text = (TOP / "docs" / "log.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text, re.MULTILINE)
        self.assertEqual([row for row in rows if row[0] in EVENTS], list(EVENTS.items()))
        fields = {name for name, _ in rows} - EVENTS.keys()
        self.assertEqual(fields, self.schema["properties"].keys())

    def test_schema(self) -> None:
        """Every event with details of all sorts is as the schema says."""
        details = ("", "bob", "192.0.2.1 60000", "again by uid 1000", *HOSTILE)
        refusals = [f"{refusal.name} {detail}" for refusal in Refusal for detail in details]
        for event in EVENTS:
            for principal, address in (("", ""), ("alice", "2001:db8::1"), (HOSTILE[1], "local")):
                for detail in refusals if event == "refused" else details:
                    values = self.values(Audit(event, principal, address, detail))
                    self.assertEqual(problems(values, self.schema), [], values)

    def test_schema_refuses(self) -> None:
        """What is not so is found: each field that is missing, of another type, or strange."""
        good = self.values(LINE)
        self.assertEqual(problems(good, self.schema), [])
        bad = [{name: good[name] for name in good if name != gone} for gone in good][:-1]
        bad += [{**good, name: 1} for name in good]
        bad += [{**good, "time": "yesterday"}, {**good, "event": "danced"}, {**good, "more": ""}]
        for values in bad:
            self.assertNotEqual(problems(values, self.schema), [], values)

    def test_fields(self) -> None:
        """What a program would have to take a detail apart for has a field of its own."""
        self.assertEqual(
            self.values(LINE),
            {
                "time": AT,
                "event": "issued",
                "client": "alice",
                "address": "192.0.2.1",
                "detail": "bob",
                "receiver": "bob",
            },
        )
        refused = self.values(Audit("refused", "", "", "NOT_AUTHENTIC alice"))
        self.assertEqual((refused["refusal"], refused["client"]), ("NOT_AUTHENTIC", None))
        self.assertEqual(self.values(Audit("admin-reset", "bob", "local", "by uid 7"))["uid"], 7)

    def test_harmless_when_read(self) -> None:
        """Whoever prints a value prints nothing that a terminal obeys."""
        for text in HOSTILE:
            values = self.values(Audit("refused", text, text, text))
            for value in values.values():
                self.assertEqual(value, harmless(value))
                self.assertTrue(all(c.isprintable() for c in value))


class ParseTests(SynchronousTestCase):
    def test_both_forms(self) -> None:
        """Either is the same entry, and gives either again."""
        for event in EVENTS:
            for detail in ("", "bob", "NOT_AUTHENTIC bob: expired"):
                audit = Audit(event, "alice", "2001:db8::1", detail)
                entries = [parse(form(audit, WHEN).encode()) for form in (text_line, json_line)]
                self.assertEqual(entries[0], Entry(AT, event, "alice", "2001:db8::1", detail))
                self.assertEqual(entries[1], entries[0])
                self.assertEqual(str(entries[0]), text_line(audit, WHEN))
                self.assertEqual(json.dumps(entries[0].values), json_line(audit, WHEN))  # type: ignore[union-attr]

    def test_without_time(self) -> None:
        """As it went to systemd's journal."""
        line = text_line(LINE, WHEN, stamped=False)
        entry = parse(line.encode())
        self.assertEqual((entry and entry.time, str(entry)), ("", line))

    def test_hostile(self) -> None:
        """What was written in escapes is read as one entry of its own event, still escaped."""
        for form in (text_line, json_line):
            for text in HOSTILE:
                entry = parse(form(Audit("refused", "", "", text), WHEN).encode())
                self.assertEqual(entry and entry.event, "refused", text)
                self.assertTrue(str(entry).isprintable())

    def test_not_ours(self) -> None:
        """None for anything else, and no error."""
        good = json.loads(json_line(LINE, WHEN))
        for values in (
            {},
            {**good, "time": None},
            {**good, "event": "Not An Event"},
            {**good, "client": ["alice"]},
            {**good, "detail": 5},
        ):
            self.assertIsNone(parse(json.dumps(values).encode()), values)
        for line in (
            *(b"", b"{", b"{}", b"'", b"'x", b"'\\x", b"\x00\xff", b"[" * 5000, b'{"a":' * 5000),
            *(b"issued", b"issued client=alice", b"x client= address=", b"'\\ud800'"),
            b"2026-11-23T05:12:15.123Z iss2026-11-23T05:12:15.123Z issued client=a address=-",
            b"2026-11-23T05:12:15.123Z issued client=alice address=- \x1b[2J",
            json_line(LINE, WHEN).encode()[:-1],
        ):
            self.assertIsNone(parse(line), line)

    @PROPERTY
    @given(st.binary(max_size=300))
    def test_any_bytes(self, line: bytes) -> None:
        """Bytes of any kind are an entry or none."""
        parse(line)
        parse(b"{" + line + b"}")
        parse(b"'" + line + b"'")
