"""Where one stream of items is stored: all of it, or nothing.  Blocking; no Twisted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import attrs

from kdc.errors import LocalIOError, Refusal, RemoteProtocolError
from kdc.items import Content, Item, ItemEvent
from kdc.partial import PartialFile

__all__ = ["Arrival", "Deposit", "Sealed", "Stored"]


@attrs.frozen
class Sealed:
    """Records as they came, for whoever keeps them."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Stored:
    """One item, durable under ``path``; ``size`` in bytes."""

    item: Item
    path: Path
    size: int


Arrival: TypeAlias = ItemEvent | Sealed


@attrs.define
class Deposit:
    """Takes what arrives of one stream, and shows it when the stream is whole.

    ``output``: one item, which replaces that file.  ``directory``: any number,
    each under its own name or, if that is taken, the next free one.
    ``records``: the sealed records go there.  One call at a time, in a worker
    thread; `take` and `show` raise `LocalIOError` or `RemoteProtocolError`.
    """

    output: Path | None = None
    directory: Path | None = None
    records: Path | None = None
    _files: list[tuple[Item, PartialFile]] = attrs.field(factory=list, init=False)
    _sealed: PartialFile | None = attrs.field(default=None, init=False)

    def take(self, arrivals: Sequence[Arrival]) -> None:
        """Store ``arrivals`` under temporary names."""
        pieces: list[bytes] = []
        for arrival in arrivals:
            if isinstance(arrival, Content):
                pieces.append(arrival.data)
            elif isinstance(arrival, Sealed):
                self._keep(arrival)
            else:
                self._flush(pieces)
                pieces = []
                if isinstance(arrival, Item):
                    self._begin(arrival)
                else:  # at once: any number of items must not take as many descriptors
                    self._files[-1][1].finish()
        self._flush(pieces)

    def show(self) -> list[Stored]:
        """Give each file its name, once all are durable; the stream must have been whole."""
        if self.output is not None and not self._files:
            raise RemoteProtocolError(Refusal.MALFORMED, "the sender sent nothing")
        if self._sealed is not None and self.records is not None:
            self._sealed.finish()
            self._sealed.show(replace=True)
        shown: list[Stored] = []
        try:
            for item, file in self._files:
                path = file.show(replace=self.output is not None)
                shown.append(Stored(item, path, file.written))
        except LocalIOError:
            # All or nothing; what `output` replaced is one file, and not among these.
            for each in shown:
                each.path.unlink(missing_ok=True)
            raise
        return shown

    def discard(self) -> None:
        """Leave nothing of what was not shown."""
        for _, file in self._files:
            file.discard()
        if self._sealed is not None:
            self._sealed.discard()

    def _begin(self, item: Item) -> None:
        if self.output is not None and self._files:
            raise RemoteProtocolError(Refusal.NOT_ALLOWED, "more than one item for one file")
        self._files.append((item, PartialFile(self._place(item))))

    def _place(self, item: Item) -> Path:
        if self.output is not None:
            return self.output
        if self.directory is None:
            raise LocalIOError("this receiver has no place to store anything")
        return self.directory / item.name

    def _flush(self, pieces: list[bytes]) -> None:
        if pieces:
            self._files[-1][1].write(pieces)

    def _keep(self, sealed: Sealed) -> None:
        if self._sealed is None and self.records is not None:
            self._sealed = PartialFile(self.records)
        if self._sealed is not None:
            self._sealed.write([sealed.data])
