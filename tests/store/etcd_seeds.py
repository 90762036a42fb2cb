"""Two nodes on an etcd with faults, a seed at a time, against a store in memory.

    python -m tests.store.etcd_seeds 10000 [FIRST]

What was acknowledged is there, what was refused is not, nothing was made twice, what
was uncertain was made once or not at all, while the master key is changed, too; at the
end both nodes and the model are equal, and each node's watcher was told of everything
in order.
"""

from __future__ import annotations

import random
import sys

import attrs

from kdc.store import (
    Change,
    Create,
    Delete,
    Purge,
    Record,
    Replace,
    Status,
    StoreUnavailable,
    StoreUncertain,
)
from kdc.store.etcd.store import EtcdStore
from kdc.store.etcd.wire import Answer
from kdc.store.memory import MemoryStore
from kdc.store.nodes import NodeFacts
from tests.support.disk import Disk
from tests.support.etcd import Etcd, Faults, Nodes
from tests.support.store_conformance import active, invited, token

__all__ = ["Run", "run"]

NAMES = ("alice", "bob", "carol", "dave")
_STEPS = 25
_FIRST = "/one"


def _copy(model: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    copy._records, copy._tokens = dict(model._records), dict(model._tokens)
    copy.generation = model.generation
    return copy


@attrs.define(slots=False)
class Run:
    """One seed.  ``outcomes`` counts what became of the batches."""

    seed: int
    outcomes: dict[str, int] = attrs.field(factory=dict)

    def run(self) -> None:
        self.random = random.Random(self.seed)
        self.etcd = Etcd()
        self.nodes = Nodes(self.etcd)
        self.model = MemoryStore()
        self.disk = Disk(self.seed)
        self.stores: dict[str, EtcdStore] = {}
        self.told: dict[str, list[Record]] = {_FIRST: [], "/two": []}
        self.faults = Faults(self.seed)
        self.tokens = 0
        for name in self.told:
            self.open(name)
        for kind in ("unsent", "lost_before", "lost_after", "cut", "compacts"):
            setattr(self.faults, kind, self.random.choice((0, 0, 50, 200)))
        for _ in range(_STEPS):
            self.step()
        self.check()

    def open(self, name: str) -> None:
        if name != _FIRST:
            self.disk.names[f"{name}.key"] = self.disk.names[f"{_FIRST}.key"]
        store = self.nodes.open(self.disk, name, faults=self.faults)
        store.watch(self.told[name].append)
        self.stores[name] = store

    def step(self) -> None:
        name = self.random.choice([*self.stores])
        what = self.random.randrange(22)
        if what == 0:
            self.restart(name)
        elif what == 1:
            self.etcd.compact()
        elif what == 2:
            self.stores[name].following.follow_once()
        elif what == 20:
            nodes = self.stores[name].nodes
            nodes.announce(NodeFacts("kdc", "1"))
            nodes.once()
        elif what == 21:
            self.rotate(name)
        elif what == 3:
            self.etcd.down = True
            self.apply(name)
            self.etcd.down = False
        else:
            if what < 7:
                self.etcd.before = self.between
            self.apply(name)
            self.etcd.before = lambda body: None

    def rotate(self, name: str) -> None:
        """Go over to another master key, which the other node has, too, or go on with that."""
        (other,) = (each for each in self.told if each != name)
        store = self.stores[name]
        store.new_master_key()
        self.disk.names[f"{other}.key"] = self.disk.names[f"{name}.key"]
        self.etcd.before = self.random.choice((self.between, lambda body: None))
        try:
            store.rotate_master_key()
        except (StoreUnavailable, StoreUncertain):
            self.count("rotation cut short")
        else:
            self.count("rotated")
        self.etcd.before = lambda body: None

    def restart(self, name: str) -> None:
        store = self.stores.pop(name)
        store.close()
        self.nodes.stores.remove(store)
        kept, self.faults.unsent = self.faults.unsent, 0
        before = {record.name: record for record in store}
        try:
            self.open(name)
        except StoreUnavailable:
            # Faults in a row at a start: it is started again.
            self.restart_later(name)
        self.faults.unsent = kept
        # It was not there to be told of what was changed meanwhile.
        now = {record.name: record for record in self.stores[name]}
        missed = [record for each, record in now.items() if before.get(each) != record]
        generation = self.stores[name].generation
        missed += [
            Record(each, Status.DELETED, generation=generation)
            for each in before
            if each not in now
        ]
        self.told[name] += sorted(missed, key=lambda record: record.generation)

    def restart_later(self, name: str) -> None:
        calm = Faults(self.seed)
        self.faults, faulty = calm, self.faults
        self.open(name)
        self.faults = faulty

    def between(self, body: Answer) -> None:
        """Somebody else is faster, if what is being sent could still be carried out."""
        if all(self.etcd._holds(compare) for compare in body["compare"]):
            self.etcd.before = lambda body: None
            self.apply(self.random.choice([*self.stores]), busy=True)

    def apply(self, name: str, *, busy: bool = False) -> None:
        store = self.stores[name]
        if busy and store._applying.locked():
            return
        changes = [self.change(store) for _ in range(self.random.choice((1, 1, 2, 5)))]
        try:
            results = store.apply(changes)
        except StoreUnavailable:
            self.count("unavailable")
        except StoreUncertain:
            self.count("uncertain")
            self.etcd.down = False
            self.resolve(changes)
        else:
            self.count("done")
            expected = self.model.apply(changes)
            assert results == expected, (self.seed, changes, results, expected)

    def resolve(self, changes: list[Change]) -> None:
        """It was made, as a whole, or not."""
        with_it = _copy(self.model)
        with_it.apply(changes)
        self.settle()
        now = list(self.stores[_FIRST])
        if now == list(with_it) and self.stores[_FIRST].generation == with_it.generation:
            self.model = with_it
        assert now == list(self.model), (self.seed, "neither made nor not made")

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def change(self, store: EtcdStore) -> Change:
        name = self.random.choice(NAMES)
        now = store.get(name)
        generation = (now.generation if now else 0) + self.random.choice((0, 0, 0, 1))
        kind = self.random.randrange(6)
        if kind < 2 or now is None:
            self.tokens += self.random.randrange(2)
            record = active(name, port=self.random.randrange(9))
            new = invited(name) if self.random.randrange(4) == 0 else record
            return Create(new, token(self.tokens))
        if kind == 2:
            return Delete(name, generation, self.random.randrange(9))
        if kind == 3:
            return Purge(name, generation)
        status = self.random.choice((Status.ACTIVE, Status.DISABLED))
        return Replace(active(name, status=status, port=self.random.randrange(9)), generation)

    def settle(self) -> None:
        for kind in ("unsent", "lost_before", "lost_after", "cut", "compacts"):
            setattr(self.faults, kind, 0)
        self.nodes.settle()

    def check(self) -> None:
        self.settle()
        expected = list(self.model)
        for name, store in self.stores.items():
            assert list(store) == expected, (self.seed, name)
            assert store.generation == self.model.generation, (self.seed, name)
            self.check_told(name, expected)

    def check_told(self, name: str, expected: list[Record]) -> None:
        told = self.told[name]
        latest = {record.name: record for record in told}
        generations = [record.generation for record in told]
        assert generations == sorted(generations), (self.seed, name, generations)
        for record in expected:
            assert latest.get(record.name) == record, (self.seed, name, record)
        gone = set(latest) - {record.name for record in expected}
        assert all(latest[each].status is Status.DELETED for each in gone), (self.seed, name)
        assert len(set(told)) == len(told), (self.seed, name, "told twice")


def run(first: int, count: int) -> dict[str, int]:
    """Run so many seeds; return what became of their batches, all together."""
    total: dict[str, int] = {}
    for seed in range(first, first + count):
        one = Run(seed)
        one.run()
        for outcome, number in one.outcomes.items():
            total[outcome] = total.get(outcome, 0) + number
    return total


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(f"{number} seeds from {first} on: {run(first, number)}")
