"""DER (X.690) for the types that RFC 4120 uses, and nothing that is not canonical.

Reading refuses lengths and numbers that are longer than need be, indefinite
lengths, elements out of order, unknown elements, and bytes left over: two messages that
mean the same are the same bytes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

__all__ = [
    "ANY",
    "ANYTHING",
    "FLAGS",
    "INT32",
    "MICROSECONDS",
    "OCTETS",
    "SEQUENCE",
    "TEXT",
    "TIME",
    "UINT32",
    "DERError",
    "Kind",
    "header",
    "integer",
    "moment_of",
    "sequence_of",
    "text_of_moment",
    "tlv",
    "whole",
]

T = TypeVar("T")

SEQUENCE = 0x30
ANYTHING = -1
_TIME = re.compile(rb"[0-9]{14}Z")
_DAY_SECONDS = 86_400


class DERError(ValueError):
    """Not the encoding of what was expected; the text says why and quotes nothing."""


def tlv(identifier: int, content: bytes) -> bytes:
    """Return ``content`` with its tag and its length before it."""
    length = len(content)
    if length < 0x80:
        return _short_heads(identifier)[length] + content
    if length < 0x100:
        return bytes((identifier, 0x81, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((identifier, 0x80 | len(octets))) + octets + content


@functools.lru_cache(maxsize=256)
def _short_heads(identifier: int) -> list[bytes]:
    return [bytes((identifier, length)) for length in range(0x80)]


def whole(data: bytes) -> tuple[int, int]:
    """Return the tag of the one element that ``data`` is, and where its content begins."""
    identifier, start, stop = header(data, 0, len(data))
    if stop != len(data):
        raise DERError(f"{len(data) - stop} bytes left over")
    return identifier, start


def header(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return the tag at ``at``, and where its content begins and ends: not behind ``end``."""
    if end - at < 2:
        raise DERError("an element is cut short")
    identifier, length = data[at], data[at + 1]
    start = at + 2
    if length >= 0x80:
        start += length & 0x7F
        if length == 0x80 or length > 0x84 or start > end:
            raise DERError("a length is indefinite, too long or cut short")
        length = int.from_bytes(data[at + 2 : start], "big")
        if length < 0x80 or length >> 8 * (start - at - 3) == 0:
            raise DERError("a length is not as short as it can be")
    if start + length > end:
        raise DERError("an element is longer than what it is in")
    return identifier, start, start + length


@attrs.frozen
class Kind(Generic[T]):
    """A type of ASN.1: its tag, and its content as bytes and as a value.

    ``unpack`` is given the bytes and where the content begins and ends in them.
    """

    identifier: int
    pack: Callable[[T], bytes]
    unpack: Callable[[bytes, int, int], T]

    def encode(self, value: T) -> bytes:
        content = self.pack(value)
        return content if self.identifier == ANYTHING else tlv(self.identifier, content)

    def decode(self, data: bytes) -> T:
        """Return what ``data`` is, all of it; raises `DERError`."""
        identifier, start = whole(data)
        if self.identifier == ANYTHING:
            return self.unpack(data, 0, len(data))
        if identifier != self.identifier:
            raise DERError(f"tag {identifier:#x} where there must be {self.identifier:#x}")
        return self.unpack(data, start, len(data))


def integer(low: int, high: int) -> Kind[int]:
    """INTEGER from ``low`` to ``high``."""
    most_of_one = min(high, 0x7F)

    def unpack(data: bytes, at: int, end: int) -> int:
        if end - at == 1 and low <= data[at] <= most_of_one:
            return data[at]
        if end - at > 1 and (data[at] == 0 and data[at + 1] < 0x80):
            raise DERError("a number is not as short as it can be")
        if end - at > 1 and (data[at] == 0xFF and data[at + 1] >= 0x80):
            raise DERError("a number is not as short as it can be")
        if not 0 < end - at <= 8:
            raise DERError("a number of no bytes, or of too many")
        value = int.from_bytes(data[at:end], "big", signed=True)
        if not low <= value <= high:
            raise DERError(f"{value} is not from {low} to {high}")
        return value

    def pack(value: int) -> bytes:
        if 0 <= value < 0x80:
            return _SMALL[value]
        return value.to_bytes(
            ((value if value >= 0 else ~value).bit_length() // 8) + 1, "big", signed=True
        )

    return Kind(0x02, pack, unpack)


_SMALL = [bytes((value,)) for value in range(0x80)]
INT32 = integer(-(1 << 31), (1 << 31) - 1)
# MIT and Heimdal send what is UInt32 in RFC 4120 with its sign, as RFC 1510 had it.
UINT32 = integer(-(1 << 31), (1 << 32) - 1)
MICROSECONDS = integer(0, 999_999)


def _slice(data: bytes, at: int, end: int) -> bytes:
    return data[at:end]


def _text(data: bytes, at: int, end: int) -> str:
    try:
        text = data[at:end].decode("utf-8")
    except UnicodeDecodeError:
        raise DERError("text is not UTF-8") from None
    if "\0" in text:
        raise DERError("text has a zero byte in it")
    return text


def _flags(data: bytes, at: int, end: int) -> int:
    """The 32 bits of a BIT STRING, the first one highest; no flag has a place behind them."""
    if end - at != 5 or data[at] != 0:
        raise DERError("flags are not 32")
    return int.from_bytes(data[at + 1 : at + 5], "big")


OCTETS: Kind[bytes] = Kind(0x04, bytes, _slice)
# KerberosString is a GeneralString whose bytes are, since long ago, those of UTF-8.
TEXT: Kind[str] = Kind(0x1B, str.encode, _text)
FLAGS: Kind[int] = Kind(0x03, lambda value: b"\0" + value.to_bytes(4, "big"), _flags)
ANY: Kind[bytes] = Kind(ANYTHING, bytes, _slice)


def _days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01, of the Gregorian calendar."""
    year -= month <= 2
    era_years = year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return (
        year // 400 * 146_097
        + era_years * 365
        + era_years // 4
        - era_years // 100
        + (of_year - 719_468)
    )


# The same few moments are said again and again, a dozen times in one answer.
@functools.lru_cache(maxsize=1024)
def text_of_moment(moment: int) -> bytes:
    """Return seconds since 1970 as KerberosTime, ``YYYYMMDDHHMMSSZ``."""
    days, second = divmod(moment, _DAY_SECONDS)
    days += 719_468
    era, of_era = divmod(days, 146_097)
    years = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = years + era * 400 + (month <= 2)
    if not 0 <= year <= 9999:
        raise DERError("a time that KerberosTime cannot say")
    hour, second = divmod(second, 3600)
    return b"%04d%02d%02d%02d%02d%02dZ" % (year, month, day, hour, *divmod(second, 60))


@functools.lru_cache(maxsize=1024)
def moment_of(text: bytes) -> int:
    """Return KerberosTime as seconds since 1970; raises `DERError` if there is no such time."""
    if not _TIME.fullmatch(text):
        raise DERError("a time is not YYYYMMDDHHMMSSZ")
    number = int(text[:14])
    number, second = divmod(number, 100)
    number, minute = divmod(number, 100)
    number, hour = divmod(number, 100)
    year, number = divmod(number, 10_000)
    month, day = divmod(number, 100)
    moment = _days_of(year, month, day) * _DAY_SECONDS + hour * 3600 + minute * 60 + second
    if not 1 <= month <= 12 or text_of_moment(moment) != text:
        raise DERError("there is no such time")
    return moment


TIME: Kind[int] = Kind(0x18, text_of_moment, lambda data, at, end: moment_of(data[at:end]))


def sequence_of(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """SEQUENCE OF ``kind``."""
    expected, unpack_one, pack_one = kind.identifier, kind.unpack, kind.pack

    def pack(values: tuple[T, ...]) -> bytes:
        return b"".join([tlv(expected, pack_one(value)) for value in values])

    def unpack(data: bytes, at: int, end: int) -> tuple[T, ...]:
        values = []
        while at < end:
            identifier, start, stop = header(data, at, end)
            if identifier != expected:
                raise DERError(f"tag {identifier:#x} where there must be {expected:#x}")
            values.append(unpack_one(data, start, stop))
            at = stop
        return tuple(values)

    return Kind(SEQUENCE, pack, unpack)
