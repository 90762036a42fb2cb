"""The principal database in one flat text file, with a journal beside it.

``pwd.txt`` is whole at all times: it is only ever replaced.  Changes go to the
journal, one append and one fdatasync a batch, and now and then a new pwd.txt is
written from memory while changes go on.  Formats, guarantees and the failure
model are in docs/store.md.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from kdc.protocol.names import check_realm
from kdc.store import Change, Record, Result, Status, StoreLost, StoreUnavailable
from kdc.store.flatfile._store_files import StoreFiles
from kdc.store.flatfile.base import Header
from kdc.store.flatfile.opening import hold_files, open_files, take_lock
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.batch import Batch
from kdc.store.sealed.content import Content
from kdc.store.sealed.files import Files
from kdc.store.sealed.lines import Entry, Sealer
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import Table

__all__ = ["FlatFileStore", "Folding"]


@attrs.frozen
class Folding:
    """When a journal is worth folding: it has ``least_bytes``, and pwd.txt divided by ``fraction``.

    So a change costs at most ``fraction`` times its bytes again.
    """

    least_bytes: int = 4 << 20
    fraction: int = 8


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="kdc-store-fold").start()


class FlatFileStore:
    """See `kdc.store.Store`; made by `open`.

    ``get``, iteration and ``len`` may be used in any thread at any time, and go
    on when the disk fails.
    """

    most_changes = 1000
    made = False
    confirmed_milliseconds = None  # its lock keeps others from changing it
    nodes = None

    def __init__(
        self,
        disk: StoreFiles,
        table: Table,
        master: bytes,
        generation: int,
        random: Callable[[int], bytes],
        run: Callable[[Callable[[], None]], None],
        folding: Folding,
    ) -> None:
        header = disk.header
        self.realm = header.realm
        self.notes: Sequence[str] = ()
        self._troubles: dict[str, str] = {}
        self._disk = disk
        self._random = random
        sealer = Sealer(master, header.realm, header.store_id, random)
        self._content = Content(table, sealer, disk.paths.base)
        self._generation = generation
        self._run = run
        self._folding = folding
        self._writing = threading.Lock()  # who holds it may touch the files
        self._fold_ended = threading.Condition(self._writing)
        self._watchers: list[Callable[[Record], None]] = []
        self._unfolded_bytes = 0  # of changes that pwd.txt does not have yet
        self._fold_above = 0
        self._since_fold: list[bytes] | None = None  # lines committed while a fold runs
        self._folds = self._failed_folds = 0
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        realm: str,
        create: bool = True,
        random: Callable[[int], bytes] = os.urandom,
        files: Files | None = None,
        key_path: str | os.PathLike[str] | None = None,
        generation_path: str | os.PathLike[str] | None = None,
        accept_rollback: bool = False,
        run: Callable[[Callable[[], None]], None] = _in_thread,
        folding: Folding | None = None,
    ) -> FlatFileStore:
        """Open the store at ``path``, or make a new one there if ``create``.

        New is only what was never used: no file, or an empty one, and no journal
        or generation file beside it.  ``accept_rollback`` takes a store that is
        older than the generation file says.  ``run`` starts work beside the
        caller, and need not wait for it.

        Raises `StoreError` if the store is in use, missing, damaged, rolled
        back, of another realm or version, or its files cannot be used; then
        nothing was changed that was there.
        """
        files = files or Files()
        paths = Paths.of(path, key_path, generation_path)
        lock = take_lock(files, paths)
        try:
            found = open_files(files, paths, check_realm(realm), create, random, accept_rollback)
            try:
                ours = hold_files(files, paths, lock)
            except BaseException:
                found.journal.close()
                raise
        except BaseException:
            files.close(lock)
            raise
        disk = StoreFiles(
            paths,
            files,
            found.header,
            found.master,
            found.journal,
            found.kept,
            lock,
            ours,
            found.journal_format,
            found.made,
        )
        folding = folding or Folding()
        store = cls(disk, found.table, found.master, found.generation, random, run, folding)
        store.notes = found.notes
        store.made = bool(found.made)
        store._unfolded_bytes = found.unfolded_bytes
        return store

    def get(self, name: str) -> Record | None:
        entry = self._content.entry_of(name)
        return None if entry is None else entry.record

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        if len(changes) > self.most_changes:
            raise ValueError(f"a batch has at most {self.most_changes} changes")
        with self._disk.ours.letting_go(), self._writing:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            batch = Batch(self._content, self._generation)
            results = [batch.decide(change) for change in changes]
            if batch.entries:
                self._commit(batch)
        for entry in batch.entries:
            for changed in list(self._watchers):
                changed(entry.record)
        if self._unfolded_bytes > self._fold_limit():
            self._begin_fold()
        return results

    def __iter__(self) -> Iterator[Record]:
        return (entry.record for entry in self.entries())

    def names_from(self, name: str) -> Iterator[Record]:
        return (entry.record for entry in self._content.entries_from(name))

    def owner_of(self, service: str) -> str | None:
        return self._content.owner_of(service)

    def with_kerberos(self) -> list[Record]:
        return [entry.record for entry in self._content.entries_with_parts()]

    def entries(self) -> Iterator[Entry]:
        """Every record with its token; a snapshot, as iteration."""
        return self._content.entries()

    def counts(self) -> dict[Status, int]:
        return self._content.counts()

    def __len__(self) -> int:
        return len(self._content.table)

    def watch(self, changed: Callable[[Record], None]) -> Callable[[], None]:
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def check_ours(self) -> None:
        with self._writing:
            if not self._closed:
                self._check_not_lost()

    def fold(self) -> bool:
        """Bring pwd.txt up to date with the journal; False if that failed (see ``trouble``).

        Never needed for safety: it is for people who read pwd.txt.  Blocks.  Raises
        `StoreLost`.
        """
        folded = self._fold_now()
        if self._disk.ours.lost:
            raise self._lost()
        return folded

    def _fold_now(self) -> bool:
        with self._writing:
            self._wait_for_fold()
        if self._unfolded_bytes:
            self._begin_fold()
        with self._writing:
            self._wait_for_fold()
        return not self._unfolded_bytes

    def close(self) -> None:
        if self._closed:
            return
        # A large store's last few changes can wait in the journal.
        if self._unfolded_bytes > self._content.table.total_bytes // 64 - self._folding.least_bytes:
            self._fold_now()
        self._end(self._disk.close)

    def discard(self) -> None:
        if not self._closed:
            self._end(self._disk.discard)

    def _end(self, end: Callable[[], None]) -> None:
        with self._writing:
            self._wait_for_fold()
            self._closed = True
            self._watchers.clear()
            end()

    def rotate_master_key(self) -> None:
        """Seal everything under a new master key; the old one then opens nothing here.

        Backups made before still need the old key.  If it is cut short, by an
        error or a crash, the key file holds both keys, and doing it again
        finishes it.  Blocks for some microseconds a principal.  Raises
        `StoreUnavailable`, `StoreError`.
        """
        with self._disk.ours.letting_go(), self._writing:
            # It works with the key that it began with.
            self._wait_for_fold()
            try:
                self._rotate()
            except OSError as error:
                if self._disk.ours.lost:
                    raise self._lost() from error
                raise StoreUnavailable(
                    f"cannot rotate the master key of {self._disk.paths.base}: {error.strerror}",
                    hint="the store goes on under the key it has; repair the disk and try again",
                ) from error

    def _rotate(self) -> None:
        disk, realm, store_id = self._disk, self.realm, self._disk.header.store_id
        disk.check_ours()
        disk.mend_journal(self._content.table, self._generation)
        keys = MasterKeys.generate(self._random)
        (key_id, master), *_ = keys.by_id.items()
        content = self._content.resealed(Sealer(master, realm, store_id, self._random))
        disk.rotate(keys, key_id, master, content.table, self._generation)
        self._content = content
        self._unfolded_bytes = 0
        disk.finish_rotation(keys, content.table, self._generation)

    @property
    def generation(self) -> int:
        """The number of the latest durable change."""
        return self._generation

    @property
    def figures(self) -> Mapping[str, float]:
        return {
            "journal_bytes": self._unfolded_bytes,
            "database_bytes": self._content.table.total_bytes,
            "folds": self._folds,
            "failed_folds": self._failed_folds,
        }

    @property
    def trouble(self) -> str:
        """What fails just now without a change having been refused for it, or nothing."""
        return "; ".join(
            [*([self._disk.ours.lost] if self._disk.ours.lost else []), *self._troubles.values()]
        )

    def _commit(self, batch: Batch) -> None:
        lines = self._content.sealer.lines(batch.entries)
        try:
            self._disk.append(lines, self._content.table, self._generation, batch.generation)
        except OSError as error:
            if self._disk.ours.lost:
                raise self._lost() from error
            raise self._unavailable(error) from error
        # Whoever has taken the files over meanwhile does not know of this change.
        self._check_not_lost()
        self._generation = batch.generation
        for entry, line in zip(batch.entries, lines, strict=True):
            if entry.purged:
                self._content.remove(entry.record.name.encode())
            else:
                self._content.put(line)
            self._unfolded_bytes += len(line)
        if self._since_fold is not None:
            self._since_fold += lines
        self._keep_generation()

    def _keep_generation(self) -> None:
        try:
            self._disk.keep(self._generation)
        except OSError as error:
            # The change is durable all the same; a restored backup might go unnoticed.
            self._troubles["keep"] = f"cannot write {self._disk.paths.generation}: {error.strerror}"
        else:
            self._troubles.pop("keep", None)

    def _check_not_lost(self) -> None:
        """Raise `StoreLost`; that we cannot look is no reason to doubt what is on the disk."""
        with contextlib.suppress(OSError):
            self._disk.check_ours()
        if self._disk.ours.lost:
            raise self._lost()

    def _lost(self) -> StoreLost:
        return StoreLost(
            f"the store is not ours any more: {self._disk.ours.lost}",
            hint="nothing more was written; see who else has it and which files are good,"
            " before it is opened again",
        )

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            f"cannot write {self._disk.paths.journal}: {error.strerror}",
            hint="nothing was changed; make space or repair the disk, no restart is needed",
        )

    def _begin_fold(self) -> None:
        with self._writing:
            if self._since_fold is not None or self._closed:
                return
            self._since_fold = []
            header = self._disk.header_of(self._content.table, self._generation)
            chunks = self._content.table.snapshot()
            folded_bytes = self._unfolded_bytes
        self._run(lambda: self._fold(header, chunks, folded_bytes))

    def _wait_for_fold(self) -> None:
        """Wait, holding `_writing`, until no fold is under way."""
        self._fold_ended.wait_for(lambda: self._since_fold is None)

    def _fold(self, header: Header, chunks: list[bytes], folded_bytes: int) -> None:
        """Write a new pwd.txt while changes go on, then shorten the journal."""
        disk = self._disk
        try:
            with self._writing:
                disk.check_ours()
            journal = disk.fold(header, chunks)
            with self._disk.ours.letting_go(), self._writing:
                disk.switch(header, journal, self._since_fold or [], self._generation)
                self._unfolded_bytes -= folded_bytes
            disk.sync_kept()
            self._fold_above = 0
            self._folds += 1
            self._troubles.pop("fold", None)
        except OSError as error:
            self._failed_folds += 1
            self._troubles["fold"] = f"cannot fold {disk.paths.journal}: {error.strerror}"
            # Not at every change: each try writes the whole of pwd.txt.
            self._fold_above = self._unfolded_bytes + self._fold_limit() // 4
            disk.forget_fold()
        finally:
            with self._writing:
                self._since_fold = None
                self._fold_ended.notify_all()

    def _fold_limit(self) -> int:
        folding, total = self._folding, self._content.table.total_bytes
        return max(folding.least_bytes, total // folding.fraction, self._fold_above)
