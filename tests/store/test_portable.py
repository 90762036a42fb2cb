"""Principals as text: what is written can be read again, and nothing else is."""

from __future__ import annotations

import contextlib
import io
import json

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import Create, Delete, Record, Status, StoreError
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.memory import MemoryStore
from kdc.store.portable import (
    Numbered,
    Skipped,
    bounded_lines,
    dump,
    fields_of,
    read_dump,
    read_textbook,
    record_of,
)
from tests.support.core import PROPERTY
from tests.support.store_conformance import HOSTILE_NAMES, active, invited, serving, token


def filled() -> MemoryStore:
    store = MemoryStore()
    store.apply(
        [
            Create(active("alice"), token(1)),
            Create(active("bob", status=Status.DISABLED, address="2001:db8::1"), token(2)),
            Create(invited("carol"), token(3)),
            Create(active("dave"), token(4)),
        ]
    )
    store.apply([Delete("dave", 4, changed_time=17)])
    return store


def filled_with(*records: Record) -> MemoryStore:
    store = MemoryStore()
    store.apply([Create(record, token(1)) for record in records])
    return store


class DumpTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """With secrets, what is read is the store."""
        found = list(read_dump(dump(filled(), secrets=True), "LOCAL"))
        self.assertEqual([one.record for one in found], list(filled()))
        self.assertEqual([one.line for one in found], [2, 3, 4, 5])

    def test_without_secrets(self) -> None:
        """It may be shown around; who had keys or a code is to be invited again."""
        lines = list(dump(filled()))
        for word in "verify_key", "reply_key", 'invitation"', "token":
            self.assertNotIn(word, "\n".join(lines))
        found = [one.record for one in read_dump(lines, "LOCAL")]
        self.assertEqual(
            [(record.name, record.status) for record in found],
            [
                ("alice", Status.INVITED),
                ("bob", Status.INVITED),
                ("carol", Status.INVITED),
                ("dave", Status.DELETED),
            ],
        )
        self.assertEqual([record.invitation for record in found], [b""] * 4)
        self.assertEqual(found[1].address, "2001:db8::1")

    def test_no_dump(self) -> None:
        """It is refused with its line, and without quoting it: it could hold a key."""
        header, *rest = dump(filled(), secrets=True)
        plain_header, *plain = dump(filled())
        for lines, text in (
            ([], "line 1"),
            (["{}"], "line 1"),
            (["[1]", *rest], "line 1"),
            (["[" * 5000], "line 1"),
            ([header.replace("LOCAL", "OTHER"), *rest], "realm 'OTHER'"),
            ([header.replace("1", "2"), *rest], "line 1"),
            ([header, rest[0], "secret"], "line 3"),
            ([header, rest[0], "[" * 5000], "line 3"),
            ([header, rest[0], "7"], "line 3"),
            ([header, rest[0], '"secret"'], "line 3"),
            ([header, rest[0].replace("alice", "al:ice")], "line 2"),
            ([header, rest[0].replace('"port"', '"sport"')], "line 2"),
            ([header, '{"name": 1, "status": "active"}'], "line 2"),
            ([header, plain[0]], "line 2"),
            ([plain_header, rest[0]], "line 2"),
            ([plain_header, plain[2].replace("}", ', "invitation": "c2VjcmV0"}')], "line 2"),
        ):
            error = self.assertRaises(StoreError, list, read_dump(lines, "LOCAL"))
            self.assertIn(text, str(error))
            self.assertNotIn("secret", str(error))

    def test_some_at_a_time(self) -> None:
        """What comes before a bad line is found before that line is looked at."""
        header, first, *_ = dump(filled(), secrets=True)
        found = read_dump([header, first, "garbage"], "LOCAL")
        self.assertEqual(next(found).record.name, "alice")
        self.assertRaises(StoreError, next, found)

    @PROPERTY
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([field.name for field in attrs.fields(Record)]),
                    inner,
                    max_size=9,
                )
            ),
        )
    )
    def test_any_value(self, value: object) -> None:
        """It is a record that can be written down, or refused."""
        try:
            record = record_of(value)
        except ValueError as error:
            self.assertLess(len(str(error)), 100)
        else:
            self.assertEqual(record_of(fields_of(record, secrets=True)), record)

    def test_ends(self) -> None:
        """An end is written down; a principal without one is as it always was."""
        plain = fields_of(active("alice"), secrets=True)
        self.assertEqual(plain.keys() & {"expiry_time", "renewal_seconds"}, set())
        record = active("alice", expiry_time=7, renewal_seconds=8)
        self.assertEqual(record_of(json.loads(json.dumps(fields_of(record, secrets=True)))), record)
        for bad in (
            {"renewal_seconds": 8},
            {"expiry_time": -1},
            {"expiry_time": "7"},
            {"expiry_time": 10**18},
        ):
            self.assertRaises(ValueError, record_of, {**plain, **bad})

    def test_kerberos(self) -> None:
        """A part is written down with the other secrets, and shown nowhere else."""
        record = serving("alice", "HTTP/a")
        self.assertNotIn("kerberos", fields_of(record, secrets=False))
        whole = fields_of(record, secrets=True)
        self.assertEqual(record_of(json.loads(json.dumps(whole))), record)
        self.assertNotIn("kerberos", fields_of(active("alice"), secrets=True))
        for bad in ("", "AAAA", 7, None, whole["kerberos"][:-4], "*"):
            self.assertRaises(ValueError, record_of, {**whole, "kerberos": bad})
        header, line = dump(filled_with(record))
        smuggled = json.dumps({**json.loads(line), "kerberos": whole["kerberos"]})
        self.assertRaises(StoreError, list, read_dump([header, smuggled], "LOCAL"))

    def test_the_realms_own(self) -> None:
        """Kerberos' own names have a record without keys of ours; no other name has."""
        own = Record("krbtgt", Status.DISABLED)
        self.assertEqual(record_of(fields_of(own, secrets=True)), own)
        for bad in (Record("krbtgt", Status.ACTIVE), Record("alice", Status.DISABLED)):
            self.assertRaises(ValueError, record_of, fields_of(bad, secrets=True))

    def test_names(self) -> None:
        """What is no name is refused, however it looks."""
        good = fields_of(active("alice"), secrets=True)
        for name in HOSTILE_NAMES:
            self.assertRaises(ValueError, record_of, {**good, "name": name})
        self.assertEqual(record_of(json.loads(json.dumps(good))), active("alice"))


class TextbookTests(SynchronousTestCase):
    def test_names_and_addresses(self) -> None:
        """They are taken to be claimed; digests are not; each other line is told of."""
        found = list(
            read_textbook(
                [
                    ":Alice:10.4.5.11:35678:TOKENOFALICE=:\n",
                    ":bob::0:x:\n",
                    "\n",
                    "garbage",
                    ":eve:999.1.1.1:1:x:",
                    ":eve:10.0.0.1:99999:x:",
                    ":eve:10.0.0.1:-1:x:",
                    ":eve:::x:",
                    ":e\u0301ve:10.0.0.1:1:x:",
                    ":eve:10.0.0.1:1:" + "x" * 9000,
                    ":eve:10.0.0.1:1:x:" + " " * 9000,
                    ":" + "e" * 3000 + ":10.0.0.1:1:x:",
                    "\0\x1b[2J:\ud800",
                    ":bob:2001:db8::1:1:x:",
                    ":bob:10.0.0.2:1:x:",
                ]
            )
        )
        self.assertEqual(
            [one for one in found if isinstance(one, Numbered)],
            [
                Numbered(1, Record("alice", Status.INVITED, "10.4.5.11", 35678)),
                Numbered(2, Record("bob", Status.INVITED)),
                Numbered(15, Record("bob", Status.INVITED, "10.0.0.2", 1)),
            ],
        )
        skipped = [one for one in found if isinstance(one, Skipped)]
        self.assertEqual([one.line for one in skipped], [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
        for one in skipped:
            self.assertLessEqual(len(one.reason), 200)
            self.assertTrue(one.reason.isprintable(), one)

    def test_the_master_key_is_lost(self) -> None:
        """What can be read in our own files is taken, too, but for what is sealed."""
        path = self.mktemp()
        with contextlib.closing(FlatFileStore.open(path, realm="LOCAL")) as store:
            store.apply([Create(record, token(1)) for record in filled()])
            store.fold()
        expected = [
            Record("alice", Status.INVITED, "10.4.5.11", 35678),
            Record("bob", Status.INVITED, "2001:db8::1", 35678),
            Record("carol", Status.INVITED),
            Record("dave", Status.DELETED),
        ]
        for name in (path, path + ".journal"):
            with open(name, encoding="ascii") as file:
                found = list(read_textbook(bounded_lines(file)))
            self.assertEqual([getattr(one, "record", one) for one in found], expected)

    def test_long_lines(self) -> None:
        """However long a line is, little of it is held, and the numbers of the others are right."""

        class Endless(io.StringIO):
            longest = 0

            def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
                line = super().readline(size)
                self.longest = max(self.longest, len(line))
                return line

        file = Endless("a\n" + ":x" * 100_000 + "\n\nb\n" + ":y" * 4096 + "\nc" + "\n" * 2)
        lines = list(bounded_lines(file))
        self.assertLess(file.longest, 9000)
        starts = [line[:2] for line in lines]
        self.assertEqual(starts, ["a\n", ":x", "\n", "b\n", ":y", "c\n", "\n"])
        self.assertRaises(StoreError, list, read_dump(bounded_lines(io.StringIO("{" * 9999)), "X"))
