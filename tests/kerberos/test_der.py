"""One encoding for each value, and an error for all other bytes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.kerberos.der import (
    FLAGS,
    INT32,
    OCTETS,
    TEXT,
    TIME,
    UINT32,
    DERError,
    Kind,
    moment_of,
    sequence_of,
    text_of_moment,
    tlv,
)
from kdc.kerberos.layout import Layout, element


@attrs.frozen
class _Pair:
    left: int = element(0, INT32)
    right: bytes | None = element(2, OCTETS, optional=True)


PAIR = Layout(_Pair, 5)


@attrs.frozen
class _One:
    only: int = element(0, INT32)


ONE = Layout(_One)


class StrictTests(SynchronousTestCase):
    def test_each_length(self) -> None:
        """What is short and what is long is one tag in another, and is read again."""
        for length in (*range(300), 65_535, 65_536):
            content = bytes(length)
            inner = tlv(0x30, tlv(0xA0, tlv(0x02, b"\7")) + tlv(0xA2, tlv(0x04, content)))
            encoded = PAIR.encode(_Pair(7, content))
            self.assertEqual(encoded, tlv(0x65, inner))
            self.assertEqual(PAIR.decode(encoded), _Pair(7, content))

    def refused(self, kind: Kind[Any] | Layout[Any], *texts: str) -> None:
        for text in texts:
            data = bytes.fromhex(text)
            self.assertRaises(DERError, kind.decode, data)

    def test_lengths(self) -> None:
        """As short as can be, definite, and of what there is."""
        self.assertEqual(OCTETS.decode(bytes.fromhex("0400")), b"")
        self.assertEqual(OCTETS.decode(b"\x04\x81\x80" + bytes(128)), bytes(128))
        self.refused(OCTETS, "04", "", "048100", "04810161", "0480", "0402 61", "0401 61 62")
        self.refused(OCTETS, "0482 0001 61", "0485 00000000 01 61", "04ff", "0484ffffffff")
        self.refused(OCTETS, "0482 007f" + "00" * 127)

    def test_integers(self) -> None:
        for value, text in (
            (0, "020100"),
            (127, "02017f"),
            (128, "02020080"),
            (-1, "0201ff"),
            (-128, "020180"),
            (-129, "0202ff7f"),
            (2**31 - 1, "02047fffffff"),
            (-(2**31), "020480000000"),
        ):
            self.assertEqual(INT32.encode(value).hex(), text)
            self.assertEqual(INT32.decode(bytes.fromhex(text)), value)
        self.refused(INT32, "0200", "02020001", "0202ffff", "020500ffffffff", "020880" + "00" * 7)
        self.refused(UINT32, "02050100000000", "0205ff7fffffff", "0209" + "01" * 9)

    def test_flags(self) -> None:
        """32 bits, the first one highest."""
        self.assertEqual(FLAGS.encode(1 << 30).hex(), "03050040000000")
        self.assertEqual(FLAGS.decode(bytes.fromhex("03050040000000")), 1 << 30)
        self.refused(
            FLAGS,
            "030600 40000000 00",
            "030400400000",
            "0301 00",
            "0305 08 00000000",
            "0305 01 00000001",
        )

    def test_text(self) -> None:
        self.assertEqual(TEXT.decode(TEXT.encode("smörgås")), "smörgås")
        self.refused(TEXT, "1b01ff", "1b0100", "1b02c080")

    def test_times(self) -> None:
        """Of the calendar, in UTC, without fractions."""
        self.assertEqual(text_of_moment(0), b"19700101000000Z")
        for text in (
            *(b"19700230000000Z", b"20230229000000Z", b"20241301000000Z", b"20240001000000Z"),
            *(b"20240100000000Z", b"20240101240000Z", b"20240101006000Z", b"20240101000060Z"),
            *(b"20240101000000", b"20240101000000.5Z", b"20240101000000+0000", b"240101000000Z"),
        ):
            self.assertRaises(DERError, moment_of, text)

    @given(st.integers(-62_135_596_800, 253_402_300_799))
    def test_every_time(self, seconds: int) -> None:
        """From the year 1 to 9999 the same as the standard library has it."""
        moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
        text = f"{moment.year:04d}{moment:%m%d%H%M%SZ}"
        self.assertEqual(text_of_moment(seconds), text.encode())
        self.assertEqual(TIME.decode(TIME.encode(seconds)), seconds)

    def test_times_beyond(self) -> None:
        """The year 10000 cannot be said."""
        self.assertRaises(DERError, text_of_moment, 253402300800)
        self.assertRaises(DERError, text_of_moment, -(10**12))

    def test_sequences(self) -> None:
        """Elements once, in order, none unknown; the tags are those and no others."""
        good = PAIR.encode(_Pair(1, b"x"))
        self.assertEqual(good.hex(), "650c300aa003020101a203040178")
        self.assertEqual(PAIR.decode(good), _Pair(1, b"x"))
        self.assertEqual(PAIR.decode(bytes.fromhex("65073005a003020101")), _Pair(1, None))
        self.refused(
            PAIR,
            "650c300aa203040178a003020101",  # out of order
            "650c300aa003020101a003020101",  # twice
            "650c300aa003020101a103040178",  # unknown
            "6507 3005 a203040178",  # one is missing
            "6507 3105 a003020101",  # another tag inside
            "6607 3005 a003020101",  # another tag around
            "6508 3005 a003020101 00",  # something left over inside
            "65073005a00302010100",  # something left over behind
            "650a 3008 a006020101020102",  # two values in one tag
            "6507 3005 a003040101",  # a value of another type
            "6507 3005 a003020201",  # a value that ends behind its tag
            "6506 3004 a0030201",  # a tag and a value that end behind the sequence
            "650c 300a a003020101a205040378",  # a tag that ends behind its sequence
            "6502 3000",
            "6500",
        )

    def test_long_values(self) -> None:
        """What has a long length is as strict as what is short."""
        value = tlv(0x04, bytes(200))

        def pair(*elements: bytes) -> str:
            return tlv(0x65, tlv(0x30, b"".join((tlv(0xA0, tlv(2, b"\1")), *elements)))).hex()

        self.assertEqual(PAIR.decode(bytes.fromhex(pair(tlv(0xA2, value)))), _Pair(1, bytes(200)))
        self.refused(
            PAIR,
            pair(tlv(0xA2, value + b"\4\0")),  # two values in one tag
            tlv(0x65, tlv(0x30, tlv(0xA0, tlv(2, b"\1") + tlv(0xA2, value)))).hex(),
            pair(tlv(0xA2, tlv(0x05, bytes(200)))),  # a value of another type
            pair(tlv(0xA2, value)[:-1]),  # a tag that ends behind its sequence
        )

    def test_one_element(self) -> None:
        """Of one element there is no tuple to be had by its name."""
        self.assertEqual(ONE.encode(_One(5)).hex(), "3005a003020105")
        self.assertEqual(ONE.decode(ONE.encode(_One(5))), _One(5))

    def test_another_last(self) -> None:
        """All but the last is encoded once; the last may be missing."""
        for layout in (PAIR, Layout(_Pair)):
            encoded_with = layout.but_last(_Pair(1, b"x"))
            for last in (None, b"", b"y", bytes(200)):
                self.assertEqual(encoded_with(last), layout.encode(_Pair(1, last)))

    def test_kept(self) -> None:
        """What is kept is what was said; what is no encoding is none the second time either."""
        layout = Layout(_Pair, kept=2)
        for number in (1, 2, 3, 1, 2, 3):
            value = _Pair(number, b"x")
            self.assertEqual(layout.encode(value), Layout(_Pair).encode(value))
            self.assertEqual(layout.decode(layout.encode(value)), value)
            self.refused(layout, "3005 a203040178", "300c a003020101 a003020101")

    def test_sequence_of(self) -> None:
        kind = sequence_of(INT32)
        self.assertEqual(kind.decode(kind.encode((1, 2, -3))), (1, 2, -3))
        self.assertEqual(kind.decode(b"\x30\0"), ())
        self.refused(kind, "3003 040101", "3004 02010102", "3102 0500", "3003 020401")

    @given(st.binary(max_size=400))
    def test_length_of_anything(self, content: bytes) -> None:
        self.assertEqual(OCTETS.decode(tlv(4, content)), content)
