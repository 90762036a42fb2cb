"""What is asked of the receiver ``kerberos``, and what it answers: one form each."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import RefusedByPolicy, RemoteProtocolError
from kdc.protocol.kerberos import (
    KeytabWanted,
    TicketWanted,
    decode_answer,
    decode_question,
    encode_question,
    file_answer,
    refusal_answer,
)
from tests.support.core import PROPERTY

TICKETS = st.builds(
    TicketWanted, st.integers(0, 366 * 86_400), st.integers(0, 366 * 86_400), st.booleans()
)
KEYTABS = st.builds(KeytabWanted, st.lists(st.text(max_size=9), max_size=64), st.booleans())


class QuestionTests(SynchronousTestCase):
    @PROPERTY
    @given(TICKETS, KEYTABS)
    def test_the_inverse(self, ticket: TicketWanted, keytab: KeytabWanted) -> None:
        """What is asked is what is read."""
        self.assertEqual(decode_question(TicketWanted, encode_question(ticket)), ticket)
        self.assertEqual(decode_question(KeytabWanted, encode_question(keytab)), keytab)

    @PROPERTY
    @given(st.binary(max_size=80))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a question or refused, and so are any as an answer."""
        for kind in (TicketWanted, KeytabWanted):
            try:
                found: Any = decode_question(kind, data)  # type: ignore[type-var]
            except RemoteProtocolError:
                continue
            self.assertEqual(encode_question(found), data)
        with contextlib.suppress(RemoteProtocolError, RefusedByPolicy):
            self.assertEqual(b"\0" + decode_answer(data), data)

    def test_other_forms(self) -> None:
        """Other spellings, types, ranges and fields are refused."""
        good = encode_question(TicketWanted(60, 0, True))
        self.assertEqual(good, b'{"life":60,"renewable":0,"forwardable":true}\n')
        for bad in (
            good[:-1],
            good + b"\n",
            good.replace(b":60", b": 60"),
            good.replace(b"60", b"-1"),
            good.replace(b"60", b"99999999999"),
            good.replace(b"60", b"true"),
            good.replace(b"60", b"60.0"),
            good.replace(b"true", b"1"),
            good.replace(b"life", b"live"),
            good.replace(b"}", b',"more":1}'),
            b"[]\n",
            b"[" * 20_000,
            b" " * 20_000 + good,
            b"",
        ):
            self.assertRaises(RemoteProtocolError, decode_question, TicketWanted, bad)
        for bad in (
            b'{"services":"HTTP","new_keys":false}\n',
            b'{"services":[7],"new_keys":false}\n',
            b'{"services":null,"new_keys":false}\n',
            encode_question(KeytabWanted()).replace(b"[]", b"[" + b'"a",' * 64 + b'"a"]'),
        ):
            self.assertRaises(RemoteProtocolError, decode_question, KeytabWanted, bad)

    def test_answers(self) -> None:
        """A file, or what was said instead of one; nothing else."""
        self.assertEqual(decode_answer(file_answer(b"\1\2")), b"\1\2")
        error = self.assertRaises(
            RefusedByPolicy, decode_answer, refusal_answer("no", "ask for it")
        )
        self.assertEqual((str(error), error.hint), ("no", "ask for it"))
        long = refusal_answer("x" * 9999, "\u202e" * 9999)
        self.assertRaises(RefusedByPolicy, decode_answer, long)
        for bad in (
            b"",
            b"\2",
            b"\1",
            b"\1{}\n",
            b'\1{"text":1,"hint":""}\n',
            b"\1" + b"x" * 20_000,
        ):
            self.assertRaises(RemoteProtocolError, decode_answer, bad)
        wrong = b'\1{"text":"a", "hint":""}\n'
        self.assertRaises(RemoteProtocolError, decode_answer, wrong)
