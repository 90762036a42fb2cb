"""The same again: what a sender sends a second time because it never learnt of the first.

Between the end of a stream and its acknowledgement a connection may break.
Then the receiver has shown everything and the sender does not know it.  So an
inbox notes what it is about to show, and forgets it when the sender has
confirmed that it knows.  If the same sender comes with the same offer while
the note is there, it is told what is in the inbox, as after any cut.  Only if
it recognises all of it, each digest and each name, is nothing stored.

The note is a hint where to look, no proof: that is the digests, of what is in
the inbox now.  Whatever is otherwise than it was is stored as something new.
Blocking; no Twisted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from kdc.errors import IntegrityError, LocalIOError, Refusal, RemoteProtocolError, local_error
from kdc.files.atomic import sha256_of
from kdc.files.tree import Tree
from kdc.transfer._framing import Content, Finished
from kdc.transfer._partials import forget
from kdc.transfer.deposit import Arrival, Stored
from kdc.transfer.inbox import InboxDeposit
from kdc.transfer.messages import MAX_MESSAGE, Held, Item, Kind, Offer

__all__ = ["OnceDeposit"]

_MAX_TOPS = 1000
_MAX_ENTRIES = 50_000
_MAX_LISTED_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20


@attrs.frozen
class _Entry:
    """Something in the inbox, as it is now: ``size`` is None for a directory."""

    parts: tuple[str, ...]
    size: int | None
    executable: bool = False


class _Shown:
    """What an earlier transfer of the same has shown.  Methods raise `OSError`."""

    def __init__(self, inbox: int, tops: dict[str, str], entries: dict[str, _Entry]) -> None:
        self.tops = tops
        self.entries = entries
        self._tree = Tree(os.dup(inbox))
        self.held: dict[str, Held] = {}

    def look(self) -> list[Held]:
        """What to tell the sender of it: everything that has content."""
        for name, entry in self.entries.items():
            if entry.size:
                fd = self._tree.reopen(entry.parts)
                try:
                    digest = sha256_of(fd, entry.size)
                finally:
                    os.close(fd)
                if digest is None:
                    raise OSError
                self.held[name] = Held(name, entry.size, digest)
        return list(self.held.values())

    def is_the_same(self, item: Item) -> bool:
        """Whether the sender has recognised this as what is there, all of it."""
        entry = self.entries.get(item.name)
        if entry is None:
            return False
        if item.kind is Kind.DIRECTORY:
            return entry.size is None
        return entry.size == item.size == item.start and entry.executable == item.executable

    def content(self, name: str) -> Iterator[bytes]:
        """The content of a file that was told of; raises `IntegrityError` if it has changed."""
        digest, left = hashlib.sha256(), self.held[name].size
        fd = self._tree.reopen(self.entries[name].parts)
        try:
            while left and (data := os.read(fd, min(left, _CHUNK_BYTES))):
                digest.update(data)
                left -= len(data)
                yield data
        finally:
            os.close(fd)
        if left or digest.hexdigest() != self.held[name].sha256:
            raise IntegrityError("what was in the inbox has been changed at this moment")

    def stored(self, inbox: Path, kinds: dict[str, Kind], *, again: bool) -> list[Stored]:
        """What was shown then, by top-level names."""
        found = []
        for name, actual in self.tops.items():
            sizes = [
                entry.size
                for entry in self.entries.values()
                if entry.parts[0] == actual and entry.size is not None
            ]
            path = inbox / actual
            found.append(Stored(kinds[name], name, path, sum(sizes), len(sizes), again))
        return found

    def close(self) -> None:
        self._tree.close()


class OnceDeposit(InboxDeposit):
    """As an `InboxDeposit`, but what is there already is not stored twice.

    ``process`` is the same for all deposits of one receiver, as long as it runs:
    what it has shown itself it calls `Stored.again`.
    """

    def __init__(
        self, inbox: Path, sender: str, offer: Offer, *, process: str, force: bool = False
    ) -> None:
        super().__init__(inbox, sender, offer, force=force)
        self._process = process
        self._shown: _Shown | None = None
        self._again = False
        self._recognising = False
        self._recognised: dict[str, Item] = {}

    def look_again(self) -> list[Held] | None:
        try:
            by, tops = _read_note(self._required.noted())
            self._shown = _find(self._inbox_fd, tops)
            held = self._shown.look()
        except (OSError, ValueError):  # there is none, or it is not as it was
            self._close()
            return None
        self._recognising, self._again = True, by == self._process
        return held

    def take(self, arrivals: Sequence[Arrival]) -> None:
        if not self._recognising:
            self._take_new(arrivals)
            return
        for at, arrival in enumerate(arrivals):
            if isinstance(arrival, Item) and self._is_the_same(arrival):
                self._recognised[arrival.name] = arrival
            elif isinstance(arrival, Item | Content):
                self._take_all_as_new()
                self._take_new(arrivals[at:])
                return

    def show(self) -> list[Stored]:
        if self._recognising and self._shown is not None:
            if len(self._recognised) == len(self._shown.entries):
                return self._shown_before(self._shown)
            self._take_all_as_new()
        if self._offer.size is not None and len(self._top) <= _MAX_TOPS:
            self._note()
        try:
            return super().show()
        except LocalIOError:
            self._required.unnote()
            raise

    def discard(self, *, keep: bool = False) -> bool:
        self._close()
        return super().discard(keep=keep)

    def settled(self) -> None:
        with contextlib.suppress(OSError, LocalIOError):
            fd = os.open(self._inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                forget(fd, self.key)
            finally:
                os.close(fd)

    def _shown_before(self, shown: _Shown) -> list[Stored]:
        kinds = {name: item.kind for name, item in self._recognised.items()}
        stored = shown.stored(self._inbox, kinds, again=self._again)
        self._close()
        self._release(keep=False)
        return stored

    def _is_the_same(self, item: Item) -> bool:
        twice = item.name in self._recognised
        return self._shown is not None and not twice and self._shown.is_the_same(item)

    def _take_all_as_new(self) -> None:
        """Something is otherwise: then all of it is another thing, and stored as one."""
        self._recognising = False
        self._make_room({})
        for item in self._recognised.values():
            self._take_new([item, Finished()])

    def _take_new(self, arrivals: Sequence[Arrival]) -> None:
        """Put what the sender leaves out, because it is in the inbox, back into its place."""
        if self._shown is None:
            super().take(arrivals)
            return
        for arrival in arrivals:
            if isinstance(arrival, Item) and arrival.start:
                self._copy(self._shown, arrival)
            else:
                super().take([arrival])

    def _copy(self, shown: _Shown, item: Item) -> None:
        held = shown.held.get(item.name)
        if held is None or held.size != item.start:
            raise RemoteProtocolError(Refusal.MALFORMED, "more is left out than was held")
        super().take([attrs.evolve(item, start=0)])
        try:
            for data in shown.content(item.name):
                super().take([Content(data)])
        except OSError as error:
            raise local_error(self._inbox / item.name, error) from None

    def _note(self) -> None:
        try:
            tree = self._tree.directory(())
            tops = [[top.name, os.stat(top.name, dir_fd=tree).st_ino] for top in self._top]
            self._required.note(json.dumps({"by": self._process, "tops": tops}).encode())
        except OSError as error:
            raise local_error(self._inbox, error) from None

    def _close(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.close()


def _read_note(text: bytes) -> tuple[str, dict[int, str]]:
    """Who has shown what: the top-level names by the numbers of their inodes."""
    note = json.loads(text)
    try:
        return str(note["by"]), {int(inode): str(name) for name, inode in note["tops"]}
    except (TypeError, KeyError):
        raise ValueError("not a note") from None


def _find(inbox: int, tops: dict[int, str]) -> _Shown:
    """Find what was shown, whatever it is called now; raises `OSError` if not all is there."""
    device, actual = os.fstat(inbox).st_dev, {}
    for found in os.listdir(inbox):
        inode = os.stat(found, dir_fd=inbox, follow_symlinks=False).st_ino
        if inode in tops:
            actual[tops[inode]] = found
    if len(actual) != len(tops):
        raise FileNotFoundError
    entries: dict[str, _Entry] = {}
    length = 0
    for name, top in actual.items():
        for entry in _walk(inbox, device, top):
            path = "/".join((name, *entry.parts[1:]))
            entries[path] = entry
            length += min(len(path) * 2 + 150, MAX_MESSAGE)
            if len(entries) > _MAX_ENTRIES or length > _MAX_LISTED_BYTES:
                raise FileNotFoundError
    return _Shown(inbox, actual, entries)


def _walk(inbox: int, device: int, top: str) -> Iterator[_Entry]:
    """Yield what is there now, of what can have been sent; raises `OSError` for anything else."""
    yield _entry((top,), os.stat(top, dir_fd=inbox, follow_symlinks=False), device)
    for root, directories, files, fd in os.fwalk(top, dir_fd=inbox, follow_symlinks=False):
        for name in (*directories, *files):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            yield _entry((*root.split("/"), name), status, device)


def _entry(parts: tuple[str, ...], status: os.stat_result, device: int) -> _Entry:
    if status.st_dev == device and stat.S_ISDIR(status.st_mode):
        return _Entry(parts, None)
    if status.st_dev == device and stat.S_ISREG(status.st_mode):
        return _Entry(parts, status.st_size, bool(status.st_mode & 0o100))
    raise FileNotFoundError
