"""Items in a stream: read however they are cut, and nothing accepted that is not one."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import Refusal, RemoteProtocolError
from kdc.items import Content, Item, ItemEvent, ItemReader, Kind, safe_name
from tests.support import PROPERTY


def is_safe(name: str) -> bool:
    try:
        safe_name(name)
    except ValueError:
        return False
    return True


names = st.text(min_size=1, max_size=40).filter(is_safe)
things = st.lists(st.tuples(st.sampled_from(Kind), names, st.binary(max_size=60)), max_size=6)


def stream_of(sent: list[tuple[Kind, str, bytes]], *, open_end: bool = False) -> bytes:
    """What a sender writes; the size of the last item may be left open."""
    pieces = []
    for number, (kind, name, data) in enumerate(sent):
        size = None if open_end and number == len(sent) - 1 else len(data)
        pieces += [Item(kind, name, size).encode(), data]
    return b"".join(pieces)


def read(chunks: list[bytes]) -> list[tuple[Kind, str, bytes]]:
    """What a reader makes of it; each item must begin and end, in turn."""
    reader = ItemReader()
    found: list[tuple[Kind, str, bytes]] = []
    current: tuple[Item, list[bytes]] | None = None
    events: list[ItemEvent] = [event for chunk in chunks for event in reader.feed(chunk)]
    for event in [*events, *reader.end()]:
        if isinstance(event, Item):
            assert current is None
            current = event, []
        elif isinstance(event, Content):
            assert current is not None
            assert event.data
            current[1].append(event.data)
        else:
            assert current is not None
            found.append((current[0].kind, current[0].name, b"".join(current[1])))
            current = None
    assert current is None
    return found


def header(fields: object) -> bytes:
    text = json.dumps(fields).encode()
    return len(text).to_bytes(2, "big") + text


class ItemReaderTests(SynchronousTestCase):
    @PROPERTY
    @given(things, st.booleans(), st.lists(st.integers(1, 50), min_size=1))
    def test_chunks(
        self, sent: list[tuple[Kind, str, bytes]], open_end: bool, sizes: list[int]
    ) -> None:
        """However a stream is cut, the same items come out, and they are those that went in."""
        stream = stream_of(sent, open_end=open_end)
        self.assertEqual(read([stream]), sent)
        self.assertEqual(read([bytes([byte]) for byte in stream]), sent)
        chunks, at, number = [], 0, 0
        while at < len(stream):
            step = sizes[number % len(sizes)]
            chunks.append(stream[at : at + step])
            at, number = at + step, number + 1
        self.assertEqual(read(chunks), sent)

    @PROPERTY
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are items or malformed, never anything else."""
        reader = ItemReader()
        try:
            list(reader.feed(data))
            list(reader.end())
        except RemoteProtocolError as error:
            self.assertIs(error.refusal, Refusal.MALFORMED)

    @PROPERTY
    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
    def test_any_fields(self, value: object) -> None:
        """A header that is JSON, but says something else, is malformed."""
        for fields in (
            value,
            {"kind": [value], "name": "a", "size": 1},
            {"kind": "file", "name": ["a", value], "size": 1},
            {"kind": "file", "name": "a", "size": [value]},
            {"kind": "file", "name": "a", "size": 1, "more": value},
        ):
            self.assertRaises(RemoteProtocolError, list, ItemReader().feed(header(fields)))

    def test_hostile_headers(self) -> None:
        """Sizes that are no sizes, names that are no names, and what is not JSON."""
        good = {"kind": "file", "name": "a", "size": 1}
        self.assertEqual(list(ItemReader().feed(header(good))), [Item(Kind.FILE, "a", 1)])
        for wrong in (
            {"size": -1},
            {"size": 1.0},
            {"size": True},
            {"size": "1"},
            {"size": (1 << 62) + 1},
            {"kind": "directory"},
            {"kind": None},
            {"name": ""},
            {"name": "../a"},
            {"name": "/etc/passwd"},
            {"name": 7},
        ):
            hostile = header({**good, **wrong})
            self.assertRaises(RemoteProtocolError, list, ItemReader().feed(hostile))
        for text in (b"", b"[" * 4000, b"{", b"\xff\xfe", b'{"kind":"file"}', b"NaN", b"1" * 4096):
            hostile = len(text).to_bytes(2, "big") + text
            self.assertRaises(RemoteProtocolError, list, ItemReader().feed(hostile))

    def test_long_header(self) -> None:
        """A header over the limit is refused at its length, before it is there."""
        reader = ItemReader()
        self.assertRaises(RemoteProtocolError, list, reader.feed(b"\x10\x01{"))

    def test_cut(self) -> None:
        """A stream that ends anywhere within an item is malformed."""
        stream = stream_of([(Kind.FILE, "a", b"12345"), (Kind.TEXT, "b", b"6")])
        boundary = len(stream_of([(Kind.FILE, "a", b"12345")]))
        for at in range(len(stream)):
            reader = ItemReader()
            list(reader.feed(stream[:at]))
            if at in (0, boundary):
                self.assertEqual(list(reader.end()), [])
            else:
                self.assertRaises(RemoteProtocolError, list, reader.end())

    def test_open_end(self) -> None:
        """An item without a size goes on to the end, whatever its bytes look like."""
        inside = stream_of([(Kind.FILE, "b", b"x")])
        self.assertEqual(
            read([stream_of([(Kind.FILE, "a", inside)], open_end=True)]),
            [(Kind.FILE, "a", inside)],
        )

    def test_secret_content(self) -> None:
        """What is sent shows in no repr."""
        self.assertNotIn("secret", repr(Content(b"secret")))


class SafeNameTests(SynchronousTestCase):
    def test_safe(self) -> None:
        """Ordinary names stay as they are."""
        for name in ("report.pdf", "a", "Übersicht 2026 (2).txt", "x" * 231, "名前", "a..b", "~"):
            self.assertEqual(safe_name(name), name)

    def test_unsafe(self) -> None:
        """Paths, hidden files, options, and what a terminal would obey are refused."""
        for name in (
            *("", ".", "..", "/", "a/b", "../a", "a\\b", ".bashrc", "-rf", "--help"),
            *("a\0b", "a\nb", "\x1b[2J", "a\x7f", "\u202egpj.exe", "\u2028", "\ud800", "a\u00a0"),
            *("x" * 232, "名" * 78),
        ):
            self.assertRaises(ValueError, safe_name, name)
            self.assertRaises(ValueError, Item, Kind.FILE, name, 0)

    @PROPERTY
    @given(st.text(max_size=300))
    def test_any_name(self, name: str) -> None:
        """What passes is one component, and short enough for a temporary name beside it."""
        if is_safe(name):
            self.assertNotIn("/", name)
            self.assertNotIn("\0", name)
            self.assertNotIn(name, (".", ".."))
            self.assertLessEqual(len(name.encode()) + 24, 255)
