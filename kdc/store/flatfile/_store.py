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
from collections.abc import Callable, Iterator, Sequence

import attrs

from kdc.protocol.names import check_realm
from kdc.store import Change, Record, Result, StoreLost, StoreUnavailable
from kdc.store.flatfile._batch import Batch
from kdc.store.flatfile._content import Content
from kdc.store.flatfile._files import Files
from kdc.store.flatfile._generation import KeptGeneration
from kdc.store.flatfile._journal import Journal, JournalHeader
from kdc.store.flatfile._lines import Entry, Sealer
from kdc.store.flatfile._masterkey import MasterKeys
from kdc.store.flatfile._ours import Ours
from kdc.store.flatfile._replay import copy_history
from kdc.store.flatfile._table import Table
from kdc.store.flatfile.base import Header, write_base
from kdc.store.flatfile.opening import hold_files, open_files, take_lock
from kdc.store.flatfile.paths import Paths

__all__ = ["FlatFileStore"]

_FOLD_BYTES = 4 << 20  # below this a journal is not worth folding
_FOLD_FRACTION = 8  # of pwd.txt; so a change costs at most 8 times its bytes again


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="kdc-store-fold").start()


class FlatFileStore:
    """See `kdc.store.Store`; made by `open`.

    ``get``, iteration and ``len`` may be used in any thread at any time, and go
    on when the disk fails.
    """

    most_changes = 1000
    confirmed_milliseconds = None  # its lock keeps others from changing it

    def __init__(
        self,
        paths: Paths,
        files: Files,
        header: Header,
        master: bytes,
        table: Table,
        journal: Journal,
        kept: KeptGeneration,
        lock: int,
        ours: Ours,
        random: Callable[[int], bytes],
        run: Callable[[Callable[[], None]], None],
    ) -> None:
        self.realm = header.realm
        self._troubles: dict[str, str] = {}
        self.notes: Sequence[str] = ()
        self._paths = paths
        self._files = files
        self._header = header  # of the pwd.txt that is surely on the disk
        self._master = master
        self._random = random
        sealer = Sealer(master, header.realm, header.store_id, random)
        self._content = Content(table, sealer, paths.base)
        self._journal = journal
        self._generation = journal.generation
        self._kept = kept
        self._lock = lock
        self._ours = ours
        self._run = run
        self._writing = threading.Lock()  # who holds it may touch the files
        self._fold_ended = threading.Condition(self._writing)
        self._watchers: list[Callable[[Record], None]] = []
        self._unfolded_bytes = 0  # of changes that pwd.txt does not have yet
        self._fold_above = 0
        self._since_fold: list[bytes] | None = None  # lines committed while a fold runs
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
        store = cls(
            paths,
            files,
            found.header,
            found.master,
            found.table,
            found.journal,
            found.kept,
            lock,
            ours,
            random,
            run,
        )
        store.notes = found.notes
        store._unfolded_bytes = found.unfolded_bytes
        store._generation = found.generation
        return store

    def get(self, name: str) -> Record | None:
        entry = self._content.entry_of(name)
        return None if entry is None else entry.record

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        if len(changes) > self.most_changes:
            raise ValueError(f"a batch has at most {self.most_changes} changes")
        with self._ours.letting_go(), self._writing:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            batch = Batch(self._content.entry_of, self._generation)
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

    def entries(self) -> Iterator[Entry]:
        """Every record with its token; a snapshot, as iteration."""
        return self._content.entries()

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
        if self._ours.lost:
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
        if self._unfolded_bytes > self._content.table.total_bytes // 64 - _FOLD_BYTES:
            self._fold_now()
        with self._writing:
            self._wait_for_fold()
            self._closed = True
            with contextlib.suppress(OSError):
                self._kept.sync()
            self._watchers.clear()
            self._ours.close()
            self._kept.close()
            self._journal.close()
            self._files.close(self._lock)

    def rotate_master_key(self) -> None:
        """Seal everything under a new master key; the old one then opens nothing here.

        Backups made before still need the old key.  If it is cut short, by an
        error or a crash, the key file holds both keys, and doing it again
        finishes it.  Blocks for some microseconds a principal.  Raises
        `StoreUnavailable`, `StoreError`.
        """
        with self._ours.letting_go(), self._writing:
            # It works with the key that it began with.
            self._wait_for_fold()
            try:
                self._rotate()
            except OSError as error:
                if self._ours.lost:
                    raise self._lost() from error
                raise StoreUnavailable(
                    f"cannot rotate the master key of {self._paths.base}: {error.strerror}",
                    hint="the store goes on under the key it has; repair the disk and try again",
                ) from error

    def _rotate(self) -> None:
        self._check_ours()
        if not self._journal.sound:
            self._renew_journal()
        new = MasterKeys.generate(self._random)
        (key_id, master), *_ = new.by_id.items()
        sealer = Sealer(master, self.realm, self._header.store_id, self._random)
        content = self._content.resealed(sealer)
        header = self._header_now(key_id)
        # Both keys first: whichever files a crash leaves, they can be opened.
        both = MasterKeys({**new.by_id, self._header.key_id: self._master})
        both.write(self._files, self._paths.key, self._ours.rename)
        write_base(self._files, self._paths.base + ".new", header, master, content.table.snapshot())
        self._ours.rename(self._paths.base + ".new", self._paths.base)
        # From here on the name shows the new file, so go on with it whatever fails;
        # the old journal must not take another change.
        self._header, self._master, self._content = header, master, content
        self._unfolded_bytes = 0
        self._journal.sound = False
        self._files.sync_directory(self._paths.base)
        self._renew_journal()
        new.write(self._files, self._paths.key, self._ours.rename)

    @property
    def generation(self) -> int:
        """The number of the latest durable change."""
        return self._generation

    @property
    def trouble(self) -> str:
        """What fails just now without a change having been refused for it, or nothing."""
        return "; ".join(
            [*([self._ours.lost] if self._ours.lost else []), *self._troubles.values()]
        )

    def _commit(self, batch: Batch) -> None:
        lines = self._content.sealer.lines(batch.entries)
        try:
            self._check_ours()
            if not self._journal.sound:
                self._renew_journal()
            self._journal.append(lines, batch.generation)
        except OSError as error:
            if self._ours.lost:
                raise self._lost() from error
            raise self._unavailable(error) from error
        # Whoever has taken the files over meanwhile does not know of this change.
        self._check_not_lost()
        self._generation = batch.generation
        for entry, line in zip(batch.entries, lines, strict=True):
            if entry.purged:
                self._content.table.remove(entry.record.name.encode())
            else:
                self._content.table.put(line)
            self._unfolded_bytes += len(line)
        if self._since_fold is not None:
            self._since_fold += lines
        self._keep_generation()

    def _keep_generation(self) -> None:
        try:
            self._kept.advance(self._generation, self._ours.rename)
        except OSError as error:
            # The change is durable all the same; a restored backup might go unnoticed.
            self._troubles["keep"] = f"cannot write {self._paths.generation}: {error.strerror}"
        else:
            self._troubles.pop("keep", None)

    def _check_not_lost(self) -> None:
        """Raise `StoreLost`; that we cannot look is no reason to doubt what is on the disk."""
        with contextlib.suppress(OSError):
            self._check_ours()
        if self._ours.lost:
            raise self._lost()

    def _check_ours(self) -> None:
        """Raise `OSError` if any file is no longer ours; then none ever is again."""
        if self._journal.sound:
            self._ours.check(self._paths.journal, self._journal.size)
        else:
            # A write to it has failed: how long it is now, nobody knows.
            self._ours.check()

    def _lost(self) -> StoreLost:
        return StoreLost(
            f"the store is not ours any more: {self._ours.lost}",
            hint="nothing more was written; see who else has it and which files are good,"
            " before it is opened again",
        )

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            f"cannot write {self._paths.journal}: {error.strerror}",
            hint="nothing was changed; make space or repair the disk, no restart is needed",
        )

    def _renew_journal(self) -> None:
        """Put a new journal in the place of one that cannot be trusted.  Raises `OSError`."""
        journal = self._new_journal(".new", self._header, self._generation)
        if journal is None:
            # The old one cannot be read, so write down what is in memory.
            header = attrs.evolve(
                self._header, generation=self._generation, count=len(self._content.table)
            )
            self._write_base(".new", header, self._content.table.snapshot())
            self._install_base(".new", header)
            journal = self._empty_journal(".new", header.generation)
        try:
            journal.sync()
            self._install_journal(journal)
        except OSError:
            if self._journal is not journal:
                journal.discard()
            raise

    def _begin_fold(self) -> None:
        with self._writing:
            if self._since_fold is not None or self._closed:
                return
            self._since_fold = []
            header = attrs.evolve(
                self._header, generation=self._generation, count=len(self._content.table)
            )
            chunks = self._content.table.snapshot()
            folded_bytes = self._unfolded_bytes
        self._run(lambda: self._fold(header, chunks, folded_bytes))

    def _wait_for_fold(self) -> None:
        """Wait, holding `_writing`, until no fold is under way."""
        self._fold_ended.wait_for(lambda: self._since_fold is None)

    def _fold(self, header: Header, chunks: list[bytes], folded_bytes: int) -> None:
        """Write a new pwd.txt while changes go on, then shorten the journal."""
        try:
            with self._writing:
                self._check_ours()
            previous = self._header
            self._write_base(".fold", header, chunks)
            # What the old pwd.txt lacks stays in the journal once more: a copy of
            # both files, begun before this and ended after it, must fit together.
            journal = self._new_journal(".fold", previous, header.generation)
            if journal is None:
                journal = self._empty_journal(".fold", header.generation)
            self._switch(header, journal, folded_bytes)
            self._fold_above = 0
            self._troubles.pop("fold", None)
        except OSError as error:
            self._troubles["fold"] = f"cannot fold {self._paths.journal}: {error.strerror}"
            # Not at every change: each try writes the whole of pwd.txt.
            self._fold_above = self._unfolded_bytes + self._fold_limit() // 4
            if not self._ours.lost:  # or it may be the other's
                with contextlib.suppress(OSError):
                    self._files.remove_if_there(self._paths.base + ".fold")
        finally:
            with self._writing:
                self._since_fold = None
                self._fold_ended.notify_all()

    def _switch(self, header: Header, journal: Journal, folded_bytes: int) -> None:
        try:
            journal.sync()
            with self._ours.letting_go(), self._writing:
                if self._since_fold:
                    journal.write(self._since_fold, self._generation)
                    journal.sync(data_only=True)
                self._install_base(".fold", header)
                self._install_journal(journal)
                self._unfolded_bytes -= folded_bytes
        except OSError:
            if self._journal is not journal:
                journal.discard()
            raise
        with contextlib.suppress(OSError):
            self._kept.sync()

    def _header_now(self, key_id: str) -> Header:
        """Return the first line of a pwd.txt that were written now."""
        return attrs.evolve(
            self._header,
            key_id=key_id,
            generation=self._generation,
            count=len(self._content.table),
        )

    def _fold_limit(self) -> int:
        return max(_FOLD_BYTES, self._content.table.total_bytes // _FOLD_FRACTION, self._fold_above)

    def _write_base(self, end: str, header: Header, chunks: list[bytes]) -> None:
        chunks.reverse()
        # Each chunk is let go as it is written: many have been replaced by then.
        ascending = (chunks.pop() for _ in range(len(chunks)))
        write_base(self._files, self._paths.base + end, header, self._master, ascending)

    def _install_base(self, end: str, header: Header) -> None:
        self._ours.rename(self._paths.base + end, self._paths.base)
        self._files.sync_directory(self._paths.base)
        # Only now: until the name is durable the journal must reach back to the old file.
        self._header = header

    def _empty_journal(self, end: str, after: int) -> Journal:
        header = JournalHeader(self.realm, self._header.store_id, self._header.key_id, after)
        return Journal.create(self._files, self._paths.journal + end, header, self._master)

    def _new_journal(self, end: str, header: Header, upto: int) -> Journal | None:
        """Copy the journal behind ``header``, not durably; None if it is not there whole."""
        journal = self._empty_journal(end, header.generation)
        try:
            if copy_history(self._files, self._paths, header, self._master, journal, upto):
                return journal
        except OSError:
            journal.discard()
            raise
        journal.discard()
        return None

    def _install_journal(self, journal: Journal) -> None:
        self._ours.rename(journal.path, self._paths.journal)
        old, self._journal = self._journal, journal
        journal.path = self._paths.journal
        with contextlib.suppress(OSError):
            old.close()
        # Until the name is durable, a power cut could bring the old journal back.
        journal.sound = False
        self._files.sync_directory(self._paths.journal)
        journal.sound = True
