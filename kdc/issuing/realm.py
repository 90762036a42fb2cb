"""What all connections of one realm share: the policy, who is connected, who can be reached."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

import attrs

from kdc.issuing._guesses import Guesses
from kdc.issuing.decisions import Audit, Connection, Enrolment, Others, Output, Permit
from kdc.limits import Limits, TokenBuckets
from kdc.protocol.messages import KeyReplies
from kdc.protocol.tickets import TicketCipher
from kdc.store import Record

__all__ = ["Epoch", "Realm", "everybody"]

_CLOSE = Output(close=True)


@attrs.frozen
class Epoch:
    """A receiver that can be reached.  In memory only."""

    epoch_id: bytes
    address: str
    port: int
    began_milliseconds: int
    tickets: TicketCipher
    replies: KeyReplies
    connection: Connection


def everybody(client: str, receiver: str) -> bool:
    """Permit every client a key to every receiver."""
    return True


class Realm:
    """``find`` is the store's ``get``; ``random`` gives that many random bytes.

    ``permits(client, receiver)`` is the realm's policy on keys, see `kdc.issuing.permits`.
    """

    def __init__(
        self,
        name: str,
        *,
        find: Callable[[str], Record | None],
        audit: Callable[[Audit], None],
        random: Callable[[int], bytes],
        enrolment: Enrolment,
        lifetime_seconds: int = 300,
        limits: Limits | None = None,
        permits: Permit = everybody,
    ) -> None:
        self.name = name
        self.find = find
        self.audit = audit
        self.random = random
        limits = Limits() if limits is None else limits
        self.guesses = Guesses(limits)
        self.govern(enrolment, lifetime_seconds, limits, permits)
        self._epochs: dict[str, Epoch] = {}
        self._connections: dict[str, set[Connection]] = {}
        # How many connections of those who are who they say had to go, for which limit.
        self.turned_away = {"connections_per_principal": 0, "keys_per_second": 0}

    def govern(
        self, enrolment: Enrolment, lifetime_seconds: int, limits: Limits, permits: Permit
    ) -> None:
        """Decide by these from now on; what the buckets have counted is forgotten."""
        self.enrolment = enrolment
        self.lifetime_seconds = lifetime_seconds
        self.permits = permits
        self.work_rate = TokenBuckets(limits.keys)
        self.connections_per_principal = limits.connections_per_principal
        self.registration_rate = TokenBuckets(limits.registrations)
        self.guesses.limit(limits)

    @property
    def receiving(self) -> list[str]:
        """The names that can be reached now."""
        return sorted(self._epochs)

    def first_receiving(self, most: int) -> list[str]:
        """So many of them, by name."""
        return heapq.nsmallest(most, self._epochs)

    def is_receiving(self, name: str) -> bool:
        return name in self._epochs

    @property
    def epochs(self) -> int:
        """How many those are."""
        return len(self._epochs)

    def epoch_of(self, name: str) -> Epoch | None:
        return self._epochs.get(name)

    def begin_epoch(self, name: str, epoch: Epoch) -> Epoch | None:
        """Make ``epoch`` the one of ``name``; return the one it replaces."""
        older = self._epochs.get(name)
        self._epochs[name] = epoch
        return older

    def join(self, name: str, connection: Connection) -> None:
        self._connections.setdefault(name, set()).add(connection)

    def leave(self, name: str, connection: Connection) -> None:
        connections = self._connections[name]
        connections.discard(connection)
        if not connections:
            del self._connections[name]
        self._end_epoch(name, {connection}, "disconnected")

    def connections_of(self, name: str) -> set[Connection]:
        return self._connections.get(name, set())

    def drop(self, name: str, connections: Iterable[Connection], why: str) -> Others:
        """End these connections of ``name``, and its epoch if it was begun on one of them."""
        ended = set(connections)
        self._end_epoch(name, ended, why)
        for connection in ended:
            connection.spend()
        return tuple((connection, _CLOSE) for connection in ended)

    def record_changed(self, record: Record) -> Others:
        """Whatever relied on an older form of this record ends.

        Called for every change of the store, whoever made it.
        """
        connections = self.connections_of(record.name)
        outdated = [each for each in connections if each.outdated_by(record)]
        return self.drop(record.name, outdated, "record changed")

    def _end_epoch(self, name: str, connections: set[Connection], why: str) -> None:
        epoch = self._epochs.get(name)
        if epoch is not None and epoch.connection in connections:
            del self._epochs[name]
            self.audit(Audit("epoch-ended", name, epoch.connection.address, why))
