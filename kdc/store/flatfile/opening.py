"""Finding a store's files, or making them, and telling truthfully what is wrong with them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import attrs

from kdc.store import StoreError
from kdc.store.flatfile._files import Files
from kdc.store.flatfile._generation import KeptGeneration
from kdc.store.flatfile._journal import Journal, JournalHeader, Scan, scan
from kdc.store.flatfile._lines import PURGED, generation_of, name_of, status_of
from kdc.store.flatfile._masterkey import MasterKeys
from kdc.store.flatfile._ours import Ours
from kdc.store.flatfile._table import Table
from kdc.store.flatfile.base import (
    DamagedBase,
    Header,
    first_line,
    read_base,
    write_base,
)

__all__ = ["Found", "Paths", "copy_history", "hold_files", "open_files", "take_lock"]


@attrs.frozen
class Paths:
    """Where a store's files are."""

    base: str
    key: str
    generation: str

    @classmethod
    def of(
        cls,
        base: str | os.PathLike[str],
        key_path: str | os.PathLike[str] | None = None,
        generation_path: str | os.PathLike[str] | None = None,
    ) -> Paths:
        # Absolute: the daemon changes its directory after this.
        base = os.path.abspath(os.fspath(base))
        return cls(
            base,
            os.path.abspath(key_path or base + ".key"),
            os.path.abspath(generation_path or base + ".generation"),
        )

    @property
    def journal(self) -> str:
        return self.base + ".journal"

    @property
    def lock(self) -> str:
        return self.base + ".lock"

    def temporary(self) -> list[str]:
        return [
            path + end
            for path in (self.base, self.journal, self.key, self.generation)
            for end in (".new", ".fold")
        ]


@attrs.frozen
class Found:
    """An opened store; what `kdc.store.flatfile._store.store` goes on with."""

    header: Header
    master: bytes = attrs.field(repr=False)
    table: Table
    journal: Journal
    kept: KeptGeneration
    generation: int
    unfolded_bytes: int
    notes: list[str]


@contextlib.contextmanager
def _reported(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {action} {path}: {error.strerror or error}") from error


def take_lock(files: Files, paths: Paths) -> int:
    """Return the open lock file; raises `StoreError` naming the process that has it."""
    with _reported("lock", paths.lock):
        fd = files.open(paths.lock, os.O_RDWR | os.O_CREAT)
        try:
            if files.lock(fd):
                files.fchmod(fd)
                # In place and of one length: a full disk must not keep the KDC down.
                files.pwrite(fd, b"%10d\n" % os.getpid(), 0)
                return fd
            owner = files.pread(fd, 20, 0).strip().decode("ascii", "replace")
        except BaseException:
            files.close(fd)
            raise
        files.close(fd)
    raise StoreError(
        f"{paths.base} is in use by process {owner or '?'}",
        hint="one process at a time may change it; ask the running server, or stop it",
    )


def open_files(
    files: Files,
    paths: Paths,
    realm: str,
    create: bool,
    random: Callable[[int], bytes],
    accept_rollback: bool,
) -> Found:
    """Read the store, or make it.  Hold the lock.  Raises `StoreError`."""
    for path in paths.temporary():
        # Left by a crash in the middle of a replacement that then never happened.
        with _reported("remove", path):
            files.remove_if_there(path)
    try:
        fd = files.open(paths.base, os.O_RDONLY)
    except FileNotFoundError:
        fd = -1
    except OSError as error:
        raise StoreError(
            f"cannot open {paths.base}: {error.strerror}",
            hint="give the real file's path: symbolic links are not followed",
        ) from error
    try:
        if fd < 0 or files.fstat(fd).st_size == 0:
            _check_never_used(files, paths, create)
            header, master, table = _make(files, paths, realm, random)
        else:
            header, master, table = _read(files, paths, fd, realm)
    finally:
        if fd >= 0:
            files.close(fd)
    return _replay(files, paths, header, master, table, accept_rollback)


def hold_files(files: Files, paths: Paths, lock: int) -> Ours:
    """Return what tells whether the files stay those that were opened.  Raises `StoreError`."""
    ours = Ours(files, frozenset({paths.base, paths.key}))
    try:
        with _reported("look at", paths.lock):
            ours.know(paths.lock, lock)
        for path in (paths.base, paths.journal, paths.key, paths.generation):
            with _reported("look at", path):
                ours.hold(path)
    except BaseException:
        ours.close()
        raise
    return ours


def _check_never_used(files: Files, paths: Paths, create: bool) -> None:
    # The key alone is no witness: it is made first, before anything is promised.
    witnesses = [path for path in (paths.journal, paths.generation) if files.exists(path)]
    if witnesses:
        raise StoreError(
            f"{paths.base} is missing or empty, and it was not always so: "
            + " and ".join(witnesses)
            + (" are there" if len(witnesses) > 1 else " is there"),
            hint="put pwd.txt back from its backup; to begin anew, move these files away",
        )
    if not create:
        raise StoreError(
            f"there is no store at {paths.base}",
            hint="start the server once, or check the path",
        )


def _make(
    files: Files, paths: Paths, realm: str, random: Callable[[int], bytes]
) -> tuple[Header, bytes, Table]:
    with _reported("make", paths.base):
        if files.exists(paths.key):
            keys = MasterKeys.read(files, paths.key)
        else:
            keys = MasterKeys.generate(random)
            keys.write(files, paths.key)
        key_id, master = next(iter(keys.by_id.items()))
        header = Header(realm, random(8).hex(), key_id, 0, 0)
        write_base(files, paths.base + ".new", header, master, [])
        files.rename(paths.base + ".new", paths.base)
        files.sync_directory(paths.base)
    return header, master, Table()


def _read(files: Files, paths: Paths, fd: int, realm: str) -> tuple[Header, bytes, Table]:
    with _reported("read", paths.base):
        first = first_line(files, fd)
    header = Header.parse(first)
    if header is None:
        raise _unknown_format(paths.base, first)
    if header.realm != realm:
        raise StoreError(
            f"{paths.base} is the store of realm {header.realm}, not of {realm}",
            hint=f"start with --realm {header.realm}, or name another file",
        )
    with _reported("read", paths.key):
        try:
            master = MasterKeys.read(files, paths.key).get(header.key_id, paths.base)
        except FileNotFoundError:
            raise StoreError(
                f"{paths.key} is missing: {paths.base} cannot be read without its master key",
                hint="put the master key file back from its backup",
            ) from None
    try:
        with _reported("read", paths.base):
            return header, master, read_base(files, fd, header, master)
    except DamagedBase as error:
        raise _damaged(paths, paths.base, str(error)) from None


def _unknown_format(path: str, first: bytes) -> StoreError:
    if first.startswith(b":"):
        return StoreError(
            f"{path} is in the format of the original program, which holds no usable keys",
            hint="move it away, start anew, and read it with: kdc admin import",
        )
    if first.startswith(b"kdc-principals:") and not first.startswith(b"kdc-principals:1:"):
        return StoreError(
            f"{path} was written by another version: {first[:40]!r}",
            hint="use the version that wrote it, or a newer one",
        )
    return StoreError(
        f"{path}, line 1 is not the first line of a principal database",
        hint=f"kdc admin -f {path} check",
    )


def _damaged(paths: Paths, path: str, what: str) -> StoreError:
    return StoreError(
        f"{path} {what}",
        hint=f"nothing was changed; see: kdc admin -f {paths.base} check",
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
            raise _damaged(paths, paths.journal, "line 1 is not the first line of a journal")
        if (found.realm, found.store_id) != (header.realm, header.store_id):
            raise StoreError(
                f"{paths.journal} belongs to another store than {paths.base}",
                hint="put the pwd.txt and the journal of one store together",
            )
        if found.key_id != header.key_id:
            _check_all_folded(files, paths, fd, found, header)
            return None
        if found.after > header.generation:
            raise _damaged(
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
        raise _damaged(paths, paths.journal, "is sealed under another master key than pwd.txt")


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


def _replay(
    files: Files,
    paths: Paths,
    header: Header,
    master: bytes,
    table: Table,
    accept_rollback: bool,
) -> Found:
    unfolded_bytes = 0

    def take(lines: list[bytes]) -> None:
        nonlocal unfolded_bytes
        unfolded_bytes += sum(map(len, lines))
        for line in lines:
            put_line(table, line)

    with _reported("read", paths.journal):
        found = read_journal(files, paths, header, master, take)
    with _reported("read", paths.generation):
        kept_generation = KeptGeneration.read(files, paths.generation, header.store_id)
    notes = []
    generation = header.generation
    if found is not None:
        if found.rest:
            notes.append(_torn(paths, found, kept_generation))
        generation = max(generation, found.generation)
    if kept_generation is None and generation:
        notes.append(f"there was no {paths.generation}: an old backup would not have been noticed")
    elif kept_generation is not None and kept_generation > generation:
        if not accept_rollback:
            raise StoreError(
                f"{paths.base} is at generation {generation}, and was at {kept_generation} "
                f"before ({paths.generation}): an old copy was put back, or the journal is "
                "missing or cut",
                hint="find the newer files; if this is meant, start once with --accept-rollback",
            )
        notes.append(f"accepted generation {generation} in the place of {kept_generation}")
    if kept_generation is not None and kept_generation > generation:
        # Generations are never used twice, by the state that was lost either.
        generation = kept_generation
        header = attrs.evolve(header, generation=generation, count=len(table))
        with _reported("write", paths.base):
            write_base(files, paths.base + ".new", header, master, table.snapshot())
            files.rename(paths.base + ".new", paths.base)
            files.sync_directory(paths.base)
        unfolded_bytes = 0
    usable = found is not None and not found.rest and found.generation == generation
    with _reported("open", paths.journal):
        journal = (
            Journal.reopen(files, paths.journal, found)
            if found is not None and usable
            else Journal.missing(files, paths.journal, generation)
        )
    return Found(
        header=header,
        master=master,
        table=table,
        journal=journal,
        kept=KeptGeneration(files, paths.generation, header.store_id),
        generation=generation,
        unfolded_bytes=unfolded_bytes,
        notes=notes,
    )


def put_line(table: Table, line: bytes) -> None:
    """Carry out one authenticated line of a journal."""
    if status_of(line) != PURGED:
        table.put(line)
        return
    # The name may be missing: a purge of what was made and purged since pwd.txt.
    with contextlib.suppress(KeyError):
        table.remove(name_of(line))


def _torn(paths: Paths, found: Scan, kept_generation: int | None) -> str:
    where = f"line {found.broken_line}"
    if not found.could_be_torn or (kept_generation or 0) > found.generation:
        raise _damaged(
            paths, paths.journal, f"{where}: acknowledged changes from here on are damaged"
        )
    return (
        f"{paths.journal}, {where}: {len(found.rest)} bytes of a batch that was never "
        "acknowledged are left out"
    )
