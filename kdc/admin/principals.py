"""What an operator can do to the principal database, on a store of any kind.

Blocking, without Twisted and without a command line: the running server and
``kdc admin`` by itself do the same things through `administer`.  A request is
a dict of plain values, an answer a sequence of such dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from kdc.admin._request import (
    AdminAnswer,
    Context,
    Request,
    done,
    name_in,
    nothing,
    place_in,
)
from kdc.admin.ending import expire
from kdc.admin.enrolment import add, invite, load, reset
from kdc.admin.nodes import check_keys, in_force_seconds, list_nodes, new_master_key
from kdc.errors import ConfigurationError, ErrorKind, RefusedByPolicy
from kdc.store import (
    RESERVED,
    Change,
    Delete,
    Purge,
    Record,
    Replace,
    Status,
    Store,
    change_record,
    no_such_principal,
)
from kdc.store.portable import dump

__all__ = ["READING", "AdminAnswer", "Context", "Request", "administer", "describe"]

_MAX_TICKET_SECONDS = 3600  # the longest lifetime that a KDC can be told

# These change nothing, and can take long where there are many principals.
READING = frozenset(("list", "show", "stats", "dump", "nodes"))
# After these an older state must not be relied on: it is told when no KDC does any more.
_ENDING = frozenset(("reset", "disable", "delete", "purge", "expire"))
# What may be done to the realm's own names, too.
_FOR_ALL = frozenset(("delete", "purge", "load"))


def administer(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Do what ``request`` says, as its answers are asked for.

    Raises `KDCError`; then nothing was changed.  Each answer of many is made
    when it is wanted: a million principals are never held together.
    """
    word = str(request.get("command"))
    command = _COMMANDS.get(word)
    if word.startswith("kerberos-"):
        from kdc.admin.kerberos import COMMANDS  # most realms have none of it

        command = COMMANDS.get(word)
    elif word not in READING and word not in _FOR_ALL:
        _check_not_own(store, request)
    if command is None:
        raise ConfigurationError(f"no such command: {word[:40]!r}")
    answers = command(store, request, context)
    return _in_force(store, answers) if word in _ENDING else answers


def _in_force(store: Store, answers: Iterator[AdminAnswer]) -> Iterator[AdminAnswer]:
    for answer in answers:
        seconds = in_force_seconds(store)
        yield {**answer, "in_force_seconds": seconds} if seconds else answer


def _check_not_own(store: Store, request: Request) -> None:
    """Refuse to treat a name of the realm's own as somebody's."""
    name = request.get("name")
    record = store.get(name) if isinstance(name, str) and name in RESERVED else None
    if record is not None and record.status is Status.DISABLED and not record.verify_key:
        raise RefusedByPolicy(
            f"{name} is the realm's own, for Kerberos", hint="deleting it is what can be done"
        )


def describe(record: Record) -> AdminAnswer:
    """What of a record may be shown."""
    answer: AdminAnswer = {
        "name": record.name,
        "status": record.status.value,
        "address": record.address,
        "port": record.port,
        "generation": record.generation,
        "changed": record.changed_time,
    }
    if record.status is Status.INVITED:
        answer["invitation_end"] = record.invitation_end_time
    if record.expiry_time:
        answer["expiry"] = record.expiry_time
    if record.renewal_seconds:
        answer["renewal_seconds"] = record.renewal_seconds
    return answer


def _list(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    status, prefix = request.get("status"), str(request.get("prefix") or "")
    wanted = None if status is None else _status(status)
    for record in store:
        if record.name.startswith(prefix) and wanted in (None, record.status):
            yield _shown(record, context)


def _show(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    yield _shown(_existing(store, request), context)


def _shown(record: Record, context: Context) -> AdminAnswer:
    answer = describe(record)
    if context.online is not None:
        answer["online"] = context.online(record.name)
        answer["last_seen"] = context.last_seen(record.name)
    return answer


def _disable(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    return _set_status(store, request, context, Status.ACTIVE, Status.DISABLED)


def _enable(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    return _set_status(store, request, context, Status.DISABLED, Status.ACTIVE)


def _set_status(
    store: Store, request: Request, context: Context, before: Status, after: Status
) -> Iterator[AdminAnswer]:
    def change(now: Record) -> Change | None:
        if now.status is after:
            return None
        if now.status is not before:
            raise RefusedByPolicy(f"{now.name} is {now.status.value}, not {before.value}")
        return Replace(attrs.evolve(now, status=after, changed_time=context.now), now.generation)

    name = name_in(request)
    if not change_record(store, name, change):
        yield nothing(name, f"it is {after.value} already")
        return
    context.audit(f"admin-{'enabled' if after is Status.ACTIVE else 'disabled'}", name, "")
    yield done(name)


def _delete(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Leave a tombstone, which keeps the name reserved."""

    def change(now: Record) -> Change | None:
        if now.status is Status.DELETED:
            return None
        return Delete(now.name, now.generation, context.now)

    name = name_in(request)
    if not change_record(store, name, change):
        yield nothing(name, "it is deleted already")
        return
    context.audit("admin-deleted", name, "")
    yield done(name)


def _purge(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Free a name.  Not before every ticket for its last owner has ended."""

    def change(now: Record) -> Change:
        if now.status not in (Status.DELETED, Status.INVITED):
            raise RefusedByPolicy(f"{now.name} is {now.status.value}", hint="delete it first")
        left = now.changed_time + _MAX_TICKET_SECONDS - context.now
        if now.status is Status.DELETED and left > 0 and not request.get("force"):
            raise RefusedByPolicy(
                f"{now.name} was deleted less than an hour ago: tickets for it may be out there",
                hint=f"try again in {left} s: until then who has such a ticket takes a new"
                " owner of the name for the old one",
                kind=ErrorKind.TICKETS_LEFT,
                facts={"seconds": str(left)},
            )
        return Purge(now.name, now.generation)

    name = name_in(request)
    change_record(store, name, change)
    context.audit("admin-purged", name, "")
    yield done(name)


def _set_address(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    place = place_in(request)

    def change(now: Record) -> Change | None:
        if now.status is Status.DELETED:
            raise RefusedByPolicy(f"{now.name} is {now.status.value}")
        if (now.address, now.port) == (place["address"], place["port"]):
            return None
        return Replace(attrs.evolve(now, changed_time=context.now, **place), now.generation)

    name = name_in(request)
    if not change_record(store, name, change):
        yield nothing(name, "that is its address")
        return
    context.audit("admin-moved", name, f"{place['address'] or '-'} {place['port']}")
    yield done(name)


def _rename(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    raise RefusedByPolicy(
        "a principal cannot be renamed: its name is part of its keys",
        hint="invite the new name, and delete the old one when it has been taken up",
    )


def _new_master_key(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    key_id = new_master_key(store)
    context.audit("admin-new-master-key", "", key_id)
    yield {"done": True, "master_key": key_id}


def _rotate_master_key(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    check_keys(store)
    store.rotate_master_key()
    context.audit("admin-rotated-master-key", "", "")
    yield {"done": True, **({} if store.nodes is None else {"shared": True})}


def _rotate_tls(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    fingerprint = context.rotate_tls()
    context.audit("admin-rotated-tls", "", fingerprint)
    yield {"done": True, "fingerprint": fingerprint}


def _stats(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    counts = store.counts()
    yield {
        "realm": store.realm,
        "records": sum(counts.values()),
        **{status.value: count for status, count in counts.items()},
        "generation": store.generation,
        "trouble": store.trouble,
        **context.more_stats,
    }


def _dump(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    secrets = bool(request.get("secrets"))
    if secrets:  # no change, but whoever has it can guess every passphrase
        context.audit("admin-dumped", "", "with secrets")
    for line in dump(store, secrets=secrets):
        yield {"line": line}


_COMMANDS: dict[str, Callable[[Store, Request, Context], Iterator[AdminAnswer]]] = {
    "list": _list,
    "show": _show,
    "add": add,
    "invite": invite,
    "reset": reset,
    "load": load,
    "import": load,
    "disable": _disable,
    "enable": _enable,
    "delete": _delete,
    "purge": _purge,
    "set-address": _set_address,
    "expire": expire,
    "rename": _rename,
    "new-master-key": _new_master_key,
    "rotate-master-key": _rotate_master_key,
    "rotate-tls": _rotate_tls,
    "stats": _stats,
    "nodes": list_nodes,
    "dump": _dump,
}


def _existing(store: Store, request: Request) -> Record:
    name = name_in(request)
    record = store.get(name)
    if record is None:
        raise no_such_principal(name)
    return record


def _status(text: Any) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise ConfigurationError(
            f"no such status: {str(text)[:40]!r}",
            hint=f"there are {', '.join(status.value for status in Status)}",
        ) from None
