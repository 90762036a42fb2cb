"""What there is to send below a path: the walk, before anything is offered and while it is sent.

Blocking; no Twisted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from kdc.hostile_text import shown
from kdc.transfer.names import UnsafeName, safe_path

__all__ = [
    "DIRECTORY_SIZE",
    "EVERYTHING",
    "Choice",
    "Entry",
    "Notes",
    "Problem",
    "require_readable",
    "walk",
]

DIRECTORY_SIZE = -1  # in place of a size, of what is no file
_SKIPPED_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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


EVERYTHING = Choice()


@attrs.define
class Notes:
    """What is found on a walk and not sent: ``skipped`` because it is no file."""

    skipped: list[str] = attrs.field(factory=list)
    problems: list[Problem] = attrs.field(factory=list)

    def add(self, name: str, error: OSError | UnsafeName) -> None:
        why = error.why if isinstance(error, UnsafeName) else os.strerror(error.errno or 0)
        self.problems.append(Problem(name, why))


@attrs.frozen
class Entry:
    """One file or directory below a thing, or the thing itself."""

    name: str
    path: str
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
    name: str,
    path: Path,
    notes: Notes,
    choice: Choice = EVERYTHING,
    known: Mapping[str, int] | None = None,
) -> Iterator[Entry]:
    """Yield what is at ``path``, and all that is in it; a directory before what it contains.

    What is not sent is noted.  ``known``, from a survey: what is not in there has come
    since, and is not sent either.  If ``path`` itself is gone, nothing is yielded.
    """
    try:
        status = path.stat()  # what a person names may be a link
    except OSError as error:
        if known is None or error.errno != errno.ENOENT:  # it is missed where it was
            notes.add(name, error)
        return
    walking = _Walk(Path(os.path.realpath(path)), notes, choice, known)
    top = Entry(name, str(path), status)
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


def _modified(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
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
            entry = Entry(name, found.path, found.stat(follow_symlinks=False))
            if self._is_excluded(entry, directory):
                return None
            what = _SKIPPED_KINDS.get(entry.kind)
            if entry.kind == stat.S_IFLNK and self.choice.follow:
                entry, what = self._followed(entry, directory)
            if what is not None:
                self.notes.skipped.append(f"{shown(entry.name)} ({what})")
                return None
            if (
                self.known is None
            ):  # later its name is known, or not sent; to open it tells the rest
                safe_path(entry.name)
                require_readable(entry.path, entry.status)
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
        entry = Entry(link.name, str(target), os.stat(target, follow_symlinks=False))
        return entry, _SKIPPED_KINDS.get(entry.kind)

    def _is_excluded(self, entry: Entry, directory: Entry) -> bool:
        """By its name; if links are followed, by where it is as well."""
        if self.choice.excluded(entry.name.partition("/")[2], entry.kind == stat.S_IFDIR):
            return True
        if not self.choice.follow:  # then nothing is anywhere else: no calls for each of many
            return False
        place = Path(os.path.realpath(directory.path), os.path.basename(entry.path))
        return self._is_inside_excluded(place)

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


def require_readable(path: str, status: os.stat_result) -> None:
    """Raises `PermissionError` now, not in the middle; a directory tells when it is listed."""
    if stat.S_ISREG(status.st_mode) and not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
