"""Both stores against a dictionary, with crashes, folds and full disks in between."""

from __future__ import annotations

import errno
import os

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import (
    Change,
    Create,
    Delete,
    Outcome,
    Purge,
    Record,
    Replace,
    Status,
    Store,
    StoreUnavailable,
)
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.memory import MemoryStore
from tests.store.test_faults import PATH, inline
from tests.support.disk import Disk
from tests.support.store_conformance import active, invited, serving, token

NAMES = st.sampled_from(["a", "a-", "active", "b", "b.c"])
TOKENS = st.integers(1, 3).map(token)
RECORDS = st.one_of(
    st.builds(lambda name, port: active(name, port=port), NAMES, st.integers(0, 3)),
    st.builds(invited, NAMES),
    st.builds(lambda name: active(name, status=Status.DISABLED), NAMES),
    st.builds(
        lambda name, services: serving(name, *services),
        NAMES,
        st.sets(st.sampled_from(["HTTP/x", "HTTP/y"])),
    ),
)
# Generations are aimed at: 0 is right, anything else is off by so much.
CHANGES = st.one_of(
    st.builds(Create, RECORDS, TOKENS),
    st.builds(Replace, RECORDS, st.integers(0, 1)),
    st.builds(Delete, NAMES, st.integers(0, 1), st.integers(0, 5)),
    st.builds(Purge, NAMES, st.integers(0, 1)),
)


def _name(change: Change) -> str:
    return change.record.name if isinstance(change, Create | Replace) else change.name


@attrs.define
class Model:
    """What a store is: a dictionary, and a number that grows."""

    records: dict[str, tuple[Record, bytes]] = attrs.field(factory=dict)

    def aim(self, change: Change) -> Change:
        """Turn the offset in ``expected_generation`` into a generation."""
        if isinstance(change, Create):
            return change
        name = change.record.name if isinstance(change, Replace) else change.name
        now = self.records[name][0].generation if name in self.records else 0
        return attrs.evolve(change, expected_generation=now + change.expected_generation)

    def owners(self, name: str) -> set[str]:
        """The services of all but ``name``."""
        others = [record for other, (record, _) in self.records.items() if other != name]
        return {service for record in others for service in record.services}

    def outcome(self, change: Change) -> Outcome:
        found = self._outcome(change)
        new = change.record if isinstance(change, Create | Replace) else None
        if (
            found is not Outcome.DONE
            or new is None
            or self.owners(new.name).isdisjoint(new.services)
        ):
            return found
        repeated = isinstance(change, Create) and new.name in self.records
        return Outcome.DONE if repeated else Outcome.TAKEN

    def _outcome(self, change: Change) -> Outcome:
        name = change.record.name if isinstance(change, Create | Replace) else change.name
        record, made_by = self.records.get(name, (None, b""))
        if isinstance(change, Create):
            own = record is None or made_by == change.token
            return Outcome.DONE if own else Outcome.EXISTS
        if record is None:
            return Outcome.ABSENT
        if change.expected_generation != record.generation:
            return Outcome.CONFLICT
        if isinstance(change, Purge) and record.status not in (Status.DELETED, Status.INVITED):
            return Outcome.CONFLICT
        return Outcome.DONE

    def carry_out(self, change: Change, generation: int) -> None:
        if isinstance(change, Purge):
            del self.records[change.name]
        elif isinstance(change, Delete):
            tombstone = Record(change.name, Status.DELETED, changed_time=change.changed_time)
            self.records[change.name] = attrs.evolve(tombstone, generation=generation), b""
        elif isinstance(change, Replace):
            made_by = self.records[change.record.name][1]
            new = attrs.evolve(change.record, generation=generation)
            self.records[new.name] = new, made_by
        elif change.record.name not in self.records:
            new = attrs.evolve(change.record, generation=generation)
            self.records[new.name] = new, change.token


class StoreMachine(RuleBasedStateMachine):
    store: Store

    @initialize()
    def start(self) -> None:
        self.model = Model()
        self.highest = 0
        self.make()

    def make(self) -> None:
        self.store = MemoryStore()

    @rule(change=CHANGES)
    def one(self, change: Change) -> None:
        self.apply([self.model.aim(change)])

    @rule(changes=st.lists(CHANGES, min_size=2, max_size=4, unique_by=_name))
    def several(self, changes: list[Change]) -> None:
        self.apply([self.model.aim(change) for change in changes])

    def apply(self, changes: list[Change]) -> None:
        results = self.store.apply(changes)
        for change, result in zip(changes, results, strict=True):
            assert result.outcome is self.model.outcome(change)
            if result.outcome is not Outcome.DONE:
                continue
            generation = result.record.generation if result.record else 0
            self.model.carry_out(change, generation)
            new = not isinstance(change, Create) or generation > self.highest
            assert result.record is None or not new or generation > self.highest
            self.highest = max(self.highest, generation)
        for change, result in zip(changes, results, strict=True):
            record, _ = self.model.records.get(_name(change), (None, b""))
            assert result.record == record

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "model"):
            return
        expected = {name: record for name, (record, _) in self.model.records.items()}
        assert [record.name for record in self.store] == sorted(expected)
        assert {record.name: record for record in self.store} == expected
        assert len(self.store) == len(expected)
        owners = {s: name for name, record in expected.items() for s in record.services}
        assert {s: self.store.owner_of(s) for s in ("HTTP/x", "HTTP/y")} == {
            s: owners.get(s) for s in ("HTTP/x", "HTTP/y")
        }
        for name in ("a", "a-", "active", "b", "b.c", "d"):
            assert self.store.get(name) == expected.get(name)


class FlatFileMachine(StoreMachine):
    """With everything that can happen to files between two changes."""

    store: FlatFileStore

    def make(self) -> None:
        self.disk = Disk()
        self.open()

    def open(self) -> None:
        self.store = FlatFileStore.open(PATH, realm="LOCAL", files=self.disk, run=inline)

    @rule()
    def fold(self) -> None:
        assert self.store.fold()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()

    @rule()
    def kill(self) -> None:
        self.disk = self.disk.after_kill()
        self.open()

    @rule(luck=st.sampled_from(["none", "some", "all"]))
    def power_cut(self, luck: str) -> None:
        self.disk = self.disk.after_power_cut(luck)
        self.open()

    @rule()
    def rotate(self) -> None:
        self.store.rotate_master_key()

    @precondition(lambda self: hasattr(self, "model"))
    @rule(change=st.builds(Create, st.builds(invited, st.just("d")), TOKENS), nth=st.integers(0, 3))
    def full(self, change: Create, nth: int) -> None:
        left = nth

        def before(call: str) -> None:
            nonlocal left
            if call in ("write", "fsync", "rename", "open"):
                left -= 1
                if left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.disk.before = before
        try:
            results = self.store.apply([change])
        except StoreUnavailable:
            results = []
        self.disk.before = lambda call: None
        if results:
            # It fitted; make room again.
            made = results[0].record
            assert made is not None
            self.store.apply([Purge("d", made.generation)])


class ModelTests(SynchronousTestCase):
    def test_the_store_in_memory(self) -> None:
        """It is a dictionary with generations."""
        run_state_machine_as_test(
            StoreMachine, settings=settings(max_examples=40, stateful_step_count=25)
        )

    def test_the_store_in_files(self) -> None:
        """It is the same dictionary, whatever happens to its process and its disk."""
        run_state_machine_as_test(
            FlatFileMachine,
            settings=settings(max_examples=60, stateful_step_count=25),
        )
