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

from kdc.errors import ConfigurationError, KDCError, PeerUnavailable, RefusedByPolicy
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

__all__ = ["Answer", "Context", "Request", "administer", "describe"]

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[str, Any]

MAX_TICKET_SECONDS = 3600
_CODE_BYTES = 16
_TRIES = 3


@attrs.frozen
class Context:
    """What a command needs besides the store.  ``where``: (host, port, fingerprint) of the KDC.

    ``audit`` is told (event, name, detail) of each change; ``more_stats`` is
    what a running server knows; ``rotate_tls`` makes a new TLS key and returns
    its fingerprint; ``rotate_master_key`` is the store's own.
    """

    now: int
    random: Callable[[int], bytes]
    audit: Callable[[str, str, str], None]
    where: Callable[[], tuple[str, int, str]]
    rotate_tls: Callable[[], str]
    rotate_master_key: Callable[[], None]
    more_stats: Callable[[], Answer] = dict


def administer(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Do what ``request`` says; raises `KDCError`, having changed nothing."""
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
    record = Record(
        _name(request),
        Status.ACTIVE,
        **_place(request),
        verify_key=_hex(request, "verify_key"),
        reply_key=_hex(request, "reply_key"),
        changed_time=context.now,
    )
    yield from _create(store, request, context, record, "admin-added")


def _invite(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Reserve a name for whoever holds the code; for a name that is invited already, a new code."""
    host, port, fingerprint = context.where()
    host, port = str(request.get("kdc_host") or host), int(request.get("kdc_port") or port)
    if not host or not port:
        raise ConfigurationError(
            "it is not known where clients reach this KDC",
            hint="give --kdc-address and --kdc-port: they become part of the invitation",
        )
    record = Record(
        _name(request),
        Status.INVITED,
        **_place(request),
        invitation=context.random(_CODE_BYTES),
        invitation_end_time=context.now + int(request.get("valid_seconds") or 3 * 86_400),
        changed_time=context.now,
    )
    now = store.get(record.name)
    if now is not None and now.status is Status.INVITED:
        _change(store, lambda current: Replace(record, current.generation), record.name)
        context.audit("admin-invited", record.name, "again")
    else:
        for answer in _create(store, request, context, record, "admin-invited"):
            if not answer["done"]:
                yield answer
                return
    invitation = Invitation(store.realm, record.name, host, port, fingerprint, record.invitation)
    yield {"done": True, "name": record.name, "invitation": str(invitation)}


def _disable(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    yield from _set_status(store, request, context, Status.ACTIVE, Status.DISABLED)


def _enable(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    yield from _set_status(store, request, context, Status.DISABLED, Status.ACTIVE)


def _set_status(
    store: Store, request: Request, context: Context, before: Status, after: Status
) -> Iterator[Answer]:
    record = _existing(store, request)
    if record.status is after:
        yield {"done": False, "name": record.name, "why": f"it is {after.value} already"}
        return
    if record.status is not before:
        raise RefusedByPolicy(f"{record.name} is {record.status.value}, not {before.value}")
    _change(
        store,
        lambda now: Replace(
            attrs.evolve(now, status=after, changed_time=context.now), now.generation
        ),
        record.name,
    )
    context.audit(f"admin-{'enabled' if after is Status.ACTIVE else 'disabled'}", record.name, "")
    yield {"done": True, "name": record.name}


def _delete(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Leave a tombstone, which keeps the name reserved."""
    record = _existing(store, request)
    if record.status is Status.DELETED:
        yield {"done": False, "name": record.name, "why": "it is deleted already"}
        return
    _change(store, lambda now: Delete(now.name, now.generation, context.now), record.name)
    context.audit("admin-deleted", record.name, "")
    yield {"done": True, "name": record.name}


def _purge(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    """Free a name.  Not before every ticket for its last owner has ended."""
    record = _existing(store, request)
    if record.status not in (Status.DELETED, Status.INVITED):
        raise RefusedByPolicy(f"{record.name} is {record.status.value}", hint="delete it first")
    left = record.changed_time + MAX_TICKET_SECONDS - context.now
    if record.status is Status.DELETED and left > 0 and not request.get("force"):
        raise RefusedByPolicy(
            f"{record.name} was deleted less than an hour ago: tickets for it may be out there",
            hint=f"try again in {left} s, or give --force",
        )
    _change(store, lambda now: Purge(now.name, now.generation), record.name)
    context.audit("admin-purged", record.name, "")
    yield {"done": True, "name": record.name}


def _set_address(store: Store, request: Request, context: Context) -> Iterator[Answer]:
    record = _existing(store, request)
    place = _place(request)
    _change(
        store,
        lambda now: Replace(attrs.evolve(now, changed_time=context.now, **place), now.generation),
        record.name,
    )
    context.audit("admin-moved", record.name, f"{place['address']} {place['port']}")
    yield {"done": True, "name": record.name}


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
    yield {"realm": store.realm, "records": len(store), **counts, **context.more_stats()}


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
}


def _create(
    store: Store, request: Request, context: Context, record: Record, event: str
) -> Iterator[Answer]:
    (result,) = store.apply([Create(record, context.random(16))])
    if result.outcome is Outcome.DONE:
        context.audit(event, record.name, "")
        yield {"done": True, "name": record.name}
    elif request.get("if_absent"):
        yield {"done": False, "name": record.name, "why": "it is there already"}
    else:
        status = "" if result.record is None else result.record.status.value
        raise RefusedByPolicy(
            f"{record.name} is there already ({status})", hint="--if-absent makes that no error"
        )


def _change(store: Store, change: Callable[[Record], Change], name: str) -> None:
    """Apply ``change`` to the record as it is; again if somebody else was faster."""
    for _ in range(_TRIES):
        record = store.get(name)
        if record is None:
            break
        (result,) = store.apply([change(record)])
        if result.outcome is Outcome.DONE:
            return
    raise KDCError(f"{name} is being changed by somebody else", hint="try again")


def _name(request: Request) -> str:
    try:
        return check_name(str(request.get("name")))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _existing(store: Store, request: Request) -> Record:
    name = _name(request)
    record = store.get(name)
    if record is None:
        raise PeerUnavailable(f"there is no {name}", hint="see kdc admin list")
    return record


def _status(text: Any) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise ConfigurationError(
            f"no such status: {str(text)[:40]!r}",
            hint=f"there are {', '.join(status.value for status in Status)}",
        ) from None


def _place(request: Request) -> dict[str, Any]:
    address, port = str(request.get("address") or ""), request.get("port") or 0
    try:
        if address:
            address = str(ipaddress.ip_address(address))
        if not (isinstance(port, int) and 0 <= port <= 65535):
            raise ValueError(f"not a port: {port!r}")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return {"address": address, "port": port}


def _hex(request: Request, key: str) -> bytes:
    try:
        value = bytes.fromhex(str(request.get(key)))
        if len(value) != 32:
            raise ValueError
    except ValueError:
        raise ConfigurationError(f"{key} is not 32 bytes in hex") from None
    return value
