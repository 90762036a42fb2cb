"""What is sent, as the stream of bytes that the receiver cuts into items.

Blocking; no Twisted.  Directories are walked while they are sent: however much
there is, little of it is in memory.  What has changed since they were looked
through is told, and what changes while it is read does not count as sent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import stat
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from kdc.errors import LocalIOError
from kdc.files.atomic import hashed, sha256_of
from kdc.files.cached import read_cached
from kdc.hostile_text import shown
from kdc.protocol.records import EVEN_DATA
from kdc.terminal import counted
from kdc.transfer._framing import MAX_REPEATS
from kdc.transfer._rereading import LONG_BYTES, KeptDigest, Rereading
from kdc.transfer.messages import Held, Item, Kind, Omitted, Remark, Why
from kdc.transfer.survey import STDIN, Survey, Unsendable, has_more
from kdc.transfer.walk import Entry, Notes, Problem, walk

__all__ = ["CHUNK_BYTES", "Outgoing"]

# A multiple, so that no small records are left over; several, as each chunk is a change of
# threads; no more, as what is sealed and sent at a time has to fit the cache.
CHUNK_BYTES = 8 * EVEN_DATA
_LOOK_SECONDS = 0.2
_HEAD_BYTES = 512  # of most items; where one is longer there is one chunk more
_WORDS = {
    Why.CHANGED: "it changed while it was read",
    Why.GONE: "it is gone",
    Why.UNREADABLE: "it cannot be read",
}


def _room_for(surveyed: Survey, most: int) -> int:
    """How much there is to send, in whole records; ``most`` if nobody knows."""
    size = surveyed.offer.size
    if size is None:
        return most
    heads = _HEAD_BYTES * (len(surveyed.things) + len(surveyed.sizes))
    return EVEN_DATA * (1 + (size + heads) // EVEN_DATA)


class Outgoing:
    """The stream behind the offer; `read` and `close` in a worker thread, one at a time.

    ``held``: what the receiver says that it has already.  ``remarks``: what it says of
    itself.  If it does not understand that something does not come, or has to be forgotten
    again, then what changes while it is read ends everything.  ``done`` counts the
    bytes of content that were read or need not be sent, ``spared`` the latter.  ``name``
    is that of what is read now.
    ``left_out``: what is not sent as it was when it was looked through, by its name.
    ``long_bytes``: what is held of such a file is compared while the rest of it is sent.
    """

    def __init__(
        self,
        surveyed: Survey,
        held: Mapping[str, Held],
        *,
        remarks: Collection[Remark] = (),
        chunk_bytes: int = CHUNK_BYTES,
        long_bytes: int = LONG_BYTES,
        rereading: Callable[[], Rereading] = Rereading,
    ) -> None:
        self.done = 0
        self.spared = 0
        self.name = ""
        self.left_out: dict[str, Problem] = {}
        self._surveyed = surveyed
        self._offer = surveyed.offer
        self._held = held
        self._omissions = Remark.OMISSIONS in remarks
        self._details = Remark.DETAILS in remarks
        self._known = {problem.name for problem in surveyed.problems}
        self._whole = 0  # things at the top that have been sent
        self._promised = 0
        self._items = 0
        # Used again and again: memory that is given back and taken anew costs more than reading.
        room = min(chunk_bytes, _room_for(surveyed, chunk_bytes))
        self._chunks = [memoryview(bytearray(room)) for _ in range(2)]
        self._room = self._chunks[0]
        self._hurry = False
        self._may_wait = True
        self._left = 0  # of the file that is read now
        self._stopped = False
        self._long_bytes = long_bytes
        self._rereading = rereading()
        self._stream = self._pieces()

    def read(self) -> memoryview:
        """Return the next chunk, empty at the end; raises `LocalIOError`.

        It is good until the call after the next one: while one chunk is sent,
        another can be read.
        """
        self._chunks.reverse()
        chunk = self._chunks[0]
        self._room, self._hurry = chunk, False
        for _ in self._stream:
            if not self._room or self._hurry:
                break
        return chunk[: len(chunk) - len(self._room)]

    def read_at_once(self) -> memoryview | None:
        """As `read`, from any thread: it never waits.  None if `read` has to be called.

        That is in the middle of a file that is in memory, and nowhere else.
        """
        if self._left <= len(self._chunks[1]):  # what comes behind it may take time
            return None
        self._may_wait = False
        try:
            chunk = self.read()
        finally:
            self._may_wait = True
        if chunk:
            return chunk
        self._chunks.reverse()
        return None

    def stop(self) -> None:
        """Let a `read` that waits for input return; from any thread."""
        self._stopped = True
        self._rereading.stop()

    def close(self) -> None:
        self._stream.close()
        self._rereading.close()

    # Each of these puts something into the chunk, at most what there is room for, and yields.

    def _pieces(self) -> Generator[None, None, None]:
        names = iter(self._surveyed.sizes)
        counts = self._surveyed.counts or [0] * len(self._surveyed.things)
        for thing, count in zip(self._surveyed.things, counts, strict=True):
            if thing.text is not None:
                yield from self._text(thing.name, thing.text)
            elif thing.path is not None:
                yield from self._thing(thing.name, thing.path, set(islice(names, count)))
        if not self._whole:
            raise Unsendable(list(self.left_out.values()), hint="nothing was sent; try again")

    def _thing(self, top: str, path: Path, missing: set[str]) -> Iterator[None]:
        """Send it with all that was there when it was looked through, and tell what is not."""
        notes = Notes()
        for entry in walk(top, path, notes, self._surveyed.choice, self._surveyed.sizes or None):
            missing.discard(entry.name)
            if entry.kind == stat.S_IFDIR:
                self._promise(0, entry.name)
                self._whole += entry.name == top
                details = self._details_of(entry.status)
                yield from self._put(Item(Kind.DIRECTORY, entry.name, 0, **details).encode())
            else:
                yield from self._file(entry, top=entry.name == top)
        for problem in notes.problems:
            if problem.name not in self._known:
                self.left_out.setdefault(problem.name, problem)
        for name in sorted(missing):
            if name.rpartition("/")[0] not in missing:
                why = Why.UNREADABLE if name in self.left_out else Why.GONE
                yield from self._omit(name, why, top=name == top)

    def _text(self, name: str, text: bytes) -> Iterator[None]:
        self._promise(len(text), name)
        held = self._held.get(name)
        known = held is not None and (held.size, held.sha256) == (
            len(text),
            hashlib.sha256(text).hexdigest(),
        )
        start = len(text) if known else 0
        yield from self._put(Item(Kind.TEXT, name, len(text), start=start).encode())
        self.done += len(text)
        self._whole += 1
        yield from self._put(text[start:])

    def _file(self, entry: Entry, *, top: bool) -> Iterator[None]:
        self.name = entry.name
        for repeats in reversed(range(MAX_REPEATS + 1)):
            try:
                fd = _opened(entry.path, follow=top)
            except OSError as error:
                yield from self._omit(entry.name, _why(error), top=top)
                return
            try:
                status = os.fstat(fd)
                ends_alone = not stat.S_ISREG(status.st_mode) or has_more(fd, status)
                if top and ends_alone and not self._surveyed.sizes:
                    yield from self._pipe(fd, entry.name)
                    return
                if not stat.S_ISREG(status.st_mode):
                    yield from self._omit(entry.name, Why.CHANGED, top=top)
                    return
                size, why = yield from self._regular(fd, entry.name, status, repeats)
            finally:
                os.close(fd)
            if why is None:
                self._whole += top
                return
            again = bool(repeats) and why is Why.CHANGED
            yield from self._withdraw(entry.name, size, why, again=again)
            if not again:
                return

    def _pipe(self, fd: int, name: str) -> Iterator[None]:
        self._promise(0, name)
        self._whole += 1
        yield from self._put(Item(Kind.FILE, name, None).encode())
        yield from self._to_its_end(fd)

    def _regular(
        self, fd: int, name: str, status: os.stat_result, repeats: int
    ) -> Generator[None, None, tuple[int, Why | None]]:
        """Send it as long as it was; return how long, and why that is not what is there."""
        size = min(status.st_size, self._surveyed.sizes.get(name, status.st_size))
        # Of what may well be written to at this moment, only its digest tells whether what was
        # read of it is still so; of everything else it would cost more than reading again.
        watched = size < status.st_size or repeats < MAX_REPEATS or not self._omissions
        self._promise(size, name)
        # What comes again the receiver has thrown away before.
        held = self._held.get(name) if repeats == MAX_REPEATS else None
        comparing = None if watched else self._comparing(fd, held, size)
        if held is not None and comparing is not None:
            start, begun = held.size, None
        else:
            start, begun = _compared(fd, held, size)
        digest = (begun or hashlib.sha256()) if watched else None
        executable = bool(status.st_mode & 0o100)
        details = self._details_of(status)
        item = Item(Kind.FILE, name, size, executable, start, **details)
        yield from self._put(item.encode())
        self.done += start
        self.spared += start
        why = yield from self._content(fd, size - start, digest)
        if why is None and comparing is not None and not comparing.is_what_came():
            why = Why.CHANGED
        if why is None and not _is_as_it_was(fd, status, size, digest):
            why = Why.CHANGED
        self.spared -= 0 if why is None else start
        if why is None and size < status.st_size:
            told = f"it has become longer; its first {counted(size, 'byte')} were sent"
            self.left_out[name] = Problem(name, told)
        elif why is None and has_more(fd, status):
            told = "it is made when it is read; as it says that it is empty, so it was sent"
            self.left_out[name] = Problem(name, told)
        return size, why

    def _details_of(self, status: os.stat_result) -> dict[str, Any]:
        """What an item of it may have besides."""
        details: dict[str, Any] = {}
        if self._details and self._surveyed.choice.preserve:
            details = {"mode": status.st_mode & 0o777, "modified": status.st_mtime_ns}
        # What takes fewer blocks than it has bytes has holes.
        if self._details and stat.S_ISREG(status.st_mode):
            details["sparse"] = status.st_blocks * 512 < status.st_size
        return details

    def _content(
        self, fd: int, left: int, digest: hashlib._Hash | None
    ) -> Generator[None, None, Why | None]:
        """So many bytes come, even if they are not there: they were announced."""
        why = None
        while left:
            room = self._room
            count = 0
            if why is None:
                try:
                    count = self._read_from(fd, left)
                except BlockingIOError:
                    self._hurry = True
                    yield
                    continue
                except OSError:
                    why = Why.UNREADABLE
                else:
                    why = None if count else Why.CHANGED
            if why is not None:
                self._left = 0
                if not self._omissions:  # it would be for nothing
                    return why
                count = min(left, len(room))
                room[:count] = bytes(count)
                self._room = room[count:]
                self.done += count
            elif digest is not None:
                digest.update(room[:count])
            left -= count
            if why is None:
                self._left = left
            yield
        return why

    def _omit(self, name: str, why: Why, *, top: bool) -> Iterator[None]:
        """It was offered, and does not come."""
        problem = self.left_out.setdefault(name, Problem(name, _WORDS[why]))
        if self._omissions:
            self._promise(0, name)
            yield from self._put(Omitted(name, why).encode())
        elif top:
            raise Unsendable([problem], hint="send it again")

    def _withdraw(self, name: str, size: int, why: Why, *, again: bool) -> Iterator[None]:
        """What was sent of it is nothing; it comes again, or does not come."""
        if not self._omissions:
            raise Unsendable([Problem(name, _WORDS[why])], hint="send it again")
        self.done -= size
        self._promised -= size
        self._items -= again
        if not again:
            self.left_out[name] = Problem(name, _WORDS[why])
        yield from self._put(Omitted(name, why, again).encode())

    def _to_its_end(self, fd: int) -> Iterator[None]:
        while not self._stopped:
            if not select.select([fd], [], [], _LOOK_SECONDS)[0]:
                continue
            if not self._read_from(fd, len(self._room)):
                return
            self._hurry = True  # somebody may be typing it
            yield

    def _read_from(self, fd: int, most: int) -> int:
        room = self._room[:most]
        count = os.readv(fd, [room]) if self._may_wait else read_cached(fd, room)
        self._room = self._room[count:]
        self.done += count
        return count

    def _put(self, data: bytes) -> Iterator[None]:
        while data:
            count = min(len(data), len(self._room))
            self._room[:count] = data[:count]
            self._room = self._room[count:]
            data = data[count:]
            yield

    def _comparing(self, fd: int, held: Held | None, size: int) -> KeptDigest | None:
        """Go on behind what is held of a long file, and find out meanwhile whether that is right.

        If it is not, that is as if it had changed: only whoever understands that gets it so.
        """
        if held is None or not self._long_bytes <= held.size < size:
            return None
        os.lseek(fd, held.size, os.SEEK_SET)
        return self._rereading.begin(os.dup(fd), held.size, held.sha256)

    def _promise(self, size: int, name: str) -> None:
        """Send no more than was offered: it would be refused, and rightly."""
        self._items += 1
        self._promised += size
        items, most = self._offer.items, self._offer.size
        if (items is not None and self._items > items) or (
            most is not None and self._promised > most
        ):
            raise LocalIOError(f"{shown(name)} came to it while it was sent", hint="send it again")


def _compared(fd: int, held: Held | None, size: int) -> tuple[int, hashlib._Hash | None]:
    """How much of it the receiver has, which it must have proved, and the digest of that."""
    if held is not None and held.size <= size:
        digest = hashed(fd, held.size)
        if digest is not None and digest.hexdigest() == held.sha256:
            return held.size, digest
        os.lseek(fd, 0, os.SEEK_SET)
    return 0, None


def _why(error: OSError) -> Why:
    if error.errno == errno.ELOOP:  # it is a link by now
        return Why.CHANGED
    return Why.GONE if error.errno == errno.ENOENT else Why.UNREADABLE


def _is_as_it_was(fd: int, before: os.stat_result, size: int, digest: hashlib._Hash | None) -> bool:
    """Whether the first ``size`` bytes of it are what was read; with a digest it is looked up."""
    after = os.fstat(fd)
    if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ctime_ns,
    ):
        return True
    if digest is None:
        return False
    os.lseek(fd, 0, os.SEEK_SET)
    return sha256_of(fd, size) == digest.hexdigest()


def _opened(path: str, *, follow: bool) -> int:
    if path == str(STDIN):  # we may have it without being allowed to open it again
        return os.dup(0)
    # What was a file may have become a link.  To open a pipe would be to wait until somebody
    # writes to it, which nothing could end: whoever reads it looks first whether there is more.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, flags)
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        os.set_blocking(fd, True)
    return fd
