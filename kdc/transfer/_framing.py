"""The two streams of a transfer, cut into what they say.

The sender's is an offer and then items, each a header and its bytes; the
receiver's is answers.  However they arrive, the same events come out, and
nothing is let through that was not offered.  Pure: bytes in, events out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import attrs

from kdc.errors import TooLarge, malformed
from kdc.transfer.messages import (
    MAX_ITEMS,
    MAX_MESSAGE,
    Answer,
    Item,
    Kind,
    Offer,
    Omitted,
    decode_answer,
    decode_item,
    decode_offer,
)

__all__ = ["MAX_REPEATS", "AnswerReader", "Content", "Finished", "ItemEvent", "ItemReader"]

MAX_REPEATS = 2  # of a file that changed while its sender read it


@attrs.frozen
class Content:
    """Some bytes of the item announced last."""

    data: bytes | memoryview = attrs.field(repr=False)


@attrs.frozen
class Finished:
    """The item announced last is whole."""


ItemEvent: TypeAlias = Item | Content | Finished | Omitted


class _Message:
    """One message as it arrives."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __bool__(self) -> bool:
        return bool(self._bytes)

    def take(self, data: bytes | memoryview, at: int) -> tuple[int, bytes | None]:
        """Take what belongs to it from ``data``, which goes on at the returned place."""
        while True:
            have = len(self._bytes)
            want = 2 if have < 2 else 2 + int.from_bytes(self._bytes[:2], "big")
            if want > 2 + MAX_MESSAGE:
                raise malformed(f"a message of {want - 2} bytes")
            if have == want > 2:
                body, self._bytes = bytes(self._bytes[2:]), bytearray()
                return at, body
            if want == 2 == have:
                raise malformed("an empty message")
            piece = data[at : at + want - have]
            if not piece:
                return at, None
            self._bytes += piece
            at += len(piece)


class ItemReader:
    """Cuts the sender's stream; `end` must be called when it has ended.

    ``max_bytes``: how much content is taken at most.  Methods raise
    `RemoteProtocolError`, and `TooLarge` for more than that.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max = max_bytes
        self._message = _Message()
        self._offer: Offer | None = None
        self._top: Item | None = None
        self._tops = 0
        self._items = 0
        self._bytes = 0
        self._item: Item | None = None
        self._left = 0
        self._last: Item | None = None  # it is whole, and nothing has come after it
        self._again = ""  # this has to come next
        self._repeats: dict[str, int] = {}
        self._missing = 0

    def feed(self, data: bytes | memoryview) -> Iterator[Offer | ItemEvent]:
        """Yield what ``data`` means."""
        at = 0
        while at < len(data):
            if self._item is None:
                at, message = self._message.take(data, at)
                if message is not None:
                    yield from self._said(message)
            elif self._item.size is None:
                piece = data[at:]
                self._declare(len(piece))
                yield Content(piece)
                return
            else:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield Content(piece)
                if not self._left:
                    self._last, self._item = self._item, None
                    yield Finished()

    def end(self) -> Iterator[ItemEvent]:
        """The stream is whole: so must be its last item, and all that was offered be there."""
        if self._item is not None and self._item.size is None:
            self._item = None
            yield Finished()
        if self._item is not None or self._message:
            raise malformed("the stream ends within an item")
        if self._offer is None or self._tops != self._offer.total:
            raise malformed("less was sent than offered")
        if self._again:
            raise malformed("what was to come again does not")
        if self._missing == self._tops:
            raise malformed("nothing was sent of what was offered")

    def check(self, total: int) -> None:
        """Raises `TooLarge` if ``total`` bytes are more than are taken."""
        if self._max is not None and total > self._max:
            raise TooLarge(f"at most {self._max} bytes are")

    def _said(self, message: bytes) -> Iterator[Offer | ItemEvent]:
        if self._offer is None:
            self._offer = decode_offer(message)
            yield self._offer
            return
        item = decode_item(message)
        if self._again and item.name != self._again:
            raise malformed("what was to come again does not")
        self._again = ""
        if isinstance(item, Omitted):
            self._omit(item, self._offer)
            yield item
            return
        self._check(item, self._offer)
        yield item
        if item.size is None or item.size > item.start:
            self._item, self._last = item, None
            self._left = (item.size or 0) - item.start
        else:
            self._last = item
            yield Finished()

    def _check(self, item: Item, offer: Offer) -> None:
        """What somebody has accepted is this, and nothing else."""
        if len(item.parts) == 1:
            self._check_top(item.name, offer)
            if (item.kind is Kind.TEXT) is not offer.text:
                raise malformed("a text that was not offered as one, or the reverse")
            self._top = item
        else:
            self._check_below(item.name)
        self._count_item(offer)
        if item.size is None and offer.size is not None:
            raise malformed("an item of unknown size in an offer whose size is known")
        self._declare(item.size or 0)

    def _check_top(self, name: str, offer: Offer) -> None:
        expected = offer.names[self._tops : self._tops + 1]
        self._tops += 1
        if self._tops > offer.total or (expected and expected[0] != name):
            raise malformed("another name than was offered")

    def _check_below(self, name: str) -> None:
        if self._top is None or self._top.kind is not Kind.DIRECTORY:
            raise malformed("an item in a directory that was not sent")
        if name.partition("/")[0] != self._top.name:
            raise malformed("an item outside the directory that it follows")

    def _count_item(self, offer: Offer) -> None:
        self._items += 1
        most = MAX_ITEMS if offer.items is None else min(offer.items, MAX_ITEMS)
        if self._items > most:
            raise malformed(f"more than {most} items")

    def _omit(self, omitted: Omitted, offer: Offer) -> None:
        """Something does not come; or the file that has just come is withdrawn."""
        is_top = "/" not in omitted.name
        last, self._last = self._last, None
        if last is not None and last.name == omitted.name:
            self._withdraw(last, again=omitted.again)
        elif omitted.again:
            raise malformed("what has not come cannot come again")
        elif is_top:
            self._check_top(omitted.name, offer)
            self._count_item(offer)
        else:
            self._check_below(omitted.name)
            self._count_item(offer)
        if is_top:
            self._top = None
            self._missing += not omitted.again

    def _withdraw(self, last: Item, *, again: bool) -> None:
        if last.kind is not Kind.FILE:
            raise malformed("only a file can be withdrawn")
        self._bytes -= last.size or 0
        if not again:
            return
        self._repeats = {last.name: self._repeats.get(last.name, 0) + 1}
        if self._repeats[last.name] > MAX_REPEATS:
            raise malformed(f"a file that comes more than {MAX_REPEATS} times again")
        self._items -= 1
        self._tops -= len(last.parts) == 1
        self._again = last.name

    def _declare(self, count: int) -> None:
        self._bytes += count
        offered = None if self._offer is None else self._offer.size
        if offered is not None and self._bytes > offered:
            raise malformed(f"more than the {offered} bytes that were offered")
        self.check(self._bytes)


class AnswerReader:
    """Cuts the receiver's stream."""

    def __init__(self) -> None:
        self._message = _Message()

    def feed(self, data: bytes) -> Iterator[Answer]:
        """Yield the answers in ``data``; raises `RemoteProtocolError`."""
        at = 0
        while at < len(data):
            at, message = self._message.take(data, at)
            if message is not None:
                yield decode_answer(message)
