"""Bytes and fields: one canonical encoding, everything else refused.

The byte layouts are in docs/protocol.md section 3.
"""

from __future__ import annotations

import itertools
import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import attrs

from kdc.errors import malformed
from kdc.protocol.names import check_address, check_name

__all__ = [
    "ADDRESS",
    "MAX_FRAME",
    "NAME",
    "FieldKind",
    "FrameBuffer",
    "Layout",
    "enc",
    "fixed",
    "frame",
    "optional",
    "uint",
    "variable",
]

MAX_FRAME = 2048
_LENGTH_BYTES = 2

T = TypeVar("T")


def enc(*fields: bytes) -> bytes:
    """Return the injective encoding of ``fields``: each as u32 length and bytes.

    What signatures, associated data and key derivations are computed over.  The
    first field is the label.
    """
    return b"".join([part for field in fields for part in (len(field).to_bytes(4, "big"), field)])


def frame(body: bytes) -> bytes:
    """Return ``body`` with its length before it, as it goes on the wire."""
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameBuffer:
    """Cuts a byte stream into frames: u16 length, then so many bytes.

    ``limit`` may be changed between frames.  A length above it, or below
    ``minimum``, raises `RemoteProtocolError` from `next` as soon as it has been
    seen: nothing is ever buffered for a frame that will be refused.
    """

    __slots__ = ("_at", "_chunk", "limit", "minimum")

    def __init__(self, limit: int, minimum: int = 1) -> None:
        self.limit = limit
        self.minimum = minimum
        self._chunk = b""
        self._at = 0

    def feed(self, chunk: bytes) -> None:
        # What is left over is less than a frame: joining it again costs little, even if
        # it goes on byte by byte, and a chunk that begins with a frame is not copied.
        rest = memoryview(self._chunk)[self._at :]
        self._chunk = b"".join((rest, chunk)) if rest else chunk
        self._at = 0

    def next(self) -> bytes | None:
        """Return the next whole frame without its length, or None until it is there."""
        body = self.next_view()
        return None if body is None else bytes(body)

    def next_view(self) -> memoryview | None:
        """As `next`, and nothing is copied: the whole chunk lives on as long as the view."""
        chunk, start = self._chunk, self._at + _LENGTH_BYTES
        if len(chunk) < start:
            self._let_go()
            return None
        length = (chunk[start - 2] << 8) | chunk[start - 1]
        if not self.minimum <= length <= self.limit:
            raise malformed(f"a frame of {length} bytes ({self.minimum} to {self.limit} allowed)")
        end = start + length
        if len(chunk) < end:
            self._let_go()
            return None
        self._at = end
        return memoryview(chunk)[start:end]

    def _let_go(self) -> None:
        """Of the frames that have been taken."""
        self._chunk = self.take_rest()

    def take_rest(self) -> bytes:
        """Return and forget what has been fed but not been taken as a frame."""
        rest = self._chunk[self._at :]
        self._chunk, self._at = b"", 0
        return rest

    def __len__(self) -> int:
        return len(self._chunk) - self._at


@attrs.frozen
class FieldKind(Generic[T]):
    """What one kind of field may be: ``validator`` raises `ValueError` for anything else.

    It is what attrs calls, with the instance and the attribute before the value.
    """

    validator: Callable[[Any, Any, T], object]

    def check(self, value: T) -> None:
        """Raises `ValueError` unless this kind of field may have ``value``."""
        self.validator(None, None, value)

    def field(self, *, secret: bool = False, converter: Callable[[T], object] | None = None) -> Any:
        """Return an attrs field of this kind; a secret one is not shown by ``repr``."""
        return attrs.field(
            converter=converter,
            validator=self.validator,
            metadata={FieldKind: self},
            repr=not secret,
        )


@attrs.frozen
class _Fixed(FieldKind[T]):
    """Always as long as its ``format`` of `struct`: neighbours are read and written in one step."""

    format: str


@attrs.frozen
class _Delimited(FieldKind[T]):
    """As long as it says itself.

    ``split`` takes the encoded message and an offset and returns the value with the
    offset behind it; it need not check anything that ``check`` does.
    """

    join: Callable[[T], bytes]
    split: Callable[[bytes, int], tuple[T, int]]


@attrs.frozen
class _Step:
    """Some neighbouring fields: their values to bytes, and back."""

    join: Callable[[Sequence[Any]], bytes]
    split: Callable[[bytes, int], tuple[Sequence[Any], int]]


class Layout(Generic[T]):
    """The encoding of an attrs class whose fields were made by `Kind.field`, in their order."""

    def __init__(self, message_type: type[T]) -> None:
        self._type = message_type
        fields = [(f.name, f.metadata[FieldKind]) for f in attrs.fields(cast(Any, message_type))]
        names = [name for name, _ in fields]
        get = operator.attrgetter(*names)
        # With one name it gives the value itself, else a tuple of them.
        self._values = get if len(names) > 1 else lambda message: (get(message),)
        steps: list[_Step] = []
        at = 0
        for fixed_length, group in itertools.groupby(fields, lambda f: isinstance(f[1], _Fixed)):
            kinds = [kind for _, kind in group]
            if fixed_length:
                steps.append(_packed(kinds, at))
            else:
                steps += [_alone(kind, at + number) for number, kind in enumerate(kinds)]
            at += len(kinds)
        self._joins = [step.join for step in steps]
        self._splits = [step.split for step in steps]

    def join(self, message: T) -> bytes:
        return self.pack(*self._values(message))

    def pack(self, *values: Any) -> bytes:
        """Return what `join` does of a message of these values, which nobody checks again."""
        return b"".join([join(values) for join in self._joins])

    def split(self, data: bytes) -> T:
        """Return the message that is exactly ``data``; raises `RemoteProtocolError`."""
        values: list[Any] = []
        at = 0
        try:
            for split in self._splits:
                some, at = split(data, at)
                values += some
            if at != len(data):
                raise ValueError(f"{len(data)} bytes where its fields end at {at}")
            return self._type(*values)
        except ValueError as error:
            raise malformed(f"{self._type.__name__}: {error}") from None


def _packed(kinds: list[_Fixed[Any]], first: int) -> _Step:
    packer = struct.Struct(">" + "".join(kind.format for kind in kinds))
    pack, unpack, size = packer.pack, packer.unpack_from, packer.size
    last = first + len(kinds)

    def split(data: bytes, at: int) -> tuple[Sequence[Any], int]:
        end = at + size
        if end > len(data):
            raise ValueError(f"{len(data)} bytes where its fields end at {end} or later")
        return unpack(data, at), end

    return _Step(lambda values: pack(*values[first:last]), split)


def _alone(kind: _Delimited[Any], number: int) -> _Step:
    join, split_one = kind.join, kind.split

    def split(data: bytes, at: int) -> tuple[Sequence[Any], int]:
        value, end = split_one(data, at)
        return (value,), end

    return _Step(lambda values: join(values[number]), split)


def fixed(length: int) -> FieldKind[bytes]:
    """Exactly ``length`` bytes."""

    def check(_: Any, __: Any, value: bytes) -> None:
        if len(value) != length:
            raise ValueError(f"{len(value)} bytes where there must be {length}")

    return _Fixed(check, f"{length}s")


def uint(length: int, low: int = 0, high: int | None = None) -> FieldKind[int]:
    """A number in ``length`` bytes (1, 2, 4 or 8), big-endian."""
    highest = (1 << 8 * length) - 1 if high is None else high

    def check(_: Any, __: Any, value: int) -> None:
        if not low <= value <= highest:
            raise ValueError(f"{value} is not from {low} to {highest}")

    return _Fixed(check, {1: "B", 2: "H", 4: "I", 8: "Q"}[length])


def variable(low: int, high: int, *, length_bytes: int = 1) -> _Delimited[bytes]:
    """From ``low`` to ``high`` bytes behind their length."""

    def check(_: Any, __: Any, value: bytes) -> None:
        if not low <= len(value) <= high:
            raise ValueError(f"{len(value)} bytes where there must be {low} to {high}")

    def split(data: bytes, at: int) -> tuple[bytes, int]:
        start = at + length_bytes
        end = start + int.from_bytes(data[at:start], "big")
        if end > len(data):
            raise ValueError("the message ends within a field")
        return data[start:end], end

    return _Delimited(check, lambda value: len(value).to_bytes(length_bytes, "big") + value, split)


def optional(length: int) -> FieldKind[bytes]:
    """Nothing, or exactly ``length`` bytes."""
    kind = variable(0, length)

    def check(_: Any, __: Any, value: bytes) -> None:
        if len(value) not in (0, length):
            raise ValueError(f"{len(value)} bytes where there must be none or {length}")

    return attrs.evolve(kind, validator=check)


def _text(check: Callable[[str], object], high: int) -> _Delimited[str]:
    """ASCII text behind its length; ``check`` decides what text."""
    raw = variable(0, high)

    def split(data: bytes, at: int) -> tuple[str, int]:
        value, end = raw.split(data, at)
        return value.decode("ascii"), end  # UnicodeDecodeError is a ValueError

    return _Delimited(
        lambda _, __, value: check(value), lambda value: raw.join(value.encode("ascii")), split
    )


NAME = _text(check_name, 64)
ADDRESS = _text(check_address, 64)
