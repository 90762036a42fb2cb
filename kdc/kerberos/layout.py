"""Messages: attrs classes whose fields are made by `element`; a `Layout` reads and writes each."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import attrs

from kdc.kerberos.der import ANYTHING, SEQUENCE, DERError, Kind, header, tlv

__all__ = ["Layout", "element"]

T = TypeVar("T")

# Most elements are short, and have a tag around a tag: all the four bytes before such a content.
_SHORT = 0x7E


@functools.lru_cache(maxsize=512)
def _heads(outer: int, inner: int) -> list[bytes]:
    return [bytes((outer, length + 2, inner, length)) for length in range(_SHORT)]


def _tagged(identifier: int, kind: Kind[T]) -> Callable[[T], bytes]:
    """Return what encodes a value of ``kind`` with an explicit tag around it."""
    inner, pack = kind.identifier, kind.pack
    if inner == ANYTHING:
        return lambda value: tlv(identifier, pack(value))
    heads = _heads(identifier, inner)

    def encode(value: T) -> bytes:
        content = pack(value)
        length = len(content)
        if length < _SHORT:
            return heads[length] + content
        return tlv(identifier, tlv(inner, content))

    return encode


def _untagged(data: bytes, at: int, end: int, expected: int) -> tuple[int, int]:
    """Return where the content of the one element ``expected`` is, in the tag at ``at``."""
    if end - at > 3 and data[at + 2] == expected:
        length = data[at + 1]
        if length < 0x80 and data[at + 3] == length - 2 and at + 2 + length <= end:
            return at + 4, at + 2 + length  # both are short, and one fills the other
    _, at, outer_stop = header(data, at, end)
    identifier, start, stop = header(data, at, outer_stop)
    if stop != outer_stop:
        raise DERError("an explicit tag is around more than one element")
    if expected == ANYTHING:
        return at, stop
    if identifier != expected:
        raise DERError(f"tag {identifier:#x} where there must be {expected:#x}")
    return start, stop


def element(number: int, kind: Kind[Any], *, optional: bool = False, secret: bool = False) -> Any:
    """Return an attrs field that is element ``[number]`` of a SEQUENCE.

    What is optional is None where it is missing.  Bytes are not shown by ``repr``.
    """
    hidden = secret or kind.pack is bytes
    return attrs.field(
        repr=not hidden,
        metadata={Layout: (number, kind, optional)},
    )


def _keeping(kind: Kind[T], number: int) -> Kind[T]:
    """The same, but the latest values are kept, and the latest bytes."""
    pack = functools.lru_cache(number)(kind.pack)
    again = functools.lru_cache(number)(lambda data: kind.unpack(data, 0, len(data)))
    return Kind(kind.identifier, pack, lambda data, at, end: again(data[at:end]))


class Layout(Generic[T]):
    """The encoding of an attrs class, its fields made by `element` in the order of their numbers.

    ``application`` is the number of the APPLICATION identifier around it, if there is one.
    Of what is said again and again the latest are ``kept``, so many as bytes and so many as
    read: not for anything secret.
    """

    def __init__(
        self, message_type: type[T], application: int | None = None, *, kept: int = 0
    ) -> None:
        self._type = message_type
        self._application = application
        fields = [
            (field.name, *field.metadata[Layout]) for field in attrs.fields(cast(Any, message_type))
        ]
        names = [name for name, *_ in fields]
        self._values: Callable[[T], tuple[Any, ...]] = operator.attrgetter(*names)
        if len(names) == 1:
            self._values = lambda message: (getattr(message, names[0]),)
        self._writers = [_tagged(0xA0 | number, kind) for _, number, kind, _ in fields]
        self._readers = [
            (name, 0xA0 | number, kind.identifier, kind.unpack, optional)
            for name, number, kind, optional in fields
        ]
        identifier = SEQUENCE if application is None else 0x60 | application
        kind = Kind(identifier, self._pack, self._unpack)
        self.kind: Kind[T] = _keeping(kind, kept) if kept else kind

    def encode(self, message: T) -> bytes:
        return self.kind.encode(message)

    def decode(self, data: bytes) -> T:
        """Return the message that is exactly ``data``; raises `DERError`."""
        try:
            return self.kind.decode(data)
        except DERError as error:
            raise DERError(f"{self._type.__name__}: {error}") from None

    def but_last(self, message: T) -> Callable[[Any], bytes]:
        """Encode ``message``; what is returned puts another last element into it, or None."""
        *values, _ = self._values(message)
        *writers, write_last = self._writers
        pairs = zip(writers, values, strict=True)
        content = b"".join([write(value) for write, value in pairs if value is not None])

        def encode(last: Any) -> bytes:
            ended = content if last is None else content + write_last(last)
            if self._application is not None:
                ended = tlv(SEQUENCE, ended)
            return tlv(self.kind.identifier, ended)

        return encode

    def _pack(self, message: T) -> bytes:
        pairs = zip(self._writers, self._values(message), strict=True)
        content = b"".join([write(value) for write, value in pairs if value is not None])
        return content if self._application is None else tlv(SEQUENCE, content)

    def _unpack(self, data: bytes, at: int, end: int) -> T:
        if self._application is not None:
            identifier, at, stop = header(data, at, end)
            if identifier != SEQUENCE or stop != end:
                raise DERError("there is not one SEQUENCE in it")
        values: list[Any] = []
        for name, expected, inner, unpack, optional in self._readers:
            if at < end and data[at] == expected:
                start, at = _untagged(data, at, end, inner)
                values.append(unpack(data, start, at))
            elif optional:
                values.append(None)
            else:
                raise DERError(f"{name} is missing")
        if at != end:
            raise DERError("an element is unknown, twice there or out of order")
        return self._type(*values)
