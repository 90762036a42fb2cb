"""A store that forgets everything when the process ends: tests, and a model for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from kdc.protocol.crypto import same
from kdc.protocol.names import check_realm
from kdc.store import (
    Change,
    Create,
    Delete,
    Outcome,
    Purge,
    Record,
    Replace,
    Result,
    Status,
    settled,
)
from kdc.store.services import Services, Taking

__all__ = ["MemoryStore"]


class MemoryStore:
    """See `kdc.store.Store`."""

    notes: Sequence[str] = ()
    made = True
    trouble = ""
    confirmed_milliseconds = None
    nodes = None
    figures: Mapping[str, float] = {}

    def __init__(self, realm: str = "LOCAL", *, most_changes: int = 1000) -> None:
        self.realm = check_realm(realm)
        self.most_changes = most_changes
        self._records: dict[str, Record] = {}
        self._tokens: dict[str, bytes] = {}
        self._services = Services()
        self.generation = 0
        self._watchers: list[Callable[[Record], None]] = []

    def get(self, name: str) -> Record | None:
        return self._records.get(name)

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        if len(changes) > self.most_changes:
            raise ValueError(f"a batch has at most {self.most_changes} changes")
        return [self._apply(change) for change in changes]

    def __iter__(self) -> Iterator[Record]:
        return iter([self._records[name] for name in sorted(self._records)])

    def names_from(self, name: str) -> Iterator[Record]:
        return iter([self._records[each] for each in sorted(self._records) if each >= name])

    def owner_of(self, service: str) -> str | None:
        return self._services.owner_of(service)

    def with_kerberos(self) -> list[Record]:
        return [record for record in self if record.kerberos is not None]

    def __len__(self) -> int:
        return len(self._records)

    def counts(self) -> dict[Status, int]:
        found = Counter(record.status for record in self._records.values())
        return {status: found[status] for status in Status}

    def watch(self, changed: Callable[[Record], None]) -> Callable[[], None]:
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def check_ours(self) -> None:
        """Nobody else can reach it."""

    def fold(self) -> bool:
        return True

    def rotate_master_key(self) -> None:
        """Nothing is sealed here."""

    def close(self) -> None:
        self._watchers.clear()

    def discard(self) -> None:
        self.close()

    def _apply(self, change: Change) -> Result:
        if isinstance(change, Create):
            return self._create(change)
        name = change.record.name if isinstance(change, Replace) else change.name
        now = self._records.get(name)
        if now is None:
            return Result(Outcome.ABSENT, None)
        if now.generation != change.expected_generation:
            return Result(Outcome.CONFLICT, now)
        if isinstance(change, Replace):
            return self._put(change.record)
        if isinstance(change, Purge) and now.status not in (Status.DELETED, Status.INVITED):
            return Result(Outcome.CONFLICT, now)
        self._tokens.pop(name, None)
        self._services.put(name, ())
        time = change.changed_time if isinstance(change, Delete) else 0
        tombstone = Record(name, Status.DELETED, changed_time=time)
        if isinstance(change, Delete):
            return self._put(tombstone)
        self.generation += 1
        del self._records[name]
        self._tell(attrs.evolve(tombstone, generation=self.generation))
        return Result(Outcome.DONE, None)

    def _create(self, change: Create) -> Result:
        name = change.record.name
        now = self._records.get(name)
        if now is None:
            result = self._put(change.record)
            if result.outcome is Outcome.DONE:
                self._tokens[name] = change.token
            return result
        own = same(self._tokens.get(name, b""), change.token)
        return Result(Outcome.DONE if own else Outcome.EXISTS, now)

    def _put(self, record: Record) -> Result:
        record = settled(record)
        if not Taking(self.owner_of).allows(record):
            return Result(Outcome.TAKEN, self._records.get(record.name))
        self._services.put(record.name, record.services)
        self.generation += 1
        record = attrs.evolve(record, generation=self.generation)
        self._records[record.name] = record
        self._tell(record)
        return Result(Outcome.DONE, record)

    def _tell(self, record: Record) -> None:
        for changed in list(self._watchers):
            changed(record)
