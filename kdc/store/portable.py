"""Taking a store elsewhere: dump and load, the original program's format, backups."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from kdc.principal import fold_name
from kdc.store import Create, Outcome, Record, Status, Store, StoreError
from kdc.store.check import check
from kdc.store.files import Files, read_whole, replace
from kdc.store.opening import Paths

__all__ = [
    "Imported",
    "Invited",
    "Skipped",
    "backup",
    "dump",
    "import_textbook",
    "load",
]

_FORMAT = "kdc-dump"
_BATCH = 1000
_CODE_BYTES = 16
_TEXTBOOK = re.compile(r":([^:\s]+):([^:]*):([^:]*):[^:]*:")
_SECRETS = ("verify_key", "reply_key", "invitation")


@attrs.frozen
class Invited:
    """A name that waits for its owner, and the code that proves him."""

    name: str
    code: bytes = attrs.field(repr=False)


@attrs.frozen
class Skipped:
    """A line that was not taken, and why."""

    line: int
    reason: str


@attrs.frozen
class Imported:
    invited: list[Invited]
    skipped: list[Skipped]


def dump(store: Store, *, secrets: bool = False) -> Iterator[str]:
    """Yield the store as lines of JSON; keys and invitation codes only with ``secrets``.

    With them the dump is as precious as store and master key together.
    """
    yield json.dumps({"format": _FORMAT, "version": 1, "realm": store.realm, "secrets": secrets})
    for record in store:
        fields: dict[str, Any] = attrs.asdict(record)
        fields["status"] = record.status.value
        for name in _SECRETS:
            value = fields.pop(name)
            if secrets:
                fields[name] = base64.b64encode(value).decode()
        yield json.dumps(fields)


def load(store: Store, lines: Iterable[str], *, random: Callable[[int], bytes]) -> Imported:
    """Add what `dump` gave to a store of the same realm.

    Names that are there already are left alone and told of.  Principals dumped
    without secrets become invitations, as in `import_textbook`: their keys are
    not known here.  Raises `StoreError` at a line that is not of a dump;
    what came before it is in the store then, and loading again is harmless.
    """
    numbered = enumerate(lines, 1)
    secrets = _check_dump(next(numbered, (1, ""))[1], store.realm)
    done = Imported([], [])
    pending: list[tuple[int, Record]] = []
    for number, line in numbered:
        record = _dumped(number, line, secrets)
        if not secrets and record.status is not Status.DELETED:
            record = attrs.evolve(record, status=Status.INVITED, invitation=random(_CODE_BYTES))
        pending.append((number, record))
        if len(pending) >= _BATCH:
            _create(store, pending, random, done, tell_codes=not secrets)
            pending = []
    _create(store, pending, random, done, tell_codes=not secrets)
    return done


def import_textbook(
    store: Store,
    lines: Iterable[str],
    *,
    random: Callable[[int], bytes],
    invitation_end_time: int,
    now: int = 0,
) -> Imported:
    """Read the original program's pwd.txt: names and addresses, to be claimed.

    Its digests cannot be used: they are what that program derived keys from, so
    whoever has read the file could claim the name.  Each name becomes an
    invitation with a new code.  Lines that are no principal's are skipped and
    told of, as are names that the store has.
    """
    done = Imported([], [])
    pending: list[tuple[int, Record]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = _textbook_record(line.strip())
        except ValueError as error:
            done.skipped.append(Skipped(number, str(error)))
            continue
        record = attrs.evolve(
            record,
            invitation=random(_CODE_BYTES),
            invitation_end_time=invitation_end_time,
            changed_time=now,
        )
        pending.append((number, record))
        if len(pending) >= _BATCH:
            _create(store, pending, random, done, tell_codes=True)
            pending = []
    _create(store, pending, random, done, tell_codes=True)
    return done


def backup(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    with_key: bool = False,
    key_path: str | None = None,
    files: Files | None = None,
) -> list[str]:
    """Copy pwd.txt and its journal to ``directory``, and check the copy; return its files.

    It may run beside the server.  Without the master key the copy reveals
    nothing and restores nothing: keep a copy of the key elsewhere.  Raises
    `StoreError` if the copy cannot be made or is not good, or a file is there.
    """
    files = files or Files()
    paths = Paths.of(os.fspath(path), key_path)
    target = os.path.join(os.path.abspath(os.fspath(directory)), os.path.basename(paths.base))
    copies = {paths.base: target, paths.journal: target + ".journal"}
    if with_key:
        copies[paths.key] = target + ".key"
    for copy in copies.values():
        if files.exists(copy):
            raise StoreError(f"{copy} is there already", hint="name an empty directory")
    try:
        for source, copy in copies.items():
            if files.exists(source):
                replace(files, copy, read_whole(files, source))
    except OSError as error:
        raise StoreError(f"cannot back up {paths.base}: {error.strerror}") from error
    problems = check(target, key_path=paths.key, files=files)
    fatal = [problem for problem in problems if not problem.harmless]
    if fatal:
        raise StoreError(
            f"the backup is not good: {fatal[0]}",
            hint=f"check the store itself: kdc admin -f {paths.base} check",
        )
    return [copy for copy in copies.values() if files.exists(copy)]


def _check_dump(line: str, realm: str) -> bool:
    try:
        header = json.loads(line)
        known = header["format"] == _FORMAT and header["version"] == 1
        of_realm, secrets = str(header["realm"]), bool(header["secrets"])
    except (ValueError, KeyError, TypeError):
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
    try:
        fields = json.loads(line)
        fields["status"] = Status(fields["status"])
        for name in _SECRETS if secrets else ():
            fields[name] = base64.b64decode(fields[name], validate=True)
        return Record(**fields)
    except (ValueError, KeyError, TypeError):
        # Never quote the line: it can hold keys.
        raise StoreError(f"line {number} of the dump is not a principal's") from None


def _textbook_record(line: str) -> Record:
    match = _TEXTBOOK.fullmatch(line)
    if match is None:
        raise ValueError("not of the form :name:ip:port:digest:")
    name, address, port = match.groups()
    if not port.isascii() or not port.isdigit():
        raise ValueError(f"not a port: {port[:20]!r}")
    return Record(
        fold_name(name),
        Status.INVITED,
        address=str(ipaddress.ip_address(address)) if address else "",
        port=int(port[:6]),
    )


def _create(
    store: Store,
    numbered: list[tuple[int, Record]],
    random: Callable[[int], bytes],
    done: Imported,
    *,
    tell_codes: bool,
) -> None:
    if not numbered:
        return
    results = store.apply([Create(record, random(16)) for _, record in numbered])
    for (number, record), result in zip(numbered, results, strict=True):
        if result.outcome is not Outcome.DONE:
            done.skipped.append(Skipped(number, f"the store has {record.name!r} already"))
        elif tell_codes and record.status is Status.INVITED:
            done.invited.append(Invited(record.name, record.invitation))
