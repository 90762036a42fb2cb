"""From etcd into the file."""

from __future__ import annotations

import contextlib

from kdc.store import StoreError, StoreInUse, StoreUnavailable
from kdc.store.etcd.api import EtcdError
from kdc.store.etcd.following import load
from kdc.store.etcd.head import BadHead, Closed, Head, closed
from kdc.store.etcd.view import DoesNotFollow, Moved, RealmKeys, View
from kdc.store.etcd.wire import BadAnswer
from kdc.store.flatfile.base import Header
from kdc.store.moving._files import in_the_way, reported
from kdc.store.moving._sides import Move, Sides
from kdc.store.sealed.lines import BadLine, Sealer, name_of
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import Table, lines_of

_TRIES = 20
_AGAIN_SECONDS = 0.3

__all__ = ["from_etcd"]


def from_etcd(sides: Sides) -> Move:
    """Move it back; what was cut short is completed.

    Raises `StoreError`.  Once everything is good every node refuses, and only then
    is the file written.
    """
    with sides.locked():
        value, _ = sides.filling.head()
        keys, head = _opened(sides, value)
        header = sides.own.header(sides.file.base)
        if header is not None:
            return _moved_back(sides, value, head, header)
        _check_beside(sides, head)
        copies = sides.own.copies([(there, here) for here, there in sides.beside])
        if closed(value) is None:
            _load(sides, keys)  # is it whole?
            _close(sides, keys)
        view = _load(sides, keys, closed_too=True)
        _write_file(sides, keys, view, copies)
    return Move(len(view.content.table), view.generation)


def _opened(sides: Sides, value: bytes) -> tuple[RealmKeys, Head]:
    """Return the master keys, and what they say the head is or was."""
    found = closed(value)
    if not value:
        raise StoreError(
            f"etcd has no store of {sides.realm}", hint="check the realm and the members"
        )
    if found is not None and found.state == "loading":
        raise StoreError(str(Moved(found)), hint="finish that move first, where it was begun")
    with reported(f"read {sides.node.key}"):
        masters = MasterKeys.read(sides.files, sides.node.key)
    keys = RealmKeys(masters, sides.realm, sides.random)
    try:
        return keys, keys.opened(value if found is None else found.before)[0]
    except BadHead as error:
        raise StoreError(
            f"{sides.node.key} does not open what is in etcd: {error}",
            hint="nothing was changed; copy the master key file from a node",
        ) from None


def _moved_back(sides: Sides, value: bytes, head: Head, header: Header) -> Move:
    own = header.store_id == head.store_id and header.generation >= head.generation
    if closed(value) is None or not own:
        raise in_the_way(sides.file.base)
    return Move(header.count, header.generation, again=True)


def _check_beside(sides: Sides, head: Head) -> None:
    own, file = sides.own, sides.file
    for path in (sides.node.generation, file.generation):
        own.check_generation(path, head.store_id, head.generation)
    own.has_key(file.key, head.key_id)
    # What was not in a file that was moved, nobody knows where else it is.
    known = own.header(file.moved)
    if sides.files.exists(file.journal) and (known is None or known.store_id != head.store_id):
        raise in_the_way(file.journal)


def _load(sides: Sides, keys: RealmKeys, *, closed_too: bool = False) -> View:
    for left in reversed(range(_TRIES)):
        try:
            view = load(sides.link, keys, sides.page, closed_too=closed_too)
            if view is None:
                raise DoesNotFollow("the head is gone")
            return view
        except EtcdError as error:
            if not left:
                raise StoreUnavailable(
                    f"etcd cannot be reached: {error}", hint="do the same again later"
                ) from None
        except (BadAnswer, DoesNotFollow, Moved) as error:
            raise StoreError(
                f"the store of {sides.realm} in etcd is not whole: {error}",
                hint="see what the nodes say",
            ) from None
        sides.pause(_AGAIN_SECONDS)
    raise AssertionError("no try at all")


def _close(sides: Sides, keys: RealmKeys) -> None:
    """Put in the head's place that the store was moved away, and what the head was."""
    for _ in range(_TRIES):
        value, revision = sides.filling.head()
        if closed(value) is not None:
            return
        try:
            head, _ = keys.opened(value)
        except BadHead as error:
            raise StoreError(f"etcd: {error}", hint="see what the nodes say") from None
        shut = Closed("closed", head.store_id, head.key_id, value)
        if sides.filling.put_head(revision, shut.text()) is not None:
            return
    raise StoreInUse(
        "the nodes change the store faster than it can be closed",
        hint="nothing was changed; try again, or stop the nodes first",
    )


def _write_file(sides: Sides, keys: RealmKeys, view: View, copies: list[tuple[str, bytes]]) -> None:
    head, file, own = view.head, sides.file, sides.own
    table = _one_key(sides, keys, view)
    master = keys.masters.by_id[head.key_id]
    header = Header(sides.realm, head.store_id, head.key_id, head.generation, head.count)
    own.write_key(file.key, head.key_id, master)
    own.copy(copies)
    own.keep(file.generation, header)
    own.remove(file.journal)
    # Last: whoever finds it finds everything.
    own.write(file.base, header, master, table)


def _one_key(sides: Sides, keys: RealmKeys, view: View) -> Table:
    """Return the lines, all under the head's key: a rotation may not have ended."""
    single = keys.single(view.head.store_id, view.head.key_id)
    found, table = view.content.table, Table()
    for chunk in found.snapshot():
        lines = [_under(single, view, line) for line in lines_of([chunk])]
        table.extend(b"".join(lines), len(lines))
        sides.told("checking", len(table), len(found))
    return table


def _under(single: Sealer, view: View, line: bytes) -> bytes:
    with contextlib.suppress(BadLine):
        single.entry(line)
        return line
    try:
        return single.lines([view.content.sealer.entry(line)])[0]
    except BadLine as error:
        raise StoreError(f"etcd: the line of {name_of(line)!r} {error}") from None
