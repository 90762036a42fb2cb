"""Looks at every line of a realm in etcd; changes nothing, there or here, and needs no lock."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs

from kdc.store import StoreError, StoreUnavailable
from kdc.store.etcd.api import EtcdError, Link
from kdc.store.etcd.following import load
from kdc.store.etcd.opening import EtcdFiles
from kdc.store.etcd.view import DoesNotFollow, Moved, RealmKeys, View
from kdc.store.etcd.wire import BadAnswer
from kdc.store.sealed.files import Files
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.lines import BadLine, name_of
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import lines_of

__all__ = ["Examined", "examine"]

_MOST = 1000  # of more it is told that there are more


@attrs.frozen
class Examined:
    """How many principals there are, and what is wrong."""

    count: int
    problems: list[str]


def examine(link: Link, paths: EtcdFiles, realm: str, files: Files | None = None) -> Examined:
    """Raises `StoreError` if it cannot even be looked at, as without its master key."""
    files = files or Files()
    try:
        masters = MasterKeys.read(files, paths.key)
    except OSError as error:
        raise StoreError(f"cannot read {paths.key}: {error.strerror}") from error
    try:
        view = load(link, RealmKeys(masters, realm, os.urandom))
    except EtcdError as error:
        raise StoreUnavailable(
            f"etcd cannot be reached: {error}",
            hint="look whether most of its members run, and whether we may use it",
        ) from None
    except (BadAnswer, DoesNotFollow) as error:
        return Examined(0, [str(error)])
    except Moved as error:
        raise StoreError(str(error)) from None
    if view is None:
        return Examined(0, [f"there is no store of {realm}"])
    problems: list[str] = []
    for problem in _problems(view, paths, files):
        if len(problems) == _MOST:
            problems.append("there are more")
            break
        problems.append(problem)
    return Examined(len(view.content.table), problems)


def _problems(view: View, paths: EtcdFiles, files: Files) -> Iterator[str]:
    store_id = view.head.store_id
    try:
        before = KeptGeneration.read(files, paths.generation, store_id)
    except OSError as error:
        yield f"cannot read {paths.generation}: {error.strerror}"
    else:
        if before is not None and before > view.generation:
            yield f"it is at generation {view.generation}, and was at {before} before"
    for line in lines_of(view.content.table.snapshot()):
        try:
            view.content.sealer.entry(line)
        except BadLine as error:
            yield f"the line of {name_of(line).decode('ascii', 'replace')} {error}"
