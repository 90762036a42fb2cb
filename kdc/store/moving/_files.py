"""The files on both sides of a move: what is checked of them, copied, written and renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import attrs

from kdc.store import StoreError, StoreUnavailable
from kdc.store.flatfile.base import Header, first_line, write_base
from kdc.store.sealed.files import Files, read_whole, replace
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import Table

__all__ = ["MovedFiles", "in_the_way", "reported"]


@attrs.frozen
class MovedFiles:
    """What is there already is never written over, unless it is the same; raises `StoreError`."""

    _files: Files

    def header(self, path: str) -> Header | None:
        """Return the first line of a flat file; None if there is none, or an empty one."""
        with reported(f"read {path}"):
            try:
                fd = self._files.open(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            try:
                if self._files.fstat(fd).st_size == 0:
                    return None
                header = Header.parse(first_line(self._files, fd))
            finally:
                self._files.close(fd)
        if header is None:
            raise in_the_way(path)
        return header

    def check_generation(self, path: str, store_id: str, generation: int) -> None:
        """Refuse what is older than ``path`` says that the store was."""
        with reported(f"read {path}"):
            kept = KeptGeneration.read(self._files, path, store_id)
        if kept is not None and kept > generation:
            raise StoreError(
                f"the store is at generation {generation}, and was at {kept} before ({path}):"
                " an older state was put back",
                hint="find the newer one; if this is meant, remove that file",
            )

    def keep(self, path: str, header: Header) -> None:
        kept = KeptGeneration(self._files, path, header.store_id)
        with reported(f"write {path}"):
            kept.start(header.generation)
            kept.close()

    def has_key(self, path: str, key_id: str) -> bool:
        """Whether that master key is at ``path``; False if there is no file at all."""
        with reported(f"read {path}"):
            if not self._files.exists(path):
                return False
            if key_id not in MasterKeys.read(self._files, path).by_id:
                raise in_the_way(path)
            return True

    def write_key(self, path: str, key_id: str, master: bytes) -> None:
        if not self.has_key(path, key_id):
            with reported(f"write {path}"):
                MasterKeys({key_id: master}).write(self._files, path)

    def copies(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, bytes]]:
        """Return what is to be copied where, of (from, to)."""
        copies = []
        for source, target in pairs:
            with reported(f"read {source}"):
                if not self._files.exists(source):
                    continue
                content = read_whole(self._files, source)
            with reported(f"read {target}"):
                if not self._files.exists(target):
                    copies.append((target, content))
                elif read_whole(self._files, target) != content:
                    raise in_the_way(target)
        return copies

    def copy(self, copies: list[tuple[str, bytes]]) -> None:
        for path, content in copies:
            with reported(f"write {path}"):
                replace(self._files, path, content)

    def write(self, path: str, header: Header, master: bytes, table: Table) -> None:
        """Make this the whole of the flat file, durably."""
        with reported(f"write {path}"):
            write_base(self._files, path + ".new", header, master, table.snapshot())
            self._files.rename(path + ".new", path)
            self._files.sync_directory(path)

    def rename(self, path: str, to: str) -> None:
        with reported(f"rename {path}"):
            self._files.rename(path, to)
            self._files.sync_directory(path)

    def remove(self, path: str) -> None:
        with reported(f"remove {path}"):
            self._files.remove_if_there(path)


def in_the_way(path: str) -> StoreError:
    return StoreError(
        f"{path} is there already, and is another than the one that is moved",
        hint="nothing was changed; move it away if nobody needs it there",
    )


@contextlib.contextmanager
def reported(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"cannot {action}: {error.strerror or error}",
            hint="repair the disk, and do the same again: it goes on where it was",
        ) from error
