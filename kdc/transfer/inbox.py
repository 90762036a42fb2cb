"""An inbox: where what arrives gets its name, and nothing is overwritten."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import attrs

from kdc.errors import LocalIOError, Refusal, RemoteProtocolError, local_error
from kdc.files.atomic import write_pieces
from kdc.files.tree import Tree, exchange, move_to_free_name, sync_all
from kdc.transfer._partials import Place, key_of, make_room, tidy
from kdc.transfer.deposit import ItemDeposit, Stored
from kdc.transfer.messages import Held, Item, Kind, Offer

__all__ = ["InboxDeposit"]

# So many files are made durable one by one; more of them together, which is much faster.
_FEW = 32
# What is less than this is not worth keeping for another attempt.
_WORTH_KEEPING = 1 << 20


class InboxDeposit(ItemDeposit):
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
