"""A directory's answer: one form, and nothing accepted that is not it."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import Refusal, RemoteProtocolError
from kdc.protocol.directory import (
    MAX_ANSWER,
    MAX_PRESENCES,
    MAX_STANDING,
    DirectoryAnswer,
    Presence,
    Standing,
    decode_answer,
    decode_standing,
    end_line,
    lines_of,
    standing_line,
    wait_line,
)
from tests.support.core import PROPERTY

BOB = b'{"name":"bob","receiving":true,"address":"192.0.2.7","port":60000}\n'
CAROL = b'{"name":"carol","receiving":false,"address":"","port":0}\n'
END = b'{"more":false}\n'

NAMES = st.from_regex("[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
ADDRESSES = st.one_of(st.just(""), st.ip_addresses(v=4).map(str))
PRESENCES = st.one_of(
    st.builds(Presence, NAMES),
    st.builds(Presence, NAMES, st.just(True), ADDRESSES, st.integers(0, 0xFFFF)),
)


class AnswerTests(SynchronousTestCase):
    def refused(self, text: bytes, why: str = "") -> None:
        error = self.assertRaises(RemoteProtocolError, decode_answer, text)
        self.assertIs(error.refusal, Refusal.MALFORMED, text[:200])
        self.assertIn(why, error.detail)

    def test_form(self) -> None:
        """The lines are those of the specification."""
        bob = Presence("bob", True, "192.0.2.7", 60000)
        self.assertEqual(lines_of([bob, Presence("carol")]) + end_line(), BOB + CAROL + END)
        self.assertEqual(
            decode_answer(BOB + CAROL + END), DirectoryAnswer((bob, Presence("carol")))
        )
        self.assertEqual(decode_answer(end_line(more=True)), DirectoryAnswer(more=True))
        self.assertEqual(decode_answer(wait_line(7)), DirectoryAnswer(wait_seconds=7))
        self.assertEqual(decode_answer(wait_line(0)), DirectoryAnswer(wait_seconds=1))

    def test_refused(self) -> None:
        """What is written otherwise, out of order, or not what it should be."""
        for text in (
            b"",
            b"\n",
            BOB,
            BOB + CAROL,
            END[:-1],
            b"[]\n",
            b"[]\n" + END,
            b"1\n",
            BOB + END + END,
            END + b" ",
            END + BOB,
            BOB + b"\n" + END,
            CAROL + BOB + END,
            BOB + BOB + END,
            BOB.replace(b":", b": ") + END,
            BOB.replace(b"\n", b"\r\n") + END,
            BOB.replace(b'"port":60000', b'"port":60000,"port":60000') + END,
            BOB.replace(b"}", b',"x":1}') + END,
            BOB.replace(b',"port":60000', b"") + END,
            BOB.replace(b"bob", b"BOB") + END,
            BOB.replace(b"bob", b"") + END,
            BOB.replace(b"bob", b"b\\u001b") + END,
            BOB.replace(b"bob", "bób".encode()) + END,
            BOB.replace(b'"bob"', b"null") + END,
            BOB.replace(b"192.0.2.7", b"192.0.2.07") + END,
            BOB.replace(b"192.0.2.7", b"bob.example") + END,
            BOB.replace(b'"192.0.2.7"', b"null") + END,
            BOB.replace(b"60000", b"65536") + END,
            BOB.replace(b"60000", b"-1") + END,
            BOB.replace(b"60000", b"true") + END,
            BOB.replace(b"60000", b"6e4") + END,
            BOB.replace(b"true", b"1") + END,
            BOB.replace(b"true", b"false") + END,
            b'{"more":0}\n',
            b'{"wait":0}\n',
            b'{"wait":3601}\n',
            b'{"wait":true}\n',
            b'{"wait":1,"more":false}\n',
            BOB + b'{"wait":1}\n',
            b"[" * 100_000 + b"\n",
        ):
            self.refused(text)

    def test_bounds(self) -> None:
        """A full answer fits, however long its names are; one line more is refused unread."""
        longest = Presence("x" * 64, True, ":".join(["abcd"] * 8), 65535)
        self.assertLess(len(lines_of([longest])) * (MAX_PRESENCES + 1), MAX_ANSWER)
        decode_answer(BOB + END, most=1)
        decode_answer(BOB + END, limit=len(BOB + END))
        for text, most, limit in (
            (BOB + CAROL + END, 1, MAX_ANSWER),
            (BOB + END, 1, len(BOB + END) - 1),
        ):
            error = self.assertRaises(RemoteProtocolError, decode_answer, text, most, limit)
            self.assertIn("too long", error.detail)

    def test_what_it_says_is_quoted(self) -> None:
        """A terminal does not obey the text of a refusal."""
        error = self.assertRaises(
            RemoteProtocolError, decode_answer, BOB.replace(b"bob", b"b\\u001b[2J") + END
        )
        self.assertTrue(str(error).isprintable(), str(error))

    @PROPERTY
    @given(st.lists(PRESENCES, max_size=20, unique_by=lambda each: each.name), st.booleans())
    def test_round_trip(self, found: list[Presence], more: bool) -> None:
        """What is written is what is read."""
        found.sort(key=lambda each: each.name)
        answer = decode_answer(lines_of(found) + end_line(more=more))
        self.assertEqual(answer, DirectoryAnswer(tuple(found), more))

    @PROPERTY
    @given(
        st.binary(max_size=80),
        st.integers(0, len(BOB + CAROL + END)),
        st.integers(0, len(BOB + CAROL + END)),
    )
    def test_any_bytes(self, junk: bytes, start: int, end: int) -> None:
        """Anything at all is an answer in its one form, or refused."""
        good = BOB + CAROL + END
        text = good[:start] + junk + good[end:]
        try:
            answer = decode_answer(text)
        except RemoteProtocolError:
            return
        last = wait_line(answer.wait_seconds) if answer.wait_seconds else None
        self.assertEqual(lines_of(answer.presences) + (last or end_line(more=answer.more)), text)

    def test_plain(self) -> None:
        """A presence is plain values: nothing that is not meant to be told gets into a line."""
        self.assertEqual(
            [field.name for field in attrs.fields(Presence)],
            ["name", "receiving", "address", "port"],
        )


STANDING = b'{"now":1796083200,"end":1798761600,"renewal":7776000}\n'


class StandingTests(SynchronousTestCase):
    def refused(self, text: bytes) -> None:
        error = self.assertRaises(RemoteProtocolError, decode_standing, text)
        self.assertIs(error.refusal, Refusal.MALFORMED, text[:200])
        self.assertTrue(str(error).isprintable(), str(error))

    def test_form(self) -> None:
        """The line is that of the specification, and the longest one fits."""
        standing = Standing(1796083200, 1798761600, 7776000)
        self.assertEqual(standing_line(standing), STANDING)
        self.assertEqual(decode_standing(STANDING), standing)
        most = (1 << 63) - 1
        longest = standing_line(Standing(most, most, most))
        self.assertLessEqual(len(longest), MAX_STANDING)
        self.assertEqual(decode_standing(longest), Standing(most, most, most))

    def test_refused(self) -> None:
        """What is written otherwise, or is no number of seconds."""
        for text in (
            b"",
            b"\n",
            b"1\n",
            b"[]\n",
            b"{}\n",
            b"\xff\n",
            STANDING[:-1],
            STANDING + b"\n",
            STANDING + STANDING,
            STANDING.replace(b":", b": "),
            STANDING.replace(b"}", b',"x":1}'),
            STANDING.replace(b"}", b',"now":1}'),
            STANDING.replace(b',"renewal":7776000', b""),
            *(
                STANDING.replace(b"1798761600", number)
                for number in (b"-1", b"1.0", b"1e9", b"true", b"null", b'"1"', b"01", b"NaN")
            ),
            STANDING.replace(b"1798761600", str(1 << 63).encode()),
            b'{"now":1,"end":1,"renewal":' + b"[" * 90,
            b"[" * 100_000,
            STANDING.replace(b"end", b"en\\u001b[2Jd"),
        ):
            self.refused(text)

    def test_seconds_left(self) -> None:
        """By the clock of the KDC, which has told both; an end may have passed, or never come."""
        for now, end, left in ((5, 0, None), (5, 9, 4), (5, 5, 0), (9, 5, 0)):
            self.assertEqual(Standing(now, end).seconds_left(), left)
