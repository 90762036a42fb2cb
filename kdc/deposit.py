"""Where one transfer is stored: all of it, or nothing under its final name.

Blocking; no Twisted.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import attrs

from kdc.errors import LocalIOError, Refusal, RemoteProtocolError
from kdc.files.atomic import PartialFile, local_error, write_pieces
from kdc.files.tree import Tree, exchange, move_to_free_name, sync_all
from kdc.items import Held, Item, Kind, Offer
from kdc.itemstream import Content, ItemEvent
from kdc.unfinished import Place, free_bytes, key_of, make_room, tidy

__all__ = [
    "Arrival",
    "Deposit",
    "FileDeposit",
    "InboxDeposit",
    "Recorded",
    "Sealed",
    "Stored",
    "StreamDeposit",
]

# So many files are made durable one by one; more of them together, which is much faster.
_FEW = 32
# What is less than this is not worth keeping for another attempt.
_WORTH_KEEPING = 1 << 20


@attrs.frozen
class Sealed:
    """Records as they came, for whoever keeps them."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Stored:
    """One top-level item, durable under ``path``; ``size`` and ``files`` of all in it.

    ``again``: it was there already, and whoever was told of it then knows it.
    """

    kind: Kind
    name: str
    path: Path
    size: int
    files: int = 1
    again: bool = False


Arrival: TypeAlias = ItemEvent | Sealed


class Deposit(abc.ABC):
    """Takes what arrives of one transfer, and shows it when it is whole.

    One call at a time, in a worker thread.  `prepare`, `take` and `show` raise
    `LocalIOError` or `RemoteProtocolError`; after that, or when the sender is
    gone, call `discard`.  ``key``: no two at a time should have the same.
    """

    key = ""

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


class _Taking(Deposit):
    """Splits what arrives into items."""

    def take(self, arrivals: Sequence[Arrival]) -> None:
        pieces: list[bytes] = []
        for arrival in arrivals:
            if isinstance(arrival, Content):
                pieces.append(arrival.data)
            elif not isinstance(arrival, Sealed):
                self._flush(pieces)
                pieces = []
                if isinstance(arrival, Item):
                    self._begin(arrival)
                else:
                    self._finish()
        self._flush(pieces)

    @abc.abstractmethod
    def _begin(self, item: Item) -> None: ...

    @abc.abstractmethod
    def _write(self, pieces: list[bytes]) -> None: ...

    @abc.abstractmethod
    def _finish(self) -> None: ...

    def _flush(self, pieces: list[bytes]) -> None:
        if pieces:
            self._write(pieces)


def _only_one(offer: Offer) -> None:
    if offer.total != 1:
        raise RemoteProtocolError(Refusal.NOT_ALLOWED, "more than one item for one file")


def _not_a_directory(item: Item) -> None:
    if item.kind is Kind.DIRECTORY or item.start:
        raise RemoteProtocolError(Refusal.NOT_ALLOWED, "a directory for one file")


class FileDeposit(_Taking):
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
        path = self._partial.show(replace=True)
        item = self._item
        if item is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the sender sent nothing")
        return [Stored(item.kind, item.name, path, self._partial.written)]

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

    def _write(self, pieces: list[bytes]) -> None:
        self._partial.write(pieces)

    def _finish(self) -> None:
        self._partial.finish()


class StreamDeposit(_Taking):
    """One item, as it comes, to a descriptor such as standard output.

    Nothing can be taken back there: whether it was whole, only the end tells.
    """

    def __init__(self, fd: int, offer: Offer) -> None:
        self._fd = fd
        self._offer = offer
        self._item: Item | None = None
        self._written = 0

    def prepare(self) -> list[Held]:
        _only_one(self._offer)
        return []

    def show(self) -> list[Stored]:
        if self._item is None:
            raise RemoteProtocolError(Refusal.MALFORMED, "the sender sent nothing")
        return [Stored(self._item.kind, self._item.name, Path("-"), self._written)]

    def discard(self, *, keep: bool = False) -> bool:
        return False

    def _begin(self, item: Item) -> None:
        _not_a_directory(item)
        self._item = item

    def _write(self, pieces: list[bytes]) -> None:
        try:
            self._written += write_pieces(self._fd, pieces)
        except OSError as error:
            raise local_error(Path("standard output"), error) from None

    def _finish(self) -> None:
        """It has left already."""


class InboxDeposit(_Taking):
    """Everything under its own name in ``inbox``, or the next free one.

    ``force``: what has that name is replaced.
    """

    def __init__(self, inbox: Path, sender: str, offer: Offer, *, force: bool = False) -> None:
        self.key = key_of(sender, offer)
        self._inbox = inbox
        self._sender = sender
        self._offer = offer
        self._force = force
        self._inbox_fd = -1
        self._place: Place | None = None
        self._held: dict[str, int] = {}
        self._top: list[Stored] = []
        self._item: Item | None = None
        self._fd = -1
        self._written = 0
        self._files = 0
        self._keep = True

    def prepare(self) -> list[Held]:
        try:
            self._inbox_fd = os.open(self._inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            tidy(self._inbox_fd, self._sender)
            self._place = Place(self._inbox_fd, self.key)
            again = self.look_again()
            if again is not None:
                return again
            held = self._place.held()
        except OSError as error:
            raise local_error(self._inbox, error) from None
        self._make_room({each.name: each.size for each in held})
        return held

    def look_again(self) -> list[Held] | None:
        """What an earlier transfer of the same has shown, if its sender may not know it."""
        return None

    def show(self) -> list[Stored]:
        try:
            # What was written before is as durable as what is named now.
            if self._files > _FEW:
                sync_all(self._tree)
            else:
                self._tree.sync_directories()
            shown = self._show_all()
            os.fsync(self._inbox_fd)
        except OSError as error:
            raise local_error(self._inbox, error) from None
        self._release(keep=False)
        return shown

    def discard(self, *, keep: bool = False) -> bool:
        self._close_file()
        kept = (
            keep
            and self._keep
            and self._place is not None
            and self._place.resumable
            and self._written + sum(self._held.values()) >= _WORTH_KEEPING
        )
        self._release(keep=kept)
        return kept

    def _make_room(self, held: dict[str, int]) -> None:
        self._held = held
        if self._offer.size is None:
            return
        try:
            make_room(self._inbox_fd, max(self._offer.size - sum(held.values()), 0))
        except LocalIOError as error:
            raise LocalIOError(f"{self._inbox}: {error}", hint=error.hint) from None

    @property
    def _tree(self) -> Tree:
        return self._required.tree

    @property
    def _required(self) -> Place:
        if self._place is None:
            raise RuntimeError("prepare() comes first")
        return self._place

    def _begin(self, item: Item) -> None:
        self._item = item
        if len(item.parts) == 1:
            self._top.append(Stored(item.kind, item.name, Path(), 0, 0))
        if item.size is None:
            self._keep = False  # it will not be the same the next time
        try:
            self._create(item)
        except FileExistsError:
            raise RemoteProtocolError(Refusal.MALFORMED, "a name that was sent twice") from None
        except FileNotFoundError:
            raise RemoteProtocolError(
                Refusal.MALFORMED, "an item in a directory that was not sent, or was not held"
            ) from None
        except OSError as error:
            raise local_error(self._inbox / item.name, error) from None

    def _create(self, item: Item) -> None:
        tree = self._tree
        self._files += 1
        if item.kind is Kind.DIRECTORY:
            tree.make_directory(item.parts)
            return
        if not item.start:
            self._fd = tree.create(item.parts, executable=item.executable)
        elif self._held.get(item.name, -1) < item.start:
            raise FileNotFoundError
        else:
            self._fd = self._required.take_up(item.parts, item.start, executable=item.executable)
        self._count(item.start, 1)

    def _write(self, pieces: list[bytes]) -> None:
        try:
            written = write_pieces(self._fd, pieces)
        except OSError as error:
            raise local_error(self._path, error) from None
        self._written += written
        self._count(written, 0)

    def _finish(self) -> None:
        if self._fd < 0:
            return
        try:
            # At once: any number of items must not take as many descriptors.
            if self._files <= _FEW:
                os.fsync(self._fd)
        except OSError as error:
            raise local_error(self._path, error) from None
        finally:
            self._close_file()

    def _count(self, size: int, files: int) -> None:
        top = self._top[-1]
        self._top[-1] = attrs.evolve(top, size=top.size + size, files=top.files + files)

    @property
    def _path(self) -> Path:
        return self._inbox / ("" if self._item is None else self._item.name)

    def _show_all(self) -> list[Stored]:
        source = self._tree.directory(())
        shown: list[Stored] = []
        try:
            for top in self._top:
                name = top.name
                if self._force:
                    exchange(source, name, self._inbox_fd)
                else:
                    name = move_to_free_name(source, name, self._inbox_fd)
                shown.append(attrs.evolve(top, path=self._inbox / name))
        except OSError:
            # All or nothing; but what ``force`` has replaced is gone.
            for each in [] if self._force else shown:
                with contextlib.suppress(OSError):
                    os.rename(
                        each.path.name, each.name, src_dir_fd=self._inbox_fd, dst_dir_fd=source
                    )
            raise
        return shown

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _release(self, *, keep: bool) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.leave(keep=keep)
        if self._inbox_fd >= 0:
            os.close(self._inbox_fd)
            self._inbox_fd = -1


class Recorded(Deposit):
    """Another deposit, and the sealed records beside it in the file ``records``."""

    def __init__(self, inner: Deposit, records: Path) -> None:
        self.key = inner.key
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
            self._file.show(replace=True)
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
