"""What an operator does to the realm's Kerberos: see `kdc.admin.principals`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from kdc.admin._request import AdminAnswer, Context, Request, done, name_in, nothing
from kdc.errors import ConfigurationError, RefusedByPolicy
from kdc.kerberos.realm import TGS
from kdc.kerberos_store import (
    check_service,
    check_upper,
    keytab_of,
    live_part,
    made_anew,
    rotated,
    tgs_part,
)
from kdc.store import (
    RESERVED,
    Change,
    Create,
    KerberosPart,
    Outcome,
    Record,
    Replace,
    Status,
    Store,
    change_record,
    no_such_principal,
)

__all__ = ["COMMANDS"]

# No ticket can be renewed for longer: see the realm's settings.
_KEEP_SECONDS = 31 * 86_400
_TOKEN_BYTES = 16


def _enable(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Make the realm's own keys, and reserve its names."""
    check_upper(store.realm)
    if tgs_part(store) is not None:
        yield nothing(TGS, "the realm has keys for Kerberos already")
        return
    for name in sorted(RESERVED):
        record = store.get(name)
        if record is not None and not _is_own(record):
            raise RefusedByPolicy(
                f"the name {name} is a principal's, and Kerberos needs it",
                hint="delete that principal, and free the name",
            )
    for name in sorted(RESERVED):
        _make_own(store, name, context)
    context.audit("admin-kerberos-enabled", "", "")
    yield done(TGS)


def _is_own(record: Record) -> bool:
    return record.status is Status.DISABLED and not record.verify_key


def _make_own(store: Store, name: str, context: Context) -> None:
    part = rotated(None, context.now, context.random, 0) if name == TGS else None
    new = Record(name, Status.DISABLED, changed_time=context.now, kerberos=part)
    (result,) = store.apply([Create(new, context.random(_TOKEN_BYTES))])
    if result.outcome is Outcome.DONE:
        return

    def give_keys(now: Record) -> Change | None:
        if not _is_own(now):
            raise RefusedByPolicy(f"the name {name} is a principal's", hint="try again")
        keyed = attrs.evolve(now, kerberos=part)
        return None if part is None or live_part(now) else Replace(keyed, now.generation)

    change_record(store, name, give_keys)


def _check_enabled(store: Store) -> KerberosPart:
    part = tgs_part(store)
    if part is None:
        raise RefusedByPolicy(
            "this realm has no keys for Kerberos", hint="enable it first, and see what that means"
        )
    return part


def _rotate(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Give the realm other keys; with ``drop`` the old ones open nothing any more."""
    _check_enabled(store)
    keep = 0 if request.get("drop") else _KEEP_SECONDS
    kvno = 0

    def change(now: Record) -> Change:
        nonlocal kvno
        old = now.kerberos if keep else KerberosPart(now.kerberos.kvno if now.kerberos else 0)
        part = rotated(old, context.now, context.random, keep)
        kvno = part.kvno
        return Replace(attrs.evolve(now, kerberos=part, changed_time=context.now), now.generation)

    change_record(store, TGS, change)
    context.audit("admin-kerberos-rotated", "", f"version {kvno}")
    yield {**done(TGS), "version": kvno}


def _services(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Say whose some services are; without any, which a principal has."""
    _check_enabled(store)
    name = name_in(request)
    add, remove = _names(request, "add"), _names(request, "remove")

    def change(now: Record) -> Change | None:
        _check_receives_keys(now)
        services = (set(now.services) | add) - remove
        if services == set(now.services):
            return None
        if (part := live_part(now)) is None:
            part = made_anew(now, context.now, context.random)
        changed = _with_services(now, part, services)
        made_anew(changed, context.now, context.random)  # is there room for the next ones?
        return Replace(changed, now.generation)

    if (add or remove) and change_record(store, name, change):
        detail = " ".join(
            [*(f"+{each}" for each in sorted(add)), *(f"-{e}" for e in sorted(remove))]
        )
        context.audit("admin-kerberos-services", name, detail)
    yield _shown(_existing(store, name))


def _with_services(record: Record, part: KerberosPart, services: set[str]) -> Record:
    try:
        return attrs.evolve(record, kerberos=attrs.evolve(part, services=tuple(services)))
    except ValueError as error:
        raise RefusedByPolicy(
            f"{record.name} has too many services: {error}",
            hint="let another principal have some of them",
        ) from None


def _check_receives_keys(record: Record) -> None:
    if record.status is not Status.ACTIVE:
        raise RefusedByPolicy(f"{record.name} is {record.status.value}, not active")


def _keytab(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Give a principal's keys out, which never changes them unless that is asked for."""
    _check_enabled(store)
    name, services = name_in(request), _names(request, "services")
    record = _existing(store, name)
    _check_receives_keys(record)
    strange = services - set(record.services)
    if strange:
        raise RefusedByPolicy(
            f"{min(strange)} is no service of {name}", hint="give it that service first"
        )
    if live_part(record) is None or request.get("new_keys"):

        def change(now: Record) -> Change:
            _check_receives_keys(now)
            part = made_anew(now, context.now, context.random)
            return Replace(attrs.evolve(now, kerberos=part), now.generation)

        change_record(store, name, change)
        record = _existing(store, name)
    names = sorted(services) or [name, *record.services]
    context.audit("admin-kerberos-keytab", name, " ".join(names))
    content = keytab_of(record, store.realm, names)
    yield {**done(name), "keytab": base64.b64encode(content).decode()}


def _show(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    yield _shown(_existing(store, name_in(request)))


def _shown(record: Record) -> AdminAnswer:
    part = live_part(record)
    keys = () if part is None else part.keys
    return {
        "name": record.name,
        "version": 0 if part is None else part.kvno,
        "versions": sorted({key.kvno for key in keys}),
        "made": max((key.made_time for key in keys), default=0),
        "services": list(record.services),
    }


def _existing(store: Store, name: str) -> Record:
    record = store.get(name)
    if record is None:
        raise no_such_principal(name)
    return record


def _names(request: Request, key: str) -> set[str]:
    names: Any = request.get(key) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{key} is a list of names")
    return {check_service(name) for name in names}


COMMANDS: dict[str, Callable[[Store, Request, Context], Iterator[AdminAnswer]]] = {
    "kerberos-enable": _enable,
    "kerberos-rotate": _rotate,
    "kerberos-services": _services,
    "kerberos-keytab": _keytab,
    "kerberos-show": _show,
}
