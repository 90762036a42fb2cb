"""Whose a Kerberos service is: one principal's, however many ask for it at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from kdc.store.interface import Record

__all__ = ["Services", "Taking"]


@attrs.define
class Services:
    """What is durable: each service and its owner."""

    _owners: dict[str, str] = attrs.field(factory=dict, init=False)
    _of: dict[str, tuple[str, ...]] = attrs.field(factory=dict, init=False)

    def owner_of(self, service: str) -> str | None:
        return self._owners.get(service)

    def put(self, name: str, services: tuple[str, ...]) -> None:
        """From now on ``name`` has these and no other."""
        before = self._of.pop(name, ())
        if services:
            self._of[name] = services
        # Who asks meanwhile, in another thread, misses none that stays.
        self._owners.update(dict.fromkeys(services, name))
        for service in set(before) - set(services):
            del self._owners[service]


@attrs.define
class Taking:
    """What changes that are not durable yet would make of ``owner_of``."""

    _owner_of: Callable[[str], str | None]
    _now: dict[str, str | None] = attrs.field(factory=dict, init=False)

    def allows(self, record: Record) -> bool:
        """Whether no service of ``record`` is another's."""
        return all(self._owner(service) in (None, record.name) for service in record.services)

    def put(self, name: str, before: Iterable[str], after: Iterable[str]) -> None:
        self._now.update(dict.fromkeys(before))
        self._now.update(dict.fromkeys(after, name))

    def _owner(self, service: str) -> str | None:
        return self._now[service] if service in self._now else self._owner_of(service)
