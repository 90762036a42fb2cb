"""What is to be sent: files and directories, looked through before anything is offered."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError, LocalIOError, local_error
from kdc.files.numbering import numbered
from kdc.hostile_text import shown
from kdc.transfer.messages import MAX_NAMES, Offer
from kdc.transfer.names import safe_name, safe_path

__all__ = ["STDIN", "Entry", "Survey", "Thing", "skipped_lines", "survey", "things_of", "walk"]

STDIN = Path("/dev/stdin")


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

    Two of one name become ``name.x`` and ``name (1).x``.  With ``name`` there is one.
    """
    things: list[Thing] = []
    taken: set[str] = set()
    for path in paths:
        try:
            wanted = safe_name(name or path.name)
            directory = stat.S_ISDIR(path.stat().st_mode)
        except ValueError as error:
            raise LocalIOError(
                f"{shown(str(path), 4096)}: {error}", hint="send it under another name"
            ) from None
        except OSError as error:
            raise local_error(path, error) from None
        free, number = wanted, 0
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

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.status.st_mode)


def walk(thing: Thing, skipped: list[str]) -> Iterator[Entry]:
    """Yield the thing, and all that is in it; a directory before what it contains.

    What is not sent is noted in ``skipped``.  Raises `LocalIOError`.
    """
    if thing.path is None:
        return
    try:
        status = thing.path.stat()  # what a person names may be a link
    except OSError as error:
        raise local_error(thing.path, error) from None
    top = Entry(thing.name, thing.path, status)
    waiting = [top]
    while waiting:
        entry = waiting.pop()
        yield entry
        if entry.kind == stat.S_IFDIR:
            waiting += reversed(_contents(entry, skipped))


def _contents(directory: Entry, skipped: list[str]) -> list[Entry]:
    found = []
    try:
        with os.scandir(directory.path) as listing:
            for each in listing:
                name = f"{directory.name}/{each.name}"
                status = each.stat(follow_symlinks=False)
                what = _SKIPPED_KINDS.get(stat.S_IFMT(status.st_mode))
                if what is not None:
                    skipped.append(f"{shown(name)} ({what})")
                    continue
                safe_path(name)
                found.append(Entry(name, Path(each.path), status))
    except OSError as error:
        raise local_error(directory.path, error) from None
    except ValueError as error:
        raise LocalIOError(
            f"{shown(str(directory.path), 4096)}: {error}", hint="rename it, and send again"
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
        for entry in walk(thing, skipped) if known else ():
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


def skipped_lines(skipped: Sequence[str]) -> list[str]:
    """What to tell of what was left out."""
    lines = [f"left out: {each}" for each in skipped[:_MAX_SKIPPED]]
    if len(skipped) > _MAX_SKIPPED:
        lines.append(f"left out: {len(skipped) - _MAX_SKIPPED} more")
    return lines


_MAX_SURVEYED = 200_000

_MAX_SKIPPED = 20

_SKIPPED_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
