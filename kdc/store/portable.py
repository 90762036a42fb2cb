"""Principals as portable text: writing a store down, reading that, reading the original's file.

Of any store, by its interface alone, one principal at a time: a million are
never held together.  Whoever reads decides what becomes of what was read.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import attrs

from kdc.protocol.names import fold_name, plain_address
from kdc.store import RESERVED, KerberosPart, Record, Status, Store, StoreError

__all__ = [
    "Numbered",
    "Skipped",
    "bounded_lines",
    "dump",
    "fields_of",
    "read_dump",
    "read_textbook",
    "record_of",
]

_FORMAT = "kdc-dump"
_MAX_LINE = 8192  # more than the longest of ours
_MAX_REASON = 200
_TEXTBOOK = re.compile(
    r":([^:\s]+):(\[[^\]\s]*\]|[^:]*):([^:]*):[^:]*:"
    r"(?:(active|disabled|invited|deleted):(?:[0-9]+:){3})?"  # a line of ours goes on so
)
# What else there is in files of ours.
_FRAME = ("kdc-principals:", "kdc-journal:", "end:", "commit:")
_SECRETS = ("verify_key", "reply_key", "invitation")
_ENDS = ("expiry_time", "renewal_seconds")
_NUMBERS = ("port", "invitation_end_time", "changed_time", "generation", *_ENDS)


@attrs.frozen
class Numbered:
    """A principal, and the line that it was read from.

    It is INVITED without a code if its keys are not known: it has to be
    invited before it can be stored.
    """

    line: int
    record: Record


@attrs.frozen
class Skipped:
    """A line that says nothing usable, and why."""

    line: int
    reason: str


def dump(store: Store, *, secrets: bool = False) -> Iterator[str]:
    """Yield the store as lines of JSON; keys and invitation codes only with ``secrets``.

    With them the dump is as precious as store and master key together.
    """
    yield json.dumps({"format": _FORMAT, "version": 1, "realm": store.realm, "secrets": secrets})
    for record in store:
        yield json.dumps(fields_of(record, secrets=secrets))


def fields_of(record: Record, *, secrets: bool) -> dict[str, Any]:
    """Return what JSON can hold of ``record``: all of it, or all but its secrets."""
    fields: dict[str, Any] = attrs.asdict(record, recurse=False)
    part = fields.pop("kerberos")
    fields["status"] = record.status.value
    for name in _ENDS:  # few have one, and older versions know none
        if not record.expiry_time:
            del fields[name]
    for name in _SECRETS:
        value = fields.pop(name)
        if secrets:
            fields[name] = base64.b64encode(value).decode()
    if part is not None and secrets:
        fields["kerberos"] = base64.b64encode(part.encoded()).decode()
    return fields


def record_of(fields: Any) -> Record:
    """Return what `fields_of` was given, or what could have been.

    Raises `ValueError`, which quotes nothing: it could be a key.
    """
    record = None
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        record = Record(**{name: _value(name, value) for name, value in fields.items()})
    if record is None:
        raise ValueError("not a principal")
    has_owner = record.status in (Status.ACTIVE, Status.DISABLED)
    if record.name in RESERVED and record.status is Status.DISABLED and not record.verify_key:
        has_owner = False  # the realm's own
    if {bool(record.verify_key), bool(record.reply_key)} != {has_owner}:
        raise ValueError("keys without an owner, or the other way round")
    return record


def bounded_lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of ``file``; of one that is longer than any of ours only the beginning."""
    while line := file.readline(_MAX_LINE):
        yield line
        while len(line) == _MAX_LINE and not line.endswith("\n"):
            line = file.readline(_MAX_LINE)


def read_dump(lines: Iterable[str], realm: str) -> Iterator[Numbered]:
    """Yield the principals of a `dump` of a store of ``realm``.

    Without secrets in it, whoever had keys or an invitation is to be invited.
    Raises `StoreError` at the first line that no dump has.
    """
    numbered = enumerate(lines, 1)
    secrets = _check_dump(next(numbered, (1, ""))[1], realm)
    for number, line in numbered:
        yield Numbered(number, _dumped(number, line, secrets))


def read_textbook(lines: Iterable[str]) -> Iterator[Numbered | Skipped]:
    """Yield names and addresses of the original program's pwd.txt, to be claimed.

    Its digests cannot be used: they are what that program derived keys from, so
    whoever has read the file could claim the name.  Files of a store whose master
    key is lost are read in the same way, tombstones as what they are.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(_FRAME):
            continue
        try:
            yield Numbered(number, _textbook_record(line))
        except ValueError as error:
            yield Skipped(number, str(error)[:_MAX_REASON])


def _value(name: str, value: Any) -> Any:
    if name == "status":
        return Status(value)
    if type(value) is not (int if name in _NUMBERS else str):
        raise ValueError
    if name == "kerberos":
        return KerberosPart.decoded(base64.b64decode(str(value), validate=True))
    return base64.b64decode(str(value), validate=True) if name in _SECRETS else value


def _check_dump(line: str, realm: str) -> bool:
    try:
        header = json.loads(line)
        known = header["format"] == _FORMAT and header["version"] == 1
        of_realm, secrets = str(header["realm"]), bool(header["secrets"])
    except (ValueError, KeyError, TypeError, RecursionError):
        known, of_realm, secrets = False, "", False
    if not known:
        raise StoreError("line 1 is not the first line of a dump of this version")
    if of_realm != realm:
        raise StoreError(
            f"the dump is of realm {of_realm[:64]!r}, the store of {realm!r}",
            hint="keys are bound to their realm: a dump cannot be loaded into another",
        )
    return secrets


def _dumped(number: int, line: str, secrets: bool) -> Record:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        fields = json.loads(line)
        if sum(name in fields for name in _SECRETS) != (len(_SECRETS) if secrets else 0):
            raise ValueError
        if not secrets and "kerberos" in fields:
            raise ValueError
        if not secrets and fields["status"] != Status.DELETED.value:
            fields["status"] = Status.INVITED.value
        return record_of(fields)
    # Neither quote the line nor raise this from the error that does: it can hold keys.
    raise StoreError(
        f"line {number} of the dump is not a principal's",
        hint="what is before it may have been taken; once it is mended, read the file again",
    )


def _textbook_record(line: str) -> Record:
    if len(line) >= _MAX_LINE:
        raise ValueError("longer than any principal's line")
    match = _TEXTBOOK.fullmatch(line.strip())
    if match is None:
        raise ValueError("not of the form :name:ip:port:digest:")
    name, address, port, status = match.groups()
    if status == Status.DELETED.value:
        return Record(fold_name(name), Status.DELETED)
    if not port.isascii() or not port.isdigit():
        raise ValueError(f"not a port: {port[:20]!r}")
    return Record(
        fold_name(name),
        Status.INVITED,
        address=plain_address(address.strip("[]")),
        port=int(port[:6]),
    )
