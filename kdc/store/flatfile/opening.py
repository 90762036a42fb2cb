"""Finding a store's files, or making them, and telling truthfully what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable

import attrs

from kdc.errors import ErrorKind
from kdc.store import StoreError, StoreInUse
from kdc.store.flatfile._journal import Journal, Scan
from kdc.store.flatfile._ours import Ours
from kdc.store.flatfile._replay import damaged, put_line, read_journal, reported
from kdc.store.flatfile.base import (
    DamagedBase,
    Header,
    first_line,
    format_of,
    read_base,
    write_base,
)
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.files import Files
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import Table

__all__ = ["Found", "hold_files", "open_files", "take_lock"]


@attrs.frozen
class Found:
    """An opened store; what `kdc.store.flatfile._store.store` goes on with.

    ``made``: its files if there was none of them before, but for a key, in the order in
    which they can be removed: what is left is a store at any time, or none.
    """

    header: Header
    master: bytes = attrs.field(repr=False)
    table: Table
    journal: Journal
    kept: KeptGeneration
    generation: int
    unfolded_bytes: int
    notes: list[str]
    journal_format: int
    made: tuple[str, ...] = ()


def take_lock(files: Files, paths: Paths) -> int:
    """Return the open lock file; raises `StoreError` naming the process that has it."""
    _check_whole_directory(files, paths)
    with reported("lock", paths.lock):
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
    raise StoreInUse(
        f"{paths.base} is in use by process {owner or '?'}",
        hint="one process at a time may change it; ask the running server, or stop it",
    )


def _check_whole_directory(files: Files, paths: Paths) -> None:
    # Before anything is made: it would be made in the wrong place.  The master key may be
    # mounted alone, as secrets are: it is written once.
    for path in (paths.base, paths.journal, paths.generation, paths.lock):
        if files.mounted_alone(path):
            raise StoreError(
                f"{path} is mounted by itself: what is written beside it, and every new version"
                " of it, would be in another place, and lost with that",
                hint="mount the directory that it is in, with all that is beside it",
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
        with reported("remove", path):
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
        with reported("look at", paths.base):
            new = fd < 0 or files.fstat(fd).st_size == 0
        made: tuple[str, ...] = ()
        if new:
            _check_never_used(files, paths, create)
            key = () if files.exists(paths.key) else (paths.key,)
            made = () if fd >= 0 else (paths.generation, paths.journal, paths.base, *key)
            header, master, table = _make(files, paths, realm, random)
        else:
            header, master, table = _read(files, paths, fd, realm)
    finally:
        if fd >= 0:
            files.close(fd)
    found = _replay(files, paths, header, master, table, accept_rollback)
    return attrs.evolve(found, made=made)


def hold_files(files: Files, paths: Paths, lock: int) -> Ours:
    """Return what tells whether the files stay those that were opened.  Raises `StoreError`."""
    ours = Ours(files, frozenset({paths.base, paths.key}))
    try:
        with reported("look at", paths.lock):
            ours.know(paths.lock, lock)
        for path in (paths.base, paths.journal, paths.key, paths.generation):
            with reported("look at", path):
                ours.hold(path)
    except BaseException:
        ours.close()
        raise
    return ours


def _check_never_used(files: Files, paths: Paths, create: bool) -> None:
    if files.exists(paths.moved):
        raise StoreError(
            f"the principals of {paths.base} were moved into etcd; what they were then is in"
            f" {paths.moved}",
            hint="open the store there; to have them in a file again, move them back",
        )
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
    with reported("make", paths.base):
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
    with reported("read", paths.base):
        first = first_line(files, fd)
    header = Header.parse(first)
    if header is None:
        raise _unknown_format(paths.base, first)
    if header.realm != realm:
        raise StoreError(
            f"{paths.base} is the store of realm {header.realm}, not of {realm}",
            hint=f"give the realm {header.realm}, or name another file",
            kind=ErrorKind.STORE_OF_ANOTHER_REALM,
            facts={"realm": header.realm},
        )
    with reported("read", paths.key):
        try:
            master = MasterKeys.read(files, paths.key).get(header.key_id, paths.base)
        except FileNotFoundError:
            raise StoreError(
                f"{paths.key} is missing: {paths.base} cannot be read without its master key",
                hint="put the master key file back from its backup",
            ) from None
    try:
        with reported("read", paths.base):
            return header, master, read_base(files, fd, header, master)
    except DamagedBase as error:
        raise damaged(paths, paths.base, str(error)) from None


def _unknown_format(path: str, first: bytes) -> StoreError:
    if first.startswith(b":"):
        return StoreError(
            f"{path} is in the format of the original program, which holds no usable keys",
            hint="move it away, start anew, and import the names in it",
            kind=ErrorKind.STORE_OF_THE_ORIGINAL,
        )
    if first.startswith(b"kdc-principals:") and first[15:17] not in (b"1:", b"2:"):
        return StoreError(
            f"{path} was written by another version: {first[:40]!r}",
            hint="use the version that wrote it, or a newer one",
        )
    return StoreError(
        f"{path}, line 1 is not the first line of a principal database",
        hint="nothing was changed; check the store",
        kind=ErrorKind.STORE_DAMAGED,
        facts={"path": path},
    )


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

    with reported("read", paths.journal):
        found = read_journal(files, paths, header, master, take)
    with reported("read", paths.generation):
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
                hint="find the newer files, or accept the rollback once, if it is meant",
                kind=ErrorKind.OLDER_THAN_BEFORE,
            )
        notes.append(f"accepted generation {generation} in the place of {kept_generation}")
    if kept_generation is not None and kept_generation > generation:
        # Generations are never used twice, by the state that was lost either.
        generation = kept_generation
        header = header.now(table, generation)
        with reported("write", paths.base):
            write_base(files, paths.base + ".new", header, master, table.snapshot())
            files.rename(paths.base + ".new", paths.base)
            files.sync_directory(paths.base)
        unfolded_bytes = 0
    usable = found is not None and not found.rest and found.generation == generation
    with reported("open", paths.journal):
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
        journal_format=max(format_of(table), 1 if found is None else found.header.format),
    )


def _torn(paths: Paths, found: Scan, kept_generation: int | None) -> str:
    where = f"line {found.broken_line}"
    if not found.could_be_torn or (kept_generation or 0) > found.generation:
        raise damaged(
            paths, paths.journal, f"{where}: acknowledged changes from here on are damaged"
        )
    return (
        f"{paths.journal}, {where}: {len(found.rest)} bytes of a batch that was never "
        "acknowledged are left out"
    )
