"""What is moved, from where and to where."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from kdc.files.directory import check_directory
from kdc.protocol.names import check_realm
from kdc.store.etcd.api import Link
from kdc.store.etcd.filling import MOST_CHANGES, Filling, Told
from kdc.store.etcd.following import PAGE
from kdc.store.etcd.opening import EtcdFiles
from kdc.store.etcd.wire import Keys
from kdc.store.flatfile.opening import take_lock
from kdc.store.flatfile.paths import Paths
from kdc.store.moving._files import MovedFiles
from kdc.store.sealed.files import Files

__all__ = ["Move", "Sides"]


@attrs.frozen
class Move:
    """What was moved.  ``again``: it had been moved before, whole."""

    principals: int
    generation: int
    again: bool = False


@attrs.frozen
class Sides:
    """One store of ``realm``: in its file at ``file``, or in etcd with ``node`` beside it.

    ``beside``: the files that a KDC has besides, as they are called on either side; those
    that are there are copied.  ``told`` hears how far it is.
    """

    link: Link
    realm: str = attrs.field(converter=check_realm)
    file: Paths
    node: EtcdFiles
    beside: Sequence[tuple[str, str]] = ()
    told: Told = lambda what, done, of: None
    files: Files = attrs.field(factory=Files)
    random: Callable[[int], bytes] = os.urandom
    pause: Callable[[float], None] = time.sleep
    page: int = PAGE
    most_changes: int = MOST_CHANGES

    @property
    def filling(self) -> Filling:
        return Filling(self.link, Keys(self.realm), self.pause, self.page, self.most_changes)

    @property
    def own(self) -> MovedFiles:
        return MovedFiles(self.files)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the file's lock: no KDC runs on it."""
        for path in (self.file.base, self.node.key):
            check_directory(Path(path))
        lock = take_lock(self.files, self.file)
        try:
            yield lock
        finally:
            self.files.close(lock)
