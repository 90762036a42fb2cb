"""From the file into etcd."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import attrs

from kdc.store import StoreError, StoreInUse
from kdc.store.etcd.head import (
    BATCH_BYTES,
    BadHead,
    Closed,
    Head,
    HeadKeys,
    closed,
    generation_of_head,
    key_id_of_head,
)
from kdc.store.etcd.opening import lock_node
from kdc.store.flatfile.base import Header
from kdc.store.flatfile.opening import open_files
from kdc.store.moving._files import in_the_way, reported
from kdc.store.moving._sides import Move, Sides
from kdc.store.sealed.table import Table, lines_of

__all__ = ["to_etcd"]


@attrs.frozen
class _Source:
    """A flat file that was read whole, with its journal.

    ``moved``: it has its other name already.  ``behind``: some of it is only in the journal.
    """

    header: Header
    master: bytes = attrs.field(repr=False)
    table: Table
    moved: bool
    behind: bool


def to_etcd(sides: Sides) -> Move:
    """Move it; what was cut short is completed, what is there already is not repeated.

    Raises `StoreError`.  Until the file has its other name it can be opened as before.
    """
    with sides.locked() as lock, _node_locked(sides):
        source = _source(sides)
        revision, before = _room(sides, source)
        if revision is not None:
            _prepare(sides, source)
            if source.moved:
                _fill(sides, source, revision, before, lambda: None)
            else:
                _fill(sides, source, revision, before, lambda: _rename_away(sides, lock))
        # All of it is in the file that was moved.
        sides.own.remove(sides.file.journal)
    return Move(source.header.count, source.header.generation, revision is None)


@contextlib.contextmanager
def _node_locked(sides: Sides) -> Iterator[None]:
    lock = lock_node(sides.files, sides.node)
    try:
        yield
    finally:
        sides.files.close(lock)


def _source(sides: Sides) -> _Source:
    """Read the file and its journal; nothing is changed."""
    moved = sides.files.exists(sides.file.moved) and not sides.files.exists(sides.file.base)
    paths = attrs.evolve(sides.file, base=sides.file.moved) if moved else sides.file
    found = open_files(sides.files, paths, sides.realm, False, sides.random, False)
    found.journal.close()
    header, table = found.header, found.table
    behind = found.generation != header.generation
    header = attrs.evolve(header, generation=found.generation, count=len(table))
    return _Source(header, found.master, table, moved, behind)


def _room(sides: Sides, source: _Source) -> tuple[int | None, bytes]:
    """Return the head to be replaced and what it was before; None if all is there already.

    Raises `StoreError` unless there is room for this very store.
    """
    value, revision = sides.filling.head()
    if not value:
        if source.moved:
            raise StoreError(
                f"{sides.file.base} was moved, and etcd has nothing of {sides.realm}",
                hint="put etcd's content back from its backup; if nothing was changed there"
                f" since, give {sides.file.moved} its old name, and move it again",
            )
        return 0, b""
    if _store_id_of(value) != source.header.store_id:
        raise StoreError(
            f"etcd has another store of {sides.realm}",
            hint="nothing was changed; if nobody needs that one, remove its keys first",
        )
    found = closed(value)
    if found is not None:
        _check_newer(sides, source, found)
        return revision, found.before
    if source.moved:
        return None, b""
    raise StoreError(
        f"etcd has this very store of {sides.realm}, and it is in use there",
        hint=f"nothing was changed; {sides.file.base} is a copy, or was put back",
    )


def _check_newer(sides: Sides, source: _Source, found: Closed) -> None:
    """Refuse to load what is older than what etcd had; which key that is under is no matter."""
    if found.state == "closed" and source.moved:
        raise StoreError(
            "the store is being moved back from etcd, where it is newer",
            hint="nothing was changed; finish that first",
        )
    before = generation_of_head(found.before) if found.before else 0
    if before > source.header.generation:
        raise StoreError(
            f"{sides.file.base} is at generation {source.header.generation}, and the store"
            f" was at {before} in etcd: it is older",
            hint="nothing was changed; find the newer file, or move that store back first",
        )


def _prepare(sides: Sides, source: _Source) -> None:
    """Have beside the node what it needs of what is beside the file, and the file whole."""
    header, node, own = source.header, sides.node, sides.own
    own.check_generation(node.generation, header.store_id, header.generation)
    own.has_key(node.key, header.key_id)
    if not source.moved:
        # What was moved before is written over: the same store, of an earlier time, or nothing.
        before = own.header(sides.file.moved)
        if before is not None and before.store_id != header.store_id:
            raise in_the_way(sides.file.moved)
    copies = own.copies(sides.beside)
    if source.behind:
        # What is moved away is the whole of it.
        own.write(sides.file.base, header, source.master, source.table)
    own.write_key(node.key, header.key_id, source.master)
    own.copy(copies)
    own.keep(node.generation, header)


def _fill(
    sides: Sides, source: _Source, revision: int, before: bytes, rename: Callable[[], None]
) -> None:
    header, filling = source.header, sides.filling
    store_id, key_id, generation = header.store_id, header.key_id, header.generation
    shut = Closed("loading", store_id, key_id, before)
    revision = filling.claim(revision, shut)
    chunks = source.table.snapshot()
    filling.fill(chunks, header.count, key_id, revision, sides.told)
    keys, number = HeadKeys(source.master, store_id), sides.random(BATCH_BYTES)
    head = Head(store_id, key_id, generation, generation, header.count, number)
    sealed = keys.seal(head, keys.total(lines_of(chunks)), sides.random)
    # An etcd that the lines have filled takes no head: that is better known before.
    revision = filling.claim(revision, shut)
    # First the name: at no moment can both be opened.
    rename()
    filling.finish(revision, sealed)


def _rename_away(sides: Sides, lock: int) -> None:
    """Unless somebody else has made himself a lock meanwhile: he may have changed the file."""
    with reported(f"look at {sides.file.lock}"):
        at, ours = sides.files.statuses([sides.file.lock])[0], sides.files.fstat(lock)
    if at is None or (at.st_dev, at.st_ino) != (ours.st_dev, ours.st_ino):
        raise StoreInUse(
            f"{sides.file.lock} was removed or replaced: somebody else may have the store",
            hint="see who; do the same again when nobody has",
        )
    sides.own.rename(sides.file.base, sides.file.moved)


def _store_id_of(value: bytes) -> str | None:
    """Return whose a head is, or what stands in the place of one; None if it is neither."""
    found = closed(value)
    if found is not None:
        return found.store_id
    try:
        return key_id_of_head(value)[0]
    except BadHead:
        return None
