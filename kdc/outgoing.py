"""What is sent, as the stream of bytes that the receiver cuts into items.

Blocking; no Twisted.  Directories are walked while they are sent: however much
there is, little of it is in memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError, LocalIOError
from kdc.files.atomic import local_error, sha256_of
from kdc.items import MAX_NAMES, Held, Item, Kind, Offer, escaped, safe_name, safe_path
from kdc.protocol.records import EVEN_DATA

__all__ = [
    "CHUNK_BYTES",
    "STDIN",
    "Outgoing",
    "Survey",
    "Thing",
    "skipped_lines",
    "survey",
    "things_of",
]

# A multiple, so that no small records are left over; many, as each chunk is a change of threads.
CHUNK_BYTES = 16 * EVEN_DATA
STDIN = Path("/dev/stdin")
_MAX_SURVEYED = 200_000
_MAX_SKIPPED = 20
_LOOK_SECONDS = 0.2
_SKIPPED_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@attrs.frozen
class Thing:
    """Something to send under the top-level ``name``: a path, or a text.

    A path that is no ordinary file and no directory is read to its end once.
    """

    name: str
    path: Path | None = None
    text: bytes | None = attrs.field(default=None, repr=False)

    @property
    def once(self) -> bool:
        """Whether it is gone when it has been read."""
        if self.path is None:
            return False
        try:
            mode = self.path.stat().st_mode
        except OSError as error:
            raise local_error(self.path, error) from None
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

    @property
    def is_directory(self) -> bool:
        return self.path is not None and self.path.is_dir()


def things_of(paths: Sequence[Path], name: str | None = None) -> list[Thing]:
    """Give each path the name that the receiver sees; raises `LocalIOError`.

    Two of one name become ``name`` and ``name.1``.  With ``name`` there is one.
    """
    things: list[Thing] = []
    taken: set[str] = set()
    for path in paths:
        try:
            wanted = safe_name(name or path.name)
            path.stat()
        except ValueError as error:
            raise LocalIOError(f"{path}: {error}", hint="send it under another name") from None
        except OSError as error:
            raise local_error(path, error) from None
        free, number = wanted, 0
        while free in taken:
            number += 1
            free = f"{wanted}.{number}"
        taken.add(free)
        things.append(Thing(free, path))
    return things


@attrs.frozen
class _Entry:
    """One file or directory below a thing, or the thing itself."""

    name: str
    path: Path
    status: os.stat_result

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.status.st_mode)


def _walk(thing: Thing, skipped: list[str]) -> Iterator[_Entry]:
    """Yield the thing, and all that is in it; a directory before what it contains.

    What is not sent is noted in ``skipped``.  Raises `LocalIOError`.
    """
    if thing.path is None:
        return
    try:
        status = thing.path.stat()  # what a person names may be a link
    except OSError as error:
        raise local_error(thing.path, error) from None
    top = _Entry(thing.name, thing.path, status)
    waiting = [top]
    while waiting:
        entry = waiting.pop()
        yield entry
        if entry.kind == stat.S_IFDIR:
            waiting += reversed(_contents(entry, skipped))


def _contents(directory: _Entry, skipped: list[str]) -> list[_Entry]:
    found = []
    try:
        with os.scandir(directory.path) as listing:
            for each in listing:
                name = f"{directory.name}/{each.name}"
                status = each.stat(follow_symlinks=False)
                what = _SKIPPED_KINDS.get(stat.S_IFMT(status.st_mode))
                if what is not None:
                    skipped.append(f"{escaped(name)} ({what})")
                    continue
                safe_path(name)
                found.append(_Entry(name, Path(each.path), status))
    except OSError as error:
        raise local_error(directory.path, error) from None
    except ValueError as error:
        raise LocalIOError(
            f"{escaped(str(directory.path))}: {error}", hint="rename it, and send again"
        ) from None
    return sorted(found, key=lambda entry: entry.name)


@attrs.frozen
class Survey:
    """What there is to send: the offer, and what is left out because it is no file."""

    offer: Offer
    skipped: tuple[str, ...]
    sizes: Mapping[str, int]  # of the things that are files


def survey(things: Sequence[Thing]) -> Survey:
    """Count what ``things`` are; raises `LocalIOError` or `ConfigurationError`."""
    if any(thing.once for thing in things[:-1]):
        raise ConfigurationError(
            "only the last of several things may be one whose size is not known",
            hint="send pipes one by one",
        )
    skipped: list[str] = []
    sizes: dict[str, int] = {}
    items, size, known = 0, 0, True
    for thing in things:
        if thing.text is not None:
            items, size = items + 1, size + len(thing.text)
        elif thing.once:
            known = False
        for entry in _walk(thing, skipped) if known else ():
            items += 1
            if entry.kind == stat.S_IFREG:
                size += entry.status.st_size
                if entry.name == thing.name:
                    sizes[thing.name] = entry.status.st_size
            known = items <= _MAX_SURVEYED
            if not known:
                break
    names = tuple(thing.name for thing in things)
    try:
        offer = Offer(
            names[:MAX_NAMES],
            len(names[MAX_NAMES:]),
            items if known else None,
            size if known else None,
            any(thing.text is not None for thing in things),
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return Survey(offer, tuple(skipped), sizes)


class Outgoing:
    """The stream behind the offer; `read` and `close` in a worker thread, one at a time.

    ``held``: what the receiver says that it has already.  ``done`` counts the
    bytes of content that were read or need not be sent, ``spared`` the latter.
    """

    def __init__(self, things: Sequence[Thing], surveyed: Survey, held: Mapping[str, Held]) -> None:
        self.done = 0
        self.spared = 0
        self._things = things
        self._offer = surveyed.offer
        self._sizes = surveyed.sizes
        self._held = held
        self._promised = 0
        self._items = 0
        # Used again and again: memory that is given back and taken anew costs more than reading.
        self._chunks = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(2)]
        self._room = self._chunks[0]
        self._hurry = False
        self._stopped = False
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

    def stop(self) -> None:
        """Let a `read` that waits for input return; from any thread."""
        self._stopped = True

    def close(self) -> None:
        self._stream.close()

    # Each of these puts something into the chunk, at most what there is room for, and yields.

    def _pieces(self) -> Generator[None, None, None]:
        for thing in self._things:
            if thing.text is not None:
                yield from self._text(thing.name, thing.text)
            for entry in _walk(thing, []):
                if entry.kind == stat.S_IFDIR:
                    self._promise(0, entry.name)
                    yield from self._put(Item(Kind.DIRECTORY, entry.name, 0).encode())
                else:
                    yield from self._file(entry, follow=entry.name == thing.name)

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
        yield from self._put(text[start:])

    def _file(self, entry: _Entry, *, follow: bool) -> Iterator[None]:
        try:
            with _opened(entry.path, follow=follow) as file:
                status = os.fstat(file.fileno())
                if stat.S_ISREG(status.st_mode):
                    yield from self._regular(file, entry.name, status)
                elif follow:
                    self._promise(0, entry.name)
                    yield from self._put(Item(Kind.FILE, entry.name, None).encode())
                    yield from self._to_its_end(file)
                else:
                    raise OSError(errno.EINVAL, "it is no file any more")
        except OSError as error:
            raise local_error(entry.path, error) from None

    def _regular(self, file: FileIO, name: str, status: os.stat_result) -> Iterator[None]:
        # A log that grows is sent as long as it was.
        size = min(status.st_size, self._sizes.get(name, status.st_size))
        self._promise(size, name)
        start = self._start(file, name, size)
        item = Item(Kind.FILE, name, size, bool(status.st_mode & 0o100), start)
        yield from self._put(item.encode())
        self.done += start
        self.spared += start
        left = size - start
        while left:
            count = self._read_from(file, left)
            if not count:
                raise LocalIOError(f"{name} became shorter while it was sent", hint="send it again")
            left -= count
            yield

    def _to_its_end(self, file: FileIO) -> Iterator[None]:
        while not self._stopped:
            if not select.select([file], [], [], _LOOK_SECONDS)[0]:
                continue
            if not self._read_from(file, CHUNK_BYTES):
                return
            self._hurry = True  # somebody may be typing it
            yield

    def _read_from(self, file: FileIO, most: int) -> int:
        count = file.readinto(self._room[:most]) or 0
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

    def _start(self, file: FileIO, name: str, size: int) -> int:
        """How much of it the receiver has, which it must have proved."""
        held = self._held.get(name)
        if held is not None and held.size <= size:
            if sha256_of(file.fileno(), held.size) == held.sha256:
                return held.size
            file.seek(0)
        return 0

    def _promise(self, size: int, name: str) -> None:
        """Send no more than was offered: it would be refused, and rightly."""
        self._items += 1
        self._promised += size
        items, most = self._offer.items, self._offer.size
        if (items is not None and self._items > items) or (
            most is not None and self._promised > most
        ):
            raise LocalIOError(f"{name} came to it while it was sent", hint="send it again")


def _opened(path: Path, *, follow: bool) -> FileIO:
    if path == STDIN:  # we may have it without being allowed to open it again
        return FileIO(os.dup(0))
    # What was a file may have become a link.  To open a pipe would be to wait until somebody
    # writes to it, which nothing could end: whoever reads it looks first whether there is more.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    file = FileIO(os.open(path, flags))
    os.set_blocking(file.fileno(), True)
    return file


def skipped_lines(skipped: Sequence[str]) -> list[str]:
    """What to tell of what was left out."""
    lines = [f"left out: {each}" for each in skipped[:_MAX_SKIPPED]]
    if len(skipped) > _MAX_SKIPPED:
        lines.append(f"left out: {len(skipped) - _MAX_SKIPPED} more")
    return lines
