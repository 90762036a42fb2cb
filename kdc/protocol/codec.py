"""Bytes and fields: one canonical encoding, everything else refused.

The byte layouts are in docs/protocol.md section 3.
"""

from __future__ import annotations

import functools
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
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
_STRUCTS = 256  # of each layout: names of all lengths, tickets of all those

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
    On the wire a field is always as long as its ``format`` of `struct`; or, where that is empty,
    so many bytes (or ASCII characters) as the ``length_format`` before it says.
    """

    validator: Callable[[Any, Any, T], object]
    format: str = ""
    length_format: str = ""
    text: bool = False

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


class Layout(Generic[T]):
    """The encoding of an attrs class whose fields were made by `FieldKind.field`, in their order.

    Once the lengths are known that say themselves, all of a message is one `struct`; those of the
    lengths that come most are kept.
    """

    def __init__(self, message_type: type[T]) -> None:
        self._type = message_type
        fields = attrs.fields(cast(Any, message_type))
        names = [field.name for field in fields]
        self._kinds: list[FieldKind[Any]] = [field.metadata[FieldKind] for field in fields]
        get = operator.attrgetter(*names)
        # With one name it gives the value itself, else a tuple of them.
        self._values = get if len(names) > 1 else lambda message: (get(message),)
        self._texts = [at for at, kind in enumerate(self._kinds) if kind.text]
        # Of each field that says its length: the bytes before that, since the last such field.
        self._lengths: list[tuple[int, int]] = []
        self._tail = 0
        for kind in self._kinds:
            if kind.length_format:
                self._lengths.append((self._tail, struct.calcsize(kind.length_format)))
                self._tail = 0
            else:
                self._tail += struct.calcsize(f">{kind.format}")
        self._packer = functools.lru_cache(_STRUCTS)(self._make_packer)
        self._unpacker = functools.lru_cache(_STRUCTS)(self._make_unpacker)

    def join(self, message: T) -> bytes:
        return self.pack(*self._values(message))

    def pack(self, *values: Any) -> bytes:
        """Return what `join` does of a message of these values, which nobody checks again."""
        parts: list[Any] = []
        lengths: list[int] = []
        for kind, value in zip(self._kinds, values, strict=True):
            if kind.length_format:
                raw = value.encode("ascii") if kind.text else value
                lengths.append(len(raw))
                parts += (len(raw), raw)
            else:
                parts.append(value)
        packed: bytes = self._packer(*lengths)(*parts)
        return packed

    def split(self, data: bytes) -> T:
        """Return the message that is exactly ``data``; raises `RemoteProtocolError`."""
        try:
            values: Sequence[Any] = self._unpacker(*self._lengths_in(data))(data)
            if self._texts:
                values = list(values)
                for at in self._texts:
                    values[at] = values[at].decode("ascii")  # UnicodeDecodeError is a ValueError
            return self._type(*values)
        except ValueError as error:
            raise malformed(f"{self._type.__name__}: {error}") from None

    def _lengths_in(self, data: bytes) -> list[int]:
        """The lengths that ``data`` tells, which end where it does, or `ValueError` is raised."""
        lengths = []
        at = 0
        for before, size in self._lengths:
            start = at + before + size
            length = int.from_bytes(data[start - size : start], "big")
            at = start + length
            if at > len(data):
                raise ValueError("the message ends within a field")
            lengths.append(length)
        if at + self._tail != len(data):
            raise ValueError(f"{len(data)} bytes where its fields end at {at + self._tail}")
        return lengths

    def _make_packer(self, *lengths: int) -> Callable[..., bytes]:
        return self._struct(lengths, told=True).pack

    def _make_unpacker(self, *lengths: int) -> Callable[[bytes], tuple[Any, ...]]:
        return self._struct(lengths, told=False).unpack

    def _struct(self, lengths: Sequence[int], told: bool) -> struct.Struct:
        """All of a message with such lengths; ``told``: they are values in it, or passed over."""
        each = iter(lengths)
        parts = [">"]
        for kind in self._kinds:
            if kind.length_format:
                skipped = f"{struct.calcsize(kind.length_format)}x"
                parts.append(kind.length_format if told else skipped)
                parts.append(f"{next(each)}s")
            else:
                parts.append(kind.format)
        return struct.Struct("".join(parts))


def fixed(length: int) -> FieldKind[bytes]:
    """Exactly ``length`` bytes."""

    def check(_: Any, __: Any, value: bytes) -> None:
        if len(value) != length:
            raise ValueError(f"{len(value)} bytes where there must be {length}")

    return FieldKind(check, f"{length}s")


def uint(length: int, low: int = 0, high: int | None = None) -> FieldKind[int]:
    """A number in ``length`` bytes (1, 2, 4 or 8), big-endian."""
    highest = (1 << 8 * length) - 1 if high is None else high

    def check(_: Any, __: Any, value: int) -> None:
        if not low <= value <= highest:
            raise ValueError(f"{value} is not from {low} to {highest}")

    return FieldKind(check, _UNSIGNED[length])


def variable(low: int, high: int, *, length_bytes: int = 1) -> FieldKind[bytes]:
    """From ``low`` to ``high`` bytes behind their length."""

    def check(_: Any, __: Any, value: bytes) -> None:
        if not low <= len(value) <= high:
            raise ValueError(f"{len(value)} bytes where there must be {low} to {high}")

    return FieldKind(check, length_format=_UNSIGNED[length_bytes])


def optional(length: int) -> FieldKind[bytes]:
    """Nothing, or exactly ``length`` bytes."""
    kind = variable(0, length)

    def check(_: Any, __: Any, value: bytes) -> None:
        if len(value) not in (0, length):
            raise ValueError(f"{len(value)} bytes where there must be none or {length}")

    return attrs.evolve(kind, validator=check)


def _text(check: Callable[[str], object]) -> FieldKind[str]:
    """ASCII text behind its length; ``check`` decides what text."""
    return FieldKind(lambda _, __, value: check(value), length_format=_UNSIGNED[1], text=True)


NAME = _text(check_name)
ADDRESS = _text(check_address)
