"""Bytes and fields: one canonical encoding, everything else refused.

The byte layouts are in docs/protocol.md section 3.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import attrs

from kdc.errors import Refusal, RemoteProtocolError
from kdc.principal import check_name

__all__ = [
    "ADDRESS",
    "MAX_FRAME",
    "NAME",
    "FrameBuffer",
    "Kind",
    "Layout",
    "enc",
    "fixed",
    "frame",
    "malformed",
    "optional",
    "uint",
    "variable",
]

MAX_FRAME = 2048
_LENGTH_BYTES = 2

T = TypeVar("T")


def malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Refusal.MALFORMED, detail)


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

    __slots__ = ("_buffer", "limit", "minimum")

    def __init__(self, limit: int, minimum: int = 1) -> None:
        self.limit = limit
        self.minimum = minimum
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk

    def next(self) -> bytes | None:
        """Return the next whole frame without its length, or None until it is there."""
        buffer = self._buffer
        if len(buffer) < _LENGTH_BYTES:
            return None
        length = (buffer[0] << 8) | buffer[1]
        if not self.minimum <= length <= self.limit:
            raise malformed(f"a frame of {length} bytes ({self.minimum} to {self.limit} allowed)")
        end = _LENGTH_BYTES + length
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            body = bytes(view[_LENGTH_BYTES:end])
        del buffer[:end]
        return body

    def take_rest(self) -> bytes:
        """Return and forget what has been fed but not been taken as a frame."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def __len__(self) -> int:
        return len(self._buffer)


@attrs.frozen
class Kind(Generic[T]):
    """How one kind of field is checked, written and read.

    ``check`` raises `ValueError` for a value that has no encoding.  ``split``
    takes the encoded message and an offset and returns the value with the
    offset behind it; it need not check anything that ``check`` does.
    """

    check: Callable[[T], object]
    join: Callable[[T], bytes]
    split: Callable[[bytes, int], tuple[T, int]]

    def field(self, *, secret: bool = False, converter: Callable[[T], object] | None = None) -> Any:
        """Return an attrs field of this kind; a secret one is not shown by ``repr``."""
        return attrs.field(
            converter=converter,
            validator=lambda _, __, value: self.check(value),
            metadata={Kind: self},
            repr=not secret,
        )


class Layout(Generic[T]):
    """The encoding of an attrs class whose fields were made by `Kind.field`, in their order."""

    def __init__(self, message_type: type[T]) -> None:
        self._type = message_type
        fields = attrs.fields(cast(Any, message_type))
        self._joins = [(field.name, field.metadata[Kind].join) for field in fields]
        self._splits = [field.metadata[Kind].split for field in fields]

    def join(self, message: T) -> bytes:
        return b"".join([join(getattr(message, name)) for name, join in self._joins])

    def split(self, data: bytes) -> T:
        """Return the message that is exactly ``data``; raises `RemoteProtocolError`."""
        values = []
        at = 0
        try:
            for split in self._splits:
                value, at = split(data, at)
                values.append(value)
            if at != len(data):
                raise ValueError(f"{len(data)} bytes where its fields end at {at}")
            return self._type(*values)
        except ValueError as error:
            raise malformed(f"{self._type.__name__}: {error}") from None


def fixed(length: int) -> Kind[bytes]:
    """Exactly ``length`` bytes."""

    def check(value: bytes) -> None:
        if len(value) != length:
            raise ValueError(f"{len(value)} bytes where there must be {length}")

    return Kind(check, lambda value: value, lambda data, at: (data[at : at + length], at + length))


def uint(length: int, low: int = 0, high: int | None = None) -> Kind[int]:
    """A number in ``length`` bytes, big-endian."""
    highest = (1 << 8 * length) - 1 if high is None else high

    def check(value: int) -> None:
        if not low <= value <= highest:
            raise ValueError(f"{value} is not from {low} to {highest}")

    def split(data: bytes, at: int) -> tuple[int, int]:
        if at + length > len(data):
            raise ValueError("the message ends within a number")
        return int.from_bytes(data[at : at + length], "big"), at + length

    return Kind(check, lambda value: value.to_bytes(length, "big"), split)


def variable(low: int, high: int, *, length_bytes: int = 1) -> Kind[bytes]:
    """From ``low`` to ``high`` bytes behind their length."""

    def check(value: bytes) -> None:
        if not low <= len(value) <= high:
            raise ValueError(f"{len(value)} bytes where there must be {low} to {high}")

    def split(data: bytes, at: int) -> tuple[bytes, int]:
        start = at + length_bytes
        end = start + int.from_bytes(data[at:start], "big")
        if end > len(data):
            raise ValueError("the message ends within a field")
        return data[start:end], end

    return Kind(check, lambda value: len(value).to_bytes(length_bytes, "big") + value, split)


def optional(length: int) -> Kind[bytes]:
    """Nothing, or exactly ``length`` bytes."""
    kind = variable(0, length)

    def check(value: bytes) -> None:
        if len(value) not in (0, length):
            raise ValueError(f"{len(value)} bytes where there must be none or {length}")

    return Kind(check, kind.join, kind.split)


def _text(check: Callable[[str], object], high: int) -> Kind[str]:
    """ASCII text behind its length; ``check`` decides what text."""
    raw = variable(0, high)

    def split(data: bytes, at: int) -> tuple[str, int]:
        value, end = raw.split(data, at)
        return value.decode("ascii"), end  # UnicodeDecodeError is a ValueError

    return Kind(check, lambda value: raw.join(value.encode("ascii")), split)


@functools.lru_cache(maxsize=4096)  # of those that are right: every 306 has one
def _check_address(address: str) -> None:
    # One spelling per address: what ipaddress prints.  No scope: it means
    # something on one machine only.  No IPv4 address within an IPv6 one: that is
    # a second spelling, and Python 3.13 prints it otherwise than 3.11.
    if not address:
        return
    ip = ipaddress.ip_address(address)
    if "%" in address or getattr(ip, "ipv4_mapped", None) is not None or str(ip) != address:
        raise ValueError(f"not a canonical IP address: {address[:64]!r}")


NAME = _text(check_name, 64)
ADDRESS = _text(_check_address, 64)
