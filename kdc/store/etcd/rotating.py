"""Another master key for a store in etcd: line by line, then the head, while others go on."""

from __future__ import annotations

import functools

from kdc.store import StoreUnavailable
from kdc.store.etcd.changing import Changing, Wanted
from kdc.store.etcd.following import Following
from kdc.store.etcd.view import View
from kdc.store.nodes import newer_key_ids
from kdc.store.sealed.files import Files
from kdc.store.sealed.lines import BadLine, Sealer, name_of
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import lines_of

__all__ = ["add_master_key", "rotate"]


def add_master_key(changing: Changing, following: Following, files: Files, path: str) -> str:
    """Return the key of the key file that is newer than the store's, made if there is none."""
    keys, key_id = following.view.realm_keys, following.view.head.key_id
    keys.refresh()
    newer = newer_key_ids(tuple(keys.masters.by_id), key_id)
    if newer:
        return newer[0]
    new = MasterKeys.generate(changing.random)
    both = MasterKeys({**new.by_id, **keys.masters.by_id})
    _write(both, files, path)
    keys.masters = both
    return next(iter(new.by_id))


def rotate(
    changing: Changing, following: Following, files: Files, path: str, most_changes: int
) -> None:
    """Seal everything under the newer key, and leave only that in the key file.

    If the file has only older ones beside the store's, it was done before, by us or by
    another node: then they are dropped.
    """
    keys, now = following.view.realm_keys, following.view.head.key_id
    keys.refresh()
    key_ids = tuple(keys.masters.by_id)
    if now in key_ids[:1] and len(key_ids) > 1:
        new = now
    else:
        new = add_master_key(changing, following, files, path)
    while following.view.head.key_id != new:
        lines = list(lines_of(following.view.content.table.snapshot()))
        for at in range(0, len(lines), most_changes):
            names = [name_of(line) for line in lines[at : at + most_changes]]
            changing.change(functools.partial(_resealed, new, names))
        changing.change(functools.partial(_switched, new))
    only = MasterKeys({new: keys.masters.by_id[new]})
    _write(only, files, path)
    keys.masters = only


def _write(keys: MasterKeys, files: Files, path: str) -> None:
    try:
        keys.write(files, path)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot write {path}: {error.strerror}",
            hint="repair the disk and do it again: it goes on where it was",
        ) from error


def _resealed(key_id: str, names: list[bytes], view: View) -> Wanted | None:
    """Seal those of these lines that are not under that key yet; each keeps its generation."""
    sealer = view.realm_keys.single(view.head.store_id, key_id)
    found = [line for line in map(view.content.table.get, names) if line is not None]
    old = [line for line in found if not _opens(sealer, line)]
    if not old:
        return None
    lines = sealer.lines([view.content.sealer.entry(line) for line in old])
    return Wanted(view.generation, dict(zip(map(name_of, old), lines, strict=True)), key_id)


def _switched(key_id: str, view: View) -> Wanted | None:
    """Put the head under that key, if every line is; what others have written meanwhile may not."""
    sealer = view.realm_keys.single(view.head.store_id, key_id)
    snapshot = view.content.table.snapshot()
    if view.head.key_id == key_id or not all(_opens(sealer, line) for line in lines_of(snapshot)):
        return None
    return Wanted(view.generation, {}, head_key_id=key_id)


def _opens(sealer: Sealer, line: bytes) -> bool:
    try:
        sealer.entry(line)
    except BadLine:
        return False
    return True
