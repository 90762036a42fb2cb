"""Opening the store at a path, whichever kind it is.

Programs open stores here only, and then know them as `kdc.store.Store`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kdc.files.directory import check_directory
from kdc.store import Store

__all__ = ["open_store"]


def open_store(
    path: Path,
    *,
    realm: str,
    create: bool = True,
    key_path: Path | None = None,
    generation_path: Path | None = None,
    accept_rollback: bool = False,
    synced: Callable[[float], None] | None = None,
) -> Store:
    """Open the store at ``path``, or make it if ``create``.

    Master key and generation are beside it unless they are named;
    ``accept_rollback`` takes a store that is older than the last one seen.  ``synced`` is told
    how many seconds each wait for the disk took, in whatever thread it was.
    Raises `kdc.store.StoreError`, or `kdc.errors.ConfigurationError` if others could put
    files of theirs in the place of these; then nothing was changed that was there.
    """
    for each in (path, key_path, generation_path):
        if each is not None:
            check_directory(each)
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
