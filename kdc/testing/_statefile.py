"""A `Database` as a file of JSON, where several processes work on one realm."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from kdc.errors import ConfigurationError
from kdc.kerberos.keys import Entry, KeySet, PasswordKeys, StoredKeys
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import Key
from kdc.testing._database import ATTRIBUTES, Database, PasswordPolicy
from kdc.testing._private_files import write_private

__all__ = ["load", "locked", "save"]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one who changes the database at ``path``."""
    descriptor = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def save(database: Database, path: Path) -> None:
    """Replace the file; whoever reads it sees the one or the other."""
    content = {
        "realm": database.realm,
        "etypes": database.etypes,
        "policies": {name: attrs.asdict(policy) for name, policy in database.policies.items()},
        "principals": [_principal(database, entry) for entry in database.entries.values()],
    }
    write_private(path, json.dumps(content).encode())


def _principal(database: Database, entry: Entry) -> dict[str, Any]:
    return {
        "components": entry.principal.components,
        "attributes": {name: getattr(entry, name) for name in sorted(ATTRIBUTES)},
        "keys": {str(kvno): _keys(keys) for kvno, keys in entry.keys.items()},
        "history": [_keys(keys) for keys in database.history.get(entry.principal, [])],
        "changed": database.changed.get(entry.principal, 0),
    }


def _keys(keys: KeySet) -> dict[str, Any]:
    if isinstance(keys, PasswordKeys):
        return {"password": keys.password, "salt": keys.salt, "etypes": keys.etypes}
    return {str(etype): keys.key(etype).content.hex() for etype in keys.etypes}


def load(database: Database, path: Path) -> None:
    """Have ``database`` be what is at ``path``; raises `ConfigurationError`."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "make it with kdb5_util create"
        raise ConfigurationError(f"there is no database {path}", hint=hint) from None
    database.realm = content["realm"]
    database.policies = {
        name: PasswordPolicy(**values) for name, values in content["policies"].items()
    }
    database.entries.clear()
    for found in content["principals"]:
        principal = Principal(tuple(found["components"]), database.realm)
        keys = {int(kvno): _read_keys(values) for kvno, values in found["keys"].items()}
        database.entries[principal] = Entry(principal, keys, **found["attributes"])
        database.history[principal] = [_read_keys(values) for values in found["history"]]
        database.changed[principal] = found["changed"]


def _read_keys(values: dict[str, Any]) -> KeySet:
    if "password" in values:
        return PasswordKeys(values["password"], values["salt"], tuple(values["etypes"]))
    found = {int(etype): Key(int(etype), bytes.fromhex(text)) for etype, text in values.items()}
    return StoredKeys(found)
