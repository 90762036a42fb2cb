"""What the journal adds to pwd.txt: read at the start, copied when the journal is renewed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from kdc.errors import ErrorKind
from kdc.store import StoreError
from kdc.store.flatfile._journal import Journal, JournalHeader, Scan, scan
from kdc.store.flatfile.base import Header, first_line
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.files import Files
from kdc.store.sealed.lines import PURGED, generation_of, name_of, status_of
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import Table

__all__ = ["copy_history", "damaged", "put_line", "read_journal", "reported"]


@contextlib.contextmanager
def reported(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {action} {path}: {error.strerror or error}") from error


def damaged(paths: Paths, path: str, what: str) -> StoreError:
    return StoreError(
        f"{path} {what}",
        hint="nothing was changed; check the store",
        kind=ErrorKind.STORE_DAMAGED,
        facts={"path": paths.base},
    )


def read_journal(
    files: Files,
    paths: Paths,
    header: Header,
    master: bytes,
    take: Callable[[list[bytes]], None],
) -> Scan | None:
    """Give ``take`` the lines that pwd.txt lacks; None if there is no journal.

    Raises `StoreError`, `OSError`.
    """
    try:
        fd = files.open(paths.journal, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        found = JournalHeader.parse(first_line(files, fd))
        if found is None:
            raise damaged(paths, paths.journal, "line 1 is not the first line of a journal")
        if (found.realm, found.store_id) != (header.realm, header.store_id):
            raise StoreError(
                f"{paths.journal} belongs to another store than {paths.base}",
                hint="put the pwd.txt and the journal of one store together",
            )
        if found.key_id != header.key_id:
            _check_all_folded(files, paths, fd, found, header)
            return None
        if found.after > header.generation:
            raise damaged(
                paths,
                paths.journal,
                f"begins after generation {found.after}, and {paths.base} ends at "
                f"{header.generation}: changes between them are missing",
            )
        return scan(files, fd, found, master, header.generation, take)
    finally:
        files.close(fd)


def _check_all_folded(
    files: Files, paths: Paths, fd: int, found: JournalHeader, header: Header
) -> None:
    """A journal under another key is what a rotation that was cut short left behind."""
    other = MasterKeys.read(files, paths.key).get(found.key_id, paths.journal)
    old = scan(files, fd, found, other, header.generation, lambda lines: None)
    if old.generation > header.generation or (old.rest and not old.could_be_torn):
        raise damaged(paths, paths.journal, "is sealed under another master key than pwd.txt")


def copy_history(
    files: Files, paths: Paths, header: Header, master: bytes, journal: Journal, upto: int
) -> bool:
    """Write the lines behind ``header``'s generation, up to ``upto``, to a new journal.

    False if the journal on the disk does not have exactly these: what is read
    back after a failure is believed only so far as its MACs go.  Raises
    `OSError` if the new journal cannot be written.
    """
    failures: list[OSError] = []

    def take(lines: list[bytes]) -> None:
        # A batch whose fsync failed may stand behind what was acknowledged.
        wanted = [line for line in lines if generation_of(line) <= upto]
        if wanted and not failures:
            try:
                journal.write(wanted, generation_of(wanted[-1]))
            except OSError as error:
                failures.append(error)

    try:
        read_journal(files, paths, header, master, take)
    except (OSError, StoreError):
        return False
    if failures:
        raise failures[0]
    return journal.generation == upto


def put_line(table: Table, line: bytes) -> None:
    """Carry out one authenticated line of a journal."""
    if status_of(line) != PURGED:
        table.put(line)
        return
    # The name may be missing: a purge of what was made and purged since pwd.txt.
    with contextlib.suppress(KeyError):
        table.remove(name_of(line))
