"""Write a store of this version: ``python -m tests.vectors.make_store_vectors DIR``.

Its output for version 1 is committed in ``tests/vectors/store-1`` and never
edited: every later version must open it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable

from kdc.store import Create, Delete, Purge, Replace, Status
from kdc.store.flatfile._store import FlatFileStore
from tests.support.store_conformance import active, invited, token

__all__ = ["make"]


def counting_random() -> Callable[[int], bytes]:
    """Return a source of "random" bytes that are always the same: for vectors only."""
    count = 0

    def random(length: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(b"kdc store vector %d" % count).digest(length)

    return random


def make(directory: str) -> None:
    """Write pwd.txt with a journal that it needs, and abandon them as a crash would."""
    store = FlatFileStore.open(
        os.path.join(directory, "pwd.txt"), realm="VECTORS", random=counting_random()
    )
    store.apply([Create(active("alice"), token(1)), Create(invited("bob"), token(2))])
    store.apply([Create(active("carol", address="2001:db8::1"), token(3))])
    store.apply([Create(active("dave"), token(4)), Create(active("erin"), token(5))])
    store.fold()
    store.apply([Replace(active("alice", status=Status.DISABLED), 1)])
    store.apply([Delete("dave", 4, changed_time=17), Delete("erin", 5)])
    store.apply([Purge("erin", 8)])


if __name__ == "__main__":
    make(sys.argv[1])
