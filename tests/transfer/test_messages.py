"""What sender and receiver say: read however it is cut, and nothing accepted that is not it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import Refusal, RemoteProtocolError, TooLarge
from kdc.protocol.records import AckStatus
from kdc.transfer._framing import AnswerReader, Content, Finished, ItemReader
from kdc.transfer._held import HeldByReceiver
from kdc.transfer.messages import (
    MAX_MESSAGE,
    MAX_TEXT,
    Accept,
    Held,
    Item,
    Kind,
    Offer,
    Omitted,
    Refuse,
    Remark,
    Why,
    decode_answer,
    decode_item,
    decode_offer,
)
from kdc.transfer.names import safe_name
from tests.support.core import PROPERTY


def is_safe(check: Callable[[str], object], name: str) -> bool:
    try:
        check(name)
    except ValueError:
        return False
    return True


names = st.text(min_size=1, max_size=40).filter(lambda name: is_safe(safe_name, name))
files = st.lists(st.tuples(names, st.binary(max_size=60)), max_size=6, min_size=1).filter(
    lambda sent: len({name for name, _ in sent}) == len(sent)
)


def offer_of(*sent: str, **fields: Any) -> Offer:
    return Offer(tuple(sent[:16]), len(sent[16:]), **fields)


def stream_of(sent: list[tuple[str, bytes]], *, open_end: bool = False) -> bytes:
    """What a sender of files writes; the size of the last one may be left open."""
    pieces = [offer_of(*(name for name, _ in sent)).encode()]
    for number, (name, data) in enumerate(sent):
        size = None if open_end and number == len(sent) - 1 else len(data)
        pieces += [Item(Kind.FILE, name, size).encode(), data]
    return b"".join(pieces)


def read(chunks: list[bytes], reader: ItemReader | None = None) -> list[tuple[str, bytes]]:
    """What a reader makes of it; each item must begin and end, in turn."""
    reader = reader or ItemReader()
    found: list[tuple[str, bytes]] = []
    current: tuple[Item, list[bytes]] | None = None
    events: list[Any] = [event for chunk in chunks for event in reader.feed(chunk)]
    assert isinstance(events[0], Offer)
    for event in [*events[1:], *reader.end()]:
        if isinstance(event, Item):
            assert current is None
            current = event, []
        elif isinstance(event, Content):
            assert current is not None
            assert event.data
            current[1].append(bytes(event.data))
        else:
            assert isinstance(event, Finished)
            assert current is not None
            found.append((current[0].name, b"".join(current[1])))
            current = None
    assert current is None
    return found


def message(fields: object) -> bytes:
    text = json.dumps(fields).encode()
    return len(text).to_bytes(2, "big") + text


class ItemReaderTests(SynchronousTestCase):
    def malformed(self, *pieces: bytes) -> str:
        """The reader refuses the last of ``pieces``, or the end after it."""
        reader = ItemReader()
        for piece in pieces[:-1]:
            list(reader.feed(piece))

        def rest() -> None:
            list(reader.feed(pieces[-1]))
            list(reader.end())

        error = self.assertRaises(RemoteProtocolError, rest)
        self.assertIs(error.refusal, Refusal.MALFORMED)
        return error.detail

    @PROPERTY
    @given(files, st.booleans(), st.lists(st.integers(1, 50), min_size=1))
    def test_chunks(self, sent: list[tuple[str, bytes]], open_end: bool, sizes: list[int]) -> None:
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
    @given(st.binary(max_size=300), st.booleans())
    def test_any_bytes(self, data: bytes, offered: bool) -> None:
        """Any bytes are what they should be or malformed, never anything else."""
        for reader in (ItemReader(), AnswerReader()):
            try:
                if offered and isinstance(reader, ItemReader):
                    list(reader.feed(offer_of("a").encode()))
                list(reader.feed(data))
                if isinstance(reader, ItemReader):
                    list(reader.end())
            except RemoteProtocolError as error:
                self.assertIs(error.refusal, Refusal.MALFORMED)

    def test_cut(self) -> None:
        """A stream that ends anywhere but at its end is malformed."""
        stream = stream_of([("a", b"12345"), ("b", b"6")])
        for at in range(len(stream)):
            reader = ItemReader()
            list(reader.feed(stream[:at]))
            self.assertRaises(RemoteProtocolError, list, reader.end())

    def test_long_message(self) -> None:
        """A message over the limit is refused at its length, before it is there; so is none."""
        for reader in (ItemReader(), AnswerReader()):
            length = (MAX_MESSAGE + 1).to_bytes(2, "big")
            self.assertRaises(RemoteProtocolError, list, reader.feed(length))
        self.assertRaises(RemoteProtocolError, list, ItemReader().feed(b"\0\0"))

    def test_open_end(self) -> None:
        """An item without a size goes on to the end, whatever its bytes look like."""
        inside = stream_of([("b", b"x")])
        self.assertEqual(read([stream_of([("a", inside)], open_end=True)]), [("a", inside)])

    def test_tree(self) -> None:
        """A directory, what is in it, and the next thing beside it."""
        items = [
            Item(Kind.DIRECTORY, "d", 0),
            Item(Kind.DIRECTORY, "d/.git", 0),
            Item(Kind.FILE, "d/.git/-x", 1),
            Item(Kind.FILE, "e", 0),
        ]
        stream = offer_of("d", "e", items=4, size=1).encode()
        stream += items[0].encode() + items[1].encode() + items[2].encode() + b"1"
        stream += items[3].encode()
        self.assertEqual([name for name, _ in read([stream])], ["d", "d/.git", "d/.git/-x", "e"])

    def test_not_what_was_offered(self) -> None:
        """Other names, kinds, numbers and amounts than somebody has accepted."""
        file, other = Item(Kind.FILE, "a", 1).encode() + b"1", Item(Kind.FILE, "b", 0).encode()
        directory = Item(Kind.DIRECTORY, "d", 0).encode()
        inside = Item(Kind.FILE, "d/x", 3).encode() + b"123"
        text = Item(Kind.TEXT, "a", 1).encode() + b"1"
        for what, pieces in (
            ("another name", (offer_of("a"), file, other)),
            ("another name", (offer_of("a"), other)),
            ("another name", (offer_of("a", "b"), other)),
            ("less was sent", (offer_of("a", "b"), file)),
            ("less was sent", (offer_of("a"), b"")),
            ("directory that was not sent", (offer_of("d"), inside)),
            ("directory that was not sent", (offer_of("a", "d"), file, inside)),
            (
                "outside the directory",
                (offer_of("d", "e"), directory, Item(Kind.FILE, "e/x", 0).encode()),
            ),
            ("more than 1 items", (offer_of("d", items=1), directory, inside)),
            ("more than the 2 bytes", (offer_of("d", size=2), directory, inside)),
            ("unknown size", (offer_of("a", size=9), Item(Kind.FILE, "a", None).encode())),
            ("as one", (offer_of("a"), text)),
            ("as one", (offer_of("a", text=True, size=1), file)),
        ):
            encoded = [each.encode() if isinstance(each, Offer) else each for each in pieces]
            self.assertIn(what, self.malformed(*encoded))

    def test_too_large(self) -> None:
        """What is more than the receiver takes is refused when that is known, not later."""
        for pieces in (
            (offer_of("a").encode(), Item(Kind.FILE, "a", 11).encode()),
            (offer_of("a").encode(), Item(Kind.FILE, "a", None).encode(), bytes(10), b"1"),
        ):
            reader = ItemReader(10)
            for piece in pieces[:-1]:
                list(reader.feed(piece))
            self.assertRaises(TooLarge, list, reader.feed(pieces[-1]))
        self.assertEqual(read([stream_of([("a", bytes(10))])], ItemReader(10)), [("a", bytes(10))])

    def test_resumed(self) -> None:
        """Of an item that goes on from somewhere only the rest comes."""
        stream = offer_of("a", size=10).encode() + Item(Kind.FILE, "a", 10, start=7).encode()
        self.assertEqual(read([stream + b"890"]), [("a", b"890")])
        whole = offer_of("a").encode() + Item(Kind.FILE, "a", 7, start=7).encode()
        self.assertEqual(read([whole]), [("a", b"")])

    def test_omitted(self) -> None:
        """What does not come counts as if it had, and what is withdrawn as if it had not."""
        a = Item(Kind.FILE, "d/a", 5).encode() + b"12345"
        d = Item(Kind.DIRECTORY, "d", 0).encode()
        again = Omitted("d/a", Why.CHANGED, again=True).encode()
        gone = Omitted("d/a", Why.GONE).encode()
        for pieces in (
            (d, gone),
            (d, a, gone),
            (d, a, again, a),
            (d, a, again, a, again, a),
            (d, a, again, gone),
            (d, a, again, a, again, a, gone),
            (d, Item(Kind.FILE, "d/a", 5, start=5).encode(), gone),
        ):
            reader = ItemReader()
            list(reader.feed(offer_of("d", items=2, size=5).encode() + b"".join(pieces)))
            list(reader.end())
        top = Item(Kind.FILE, "a", 5).encode() + b"12345"
        again = Omitted("a", Why.CHANGED, again=True).encode()
        gone = Omitted("a", Why.GONE).encode()
        other = Item(Kind.FILE, "b", 0).encode()
        for pieces in ((gone, other), (top, gone, other), (top, again, top, other)):
            reader = ItemReader()
            list(reader.feed(offer_of("a", "b", items=2, size=5).encode() + b"".join(pieces)))
            list(reader.end())

    def test_wrongly_omitted(self) -> None:
        """Nothing is omitted that was not offered, nor comes again that has not come."""
        offer = offer_of("d", items=2, size=5)
        d = Item(Kind.DIRECTORY, "d", 0).encode()
        a = Item(Kind.FILE, "d/a", 5).encode() + b"12345"
        again = Omitted("d/a", Why.CHANGED, again=True).encode()
        gone = Omitted("d/a", Why.GONE).encode()
        for what, pieces in (
            ("another name", (offer, Omitted("e", Why.GONE).encode())),
            ("that was not sent", (offer, gone)),
            ("outside", (offer, d, Omitted("e/a", Why.GONE).encode())),
            ("more than 2 items", (offer, d, gone, Omitted("d/b", Why.GONE).encode())),
            ("more than 2 items", (offer, d, a, Omitted("d/b", Why.GONE).encode())),
            ("cannot come again", (offer, d, again)),
            ("cannot come again", (offer, d, a, gone, again)),
            ("more than 2 times", (offer, d, a, again, a, again, a, again)),
            ("does not", (offer, d, a, again, Item(Kind.FILE, "d/b", 0).encode())),
            ("come again does not", (offer, d, a, again)),
            ("only a file", (offer, d, Omitted("d", Why.CHANGED).encode())),
            ("nothing was sent", (offer, Omitted("d", Why.GONE).encode())),
            ("that was not sent", (offer, Omitted("d", Why.GONE).encode(), a)),
            ("more than the 5 bytes", (offer, d, a, again, a[:-5].replace(b"5", b"6") + b"123456")),
        ):
            encoded = [each.encode() if isinstance(each, Offer) else each for each in pieces]
            self.assertIn(what, self.malformed(*encoded))

    def test_secret_content(self) -> None:
        """What is sent shows in no repr."""
        self.assertNotIn("secret", repr(Content(b"secret")))


OFFER: dict[str, Any] = {"names": ["a"], "more": 0, "items": 1, "size": 1, "text": False}
OMITTED: dict[str, Any] = {"kind": "omitted", "name": "a", "why": "gone", "again": False}
ITEM: dict[str, Any] = {"kind": "file", "name": "a", "size": 1, "executable": False, "from": 0}


class MessageTests(SynchronousTestCase):
    """Each message is exactly what it should be."""

    def refused(self, decode: Callable[[bytes], object], fields: object) -> None:
        text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        error = self.assertRaises(RemoteProtocolError, decode, text)
        self.assertTrue(error.detail.isprintable(), repr(error.detail))

    @PROPERTY
    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
    def test_any_fields(self, value: object) -> None:
        """What is JSON, but says something else, is malformed."""
        goods = ((OFFER, decode_offer), (ITEM, decode_item), (OMITTED, decode_item))
        for good, decode in goods:
            self.refused(decode, value)
            self.refused(decode, {**good, "extra": value})
            for name in good:
                self.refused(decode, {**good, name: [value, value]})
                self.refused(decode, {key: good[key] for key in good if key != name})
        self.refused(decode_answer, {"answer": value})

    def test_hostile_items(self) -> None:
        """Sizes that are no sizes, names that are no names, and combinations that make no sense."""
        self.assertEqual(decode_item(json.dumps(ITEM).encode()), Item(Kind.FILE, "a", 1))
        wrongs: tuple[dict[str, Any], ...] = (
            *({"size": size} for size in (-1, 1.0, True, "1", (1 << 62) + 1)),
            *({"name": name} for name in ("", "../a", "/etc/passwd", "a/../b", "a//b", 7, ".a")),
            *({"kind": kind} for kind in ("symlink", "device", None, "directory")),
            *({"from": start} for start in (2, -1, None)),
            {"size": None, "from": 1},
            {"kind": "directory", "size": 0, "executable": True},
            {"kind": "text", "name": "a/b"},
            {"kind": "text", "size": None},
            {"kind": "text", "size": MAX_TEXT + 1},
            {"executable": 1},
            *({"mode": mode} for mode in (0o1000, 0o4755, -1, "0644", None, True)),
            *({"modified": time} for time in ((1 << 62) + 1, 1.5, None, False)),
            *({"sparse": sparse} for sparse in (False, None, 1)),
            {"kind": "directory", "size": 0, "sparse": True},
            {"kind": "text", "mode": 0o644},
            {"owner": 0},
        )
        for wrong in wrongs:
            self.refused(decode_item, {**ITEM, **wrong})

    def test_hostile_offers(self) -> None:
        """Names that are paths, that stand there twice, or are none; a text that is no text."""
        wrongs: tuple[dict[str, Any], ...] = (
            *({"names": names} for names in ([], ["a", "a"], ["a/b"], [".a"], ["-a"], [7], "ab")),
            {"names": [str(n) for n in range(17)]},
            {"more": 1},
            {"more": -1},
            {"items": True},
            {"text": True, "size": None},
            {"text": True, "size": MAX_TEXT + 1},
            {"text": True, "names": ["a", "b"]},
        )
        for wrong in wrongs:
            self.refused(decode_offer, {**OFFER, **wrong})

    def test_hostile_answers(self) -> None:
        """A reason that a terminal would obey, a refusal that is none, a digest that is none."""
        refuse: dict[str, Any] = {"answer": "refuse", "status": 1, "reason": "no"}
        have: dict[str, Any] = {"answer": "have", "name": "a", "size": 1, "sha256": "0" * 64}
        self.assertEqual(decode_answer(json.dumps(refuse).encode()), Refuse(AckStatus(1), "no"))
        for wrong in (
            *({**refuse, "status": status} for status in (0, 4, "1", None)),
            *({**refuse, "reason": reason} for reason in ("\x1b[2J", "x" * 201, None)),
            *({**have, "sha256": digest} for digest in ("0" * 63, "G" * 64, None)),
            {**have, "name": "../a"},
            {"answer": "accept", "more": 1},
            {"answer": "perhaps"},
        ):
            self.refused(decode_answer, wrong)

    def test_not_json(self) -> None:
        """What is not one UTF-8 JSON object, each member once."""
        for text in (
            *(b"", b"[" * 9000, b"{", b"\xff\xfe", b"NaN", b"1" * 9000, b"[]", b"null"),
            b'{"answer":"accept","answer":"accept"}',
            '{"answer":"accept"}'.encode("utf-16"),
        ):
            for decode in (decode_offer, decode_item, decode_answer):
                self.refused(decode, text)

    def test_round(self) -> None:
        """What is encoded is what is decoded."""
        for sent, decode in (
            (Offer(("a", "b"), items=3, size=5), decode_offer),
            (Offer(tuple(map(str, range(16))), 9), decode_offer),
            (Offer(("note",), items=1, size=2, text=True), decode_offer),
            (Item(Kind.FILE, "d/名前", 9, executable=True, start=3), decode_item),
            (Item(Kind.FILE, '"' * 255, None), decode_item),
            (Item(Kind.FILE, "a", 9, mode=0o777, modified=-(1 << 62), sparse=True), decode_item),
            (Item(Kind.DIRECTORY, "a", 0, mode=0, modified=0), decode_item),
            (Omitted("d/a", Why.CHANGED, again=True), decode_item),
            (Held("a/b", 3, "0" * 64), decode_answer),
            (Accept(), decode_answer),
            (Refuse(AckStatus.TOO_LARGE, "at most 10 bytes"), decode_answer),
        ):
            encoded = sent.encode()
            self.assertEqual(decode(encoded[2:]), sent)
            self.assertEqual(int.from_bytes(encoded[:2], "big"), len(encoded) - 2)

    def test_remarks(self) -> None:
        """What a receiver says of itself is kept apart from what it has; other words pass."""
        held = HeldByReceiver(offer_of("a", "b"))
        for remark in Remark:
            held.add(decode_answer(remark.encode()[2:]))  # type: ignore[arg-type]
        held.add(Held("kdc.send of a later version", 0, "0" * 64))
        held.add(Held("a", 3, "0" * 64))
        self.assertEqual(held.remarks, frozenset(Remark))
        self.assertEqual(held.of.keys(), {"a"})

    def test_longest(self) -> None:
        """The longest path there can be fits into a message, however it has to be written."""
        path = "/".join(['"' * 255] * 16)
        self.assertLessEqual(len(Item(Kind.FILE, path, 1).encode()), MAX_MESSAGE)

    def test_reason(self) -> None:
        """Our own reasons are cut and made printable before they are sent."""
        encoded = Refuse(AckStatus.NOT_ALLOWED, "\x1b" + "x" * 300).encode()
        reason = json.loads(encoded[2:])["reason"]
        self.assertTrue(reason.isprintable() and len(reason) == 200)

    def test_reasons(self) -> None:
        """What a reason may hold depends on no table that another version may have otherwise."""
        for reason, good in (("e\u0301 \U000e0fff", True), ("\x85", False), ("\u202e", False)):
            fields = {"answer": "refuse", "status": 1, "reason": reason}
            if good:
                answer = decode_answer(json.dumps(fields).encode())
                self.assertEqual(answer, Refuse(AckStatus.NOT_ALLOWED, reason))
            else:
                self.refused(decode_answer, fields)
