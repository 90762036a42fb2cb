"""Where one transfer is stored: all of it, or nothing under its final name.

Blocking; no Twisted.
"""

from __future__ import annotations

import abc
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import attrs

from kdc.errors import IntegrityError, LocalIOError, Refusal, RemoteProtocolError, local_error
from kdc.files.atomic import PartialFile
from kdc.files.streams import open_stream, own_stream, write_stream
from kdc.hostile_text import shown
from kdc.transfer._framing import Content, ItemEvent
from kdc.transfer._room import free_bytes
from kdc.transfer.messages import Held, Item, Kind, Offer, Omitted, Remark

__all__ = [
    "NOT_WHAT_CAME",
    "Anew",
    "Arrival",
    "Deposit",
    "FileDeposit",
    "ItemDeposit",
    "Recorded",
    "Sealed",
    "Stored",
    "StreamDeposit",
]


NOT_WHAT_CAME = "what was kept of it is not what came; it has to be sent anew"


class Anew(IntegrityError):
    """The sender relies on what does not hold, and has to begin anew: a cut, and no refusal."""


@attrs.frozen
class Sealed:
    """Records as they came, for whoever keeps them."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Stored:
    """One top-level item, durable under ``path``; ``size`` and ``files`` of all in it.

    ``again``: it was there already, and whoever was told of it then knows it.
    ``passed_on``: it went into a program or device, and is not there to be looked at.
    """

    kind: Kind
    name: str
    path: Path
    size: int
    files: int = 1
    again: bool = False
    passed_on: bool = False


Arrival: TypeAlias = ItemEvent | Sealed


class Deposit(abc.ABC):
    """Takes what arrives of one transfer, and shows it when it is whole.

    One call at a time, in a worker thread.  `prepare`, `take` and `show` raise
    `LocalIOError` or `RemoteProtocolError`; after that, or when the sender is
    gone, call `discard`.  ``key``: no two at a time should have the same.
    """

    key = ""
    remarks: tuple[Remark, ...] = (Remark.OMISSIONS,)  # what the sender should know of it

    def prepare(self) -> list[Held]:
        """Look whether it can be stored; return what is there of it already."""
        return []

    @abc.abstractmethod
    def take(self, arrivals: Sequence[Arrival]) -> None:
        """Store ``arrivals`` where nobody sees them."""

    @abc.abstractmethod
    def show(self) -> list[Stored]:
        """Give everything its name, once all of it is durable; the stream must be whole."""

    @abc.abstractmethod
    def discard(self, *, keep: bool = False) -> bool:
        """Leave nothing; or, with ``keep``, what another attempt can go on from.

        Return whether there is something of that kind.
        """

    def settled(self) -> None:  # noqa: B027 - most have nothing to forget
        """After `show`: the sender knows that it was stored, and will not come again with it."""


class ItemDeposit(Deposit):
    """One that takes items one after the other: it splits what arrives into them."""

    def take(self, arrivals: Sequence[Arrival]) -> None:
        pieces: list[bytes | memoryview] = []
        for arrival in arrivals:
            if isinstance(arrival, Content):
                pieces.append(arrival.data)
            elif not isinstance(arrival, Sealed):
                self._flush(pieces)
                pieces = []
                if isinstance(arrival, Item):
                    self._begin(arrival)
                elif isinstance(arrival, Omitted):
                    self._omit(arrival)
                else:
                    self._finish()
        self._flush(pieces)

    @abc.abstractmethod
    def _begin(self, item: Item) -> None: ...

    @abc.abstractmethod
    def _write(self, pieces: list[bytes | memoryview]) -> None: ...

    @abc.abstractmethod
    def _finish(self) -> None: ...

    @abc.abstractmethod
    def _omit(self, omitted: Omitted) -> None:
        """If it is the item of before, that is to be as if it had never come."""

    def _flush(self, pieces: list[bytes | memoryview]) -> None:
        if pieces:
            self._write(pieces)


def _only_one(offer: Offer) -> None:
    if offer.total != 1:
        raise RemoteProtocolError(Refusal.NOT_ALLOWED, "more than one item for one file")


def _not_a_directory(item: Item) -> None:
    if item.kind is Kind.DIRECTORY or item.start:
        raise RemoteProtocolError(Refusal.NOT_ALLOWED, "a directory for one file")


class FileDeposit(ItemDeposit):
    """One item, which replaces the file ``output``, whatever the sender calls it."""

    def __init__(self, output: Path, offer: Offer) -> None:
        self._output = output
        self._offer = offer
        self._file: PartialFile | None = None
        self._item: Item | None = None

    def prepare(self) -> list[Held]:
        _only_one(self._offer)
        self._file = PartialFile(self._output)
        _check_room(self._output.parent, self._offer.size)
        return []

    def show(self) -> list[Stored]:
        item = self._item
        if item is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the sender sent nothing")
        self._partial.finish()
        self._partial.show()
        return [Stored(item.kind, item.name, self._output, self._partial.written)]

    def discard(self, *, keep: bool = False) -> bool:
        if self._file is not None:
            self._file.discard()
        return False

    @property
    def _partial(self) -> PartialFile:
        if self._file is None:
            raise RuntimeError("prepare() comes first")
        return self._file

    def _begin(self, item: Item) -> None:
        _not_a_directory(item)
        self._item = item

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        self._partial.write(pieces)

    def _finish(self) -> None:
        """Whether it stays so, only the end tells."""

    def _omit(self, omitted: Omitted) -> None:
        self._partial.begin_again()


class StreamDeposit(ItemDeposit):
    """One item, as it comes, into a descriptor such as standard output, or a device or FIFO.

    Nothing can be taken back there: whether it was whole, only the end tells.  Whoever reads
    a pipe is waited for, until that is ``given_up``.
    """

    remarks = (Remark.PASSES_ON,)

    def __init__(
        self,
        where: int | Path,
        offer: Offer,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._where = where
        self._path = where if isinstance(where, Path) else Path("-")
        self._fd = -1
        self._given_up = given_up
        self._offer = offer
        self._item: Item | None = None
        self._written = 0

    def prepare(self) -> list[Held]:
        _only_one(self._offer)
        try:
            if isinstance(self._where, int):
                self._fd = own_stream(self._where)
            else:
                self._fd = open_stream(self._where)
        except OSError as error:
            if error.errno == errno.ENXIO and self._path.is_fifo():
                raise LocalIOError(
                    f"nobody reads from {shown(str(self._path), 4096)}",
                    hint="start what reads from it first",
                ) from None
            raise self._error(error) from None
        return []

    def show(self) -> list[Stored]:
        if self._item is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the sender sent nothing")
        self._close()
        item = self._item
        return [Stored(item.kind, item.name, self._path, self._written, passed_on=True)]

    def discard(self, *, keep: bool = False) -> bool:
        self._close()
        return False

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _begin(self, item: Item) -> None:
        _not_a_directory(item)
        self._item = item

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        try:
            self._written += write_stream(self._fd, pieces, self._given_up)
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> LocalIOError:
        name = self._path if isinstance(self._where, Path) else Path("standard output")
        return local_error(name, error)

    def _finish(self) -> None:
        """It has left already."""

    def _omit(self, omitted: Omitted) -> None:
        raise RemoteProtocolError(Refusal.NOT_ALLOWED, "what has been passed on cannot be changed")


class Recorded(Deposit):
    """Another deposit, and the sealed records beside it in the file ``records``."""

    def __init__(self, inner: Deposit, records: Path) -> None:
        self.key = inner.key
        self.remarks = inner.remarks
        self._inner = inner
        self._records = records
        self._file: PartialFile | None = None

    def prepare(self) -> list[Held]:
        self._file = PartialFile(self._records)
        return self._inner.prepare()

    def take(self, arrivals: Sequence[Arrival]) -> None:
        if self._file is not None:
            self._file.write([each.data for each in arrivals if isinstance(each, Sealed)])
        self._inner.take(arrivals)

    def show(self) -> list[Stored]:
        if self._file is not None:
            self._file.finish()
            self._file.show()
        return self._inner.show()

    def discard(self, *, keep: bool = False) -> bool:
        if self._file is not None:
            self._file.discard()
        return self._inner.discard(keep=keep)

    def settled(self) -> None:
        self._inner.settled()


def _check_room(directory: Path, size: int | None) -> None:
    """Raises `LocalIOError` if there is no room for ``size`` bytes."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if size is not None and free_bytes(fd) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
    except OSError as error:
        raise local_error(directory, error) from None
