"""Both stores of this package pass what any store must."""

from __future__ import annotations

from kdc.store import Store
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.memory import MemoryStore
from tests.support.store_conformance import StoreConformance


class MemoryStoreTests(StoreConformance):
    def make_store(self) -> Store:
        store = MemoryStore()
        self.addCleanup(store.close)
        return store


class FlatFileStoreTests(StoreConformance):
    def make_store(self) -> Store:
        store = FlatFileStore.open(self.mktemp(), realm="LOCAL")
        self.addCleanup(store.close)
        return store


del StoreConformance  # it is no test by itself
