"""Frames and fields: one encoding each, everything else refused."""

from __future__ import annotations

import ipaddress
import itertools

import attrs
from hypothesis import given
from hypothesis import strategies as st

from kdc.errors import Refusal, RemoteProtocolError
from kdc.protocol.codec import (
    ADDRESS,
    NAME,
    FieldKind,
    FrameBuffer,
    Layout,
    enc,
    fixed,
    frame,
    optional,
    uint,
    variable,
)
from tests.support.core import PROPERTY, CoreTestCase

FIELDS = st.lists(st.binary(max_size=6), max_size=6)


class EncTests(CoreTestCase):
    """Protocol section 14: enc is injective."""

    @PROPERTY
    @given(FIELDS)
    def test_can_be_read_back(self, fields: list[bytes]) -> None:
        """The encoding determines the fields: there is a function that finds them again."""
        encoded, found = enc(*fields), []
        while encoded:
            end = 4 + int.from_bytes(encoded[:4], "big")
            found.append(encoded[4:end])
            encoded = encoded[end:]
        self.assertEqual(found, fields)

    @PROPERTY
    @given(FIELDS, FIELDS)
    def test_injective(self, one: list[bytes], other: list[bytes]) -> None:
        """Two lists have one encoding only if they are one list."""
        self.assertEqual(enc(*one) == enc(*other), one == other)

    @PROPERTY
    @given(st.binary(min_size=2, max_size=12), st.data())
    def test_where_fields_are_cut_matters(self, whole: bytes, data: st.DataObject) -> None:
        """Moving a byte from one field to the next gives another encoding."""
        one = data.draw(st.integers(0, len(whole)))
        other = data.draw(st.integers(0, len(whole)).filter(lambda at: at != one))
        self.assertNotEqual(enc(whole[:one], whole[one:]), enc(whole[:other], whole[other:]))
        self.assertNotEqual(enc(whole), enc(whole[:one], whole[one:]))

    def test_layout(self) -> None:
        """u32 big-endian length, then the bytes."""
        self.assertEqual(enc(b"ab", b""), b"\0\0\0\2ab\0\0\0\0")
        self.assertEqual(enc(), b"")
        self.assertEqual(enc(bytes(0x10203))[:4], b"\0\1\2\3")


class FrameBufferTests(CoreTestCase):
    @PROPERTY
    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
    def test_how_it_arrives_does_not_matter(self, sent: list[bytes], data: st.DataObject) -> None:
        """All at once, byte by byte, or in any pieces: the same frames."""
        stream = b"".join(map(frame, sent))
        cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))], pieces):
            frames, found = FrameBuffer(50), []
            for chunk in chunks:
                frames.feed(chunk)
                found += list(iter(frames.next, None))
            self.assertEqual(found, sent)
            self.assertEqual(len(frames), 0)

    def test_nothing_before_it_is_whole(self) -> None:
        """A frame one byte short is no frame yet."""
        frames = FrameBuffer(10)
        frames.feed(frame(b"1234567890")[:-1])
        self.assertIsNone(frames.next())
        frames.feed(b"0")
        self.assertEqual(frames.next(), b"1234567890")

    def test_too_long_is_refused_at_its_length(self) -> None:
        """Nothing is gathered for a frame that will be refused: two bytes are enough to see."""
        for limit, length in ((10, 11), (2048, 2049), (2048, 0xFFFF), (10, 0), (0xFFFF, 0)):
            frames = FrameBuffer(limit)
            frames.feed(length.to_bytes(2, "big"))
            self.assert_refused(Refusal.MALFORMED, frames.next)

    def test_bounds_themselves_are_allowed(self) -> None:
        """The longest and the shortest allowed frame pass, their neighbours do not."""
        for length, allowed in ((16, False), (17, True), (20, True), (21, False)):
            frames = FrameBuffer(20, 17)
            frames.feed(frame(bytes(length)))
            if allowed:
                self.assertEqual(frames.next(), bytes(length))
            else:
                self.assert_refused(Refusal.MALFORMED, frames.next)

    def test_limit_of_the_next_phase(self) -> None:
        """What may come next can be longer than what came before."""
        frames = FrameBuffer(3)
        frames.feed(frame(b"abc") + frame(b"abcdef"))
        self.assertEqual(frames.next(), b"abc")
        frames.limit = 6
        self.assertEqual(frames.next(), b"abcdef")

    def test_take_rest(self) -> None:
        """What follows the last frame of one protocol belongs to the next."""
        frames = FrameBuffer(10)
        frames.feed(frame(b"abc") + b"rest")
        self.assertEqual(frames.next(), b"abc")
        self.assertEqual(frames.take_rest(), b"rest")
        self.assertEqual(frames.take_rest(), b"")


@attrs.frozen
class Pair:
    number: int = uint(2, 3, 1000).field()
    text: bytes = variable(1, 5).field(secret=True)


@attrs.frozen
class Place:
    address: str = ADDRESS.field()


@attrs.frozen
class Named:
    name: str = NAME.field()


@attrs.frozen
class Several:
    name: str = NAME.field()
    long: bytes = variable(1, 1000, length_bytes=2).field()
    short: bytes = variable(0, 255).field()
    number: int = uint(8).field()


class FieldTests(CoreTestCase):
    def kind_refuses(self, kind: FieldKind[bytes], value: bytes) -> None:
        self.assertRaises(ValueError, kind.check, value)

    def test_fixed(self) -> None:
        """Exactly so many bytes, neither one less nor one more."""
        fixed(3).check(b"abc")
        for value in (b"", b"ab", b"abcd"):
            self.kind_refuses(fixed(3), value)

    def test_optional(self) -> None:
        """All or nothing."""
        for value in (b"", b"abc"):
            optional(3).check(value)
        for value in (b"a", b"ab", b"abcd"):
            self.kind_refuses(optional(3), value)

    def test_variable(self) -> None:
        """Both bounds are inclusive."""
        for length in (2, 4):
            variable(2, 4).check(bytes(length))
        for length in (0, 1, 5):
            self.kind_refuses(variable(2, 4), bytes(length))

    def test_uint(self) -> None:
        """Both bounds are inclusive; without them the width decides."""
        for value in (0, 255):
            uint(1).check(value)
        for kind, value in ((uint(1), 256), (uint(1), -1), (uint(1, 3, 5), 2), (uint(1, 3, 5), 6)):
            self.assertRaises(ValueError, kind.check, value)

    def test_numbers_are_whole(self) -> None:
        """A number that the message cuts off is none, even a small one."""

        @attrs.frozen
        class Number:
            value: int = uint(4).field()

        for data in (b"", b"\1", b"\0\0\1", b"\0\0\1\2\0"):
            self.assertRaises(RemoteProtocolError, Layout(Number).split, data)
        self.assertEqual(Layout(Number).split(b"\0\0\1\2"), Number(258))

    def test_addresses(self) -> None:
        """An address has one spelling, and means the same on every machine."""
        for address in ("", "192.0.2.1", "::1", "2001:db8::1", "0.0.0.0", "fe80::1"):
            ADDRESS.check(address)
        for address in (
            "localhost",
            "192.0.2.01",
            "192.0.2",
            "0x7f.0.0.1",
            "2001:DB8::1",
            "2001:db8:0:0::1",
            "2001:0db8::1",
            "fe80::1%eth0",
            "[::1]",
            " ::1",
            "::1\n",
            "1",
            "a" * 65,
        ):
            self.assertRaises(ValueError, ADDRESS.check, address)

    def test_mapped_addresses(self) -> None:
        """An IPv4 address inside an IPv6 one is a second spelling (and Python's own varies)."""
        for address in ("::ffff:192.0.2.1", "::ffff:c000:201"):
            self.assertRaises(ValueError, ADDRESS.check, address)

    @PROPERTY
    @given(st.ip_addresses())
    def test_any_address_can_be_said(
        self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    ) -> None:
        """What ipaddress prints is the one spelling."""
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            return
        ADDRESS.check(str(ip))
        place = Place(str(ip))
        self.assertEqual(Layout(Place).split(Layout(Place).join(place)), place)

    def test_text_is_ascii(self) -> None:
        """A name with other bytes is refused, not guessed at."""
        for raw in (b"\x03b\xc3\xb6", b"\x01\xff", b"\x03b\x80b"):
            self.assert_refused(Refusal.MALFORMED, Layout(Named).split, raw)


class LayoutTests(CoreTestCase):
    layout = Layout(Pair)

    def test_two_lengths(self) -> None:
        """Fields of any length one after the other, and a fixed one behind them."""
        layout = Layout(Several)
        for first, second in itertools.product((1, 7, 300, 1000), (0, 1, 255)):
            several = Several("bob", bytes(first), b"x" * second, 9)
            whole = layout.join(several)
            self.assertEqual(whole[:4], b"\3bob")
            self.assertEqual(int.from_bytes(whole[4:6], "big"), first)
            self.assertEqual(layout.split(whole), several)
            for cut in (whole[:-1], whole + b"\0", whole[: first // 2 + 3], whole[:5], whole[:1]):
                self.assert_refused(Refusal.MALFORMED, layout.split, cut)

    def test_there_and_back(self) -> None:
        """Fields in their order, and back."""
        self.assertEqual(self.layout.join(Pair(258, b"xy")), b"\1\2\2xy")
        self.assertEqual(self.layout.split(b"\1\2\2xy"), Pair(258, b"xy"))

    def test_every_cut_and_every_tail(self) -> None:
        """One byte short or long is refused, wherever the cut is."""
        whole = self.layout.join(Pair(258, b"xyz"))
        for at in range(len(whole)):
            self.assert_refused(Refusal.MALFORMED, self.layout.split, whole[:at])
        self.assert_refused(Refusal.MALFORMED, self.layout.split, whole + b"\0")

    def test_what_breaks_a_rule_cannot_be_built(self) -> None:
        """An instance that exists is valid."""
        for number, text in ((2, b"x"), (1001, b"x"), (3, b""), (3, b"123456")):
            self.assertRaises(ValueError, Pair, number, text)

    @PROPERTY
    @given(st.binary(max_size=10))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are the one encoding of a value, or refused."""
        try:
            value = self.layout.split(data)
        except RemoteProtocolError as error:
            self.assertIs(error.refusal, Refusal.MALFORMED)
        else:
            self.assertEqual(self.layout.join(value), data)

    def test_secrets_are_not_shown(self) -> None:
        """A secret field is in no repr."""
        self.assertNotIn("xy", repr(Pair(3, b"xy")))
