"""Copying a flat-file store while it is in use."""

from __future__ import annotations

import os

from kdc.errors import ErrorKind
from kdc.store import StoreError
from kdc.store.flatfile.check import check
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.files import Files, pieces_of, replace

__all__ = ["backup"]


def backup(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    with_key: bool = False,
    key_path: str | os.PathLike[str] | None = None,
    files: Files | None = None,
) -> list[str]:
    """Copy pwd.txt and its journal to ``directory``, and check the copy; return its files.

    It may run beside the server.  Without the master key the copy reveals
    nothing and restores nothing: keep a copy of the key elsewhere.  Raises
    `StoreError` if the copy cannot be made or is not good, or a file is there.
    """
    files = files or Files()
    paths = Paths.of(path, key_path)
    target = os.path.join(os.path.abspath(os.fspath(directory)), os.path.basename(paths.base))
    copies = {paths.base: target, paths.journal: target + ".journal"}
    if with_key:
        copies[paths.key] = target + ".key"
    for copy in copies.values():
        if files.exists(copy):
            raise StoreError(f"{copy} is there already", hint="name an empty directory")
    try:
        for source, copy in copies.items():
            if files.exists(source):
                replace(files, copy, pieces_of(files, source))
    except OSError as error:
        raise StoreError(f"cannot back up {paths.base}: {error.strerror}") from error
    problems = check(target, key_path=paths.key, files=files)
    fatal = [problem for problem in problems if not problem.harmless]
    if fatal:
        raise StoreError(
            f"the backup is not good: {fatal[0]}",
            hint="check the store itself",
            kind=ErrorKind.STORE_DAMAGED,
            facts={"path": paths.base},
        )
    return [copy for copy in copies.values() if files.exists(copy)]
