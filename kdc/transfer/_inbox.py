"""An inbox: where what arrives gets its name, and nothing is overwritten."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from kdc.errors import LocalIOError, NoRoom, Refusal, RemoteProtocolError, local_error
from kdc.files.atomic import end_here, write_pieces, write_with_holes
from kdc.files.system import SYSTEM, System
from kdc.files.tree import Tree, exchange, move_to_free_name, require_movable, sync_all
from kdc.files.write_behind import WriteBehind
from kdc.transfer._digest import Digest
from kdc.transfer._partials import Place
from kdc.transfer._parts import key_of
from kdc.transfer._rereading import LONG_BYTES, Rereading
from kdc.transfer._room import free_bytes, make_room, tidy
from kdc.transfer.deposit import NOT_WHAT_CAME, Anew, Arrival, ItemDeposit, Stored
from kdc.transfer.messages import Held, Item, Kind, Offer, Omitted, Remark

__all__ = ["InboxDeposit"]

# So many files are made durable one by one; more of them together, which is much faster.
_FEW = 32
# What is less than this is not worth keeping for another attempt.
_WORTH_KEEPING = 1 << 20
_MAX_NOTED = 1000
# What is said of each when it is stored is kept until then.
_MAX_TOPS = 100_000
_RECEIPT_BYTES = 1 << 20
# Of so many the last touch is remembered: directories, and files that are not to be written to.
_MAX_LATER = 100_000


@attrs.define
class _Top:
    """One thing at the top, and how much there is in it so far."""

    kind: Kind
    name: str
    size: int = 0
    files: int = 0


class InboxDeposit(ItemDeposit):
    """Everything under its own name in ``inbox``, or the next free one.

    ``force``: what has that name is replaced.  ``process``: under this name it is
    noted what was shown, see `kdc.transfer.redelivery`; without one it is not.
    ``free`` says how many bytes may be stored in a directory, of a descriptor.
    ``preserve``: files keep their times, and of their modes what is safe.
    ``system`` has the calls that not every file system understands.  ``long_bytes``: what is
    kept of such a file is gone on with while it is read again, see `kdc.transfer._rereading`.
    """

    remarks = (Remark.OMISSIONS, Remark.DETAILS)

    def __init__(
        self,
        inbox: Path,
        sender: str,
        offer: Offer,
        *,
        process: str = "",
        force: bool = False,
        free: Callable[[int], int] = free_bytes,
        preserve: bool = True,
        system: System = SYSTEM,
        long_bytes: int = LONG_BYTES,
        rereading: Callable[[], Rereading] = Rereading,
    ) -> None:
        self.key = key_of(sender, offer)
        self._inbox = inbox
        self._sender = sender
        self._offer = offer
        self._process = process
        self._force = force
        self._free = free
        self._preserve = preserve
        self._system = system
        self._long_bytes = long_bytes
        self._rereading = rereading
        self._later: list[Item] = []
        self._inbox_fd = -1
        self._place: Place | None = None
        self._held: dict[str, int] = {}
        self._top: list[_Top] = []
        self._item: Item | None = None
        self._fd = -1
        self._written = 0
        self._files = 0
        self._keep = True
        self._digest = Digest()
        self._behind = WriteBehind()
        self._size = 0
        self._receipted = 0

    def prepare(self) -> list[Held]:
        self.open()
        return self.resume()

    def open(self) -> Place:
        """Return the place in which it will be put together."""
        if self._offer.total > _MAX_TOPS:
            raise RemoteProtocolError(Refusal.NOT_ALLOWED, f"more than {_MAX_TOPS} things")
        try:
            self._inbox_fd = os.open(self._inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._place = Place(
                self._inbox_fd, self.key, long_bytes=self._long_bytes, rereading=self._rereading
            )
            require_movable(self._tree.fd, self._inbox_fd, self._system)
            tidy(self._inbox_fd, self._sender)  # and not what is gone on with now
        except OSError as error:
            raise local_error(self._inbox, error) from None
        return self._place

    def resume(self) -> list[Held]:
        """Return what was kept of it, and make sure that there is room for the rest."""
        try:
            held = self._required.held(self._offer.size)
        except OSError as error:
            raise local_error(self._inbox, error) from None
        self._held = {each.name: each.size for each in held}
        self._make_room()
        return held

    def take(self, arrivals: Sequence[Arrival]) -> None:
        super().take(arrivals)
        self._flush_receipts()

    def show(self) -> list[Stored]:
        try:
            self._close_off()
            # What was written before is as durable as what is named now.
            if self._files > _FEW:
                sync_all(self._tree, self._system)
            else:
                self._tree.sync_directories()
            shown = self._show_noted()
        except OSError as error:
            raise local_error(self._inbox, error) from None
        self._release(keep=False)
        return shown

    def discard(self, *, keep: bool = False) -> bool:
        if self._place is not None:
            with contextlib.suppress(OSError, Anew, LocalIOError):  # then less is gone on with
                if self._fd >= 0 and keep:
                    self._require_what_came()
                    self._receive(whole=False)
            with contextlib.suppress(LocalIOError):  # what is not noted is sent again
                self._flush_receipts()
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

    def _make_room(self) -> None:
        if self._offer.size is None:
            return
        try:
            make_room(
                self._inbox_fd,
                self._sender,
                max(self._offer.size - sum(self._held.values()), 0),
                self._free,
            )
        except NoRoom as error:
            raise NoRoom(f"{self._inbox}: {error}", why=error.why) from None

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
        self._digest, self._size, self._receipted = Digest(), 0, 0
        if len(item.parts) == 1:
            self._top.append(_Top(item.kind, item.name))
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
        mode = self._mode(item)
        if item.kind is Kind.DIRECTORY:
            tree.make_directory(item.parts, mode)
            self._note_for_later(item)
            self._receive(whole=True)
            return
        if not item.start:
            self._fd = tree.create(item.parts, mode)
        elif self._held.get(item.name, -1) < item.start:
            raise FileNotFoundError
        else:
            self._fd, self._digest = self._required.take_up(item.parts, item.start, mode)
            self._size = item.start
            self._receive(whole=False)
        self._behind = WriteBehind(item.start)
        self._count(item.start, 1)

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        sparse = self._item is not None and self._item.sparse
        if self._digest.is_wrong:
            self._begin_anew()
        try:
            written = (write_with_holes if sparse else write_pieces)(self._fd, pieces)
            if sparse and self._digest.is_behind:  # it reads that
                end_here(self._fd)
        except OSError as error:
            raise local_error(self._path, error) from None
        self._digest.add(pieces)
        self._written += written
        self._size += written
        if not self._digest.is_behind:  # what it reads soon is better not forgotten
            self._behind.wrote(self._fd, self._size)
        self._count(written, 0)
        # So that little is lost if we are killed, and there are not many of a large file.
        if self._size - self._receipted >= max(_RECEIPT_BYTES, self._size >> 8):
            self._receive(whole=False)

    def _finish(self) -> None:
        if self._fd < 0:
            return
        try:
            self._finish_details()
            # At once: any number of items must not take as many descriptors.
            if self._files <= _FEW:
                os.fsync(self._fd)
            self._require_what_came()
        except OSError as error:
            raise local_error(self._path, error) from None
        finally:
            self._close_file()
        self._receive(whole=True)

    def _require_what_came(self) -> None:
        if not self._digest.is_what_came():
            self._begin_anew()

    def _begin_anew(self) -> None:
        """What was kept of this file goes, or it would be told of again; raises `Anew`."""
        item = self._item
        self._close_file()
        if item is not None:
            with contextlib.suppress(OSError):
                self._tree.remove(item.parts)
            self._required.receipts.withdraw(item.kind, item.name)
        raise Anew(NOT_WHAT_CAME)

    def _omit(self, omitted: Omitted) -> None:
        item, self._item = self._item, None
        if item is None or item.name != omitted.name:
            return  # it has not come at all
        try:
            self._tree.remove(item.parts)
        except OSError as error:
            raise local_error(self._inbox / item.name, error) from None
        self._held.pop(item.name, None)
        self._files -= 1
        if len(item.parts) == 1:
            self._top.pop()
        else:
            self._count(-self._size, -1)
        self._required.receipts.withdraw(item.kind, item.name)

    def _receive(self, *, whole: bool) -> None:
        """Write down what has come of this item."""
        item = self._item
        if item is not None:
            if item.sparse and self._fd >= 0:
                with contextlib.suppress(OSError):  # then it is not gone on with
                    end_here(self._fd)
            self._receipted = self._size
            size, digest = self._digest.reached
            self._required.receipts.add(item.kind, item.name, size, item.executable, digest, whole)

    def _flush_receipts(self) -> None:
        try:
            self._required.receipts.flush()
        except OSError as error:
            raise local_error(self._inbox, error) from None

    def _mode(self, item: Item) -> int:
        """What it is made with; its owner can write to it until it is shown."""
        if item.mode is None or not self._preserve:
            return 0o700 if item.executable or item.kind is Kind.DIRECTORY else 0o600
        return item.mode

    def _finish_details(self) -> None:
        """What can be done at once when a file is whole."""
        item = self._item
        if item is None:
            return
        if item.sparse:
            end_here(self._fd)
        _set_time(self._fd, self._time(item))
        if self._mode(item) & 0o600 != 0o600:
            self._note_for_later(item)

    def _time(self, item: Item) -> int | None:
        return item.modified if self._preserve else None

    def _note_for_later(self, item: Item) -> None:
        if len(self._later) < _MAX_LATER:
            self._later.append(item)

    def _close_off(self) -> None:
        """What would have been in the way until now: files that nobody may write to; and the
        times of directories, which each new name in them changes."""
        for item in self._later:
            if item.kind is Kind.DIRECTORY:
                _set_time(self._tree.directory(item.parts), self._time(item))
                continue
            with contextlib.suppress(FileNotFoundError):  # it was withdrawn
                fd = self._tree.reopen(item.parts)
                try:
                    # As far as the file system keeps such a mode, as with the times.
                    with contextlib.suppress(OSError):
                        os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & self._mode(item))
                finally:
                    os.close(fd)

    def _count(self, size: int, files: int) -> None:
        top = self._top[-1]
        top.size += size
        top.files += files

    @property
    def _path(self) -> Path:
        return self._inbox / ("" if self._item is None else self._item.name)

    def unnote(self) -> None:
        """Forget what was shown before; raises `LocalIOError`."""
        try:
            self._required.unnote()
        except OSError as error:
            raise local_error(self._inbox, error) from None

    def _show_noted(self) -> list[Stored]:
        place = self._required
        if self._process and self._offer.size is not None and len(self._top) <= _MAX_NOTED:
            place.note(self._process, [top.name for top in self._top])
        try:
            shown = self._show_all()
        except OSError:
            place.unnote()
            raise
        place.shown()
        return shown

    def _show_all(self) -> list[Stored]:
        source = self._tree.directory(())
        shown: list[Stored] = []
        try:
            for top in self._top:
                name = top.name
                if self._force:
                    exchange(source, name, self._inbox_fd, self._system)
                else:
                    name = move_to_free_name(source, name, self._inbox_fd, self._system)
                shown.append(Stored(top.kind, top.name, self._inbox / name, top.size, top.files))
            os.fsync(self._inbox_fd)
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


def _set_time(fd: int, modified: int | None) -> None:
    """As far as the file system keeps such a time."""
    if modified is not None:
        with contextlib.suppress(OSError, OverflowError):
            os.utime(fd, ns=(modified, modified))
