"""What is to be sent: files and directories, looked through before anything is offered."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError, ErrorKind, LocalIOError, local_error
from kdc.files.numbering import numbered
from kdc.files.opening import open_regular
from kdc.transfer.messages import MAX_NAMES, Offer
from kdc.transfer.names import UnsafeName, safe_name
from kdc.transfer.walk import EVERYTHING, Choice, Notes, Problem, require_readable, walk

__all__ = [
    "STDIN",
    "Survey",
    "Thing",
    "Unsendable",
    "has_more",
    "lines_of",
    "survey",
    "things_of",
]

STDIN = Path("/dev/stdin")


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
        # Not of `Path`, which raises what the survey is to find and tell.
        return self.path is not None and os.path.isdir(self.path)


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
        directory, number = os.path.isdir(path), 0
        while free in taken:
            number += 1
            free = numbered(wanted, number, directory=directory)
        taken.add(free)
        things.append(Thing(free, path))
    return things


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


def survey(things: Sequence[Thing], choice: Choice = EVERYTHING, *, most: int = 200_000) -> Survey:
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
        if thing.path is not None and not thing.once:
            for entry in walk(thing.name, thing.path, notes, choice):
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
            status = thing.path.stat()
            if stat.S_ISSOCK(status.st_mode):
                raise UnsafeName("file", thing.name, "it is a socket, which is no file to be read")
            require_readable(str(thing.path), status)
    except (OSError, UnsafeName) as error:
        notes.add(thing.name if thing.path is None else str(thing.path), error)
        return False
    return True


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
