"""What is to be sent: files and directories, looked through before anything is offered."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError, ErrorKind, LocalIOError, local_error
from kdc.files.numbering import numbered
from kdc.files.opening import open_regular
from kdc.hostile_text import shown
from kdc.transfer.messages import MAX_NAMES, Offer
from kdc.transfer.names import UnsafeName, safe_name, safe_path

__all__ = [
    "STDIN",
    "Choice",
    "Entry",
    "Notes",
    "Problem",
    "Survey",
    "Thing",
    "Unsendable",
    "has_more",
    "lines_of",
    "survey",
    "things_of",
    "walk",
]

STDIN = Path("/dev/stdin")
DIRECTORY_SIZE = -1  # in place of a size, of what is no file


@attrs.frozen
class Thing:
    """Something to send under the top-level ``name``: a path, or a text.

    A path that is no ordinary file and no directory is read to its end once; so is
    a file that has content and no length, as in /proc.
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
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _says_it_is_empty(self.path)

    @property
    def is_directory(self) -> bool:
        return self.path is not None and self.path.is_dir()


@attrs.frozen
class Problem:
    """Something that is not sent although it was meant to be; ``why`` is for people."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{shown(self.name, 4096)}: {self.why}"


def _nothing(path: str, directory: bool) -> bool:
    return False


@attrs.frozen
class Choice:
    """What of a directory is sent, and how.

    ``preserve``: files and directories keep their times and modes.  ``follow``: a link is
    what it points to, if that is in the same thing.  ``excluded`` is asked about each path
    below a thing's top, and whether it is a directory: with all that is in it, then.
    """

    preserve: bool = True
    follow: bool = False
    excluded: Callable[[str, bool], bool] = _nothing


@attrs.define
class Notes:
    """What is found on a walk and not sent: ``skipped`` because it is no file."""

    skipped: list[str] = attrs.field(factory=list)
    problems: list[Problem] = attrs.field(factory=list)

    def add(self, name: str, error: OSError | UnsafeName) -> None:
        why = error.why if isinstance(error, UnsafeName) else os.strerror(error.errno or 0)
        self.problems.append(Problem(name, why))


class Unsendable(LocalIOError):
    """What cannot be sent, each with its reason."""

    def __init__(
        self, problems: Sequence[Problem], *, hint: str = "", kind: ErrorKind | None = None
    ) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}", hint=hint, kind=kind)
        self.problems = tuple(problems)


def things_of(paths: Sequence[Path], name: str | None = None) -> list[Thing]:
    """Give each path the name that the receiver sees; whether it can have it a survey tells.

    Two of one name become ``name.x`` and ``name (1).x``.  With ``name`` there is one.
    """
    things: list[Thing] = []
    taken: set[str] = set()
    for path in paths:
        wanted = free = name or path.name
        directory, number = path.is_dir(), 0
        while free in taken:
            number += 1
            free = numbered(wanted, number, directory=directory)
        taken.add(free)
        things.append(Thing(free, path))
    return things


@attrs.frozen
class Entry:
    """One file or directory below a thing, or the thing itself."""

    name: str
    path: Path
    status: os.stat_result
    above: frozenset[str] = frozenset()  # the directories around it, if links are followed

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.status.st_mode)

    @property
    def size(self) -> int:
        """What a survey notes of it."""
        return DIRECTORY_SIZE if self.kind == stat.S_IFDIR else self.status.st_size


def walk(
    thing: Thing, notes: Notes, choice: Choice = Choice(), known: Mapping[str, int] | None = None
) -> Iterator[Entry]:
    """Yield the thing, and all that is in it; a directory before what it contains.

    What is not sent is noted.  ``known``, from a survey: what is not in there has come
    since, and is not sent either.  If the thing itself is gone, nothing is yielded.
    """
    if thing.path is None:
        return
    try:
        status = thing.path.stat()  # what a person names may be a link
    except OSError as error:
        if known is None or error.errno != errno.ENOENT:  # it is missed where it was
            notes.add(thing.name, error)
        return
    walking = _Walk(Path(os.path.realpath(thing.path)), notes, choice, known)
    top = Entry(thing.name, thing.path, status)
    waiting: list[Entry | _Listed] = [top] if _is_known(top, notes, known) else []
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, _Listed):
            walking.look_again(entry)
            continue
        yield entry
        if entry.kind == stat.S_IFDIR:
            listed = _Listed(entry, _modified(entry.path))
            waiting += [] if known is None else [listed]
            waiting += reversed(walking.contents(entry))


@attrs.frozen
class _Listed:
    """A directory whose contents are known, as they were at that time."""

    directory: Entry
    modified: int | None


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@attrs.frozen
class _Walk:
    """Looks into the directories of one thing, which is at ``root``."""

    root: Path
    notes: Notes
    choice: Choice
    known: Mapping[str, int] | None

    def contents(self, directory: Entry) -> list[Entry]:
        found = []
        try:
            with os.scandir(directory.path) as listing:
                for each in sorted(listing, key=lambda each: each.name):
                    entry = self._looked_at(directory, each)
                    if entry is not None and _is_known(entry, self.notes, self.known):
                        found.append(entry)
        except OSError as error:
            if self.known is None or error.errno != errno.ENOENT:
                self.notes.add(directory.name, error)
        return found

    def look_again(self, listed: _Listed) -> None:
        """Note what has come into a directory while what was in it was sent."""
        if _modified(listed.directory.path) != listed.modified:
            self.contents(listed.directory)

    def _looked_at(self, directory: Entry, found: os.DirEntry[str]) -> Entry | None:
        """What it is; None if it is nothing that can be sent, or shall be."""
        name = f"{directory.name}/{found.name}"
        try:
            entry = Entry(name, Path(found.path), found.stat(follow_symlinks=False))
            if self._is_excluded(entry, directory):
                return None
            what = _SKIPPED_KINDS.get(entry.kind)
            if entry.kind == stat.S_IFLNK and self.choice.follow:
                entry, what = self._followed(entry, directory)
            if what is not None:
                self.notes.skipped.append(f"{shown(entry.name)} ({what})")
                return None
            safe_path(entry.name)
            _require_readable(str(entry.path), entry.status)
        except FileNotFoundError:  # between one call and the next
            return None
        except (OSError, UnsafeName) as error:
            self.notes.add(name, error)
            return None
        return self._within(entry, directory)

    def _followed(self, link: Entry, directory: Entry) -> tuple[Entry, str | None]:
        """What a link points to, and why that is not sent."""
        target = Path(os.path.realpath(link.path))
        if not target.is_relative_to(self.root):
            return link, "a symbolic link that leads out"
        if not target.exists():
            return link, "a symbolic link to nothing"
        around = directory.above | {os.path.realpath(directory.path)}
        if str(target) in around:
            return link, "a symbolic link to a directory that it is in"
        if self._is_inside_excluded(target):
            return link, "a symbolic link to what is left out"
        entry = Entry(link.name, target, os.stat(target, follow_symlinks=False))
        return entry, _SKIPPED_KINDS.get(entry.kind)

    def _is_excluded(self, entry: Entry, directory: Entry) -> bool:
        """By its name; if links are followed, by where it is as well."""
        if self.choice.excluded(entry.name.partition("/")[2], entry.kind == stat.S_IFDIR):
            return True
        place = Path(os.path.realpath(directory.path), entry.path.name)
        return self.choice.follow and self._is_inside_excluded(place)

    def _is_inside_excluded(self, target: Path) -> bool:
        """Whether it is left out where it is, itself or a directory that it is in."""
        inside = [path for path in (target, *target.parents) if self.root in path.parents]
        return any(
            self.choice.excluded(
                str(path.relative_to(self.root)), path.is_dir() and not path.is_symlink()
            )
            for path in inside
        )

    def _within(self, entry: Entry, directory: Entry) -> Entry:
        if not self.choice.follow or entry.kind != stat.S_IFDIR:
            return entry
        return attrs.evolve(entry, above=directory.above | {os.path.realpath(directory.path)})


def _is_known(entry: Entry, notes: Notes, known: Mapping[str, int] | None) -> bool:
    if known is None:
        return True
    size = known.get(entry.name)
    if size is None:
        notes.problems.append(Problem(entry.name, "it came while the rest was sent"))
        return False
    # What is another kind of thing by now is missed where it was.
    return (size == DIRECTORY_SIZE) is (entry.size == DIRECTORY_SIZE)


@attrs.frozen
class Survey:
    """What there is to send: the offer, and what is left out.

    ``once``: one of them is gone when it has been read.
    ``sizes``: of everything in the order of the walks, or of nothing if there is too
    much; of it so many in ``counts`` belong to each of ``things``.
    """

    things: tuple[Thing, ...]
    offer: Offer
    skipped: tuple[str, ...]
    problems: tuple[Problem, ...]
    sizes: Mapping[str, int]
    counts: tuple[int, ...]
    once: bool
    choice: Choice


def survey(things: Sequence[Thing], choice: Choice = Choice(), *, most: int = 200_000) -> Survey:
    """Count what ``things`` are; raises `Unsendable` if that is nothing.

    More than ``most`` files and directories are not counted: their size is not known.
    Raises `ConfigurationError` for what does not go together.
    """
    notes = Notes()
    things = tuple(thing for thing in things if _can_be_sent(thing, notes))
    if not things:
        raise Unsendable(
            notes.problems,
            hint="nothing was sent: check the path, or send it under another name",
            kind=ErrorKind.NOTHING_SENDABLE,
        )
    if any(thing.once for thing in things[:-1]):
        raise ConfigurationError(
            "only the last of several things may be one whose size is not known",
            hint="send pipes one by one",
        )
    sizes: dict[str, int] = {}
    counts: list[int] = []
    text = sum(len(thing.text) for thing in things if thing.text is not None)
    for thing in things:
        before = len(sizes)
        for entry in () if thing.once else walk(thing, notes, choice):
            sizes[entry.name] = entry.size
            if len(sizes) > most:
                break
        counts.append(len(sizes) - before)
    known = len(sizes) <= most and not things[-1].once
    names = tuple(thing.name for thing in things)
    try:
        offer = Offer(
            names[:MAX_NAMES],
            len(names[MAX_NAMES:]),
            len(sizes) + sum(thing.text is not None for thing in things) if known else None,
            sum(max(size, 0) for size in sizes.values()) + text if known else None,
            any(thing.text is not None for thing in things),
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return Survey(
        things,
        offer,
        tuple(notes.skipped),
        tuple(notes.problems),
        sizes if known else {},
        tuple(counts) if known else (),
        things[-1].once,
        choice,
    )


def _can_be_sent(thing: Thing, notes: Notes) -> bool:
    """Whether a receiver takes its name, and it is there to be read."""
    try:
        if not thing.name:
            raise UnsafeName("file name", "", "it has no name of its own")
        safe_name(thing.name)
        if thing.path is not None:
            _require_readable(str(thing.path), thing.path.stat())
    except (OSError, UnsafeName) as error:
        notes.add(thing.name if thing.path is None else str(thing.path), error)
        return False
    return True


def _require_readable(path: str, status: os.stat_result) -> None:
    """Raises `PermissionError` now, not in the middle; a directory tells when it is listed."""
    if stat.S_ISREG(status.st_mode) and not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _says_it_is_empty(path: Path) -> bool:
    """Whether there is something in a file that is said to have no bytes."""
    try:
        fd = open_regular(path, follow=True)
    except OSError:
        return False  # that is told when it is read
    try:
        return has_more(fd, os.fstat(fd))
    finally:
        os.close(fd)


def has_more(fd: int, status: os.stat_result) -> bool:
    """Whether a file that says that it is empty is not: one that is made when it is read."""
    if status.st_size or not stat.S_ISREG(status.st_mode):
        return False
    try:
        return bool(select.select([fd], [], [], 0)[0] and os.pread(fd, 1, 0))
    except (OSError, ValueError):
        return False


def lines_of(what: str, each: Sequence[object]) -> list[str]:
    """What to tell of many things: of the first a line each."""
    lines = [f"{what}: {one}" for one in each[:_MAX_LINES]]
    if len(each) > _MAX_LINES:
        lines.append(f"{what}: {len(each) - _MAX_LINES} more")
    return lines


_MAX_LINES = 20

_SKIPPED_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
