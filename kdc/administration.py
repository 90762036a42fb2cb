"""What an operator can do to the principal database, on a store of any kind.

Blocking, without Twisted and without a command line: the running server and
``kdc admin`` by itself do the same things through `administer`.  A request is
a dict of plain values, an answer a sequence of such dicts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs

from kdc.errors import ConfigurationError, PeerUnavailable, RefusedByPolicy
from kdc.invitation import Invitation
from kdc.principal import check_name
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
)

__all__ = ["READING", "Answer", "Context", "Request", "administer", "describe"]

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[str, Any]

_MAX_TICKET_SECONDS = 3600  # the longest lifetime that a KDC can be told
_MAX_VALID_SECONDS = 366 * 86_400
_CODE_BYTES = 16
_TRIES = 3


# These change nothing, and can take long where there are many principals.
READING = frozenset(("list", "show", "stats", "dump"))


@attrs.frozen
class Context:
    """What a command needs besides the store.  ``where``: (host, port, fingerprint) of the KDC.

    ``audit`` is told (event, name, detail) of each change; ``more_stats`` is
    what a running server knows; ``rotate_tls`` makes a new TLS key and returns
    its fingerprint; ``rotate_master_key`` is the store's own; ``dump`` writes
    the store down, with the keys if it is told so.
    """

    now: int
    random: Callable[[int], bytes]
    audit: Callable[[str, str, str], None]
    where: Callable[[], tuple[str, int, str]]
    rotate_tls: Callable[[], str]
    rotate_master_key: Callable[[], None]
    dump: Callable[[bool], Iterator[str]]
    more_stats: Answer = attrs.field(factory=dict)


def administer(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Do what ``request`` says, as its answers are asked for.

    Raises `KDCError`; then nothing was changed.  Each answer of many is made
    when it is wanted: a million principals are never held together.
    """
    command = _COMMANDS.get(str(request.get("command")))
    if command is None:
        raise ConfigurationError(f"no such command: {str(request.get('command'))[:40]!r}")
    return command(store, request, context)


def describe(record: Record) -> Answer:
    """What of a record may be shown."""
    answer: Answer = {
        "name": record.name,
        "status": record.status.value,
        "address": record.address,
        "port": record.port,
        "generation": record.generation,
        "changed": record.changed_time,
    }
    if record.status is Status.INVITED:
        answer["invitation_end"] = record.invitation_end_time
    return answer


def _list(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    status, prefix = request.get("status"), str(request.get("prefix") or "")
    wanted = None if status is None else _status(status)
    for record in store:
        if record.name.startswith(prefix) and wanted in (None, record.status):
            yield describe(record)


def _show(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    yield describe(_existing(store, request))


def _add(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Add a principal whose keys are given, as made from a key file."""
    wanted = Record(
        _name(request),
        Status.ACTIVE,
        **_place(request),
        verify_key=_hex(request, "verify_key"),
        reply_key=_hex(request, "reply_key"),
        changed_time=context.now,
    )
    there = _create(store, wanted, context)
    if there is None:
        context.audit("admin-added", wanted.name, "")
        yield _done(wanted.name)
        return
    same_key = there.status is Status.ACTIVE and there.verify_key == wanted.verify_key
    yield _there_already(there, request, satisfied=same_key)


def _invite(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Reserve a name for whoever holds the code; for a name that is invited already, a new code."""
    valid_seconds = _whole(request, "valid_seconds", 1, _MAX_VALID_SECONDS, 3 * 86_400)
    record = Record(
        _name(request),
        Status.INVITED,
        **_place(request),
        invitation=context.random(_CODE_BYTES),
        invitation_end_time=context.now + valid_seconds,
        changed_time=context.now,
    )
    # First: what cannot be printed must not be stored.
    invitation = _invitation(store.realm, record, request, context)

    def replace(now: Record) -> Change:
        if now.status is not Status.INVITED:
            raise _conflict(now)
        return Replace(record, now.generation)

    there = _create(store, record, context)
    if there is not None:
        if request.get("if_absent"):
            yield _there_already(there, request, satisfied=there.status is not Status.DELETED)
            return
        _change(store, record.name, replace)
    context.audit("admin-invited", record.name, "" if there is None else "again")
    yield {**_done(record.name), "invitation": str(invitation)}


def _invitation(realm: str, record: Record, request: Request, context: Context) -> Invitation:
    host, port, fingerprint = context.where()
    host = str(request.get("kdc_host") or host)
    port = _whole(request, "kdc_port", 1, 65535, port)
    fingerprint = str(request.get("kdc_fingerprint") or fingerprint)
    if not host or not port:
        raise ConfigurationError(
            "it is not known where clients reach this KDC",
            hint="give --kdc-address and --kdc-port: they become part of the invitation",
        )
    if not fingerprint:
        raise ConfigurationError(
            "the fingerprint of this KDC is not known here",
            hint="start the KDC once, or give --kdc-fingerprint: it prints it when it starts",
        )
    try:
        return Invitation(realm, record.name, host, port, fingerprint, record.invitation)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _disable(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    return _set_status(store, request, context, Status.ACTIVE, Status.DISABLED)


def _enable(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    return _set_status(store, request, context, Status.DISABLED, Status.ACTIVE)


def _set_status(
    store: Store, request: Request, context: Context, before: Status, after: Status
) -> Iterator[Answer]:
    def change(now: Record) -> Change | None:
        if now.status is after:
            return None
        if now.status is not before:
            raise RefusedByPolicy(f"{now.name} is {now.status.value}, not {before.value}")
        return Replace(attrs.evolve(now, status=after, changed_time=context.now), now.generation)

    name = _name(request)
    if not _change(store, name, change):
        yield _nothing(name, f"it is {after.value} already")
        return
    context.audit(f"admin-{'enabled' if after is Status.ACTIVE else 'disabled'}", name, "")
    yield _done(name)


def _delete(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Leave a tombstone, which keeps the name reserved."""

    def change(now: Record) -> Change | None:
        if now.status is Status.DELETED:
            return None
        return Delete(now.name, now.generation, context.now)

    name = _name(request)
    if not _change(store, name, change):
        yield _nothing(name, "it is deleted already")
        return
    context.audit("admin-deleted", name, "")
    yield _done(name)


def _purge(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Free a name.  Not before every ticket for its last owner has ended."""

    def change(now: Record) -> Change:
        if now.status not in (Status.DELETED, Status.INVITED):
            raise RefusedByPolicy(f"{now.name} is {now.status.value}", hint="delete it first")
        left = now.changed_time + _MAX_TICKET_SECONDS - context.now
        if now.status is Status.DELETED and left > 0 and not request.get("force"):
            raise RefusedByPolicy(
                f"{now.name} was deleted less than an hour ago: tickets for it may be out there",
                hint=f"try again in {left} s, or give --force",
            )
        return Purge(now.name, now.generation)

    name = _name(request)
    _change(store, name, change)
    context.audit("admin-purged", name, "")
    yield _done(name)


def _set_address(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    place = _place(request)

    def change(now: Record) -> Change | None:
        if now.status is Status.DELETED:
            raise RefusedByPolicy(f"{now.name} is {now.status.value}")
        if (now.address, now.port) == (place["address"], place["port"]):
            return None
        return Replace(attrs.evolve(now, changed_time=context.now, **place), now.generation)

    name = _name(request)
    if not _change(store, name, change):
        yield _nothing(name, "that is its address")
        return
    context.audit("admin-moved", name, f"{place['address'] or '-'} {place['port']}")
    yield _done(name)


def _rename(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    raise RefusedByPolicy(
        "a principal cannot be renamed: its name is part of its keys",
        hint="invite the new name, and delete the old one when it has been taken up",
    )


def _rotate_master_key(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    context.rotate_master_key()
    context.audit("admin-rotated-master-key", "", "")
    yield {"done": True}


def _rotate_tls(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    fingerprint = context.rotate_tls()
    context.audit("admin-rotated-tls", "", fingerprint)
    yield {"done": True, "fingerprint": fingerprint}


def _stats(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    counts = dict.fromkeys((status.value for status in Status), 0)
    for record in store:
        counts[record.status.value] += 1
    yield {"realm": store.realm, "records": len(store), **counts, **context.more_stats}


def _dump(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    secrets = bool(request.get("secrets"))
    if secrets:  # no change, but whoever has it can guess every passphrase
        context.audit("admin-dumped", "", "with secrets")
    for line in context.dump(secrets):
        yield {"line": line}


_COMMANDS: dict[str, Callable[[Store, Request, Context], Iterator[Answer]]] = {
    "list": _list,
    "show": _show,
    "add": _add,
    "invite": _invite,
    "disable": _disable,
    "enable": _enable,
    "delete": _delete,
    "purge": _purge,
    "set-address": _set_address,
    "rename": _rename,
    "rotate-master-key": _rotate_master_key,
    "rotate-tls": _rotate_tls,
    "stats": _stats,
    "dump": _dump,
}


def _done(name: str) -> Answer:
    return {"done": True, "name": name}


def _nothing(name: str, why: str) -> Answer:
    return {"done": False, "name": name, "why": why}


def _create(store: Store, record: Record, context: Context) -> Record | None:
    """Add ``record``; return the one that is there already, if one is."""
    (result,) = store.apply([Create(record, context.random(16))])
    return None if result.outcome is Outcome.DONE else result.record


def _there_already(there: Record, request: Request, *, satisfied: bool) -> Answer:
    """``satisfied``: what is there is what was asked for, which ``if_absent`` makes no error."""
    if satisfied and request.get("if_absent"):
        return _nothing(there.name, f"it is {there.status.value} already")
    raise _conflict(there, "--if-absent makes that no error" if satisfied else "")


def _conflict(there: Record, hint: str = "") -> RefusedByPolicy:
    hints = {
        Status.ACTIVE: "see kdc admin show; an owner changes its key by kdcclient passwd",
        Status.DISABLED: "kdc admin enable lets it in again",
        Status.INVITED: "purge the invitation first",
        Status.DELETED: "its name stays reserved until it is purged",
    }
    return RefusedByPolicy(
        f"{there.name} is there already ({there.status.value})", hint=hint or hints[there.status]
    )


def _change(store: Store, name: str, decide: Callable[[Record], Change | None]) -> bool:
    """Make the change that ``decide`` wants of the record as it is now; False if it wants none.

    If somebody else was faster, it decides again, on what is there then.
    """
    record = store.get(name)
    for _ in range(_TRIES):
        if record is None:
            raise _nobody(name)
        change = decide(record)
        if change is None:
            return False
        (result,) = store.apply([change])
        if result.outcome is Outcome.DONE:
            return True
        record = result.record
    raise RefusedByPolicy(f"{name} is being changed by somebody else", hint="try again")


def _name(request: Request) -> str:
    name = request.get("name")
    try:
        return check_name(name if isinstance(name, str) else "")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _existing(store: Store, request: Request) -> Record:
    name = _name(request)
    record = store.get(name)
    if record is None:
        raise _nobody(name)
    return record


def _nobody(name: str) -> PeerUnavailable:
    return PeerUnavailable(f"there is no {name}", hint="see kdc admin list")


def _status(text: Any) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise ConfigurationError(
            f"no such status: {str(text)[:40]!r}",
            hint=f"there are {', '.join(status.value for status in Status)}",
        ) from None


def _place(request: Request) -> dict[str, Any]:
    address = str(request.get("address") or "")
    try:
        # A zone means something on one machine only.
        if "%" in address:
            raise ValueError(f"an address with a zone is of no use to others: {address[:64]!r}")
        if address:
            address = str(ipaddress.ip_address(address))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return {"address": address, "port": _whole(request, "port", 0, 65535, 0)}


def _whole(request: Request, key: str, low: int, high: int, default: int) -> int:
    value = request.get(key)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise ConfigurationError(f"{key.replace('_', ' ')} is a number from {low} to {high}")
    return value


def _hex(request: Request, key: str) -> bytes:
    try:
        value = bytes.fromhex(str(request.get(key)))
        if len(value) != 32:
            raise ValueError
    except ValueError:
        raise ConfigurationError(f"{key} is not 32 bytes in hex") from None
    return value
