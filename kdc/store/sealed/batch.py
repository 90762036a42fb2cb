"""Deciding what becomes of changes, before anything is written."""

from __future__ import annotations

import attrs

from kdc.protocol.crypto import same
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
from kdc.store.sealed.content import Content
from kdc.store.sealed.lines import Entry
from kdc.store.services import Taking

__all__ = ["Batch"]


class Batch:
    """Decides changes one after the other, on top of what is durable."""

    def __init__(self, content: Content, generation: int) -> None:
        self.generation = generation
        self.entries: list[Entry] = []
        self._entry_of = content.entry_of
        self._taking = Taking(content.owner_of)
        self._now: dict[str, Entry | None] = {}

    def decide(self, change: Change) -> Result:
        if isinstance(change, Create):
            return self._create(change)
        name = change.record.name if isinstance(change, Replace) else change.name
        now = self._get(name)
        if now is None:
            return Result(Outcome.ABSENT, None)
        if now.record.generation != change.expected_generation:
            return Result(Outcome.CONFLICT, now.record)
        if isinstance(change, Replace):
            return self._put(Entry(settled(change.record), now.token), now)
        if isinstance(change, Delete):
            tombstone = Record(name, Status.DELETED, changed_time=change.changed_time)
            return self._put(Entry(tombstone), now)
        return self._purge(change, now)

    def _create(self, change: Create) -> Result:
        now = self._get(change.record.name)
        if now is None:
            return self._put(Entry(settled(change.record), change.token), None)
        own = same(now.token, change.token)
        return Result(Outcome.DONE if own else Outcome.EXISTS, now.record)

    def _purge(self, change: Purge, now: Entry) -> Result:
        if now.record.status not in (Status.DELETED, Status.INVITED):
            return Result(Outcome.CONFLICT, now.record)
        self._put(Entry(Record(change.name, Status.DELETED), purged=True), now)
        self._now[change.name] = None
        return Result(Outcome.DONE, None)

    def _put(self, entry: Entry, before: Entry | None) -> Result:
        if not self._taking.allows(entry.record):
            return Result(Outcome.TAKEN, None if before is None else before.record)
        self._taking.put(
            entry.record.name,
            () if before is None else before.record.services,
            entry.record.services,
        )
        self.generation += 1
        entry = attrs.evolve(entry, record=attrs.evolve(entry.record, generation=self.generation))
        self.entries.append(entry)
        self._now[entry.record.name] = entry
        return Result(Outcome.DONE, entry.record)

    def _get(self, name: str) -> Entry | None:
        return self._now[name] if name in self._now else self._entry_of(name)
