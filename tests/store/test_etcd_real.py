"""The store in a real etcd: the same conformance, with threads, alone and as two nodes."""

from __future__ import annotations

import atexit
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import (
    Change,
    Create,
    Record,
    Result,
    Store,
    StoreUnavailable,
    StoreUncertain,
)
from kdc.store.etcd.api import EtcdSettings
from kdc.store.etcd.opening import EtcdFiles, connected, open_etcd
from kdc.store.etcd.store import EtcdStore
from kdc.store.nodes import Node, NodeFacts
from tests.support.etcd_server import EtcdCluster, installed
from tests.support.processes import PATIENCE_SECONDS
from tests.support.store_conformance import StoreConformance, active, token


def eventually(what: str, true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if time.monotonic() > until:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


class RealCase(SynchronousTestCase):
    """One etcd for all tests of a class in this process, emptied before each."""

    count: ClassVar[int] = 1
    cluster: ClassVar[EtcdCluster | None] = None

    def start_etcd(self) -> EtcdCluster:
        if installed() is None:
            self.skipTest("not installed: etcd (Debian: etcd-server)")
        cls = type(self)
        if cls.cluster is None:
            cls.cluster = EtcdCluster(self.count)
            atexit.register(cls.cluster.end)
        cls.cluster.empty()
        return cls.cluster

    def open(self, cluster: EtcdCluster, directory: Path) -> EtcdStore:
        links = connected(EtcdSettings(cluster.members))
        store = open_etcd(links, EtcdFiles.of(directory / "kdc"), realm="LOCAL")
        store.start()
        self.addCleanup(store.close)
        return store

    def two(self) -> tuple[EtcdCluster, EtcdStore, EtcdStore]:
        cluster = self.start_etcd()
        one, two = Path(self.mktemp()), Path(self.mktemp())
        for directory in one, two:
            directory.mkdir()
        first = self.open(cluster, one)
        key = two / "kdc.key"
        key.touch(0o600)
        key.write_bytes((one / "kdc.key").read_bytes())
        return cluster, first, self.open(cluster, two)


class OneNodeTests(StoreConformance, RealCase):
    def make_store(self) -> Store:
        directory = Path(self.mktemp())
        directory.mkdir()
        return self.open(self.start_etcd(), directory)


@attrs.define
class RealPair:
    """Two nodes as one store: changes go to each in turn, and are read at the other."""

    one: EtcdStore
    two: EtcdStore
    turn: int = 0

    realm = "LOCAL"
    notes: Sequence[str] = ()
    most_changes = EtcdStore.most_changes

    @property
    def reads(self) -> EtcdStore:
        here, there = (self.one, self.two) if self.turn % 2 else (self.two, self.one)
        eventually("both are equal", lambda: here.generation == there.generation)
        with there.following.changed:
            return there  # its watchers have been told, too

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        self.turn += 1
        results = (self.one if self.turn % 2 else self.two).apply(changes)
        self.reads  # noqa: B018 - the other node has it then
        return results

    def watch(self, changed: Callable[[Record], None]) -> Callable[[], None]:
        return self.two.watch(changed)

    def rotate_master_key(self) -> None:
        """Of one process alone: the other node would need the file."""

    def __iter__(self) -> Iterator[Record]:
        return iter(self.reads)

    def __len__(self) -> int:
        return len(self.reads)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reads, name)


class TwoNodesTests(StoreConformance, RealCase):
    def make_store(self) -> Store:
        _, one, two = self.two()
        return RealPair(one, two)


del StoreConformance  # it is no test by itself


class NodesTests(RealCase):
    """What nodes tell each other, under leases of a real etcd."""

    def test_seen_until_it_ends(self) -> None:
        """Each is seen by the other; a lost lease is granted anew; who ends is gone at once."""
        cluster, one, two = self.two()
        for name, store in (("kdc1", one), ("kdc2", two)):
            store.nodes.announce(NodeFacts(name, "1"))
        eventually("both are there", lambda: names(one) == ["kdc1", "kdc2"] == names(two))
        for lease in cluster.post("/v3/lease/leases", {})["leases"]:
            cluster.post("/v3/lease/revoke", lease)
        self.assertEqual(names(one), [])
        # To tell of itself anew it needs a lease, and finds out that it has none.
        one.nodes.announce(NodeFacts("kdc1", "2"))
        eventually("one is there again", lambda: names(two) == ["kdc1"])
        two.nodes.announce(NodeFacts("kdc2", "2"))
        eventually("both are there again", lambda: names(two) == ["kdc1", "kdc2"])
        two.close()
        self.assertEqual(names(one), ["kdc1"])
        self.assertEqual(one.following.reloads, 0)


def names(store: EtcdStore) -> list[str]:
    found: list[str] = []

    def read() -> bool:
        with contextlib.suppress(StoreUnavailable):  # it has two seconds for an answer
            found[:] = [node.facts.name for node in store.nodes.read() if isinstance(node, Node)]
            return True
        return False

    eventually("etcd answers", read)
    return sorted(found)


class ThreeMembersTests(RealCase):
    """Members of etcd come and go."""

    count = 3

    def test_nothing_acknowledged_is_lost_with_the_leader(self) -> None:
        """The leader is killed while two nodes write; what was uncertain is asked for again."""
        cluster, one, two = self.two()
        for number in range(30):
            if number == 10:
                leader = cluster.leader()
                cluster.kill(leader)
            store = (one, two)[number % 2]
            change = Create(active(f"u{number}"), token(number))
            while True:
                try:
                    (result,) = store.apply([change])
                    break
                except (StoreUncertain, StoreUnavailable):  # while there is no leader
                    continue
            assert result.record is not None
        cluster.restart(leader)
        eventually("both have all", lambda: len(one) == len(two) == 30)
        self.assertEqual(list(one), list(two))
        eventually("confirmed again", lambda: not one.trouble and not two.trouble)

    def test_compacted_while_a_node_was_away(self) -> None:
        """A node whose member was stopped goes on at another, and misses nothing."""
        cluster, one, two = self.two()
        told: list[str] = []
        two.watch(lambda record: told.append(record.name))
        cluster.stop(0)  # the first in both nodes' lists
        self.addCleanup(cluster.go_on, 0)
        for number in range(10):
            one.apply([Create(active(f"u{number}"), token(number))])
        eventually("the other has all", lambda: len(two) == 10)
        self.assertEqual(told, [f"u{number}" for number in range(10)])
        cluster.go_on(0)
