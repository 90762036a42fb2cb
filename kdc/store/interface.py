"""The principal database as everything above it sees it.

A store keeps one `Record` a name.  It is blocking code without Twisted:
`Store.get` answers from memory and may be called anywhere; `Store.apply` waits
for the disk (or for other machines) and belongs off the reactor thread.

Nothing here assumes one process.  ``get`` may lag behind what another writer
has done, which is why each change says which generation it expects, and why
`Store.watch` tells of changes whoever made them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import attrs

from kdc.errors import ErrorKind, ExitStatus, KDCError, PeerUnavailable, RefusedByPolicy
from kdc.protocol.names import check_address, check_name, plain_address
from kdc.store.kerberos_part import KerberosPart
from kdc.store.nodes import Nodes

__all__ = [
    "Change",
    "Create",
    "Delete",
    "Outcome",
    "Purge",
    "Record",
    "Replace",
    "Result",
    "Status",
    "Store",
    "StoreError",
    "StoreInUse",
    "StoreLost",
    "StoreUnavailable",
    "StoreUncertain",
    "change_record",
    "no_such_principal",
    "settled",
]

# So often a change is decided anew because somebody else was faster.
_TRIES = 3


class StoreError(KDCError):
    """The store is damaged, locked, missing or of another format; nothing was changed."""

    exit_status = ExitStatus.LOCAL_IO


class StoreInUse(StoreError):
    """Another process has the store just now."""


class StoreUnavailable(StoreError):
    """The store cannot write just now (full, read-only, failing disk); try later.

    Nothing of the change was kept, in memory or on disk.
    """


class StoreUncertain(StoreError):
    """Nobody knows whether the change was made; whoever asked for it must not be told either.

    It is asked for again, as after an answer that was lost: a `Create` is then
    recognised by its token, the others by the generation that they expect.
    """


class StoreLost(StoreUncertain):
    """Somebody else has the store's files; nothing more is ever written through this store.

    Whoever has it open should end, loudly: what it answers from memory may be
    old already.
    """


class Status(enum.Enum):
    """What a record's name may do."""

    ACTIVE = "active"
    DISABLED = "disabled"  # keys kept, nothing is issued to it or for it
    INVITED = "invited"  # reserved: whoever proves the invitation code registers it
    DELETED = "deleted"  # a tombstone: keeps the name from being taken by another


def _bytes_of(*lengths: int) -> Callable[[object, object, bytes], None]:
    def check(_: object, attribute: object, value: bytes) -> None:
        if len(value) not in lengths:
            # Never quote the value: it is a key.
            raise ValueError(f"{attribute.name} has {len(value)} bytes")  # type: ignore[attr-defined]

    return check


def _address(address: str) -> str:
    try:
        return check_address(address)
    except ValueError:
        # Older stores have an IPv4 address within an IPv6 one, as their Python printed it.
        plain = plain_address(address)
        if ":" in address and ":" not in plain:
            return plain
        raise


def _number(high: int) -> Callable[[object, object, int], None]:
    def check(_: object, attribute: object, value: int) -> None:
        if not 0 <= value <= high:
            raise ValueError(f"{attribute.name} is not from 0 to {high}")  # type: ignore[attr-defined]

    return check


_MAX_PORT = 0xFFFF
_MAX_NUMBER = 10**18 - 1


@attrs.frozen
class Record:
    """One principal.  ``generation`` is 0 until a store has accepted the record.

    The store numbers its changes; a record bears the number of the change that
    wrote it, so a name's generation only grows, across deletion too.  Times are
    whole seconds of Unix time, for people: no decision of the protocol rests on
    them except the end of an invitation and that of a principal.

    ``expiry_time``: when the principal ends, 0 for never; whoever then gives it other
    keys makes that ``renewal_seconds`` from there, unless these are 0.

    ``kerberos``: what is known of it there; of one that is not this key's a store keeps only
    the number of its keys.
    """

    name: str = attrs.field(converter=check_name)
    status: Status
    # A canonical IP literal, or empty.
    address: str = attrs.field(default="", converter=_address)
    port: int = attrs.field(default=0, validator=_number(_MAX_PORT))
    verify_key: bytes = attrs.field(default=b"", repr=False, validator=_bytes_of(0, 32))
    reply_key: bytes = attrs.field(default=b"", repr=False, validator=_bytes_of(0, 32))
    invitation: bytes = attrs.field(default=b"", repr=False, validator=_bytes_of(0, *range(16, 33)))
    invitation_end_time: int = attrs.field(default=0, validator=_number(_MAX_NUMBER))
    changed_time: int = attrs.field(default=0, validator=_number(_MAX_NUMBER))
    expiry_time: int = attrs.field(default=0, validator=_number(_MAX_NUMBER))
    renewal_seconds: int = attrs.field(default=0, validator=_number(_MAX_NUMBER))
    generation: int = attrs.field(default=0, validator=_number(_MAX_NUMBER))
    kerberos: KerberosPart | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.renewal_seconds and not self.expiry_time:
            raise ValueError("what has no end is not renewed")

    def expired(self, unix_seconds: int) -> bool:
        return self.expiry_time != 0 and unix_seconds > self.expiry_time

    @property
    def services(self) -> tuple[str, ...]:
        """The Kerberos services that are this principal's, and no other's."""
        return () if self.kerberos is None or not self.kerberos.owner else self.kerberos.services


def settled(record: Record) -> Record:
    """Return what a store keeps of ``record``."""
    part = record.kerberos
    if part is None or not part.owner or part.is_of(record.verify_key):
        return record
    # Its keys were somebody else's, or of a key that is gone: nothing brings them back.
    return attrs.evolve(record, kerberos=KerberosPart(part.kvno))


@attrs.frozen
class Create:
    """Add ``record`` if its name has no record at all, not even a tombstone.

    ``token`` (16 random bytes of the caller) is kept beside the record: the
    same change sent again after a lost answer finds its own token there and
    is DONE, not EXISTS.
    """

    record: Record
    token: bytes = attrs.field(repr=False, validator=_bytes_of(16))


@attrs.frozen
class Replace:
    """Put ``record`` in the place of the one that has ``expected_generation``."""

    record: Record
    expected_generation: int


@attrs.frozen
class Delete:
    """Replace the record by a tombstone, keys and token gone."""

    name: str
    expected_generation: int
    changed_time: int = 0


@attrs.frozen
class Purge:
    """Remove a tombstone or an unclaimed invitation, so that the name is free again.

    Only for the operator; see docs/protocol.md section 11 for how long to wait.
    """

    name: str
    expected_generation: int


Change: TypeAlias = Create | Replace | Delete | Purge


class Outcome(enum.Enum):
    DONE = "done"  # durable
    EXISTS = "exists"  # Create: the name has a record
    CONFLICT = "conflict"  # the record has another generation than expected
    ABSENT = "absent"  # there is no such record
    TAKEN = "taken"  # one of its services is another principal's


@attrs.frozen
class Result:
    """What became of one change, and the name's record as it is now."""

    outcome: Outcome
    record: Record | None


class Store(Protocol):
    """Any store.  ``tests/support/store_conformance.py`` is what it must pass.

    ``notes``: what was found out while opening that an operator should read.
    ``most_changes``: how many changes a batch may have.
    ``made``: there was none before it was opened.
    ``nodes``: of those that share it; None if nobody else can have it open.
    """

    realm: str
    notes: Sequence[str]
    most_changes: int
    made: bool

    @property
    def nodes(self) -> Nodes | None: ...

    @property
    def generation(self) -> int:
        """The number of the latest durable change."""

    @property
    def trouble(self) -> str:
        """What fails just now without a change having been refused for it, or nothing."""

    @property
    def figures(self) -> Mapping[str, float]:
        """What a store of this kind counts, by a name of its own, for whoever looks after it."""

    @property
    def confirmed_milliseconds(self) -> int | None:
        """When it was last sure that `get` lacks nothing acknowledged before, by the boot clock.

        None: always, since nobody else can change this store.
        """

    def get(self, name: str) -> Record | None:
        """Return the record of ``name``, from memory: microseconds, never a wait."""

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        """Carry out ``changes`` in order; when this returns, all DONE ones are durable.

        One batch costs one wait for the disk, so give it what has gathered.
        Changes are independent: one that is refused does not undo the others.
        Raises `StoreUnavailable` if nothing of the batch was done,
        `StoreUncertain` if it may have been, `StoreLost` if no change ever will
        be again, `ValueError` if these are more than ``most_changes``.  One call
        at a time.
        """

    def __iter__(self) -> Iterator[Record]:
        """Every record, tombstones too, in the order of names; a snapshot."""

    def names_from(self, name: str) -> Iterator[Record]:
        """As iteration, but from ``name`` on, which need not be there; it begins at once."""

    def owner_of(self, service: str) -> str | None:
        """Return whose Kerberos service that is; from memory, as `get`."""

    def with_kerberos(self) -> list[Record]:
        """Return the records that have a Kerberos part, in the order of names."""

    def __len__(self) -> int:
        """How many records there are, tombstones included."""

    def counts(self) -> dict[Status, int]:
        """How many records have each status: cheap, though there are a million."""

    def watch(self, changed: Callable[[Record], None]) -> Callable[[], None]:
        """Call ``changed`` with each record that a change, by anyone, has made durable.

        In the order of generations; of a name that was changed several times in
        one batch perhaps only the last is told.  A purged name is told of by its
        tombstone.  Called in whatever thread learns of it; must return at once.
        The result ends the watch.
        """

    def check_ours(self) -> None:
        """Look whether nobody else has taken the store over; raises `StoreLost`.

        Whoever keeps a store open without changing it does this now and then.
        Blocks.
        """

    def fold(self) -> bool:
        """Bring what people read up to date with the changes; False if that failed.

        Never needed for safety, and ``trouble`` then says why.  Blocks.  Raises
        `StoreLost`.
        """

    def rotate_master_key(self) -> None:
        """Seal everything under a new master key; the old one then opens nothing here.

        A store that seals nothing has nothing to do.  What was copied before
        still needs the old key.  Cut short, it is done again.  Blocks.  Raises
        `StoreUnavailable`, `StoreError`.
        """

    def close(self) -> None:
        """Release files and locks.  The store is not usable afterwards."""

    def discard(self) -> None:
        """As `close`; and files that were made when it was opened are removed again.

        For whoever opened it and has told nobody of anything that is in it.
        """


def no_such_principal(name: str) -> PeerUnavailable:
    return PeerUnavailable(f"there is no {name}", kind=ErrorKind.NO_SUCH_PRINCIPAL)


def change_record(store: Store, name: str, decide: Callable[[Record], Change | None]) -> bool:
    """Make the change that ``decide`` wants of the record as it is now; False if it wants none.

    If another writer was faster, it decides again, on what is there then.  Raises
    `PeerUnavailable` if there is no such record, `RefusedByPolicy` if the other
    writers do not stop, and what ``decide`` and `Store.apply` raise.
    """
    record = store.get(name)
    for _ in range(_TRIES):
        if record is None:
            raise no_such_principal(name)
        change = decide(record)
        if change is None:
            return False
        (result,) = store.apply([change])
        if result.outcome is Outcome.DONE:
            return True
        if result.outcome is Outcome.TAKEN:
            raise RefusedByPolicy(
                f"a service of {name} is another principal's",
                hint="look whose it is, and take it from there first",
            )
        record = result.record
    raise RefusedByPolicy(f"{name} is being changed by somebody else", hint="try again")
