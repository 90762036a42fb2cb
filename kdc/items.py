"""What a sender says of each thing it sends, and how the things follow each other.

One channel carries items, each a header and then its bytes:

    u16 length | JSON object | size bytes

An item whose size is not known beforehand is the last one and goes on to the
end of the stream.  Pure: bytes in, events out.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import TypeAlias

import attrs

from kdc.codec import malformed

__all__ = ["Content", "Finished", "Item", "ItemEvent", "ItemReader", "Kind", "safe_name"]

_MAX_HEADER = 4096
_MAX_NAME_BYTES = 255
_MAX_SIZE = 1 << 62


class Kind(enum.Enum):
    FILE = "file"
    TEXT = "text"


def safe_name(name: str) -> str:
    """Return ``name`` if it is one component that is safe to create; raises `ValueError`.

    A peer chooses it: no path, nothing hidden, nothing that a terminal would
    obey, or a command take for an option where the shell expands ``*``.
    """
    if not name or len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES - 24:
        raise ValueError("a file name must have 1 to 231 bytes")
    if "/" in name or "\\" in name or name.startswith((".", "-")) or not name.isprintable():
        raise ValueError(f"not a safe file name: {name[:80]!r}")
    return name


@attrs.frozen
class Item:
    """One thing: a file by its name, or a text.  ``size`` in bytes, None if not known."""

    kind: Kind
    name: str = attrs.field(validator=lambda _, __, value: safe_name(value))
    size: int | None = None

    def encode(self) -> bytes:
        """Return the header."""
        fields = {"kind": self.kind.value, "name": self.name, "size": self.size}
        text = json.dumps(fields, ensure_ascii=True).encode()
        return len(text).to_bytes(2, "big") + text


def _decode(text: bytes) -> Item:
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.keys() != {"kind", "name", "size"}:
            raise ValueError("it must have kind, name and size")
        size = fields["size"]
        if size is not None and not (type(size) is int and 0 <= size <= _MAX_SIZE):
            raise ValueError("size is not a number of bytes")
        if not isinstance(fields["name"], str):
            raise ValueError("name is not a text")
        return Item(Kind(fields["kind"]), fields["name"], size)
    except (ValueError, RecursionError) as error:
        raise malformed(f"item header: {str(error)[:200]}") from None


@attrs.frozen
class Content:
    """Some bytes of the item announced last."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Finished:
    """The item announced last is whole."""


ItemEvent: TypeAlias = Item | Content | Finished


class ItemReader:
    """Cuts a stream into items; `end` must be called when the stream has ended."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._item: Item | None = None
        self._left = 0

    def feed(self, data: bytes) -> Iterator[ItemEvent]:
        """Yield what ``data`` means; raises `RemoteProtocolError`."""
        at = 0
        while at < len(data):
            if self._item is None:
                at, item = self._take_header(data, at)
                if item is not None:
                    yield from self._begin(item)
            elif self._item.size is None:
                yield Content(data[at:])
                return
            else:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield Content(piece)
                if not self._left:
                    self._item = None
                    yield Finished()

    def end(self) -> Iterator[ItemEvent]:
        """The stream is whole: so must be its last item."""
        if self._item is not None and self._item.size is None:
            self._item = None
            yield Finished()
        if self._item is not None or self._header:
            raise malformed("the stream ends within an item")

    def _begin(self, item: Item) -> Iterator[ItemEvent]:
        yield item
        if item.size == 0:
            yield Finished()
        else:
            self._item = item
            self._left = item.size or 0

    def _take_header(self, data: bytes, at: int) -> tuple[int, Item | None]:
        header = self._header
        want = 2 if len(header) < 2 else 2 + int.from_bytes(header[:2], "big")
        if want > 2 + _MAX_HEADER:
            raise malformed(f"an item header of {want - 2} bytes")
        piece = data[at : at + want - len(header)]
        header += piece
        at += len(piece)
        if len(header) < 2 or len(header) < 2 + int.from_bytes(header[:2], "big"):
            return at, None
        self._header = bytearray()
        return at, _decode(bytes(header[2:]))
