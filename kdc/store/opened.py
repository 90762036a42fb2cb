"""Opening the store at a path, whichever kind it is.

Programs open stores here only, and then know them as `kdc.store.Store`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kdc.files.directory import check_directory
from kdc.store import Store

if TYPE_CHECKING:
    from kdc.store.etcd.api import EtcdSettings
    from kdc.store.etcd.checking import Examined

__all__ = ["check_etcd", "open_store"]


def check_etcd(
    etcd: EtcdSettings,
    path: Path,
    *,
    realm: str,
    key_path: Path | None = None,
    generation_path: Path | None = None,
) -> Examined:
    """Look at every line of ``realm`` in etcd, with what a node keeps beside ``path``.

    Raises `kdc.store.StoreError`, `kdc.errors.ConfigurationError`.
    """
    from kdc.store.etcd.checking import examine
    from kdc.store.etcd.opening import EtcdFiles, connected

    link, *others = connected(etcd)
    try:
        return examine(link, EtcdFiles.of(path, key_path, generation_path), realm)
    finally:
        for each in (link, *others):
            each.close()


def open_store(
    path: Path,
    *,
    realm: str,
    create: bool = True,
    key_path: Path | None = None,
    generation_path: Path | None = None,
    accept_rollback: bool = False,
    synced: Callable[[float], None] | None = None,
    etcd: EtcdSettings | None = None,
    confirm_seconds: float = 10.0,
) -> Store:
    """Open the store at ``path``, or make it if ``create``.

    With ``etcd`` it is there, confirmed within ``confirm_seconds``, and beside ``path`` is
    only what a node keeps for itself.

    Master key and generation are beside it unless they are named;
    ``accept_rollback`` takes a store that is older than the last one seen.  ``synced`` is told
    how many seconds each wait for the disk took, in whatever thread it was.
    Raises `kdc.store.StoreError`, or `kdc.errors.ConfigurationError` if others could put
    files of theirs in the place of these; then nothing was changed that was there.
    """
    for each in (path, key_path, generation_path):
        if each is not None:
            check_directory(each)
    if etcd is not None:
        from kdc.store.etcd.opening import EtcdFiles, connected, open_etcd

        store = open_etcd(
            connected(etcd),
            EtcdFiles.of(path, key_path, generation_path),
            realm=realm,
            create=create,
            accept_rollback=accept_rollback,
            confirm_seconds=confirm_seconds,
        )
        store.start()
        return store
    from kdc.store.flatfile import FlatFileStore  # who asks the KDC needs none
    from kdc.store.sealed.files import TimedFiles

    return FlatFileStore.open(
        path,
        realm=realm,
        create=create,
        key_path=key_path,
        generation_path=generation_path,
        accept_rollback=accept_rollback,
        files=None if synced is None else TimedFiles(synced),
    )
