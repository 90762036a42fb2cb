"""How an operator makes principals: with a key, by invitation, or many from a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from kdc.admin._request import (
    AdminAnswer,
    Context,
    Request,
    done,
    name_in,
    nothing,
    place_in,
    whole_in,
)
from kdc.errors import ConfigurationError, ErrorKind, RefusedByPolicy
from kdc.protocol.invitation import Invitation
from kdc.store import Change, Create, Outcome, Record, Replace, Status, Store, change_record
from kdc.store.portable import record_of

__all__ = ["MAX_RECORDS", "add", "invite", "load", "reset"]

MAX_RECORDS = 500  # of one request to load: others wait for a batch to be written

_VALID_SECONDS = 3 * 86_400
_MAX_VALID_SECONDS = 366 * 86_400
_CODE_BYTES = 16


def add(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Add a principal whose keys are given, as made from a key file."""
    wanted = Record(
        name_in(request),
        Status.ACTIVE,
        **place_in(request),
        verify_key=_hex(request, "verify_key"),
        reply_key=_hex(request, "reply_key"),
        changed_time=context.now,
    )
    there = _create(store, wanted, context)
    if there is None:
        context.audit("admin-added", wanted.name, "")
        yield done(wanted.name)
        return
    same_key = there.status is Status.ACTIVE and there.verify_key == wanted.verify_key
    yield _there_already(there, request, satisfied=same_key)


def invite(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Reserve a name for whoever holds the code; for a name that is invited already, a new code."""
    wanted = Record(name_in(request), Status.INVITED, **place_in(request))
    # First: what cannot be printed must not be stored.
    template = _template(store.realm, request, context)
    record = _with_code(wanted, request, context)

    def replace(now: Record) -> Change:
        if now.status is not Status.INVITED:
            raise _conflict(now)
        return Replace(record, now.generation)

    there = _create(store, record, context)
    if there is not None:
        if request.get("if_absent"):
            yield _there_already(there, request, satisfied=there.status is not Status.DELETED)
            return
        change_record(store, record.name, replace)
    context.audit("admin-invited", record.name, "" if there is None else "again")
    yield {**done(record.name), "invitation": _invitation(template, record)}


def reset(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Forget a principal's keys and invite its owner anew: in one step, which frees no name."""
    template = _template(store.realm, request, context)
    record = _with_code(Record(name_in(request), Status.INVITED), request, context)

    def replace(now: Record) -> Change:
        if now.status is Status.DELETED:
            raise _conflict(now)
        new = attrs.evolve(
            record,
            address=now.address,
            port=now.port,
            expiry_time=now.expiry_time,
            renewal_seconds=now.renewal_seconds,
        )
        return Replace(new, now.generation)

    change_record(store, record.name, replace)
    context.audit("admin-reset", record.name, "")
    yield {**done(record.name), "invitation": _invitation(template, record)}


def load(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Add principals as `kdc.store.portable` reads them; who is there already is left alone.

    Whoever comes invited, and without a code, gets one.  There is an answer for
    each, in their order.  To do it again is harmless.
    """
    given = _records_in(request)
    uninvited = [record.status is Status.INVITED and not record.invitation for record in given]
    template = _template(store.realm, request, context) if any(uninvited) else None
    wanted = [
        _with_code(record, request, context) if needs_code else record
        for record, needs_code in zip(given, uninvited, strict=True)
    ]
    changes = [Create(record, context.random(16)) for record in wanted]
    results = [
        result
        for at in range(0, len(changes), store.most_changes)
        for result in store.apply(changes[at : at + store.most_changes])
    ]
    made = [result.outcome is Outcome.DONE for result in results]
    # All of it before the first answer: who asks may not stay for the others.
    for record in itertools.compress(wanted, made):
        context.audit(f"admin-{request['command']}ed", record.name, record.status.value)
    for record, needs_code, result in zip(wanted, uninvited, results, strict=True):
        if result.outcome is not Outcome.DONE:
            yield _left_alone(record, result.record)
        elif template is not None and needs_code:
            yield {**done(record.name), "invitation": _invitation(template, record)}
        else:
            yield done(record.name)


def _records_in(request: Request) -> list[Record]:
    given = request.get("records")
    if not isinstance(given, list) or len(given) > MAX_RECORDS:
        raise ConfigurationError(f"records is a list of at most {MAX_RECORDS}")
    try:
        return [record_of(fields) for fields in given]
    except ValueError as error:
        raise ConfigurationError(f"a record of the request is {error}") from None


def _left_alone(wanted: Record, there: Record | None) -> AdminAnswer:
    """What is told of a name that is there; ``refused`` if it is not what was wanted."""
    if there is None:
        return {**nothing(wanted.name, "somebody else is changing it"), "refused": True}
    if wanted.status is Status.INVITED:
        satisfied = there.status is not Status.DELETED
    else:
        satisfied = there.status is wanted.status and there.verify_key == wanted.verify_key
    answer = nothing(wanted.name, f"it is there already ({there.status.value})")
    return answer if satisfied else {**answer, "refused": True}


def _with_code(record: Record, request: Request, context: Context) -> Record:
    """Return ``record`` with an invitation that begins now."""
    valid_seconds = whole_in(request, "valid_seconds", 1, _MAX_VALID_SECONDS, _VALID_SECONDS)
    return attrs.evolve(
        record,
        invitation=context.random(_CODE_BYTES),
        invitation_end_time=context.now + valid_seconds,
        changed_time=context.now,
    )


def _template(realm: str, request: Request, context: Context) -> Invitation:
    """Return an invitation to this KDC, but for name and code."""
    host, port, fingerprint = context.where()
    host = str(request.get("kdc_host") or host)
    port = whole_in(request, "kdc_port", 1, 65535, port)
    fingerprint = str(request.get("kdc_fingerprint") or fingerprint)
    if not host or not port:
        why = "" if context.running else ", as none is running"
        raise ConfigurationError(
            f"it is not known where clients reach this KDC{why}",
            kind=ErrorKind.ADDRESS_OF_KDC_UNKNOWN,
        )
    if not fingerprint:
        raise ConfigurationError(
            "the fingerprint of this KDC is not known here",
            hint="start the KDC once: it prints it when it starts",
            kind=ErrorKind.FINGERPRINT_OF_KDC_UNKNOWN,
        )
    try:
        others = _others_in(request, port)
        return Invitation(realm, "x", host, port, fingerprint, b"", others)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _others_in(request: Request, port: int) -> tuple[tuple[str, int], ...]:
    """Where more KDCs of the realm are; raises `ValueError`."""
    given = request.get("kdc_others") or []
    if not isinstance(given, list | tuple) or not all(
        isinstance(each, list | tuple) and len(each) == 2 and isinstance(each[1], int | None)
        for each in given
    ):
        raise ValueError("kdc_others is a list of hosts and ports")
    return tuple((str(host), port if own is None else own) for host, own in given)


def _invitation(template: Invitation, record: Record) -> str:
    return str(attrs.evolve(template, name=record.name, code=record.invitation))


def _create(store: Store, record: Record, context: Context) -> Record | None:
    """Add ``record``; return the one that is there already, if one is."""
    (result,) = store.apply([Create(record, context.random(16))])
    return None if result.outcome is Outcome.DONE else result.record


def _there_already(there: Record, request: Request, *, satisfied: bool) -> AdminAnswer:
    """``satisfied``: what is there is what was asked for, which ``if_absent`` makes no error."""
    if satisfied and request.get("if_absent"):
        return nothing(there.name, f"it is {there.status.value} already")
    raise _conflict(there, ErrorKind.PRINCIPAL_AS_WANTED if satisfied else None)


def _conflict(there: Record, kind: ErrorKind | None = None) -> RefusedByPolicy:
    hints = {
        Status.ACTIVE: "its owner can change its key",
        Status.DISABLED: "it can be enabled again",
        Status.INVITED: "purge the invitation first",
        Status.DELETED: "its name stays reserved until it is purged",
    }
    kinds = {
        Status.ACTIVE: ErrorKind.PRINCIPAL_ACTIVE,
        Status.DISABLED: ErrorKind.PRINCIPAL_DISABLED,
    }
    return RefusedByPolicy(
        f"{there.name} is there already ({there.status.value})",
        hint=hints[there.status],
        kind=kind or kinds.get(there.status),
    )


def _hex(request: Request, key: str) -> bytes:
    try:
        value = bytes.fromhex(str(request.get(key)))
        if len(value) != 32:
            raise ValueError
    except ValueError:
        raise ConfigurationError(f"{key} is not 32 bytes in hex") from None
    return value
