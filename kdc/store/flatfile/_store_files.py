"""The files of an open store, and how each takes the place of the one before it.

A file is written whole under another name, made durable, and renamed; the journal
alone grows.  The order of these steps is what docs/store.md proves its promises by.
"""

from __future__ import annotations

import contextlib

import attrs

from kdc.store.flatfile._journal import Journal, JournalHeader
from kdc.store.flatfile._ours import Ours
from kdc.store.flatfile._replay import copy_history
from kdc.store.flatfile.base import WITH_PARTS, Header, write_base
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.files import Files
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.lines import has_part
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import Table

__all__ = ["StoreFiles"]


class StoreFiles:
    """What is on the disk; whoever changes it holds the store's lock.

    ``header`` is the first line of the pwd.txt that is surely on the disk.  Everything
    here raises `OSError`, also when a file is no longer ours: ``ours.lost`` then says why.
    """

    def __init__(
        self,
        paths: Paths,
        files: Files,
        header: Header,
        master: bytes,
        journal: Journal,
        kept: KeptGeneration,
        lock: int,
        ours: Ours,
        journal_format: int,
        made: tuple[str, ...] = (),
    ) -> None:
        self.paths = paths
        self.header = header
        self.ours = ours
        self._files = files
        self._master = master
        self._journal = journal
        self._kept = kept
        self._lock = lock
        self._journal_format = journal_format
        self._made = made

    def check_ours(self) -> None:
        """Raise `OSError` if any file is no longer ours; then none ever is again."""
        if self._journal.sound:
            self.ours.check(self.paths.journal, self._journal.size)
        else:
            # A write to it has failed: how long it is now, nobody knows.
            self.ours.check()

    def append(self, lines: list[bytes], table: Table, before: int, after: int) -> None:
        """Make ``lines`` durable; they lead from generation ``before``, that of ``table``."""
        self.check_ours()
        if self._journal_format < WITH_PARTS and any(map(has_part, lines)):
            self._journal_format = WITH_PARTS
            self._journal.sound = False  # in its first line
        self.mend_journal(table, before)
        self._journal.append(lines, after)

    def keep(self, generation: int) -> None:
        """Write down that this generation was reached, so that an older copy is noticed."""
        self._kept.advance(generation, self.ours.rename)

    def mend_journal(self, table: Table, generation: int) -> None:
        """Put a new journal in the place of one that cannot be trusted."""
        if not self._journal.sound:
            self._renew_journal(table, generation)

    def header_of(self, table: Table, generation: int) -> Header:
        """Return the first line of a pwd.txt that were written now."""
        return self.header.now(table, generation)

    def fold(self, header: Header, chunks: list[bytes]) -> Journal:
        """Write the next pwd.txt, and the journal for it, beside those that are in use.

        Needs no lock: `switch` puts them there.
        """
        previous = self.header
        self._write_base(".fold", header, chunks)
        # What the old pwd.txt lacks stays in the journal once more: a copy of
        # both files, begun before this and ended after it, must fit together.
        journal = self._new_journal(".fold", previous, header.generation)
        if journal is None:
            journal = self._empty_journal(".fold", header.generation)
        try:
            journal.sync()
        except OSError:
            journal.discard()
            raise
        return journal

    def switch(self, header: Header, journal: Journal, since: list[bytes], generation: int) -> None:
        """Go on with what `fold` wrote, and the lines that were committed ``since``."""
        try:
            if since:
                journal.write(since, generation)
                journal.sync(data_only=True)
            self._install_base(".fold", header)
            self._install_journal(journal)
        except OSError:
            if self._journal is not journal:
                journal.discard()
            raise

    def forget_fold(self) -> None:
        """Remove what a fold that failed has left; unless it may be another process's."""
        if not self.ours.lost:
            with contextlib.suppress(OSError):
                self._files.remove_if_there(self.paths.base + ".fold")

    def rotate(
        self, keys: MasterKeys, key_id: str, master: bytes, resealed: Table, generation: int
    ) -> None:
        """Go over to a new key and pwd.txt; the journal is unsound until `finish_rotation`."""
        header = attrs.evolve(self.header_of(resealed, generation), key_id=key_id)
        # Both keys first: whichever files a crash leaves, they can be opened.
        both = MasterKeys({**keys.by_id, self.header.key_id: self._master})
        both.write(self._files, self.paths.key, self.ours.rename)
        write_base(self._files, self.paths.base + ".new", header, master, resealed.snapshot())
        self.ours.rename(self.paths.base + ".new", self.paths.base)
        # From here on the name shows the new file, so go on with it whatever fails;
        # the old journal must not take another change.
        self.header, self._master = header, master
        self._journal_format = header.format  # what comes next is a journal without a past
        self._journal.sound = False

    def finish_rotation(self, keys: MasterKeys, table: Table, generation: int) -> None:
        """Make the new pwd.txt durable, and let the old key go."""
        self._files.sync_directory(self.paths.base)
        self._renew_journal(table, generation)
        keys.write(self._files, self.paths.key, self.ours.rename)

    def sync_kept(self) -> None:
        """Make the generation durable; nothing that was promised depends on it."""
        with contextlib.suppress(OSError):
            self._kept.sync()

    def close(self) -> None:
        self.sync_kept()
        self.ours.close()
        self._kept.close()
        self._journal.close()
        self._files.close(self._lock)

    def discard(self) -> None:
        """As `close`; what was made when it was opened is removed, while the lock is held."""
        with contextlib.suppress(OSError):
            if self._made:
                self.ours.check()
            for path in self._made:
                self._files.remove_if_there(path)
        self.close()

    def _renew_journal(self, table: Table, generation: int) -> None:
        journal = self._new_journal(".new", self.header, generation)
        if journal is None:
            # The old one cannot be read, so write down what is in memory.
            header = self.header_of(table, generation)
            self._write_base(".new", header, table.snapshot())
            self._install_base(".new", header)
            journal = self._empty_journal(".new", generation)
        try:
            journal.sync()
            self._install_journal(journal)
        except OSError:
            if self._journal is not journal:
                journal.discard()
            raise

    def _write_base(self, end: str, header: Header, chunks: list[bytes]) -> None:
        chunks.reverse()
        # Each chunk is let go as it is written: many have been replaced by then.
        ascending = (chunks.pop() for _ in range(len(chunks)))
        write_base(self._files, self.paths.base + end, header, self._master, ascending)

    def _install_base(self, end: str, header: Header) -> None:
        self.ours.rename(self.paths.base + end, self.paths.base)
        self._files.sync_directory(self.paths.base)
        # Only now: until the name is durable the journal must reach back to the old file.
        self.header = header

    def _empty_journal(self, end: str, after: int) -> Journal:
        of = self.header
        form = self._journal_format
        header = JournalHeader(of.realm, of.store_id, of.key_id, after, form)
        return Journal.create(self._files, self.paths.journal + end, header, self._master)

    def _new_journal(self, end: str, header: Header, upto: int) -> Journal | None:
        """Copy the journal behind ``header``, not durably; None if it is not there whole."""
        journal = self._empty_journal(end, header.generation)
        try:
            if copy_history(self._files, self.paths, header, self._master, journal, upto):
                return journal
        except OSError:
            journal.discard()
            raise
        journal.discard()
        return None

    def _install_journal(self, journal: Journal) -> None:
        self.ours.rename(journal.path, self.paths.journal)
        old, self._journal = self._journal, journal
        journal.path = self.paths.journal
        with contextlib.suppress(OSError):
            old.close()
        # Until the name is durable, a power cut could bring the old journal back.
        journal.sound = False
        self._files.sync_directory(self.paths.journal)
        journal.sound = True
