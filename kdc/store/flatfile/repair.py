"""Making a damaged store usable again, without throwing anything away."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import attrs

from kdc.store import Record, Status, StoreError
from kdc.store.flatfile._journal import Journal, JournalHeader
from kdc.store.flatfile.base import Header, write_base
from kdc.store.flatfile.check import Examination, Line, examine
from kdc.store.flatfile.opening import take_lock
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.files import Files, pieces_of, replace
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.lines import Entry, Sealer, generation_of
from kdc.store.sealed.table import Table

__all__ = ["Repaired", "repair"]


@attrs.frozen
class Repaired:
    """What a repair has done.

    ``reserved`` are names whose only lines were damaged: each has a tombstone
    now, so that nobody else can take it before the operator has looked.
    """

    kept: int
    quarantined: int
    reserved: list[str]
    quarantine: str


def repair(
    path: str | os.PathLike[str],
    *,
    now: int = 0,
    key_path: str | os.PathLike[str] | None = None,
    generation_path: str | os.PathLike[str] | None = None,
    random: Callable[[int], bytes] = os.urandom,
    files: Files | None = None,
) -> Repaired:
    """Keep every authentic line, and move the others to ``pwd.txt.quarantine``.

    Of each principal the latest authentic line counts.  pwd.txt and the journal
    as they were are kept whole in the quarantine file.  Raises `StoreError` if
    the store is in use, nothing is wrong with it, or too little is left (no
    master key, no first line in either file); then nothing was changed.
    """
    files = files or Files()
    paths = Paths.of(path, key_path, generation_path)
    lock = take_lock(files, paths)
    try:
        lines = _Lines()
        found = examine(paths, files, lines.take)
        if all(problem.harmless for problem in found.problems):
            raise StoreError(f"nothing is wrong with {paths.base}")
        if not found.repairable or found.header is None or found.master is None:
            raise StoreError(
                f"{paths.base} cannot be repaired: {found.problems[0]}",
                hint="put it back from a backup, with the master key file that belongs to it",
            )
        try:
            return _repair(found, found.header, found.master, lines, files, random, now)
        except OSError as error:
            raise StoreError(f"cannot repair {paths.base}: {error.strerror}") from error
    finally:
        files.close(lock)


class _Lines:
    """What is worth keeping: of each name the latest authentic line, and all that are damaged."""

    def __init__(self) -> None:
        # The very lines, not sealed anew: what is not touched cannot be broken.
        self.table = Table()
        self.bad: list[Line] = []
        self.generation = 0
        self._purged: dict[bytes, int] = {}

    def take(self, line: Line) -> None:
        if line.entry is None:
            self.bad.append(line)
            return
        name, generation = line.entry.record.name.encode(), line.entry.record.generation
        self.generation = max(self.generation, generation)
        if generation <= self._known(name):
            return
        if line.entry.purged:
            self._purged[name] = generation
            with contextlib.suppress(KeyError):
                self.table.remove(name)
        else:
            self._purged.pop(name, None)
            self.table.put(line.raw)

    def reserved(self) -> list[str]:
        """Names that only damaged lines have."""
        names = {name for line in self.bad if (name := line.name())}
        return sorted(name for name in names if self._known(name.encode()) < 0)

    def _known(self, name: bytes) -> int:
        line = self.table.get(name)
        return self._purged.get(name, -1) if line is None else generation_of(line)


def _repair(
    found: Examination,
    header: Header,
    master: bytes,
    lines: _Lines,
    files: Files,
    random: Callable[[int], bytes],
    now: int,
) -> Repaired:
    table, reserved = lines.table, lines.reserved()
    generation = max(header.generation, found.kept_generation, lines.generation)
    sealer = Sealer(master, header.realm, header.store_id, random)
    tombstones = []
    for name in reserved:
        generation += 1
        record = Record(name, Status.DELETED, changed_time=now, generation=generation)
        tombstones.append(Entry(record))
    for raw in sealer.lines(tombstones):
        table.put(raw)
    quarantine = _quarantine(found.paths, files, lines.bad)
    new = header.now(table, generation)
    _install(found.paths, files, new, master, table)
    return Repaired(len(table) - len(reserved), len(lines.bad), reserved, quarantine)


def _quarantine(paths: Paths, files: Files, bad: list[Line]) -> str:
    """Write the damaged lines, then both files as they are, to a file of their own."""
    path = paths.base + ".quarantine"
    number = 1
    while files.exists(path):
        number += 1
        path = f"{paths.base}.quarantine.{number}"
    replace(files, path, _quarantined(paths, files, bad))
    return path


def _quarantined(paths: Paths, files: Files, bad: list[Line]) -> Iterator[bytes]:
    yield b"# lines that are not authentic\n"
    for line in bad:
        yield f"# {line.file}, line {line.number}\n".encode()
        yield line.raw if line.raw.endswith(b"\n") else line.raw + b"\n"
    for name in (paths.base, paths.journal):
        if files.exists(name):
            yield f"# all of {name}\n".encode()
            yield from pieces_of(files, name)
            yield b"\n"


def _install(paths: Paths, files: Files, header: Header, master: bytes, table: Table) -> None:
    write_base(files, paths.base + ".new", header, master, table.snapshot())
    files.rename(paths.base + ".new", paths.base)
    files.sync_directory(paths.base)
    journal = Journal.create(
        files,
        paths.journal + ".new",
        JournalHeader(
            header.realm, header.store_id, header.key_id, header.generation, header.format
        ),
        master,
    )
    try:
        journal.sync()
        files.rename(paths.journal + ".new", paths.journal)
    finally:
        journal.close()
    files.sync_directory(paths.journal)
    kept = KeptGeneration(files, paths.generation, header.store_id)
    kept.start(header.generation)
    kept.close()
