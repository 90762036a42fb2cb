"""The queries of MIT's ``kadmin.local -q`` that test suites use, on a `Database`."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kdc.errors import ConfigurationError
from kdc.kerberos.keytab import KeytabEntry, keytab, read_keytab
from kdc.kerberos.profile import PROFILES
from kdc.testing._database import Database, PasswordPolicy
from kdc.testing._private_files import write_private

__all__ = ["amount", "answered", "etypes_of"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WORDS = {"sec": 1, "min": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_NEVER = ("never", "0")
# +NAME sets and -NAME clears; (attribute of an entry, whether + means True)
_FLAGS = {
    "requires_preauth": ("needs_preauth", True),
    "needchange": ("needs_change", True),
    "allow_tix": ("disabled", False),
    "allow_svr": ("is_service", True),
    "allow_forwardable": ("forwardable", True),
    "allow_proxiable": ("proxiable", True),
    "allow_postdated": ("postdatable", True),
    "allow_renewable": ("renewable", True),
    "ok_as_delegate": ("ok_as_delegate", True),
}
_ETYPE_NAMES = {
    **{profile.name: etype for etype, profile in PROFILES.items()},
    "aes256-cts": 18,
    "aes128-cts": 17,
    "aes256-sha1": 18,
    "aes128-sha1": 17,
    "aes256-sha2": 20,
    "aes128-sha2": 19,
}


def answered(database: Database, query: str) -> str:
    """Do what ``query`` says; return what is printed.  Raises `ConfigurationError`."""
    try:
        words = shlex.split(query)
    except ValueError as error:
        raise ConfigurationError(f"the query cannot be read: {error}") from None
    if not words:
        return ""
    command = _COMMANDS.get(words[0])
    if command is None:
        known = ", ".join(sorted(_COMMANDS))
        raise ConfigurationError(f"no query {words[0]!r}", hint=f"there are {known}")
    return command(database, words[1:])


def _moment(text: str, database: Database) -> int | None:
    """``never``, a date, or an amount of time from now or ago."""
    if text in _NEVER:
        return None
    now = database.clock()
    if text == "now":
        return int(now)
    if text in ("yesterday", "tomorrow"):
        return int(now + (86_400 if text == "tomorrow" else -86_400))
    for layout in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%Y%m%d%H%M%S", "%m/%d/%Y"):
        try:
            return int(time.mktime(time.strptime(text.removesuffix("Z"), layout)))
        except ValueError:
            continue
    ago = text.endswith(" ago")
    seconds = amount(text.removesuffix(" ago").removeprefix("+"))
    return int(now - seconds if ago else now + seconds)


def amount(text: str) -> int:
    """``3600``, ``1d2h``, ``1 day``, ``10:00:00``."""
    clock = re.fullmatch(r"(\d+):(\d\d)(?::(\d\d))?", text)
    if clock:
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3] or 0)
    total, rest = 0, text.replace(" ", "").lower()
    while rest:
        found = re.match(r"(\d+)([a-z]*)", rest)
        if found is None:
            raise ConfigurationError(
                f"{text!r} is no amount of time", hint="for example 1d or 3600"
            )
        unit = found[2]
        size = _UNITS.get(unit or "s") or _WORDS.get(unit.removesuffix("s").removesuffix("ute"))
        size = size or _WORDS.get(unit.removesuffix("onds").removesuffix("utes"))
        if size is None:
            raise ConfigurationError(
                f"{text!r} is no amount of time", hint="for example 1d or 3600"
            )
        total += int(found[1]) * size
        rest = rest[found.end() :]
    return total


def _options(database: Database, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return what ``words`` say of a principal, and what is left: names."""
    said: dict[str, Any] = {}
    names = []
    left = iter(words)
    for word in left:
        flag = _FLAGS.get(word[1:]) if word[:1] in "+-" else None
        if flag is not None:
            said.setdefault("attributes", {})[flag[0]] = (word[0] == "+") == flag[1]
        elif word in _VALUED:
            name, convert = _VALUED[word]
            value = convert(_next(left, word), database)
            if name in ("password", "etypes", "path"):
                said[name] = value
            else:
                said.setdefault("attributes", {})[name] = value
        elif word in ("-randkey", "-norandkey", "-keepold", "-clearpolicy"):
            said[word[1:]] = True
        elif word[:1] in "+-" and len(word) > 1:
            if word not in _IGNORED:
                raise ConfigurationError(f"no option {word}", hint="it is not known here")
        else:
            names.append(word)
    if said.get("clearpolicy"):
        said.setdefault("attributes", {})["policy"] = None
    return said, names


def _next(left: Iterator[str], word: str) -> str:
    value = next(left, None)
    if value is None:
        raise ConfigurationError(f"{word} wants a value")
    return value


def etypes_of(text: str) -> tuple[int, ...]:
    names = [each.partition(":")[0] for each in re.split(r"[ ,]+", text)]
    unknown = [name for name in names if name not in _ETYPE_NAMES]
    if unknown:
        hint = f"there are {', '.join(_ETYPE_NAMES)}"
        raise ConfigurationError(f"no encryption type {unknown[0]!r}", hint=hint)
    return tuple(_ETYPE_NAMES[name] for name in names)


_VALUED: dict[str, tuple[str, Callable[[str, Database], Any]]] = {
    "-pw": ("password", lambda text, _: text),
    "-e": ("etypes", lambda text, _: etypes_of(text)),
    "-k": ("path", lambda text, _: Path(text.removeprefix("FILE:").removeprefix("WRFILE:"))),
    "-policy": ("policy", lambda text, _: text),
    "-expire": ("expiration", _moment),
    "-pwexpire": ("password_expiration", _moment),
    "-maxlife": ("max_life", lambda text, _: amount(text)),
    "-maxrenewlife": ("max_renewable_life", lambda text, _: amount(text)),
}
_IGNORED = ("-force", "-nokey", "-unlock", "-q", "-allow_dup_skey", "+allow_dup_skey")


def _one(names: list[str]) -> str:
    if len(names) != 1:
        raise ConfigurationError(f"one principal is wanted, not {len(names)}")
    return names[0]


def _add(database: Database, words: list[str]) -> str:
    said, names = _options(database, words)
    # MIT's default: preauthentication has to be asked for.
    attributes = {"needs_preauth": False, **said.get("attributes", {})}
    name = _one(names)
    entry = database.add(name, said.get("password"), said.get("etypes"), **attributes)
    return f'Principal "{entry.principal}" created.'


def _change(database: Database, words: list[str]) -> str:
    said, names = _options(database, words)
    entry = database.get(_one(names))
    password = said.get("password")
    fault = "" if password is None else database.fault(entry, password)
    if fault:
        raise ConfigurationError(fault)
    keep = bool(said.get("keepold"))
    database.change(_one(names), password, said.get("etypes"), keep=keep)
    return f'Password for "{entry.principal}" changed.'


def _modify(database: Database, words: list[str]) -> str:
    said, names = _options(database, words)
    entry = database.modify(_one(names), **said.get("attributes", {}))
    return f'Principal "{entry.principal}" modified.'


def _delete(database: Database, words: list[str]) -> str:
    _, names = _options(database, words)
    database.remove(_one(names))
    return f'Principal "{_one(names)}" deleted.'


def _export(database: Database, words: list[str]) -> str:
    """New keys unless told otherwise, as MIT does it."""
    said, names = _options(database, words)
    path = said.get("path")
    if path is None:
        raise ConfigurationError("no keytab is named", hint="name one")
    there = read_keytab(path.read_bytes()) if path.exists() else []
    lines = []
    for name in names:
        if not said.get("norandkey"):
            database.change(name, None, said.get("etypes"))
        entry = database.get(name)
        keys = entry.current
        there += [
            KeytabEntry(entry.principal, entry.kvno, keys.key(etype), int(database.clock()))
            for etype in keys.etypes
        ]
        lines.append(f"Entry for principal {name} with kvno {entry.kvno} added to {path}.")
    write_private(path, keytab(there))
    return "\n".join(lines)


def _show(database: Database, words: list[str]) -> str:
    entry = database.get(_one(words))
    keys = [f"Key: vno {entry.kvno}, {PROFILES[etype].name}" for etype in entry.current.etypes]
    return "\n".join((f"Principal: {entry.principal}", f"Number of keys: {len(keys)}", *keys))


def _list(database: Database, _: list[str]) -> str:
    return "\n".join(sorted(map(str, database.entries)))


def _policy(database: Database, words: list[str]) -> str:
    values: dict[str, int] = {}
    names = []
    left = iter(words)
    for word in left:
        known = _POLICY.get(word)
        if known is not None:
            values[known] = amount(_next(left, word))
        else:
            names.append(word)
    if len(names) != 1:
        raise ConfigurationError(f"one policy is wanted, not {len(names)}")
    database.policies[names[0]] = PasswordPolicy(**values)
    return ""


def _delete_policy(database: Database, words: list[str]) -> str:
    _, names = _options(database, words)
    if database.policies.pop(_one(names), None) is None:
        raise ConfigurationError(f"there is no policy {_one(names)}")
    return ""


_POLICY = {
    "-minlength": "min_length",
    "-minclasses": "min_classes",
    "-history": "history",
    "-maxlife": "max_life",
    "-minlife": "min_life",
}
_COMMANDS: dict[str, Callable[[Database, list[str]], str]] = {
    **dict.fromkeys(("addprinc", "ank", "add_principal"), _add),
    **dict.fromkeys(("cpw", "change_password"), _change),
    **dict.fromkeys(("modprinc", "modify_principal"), _modify),
    **dict.fromkeys(("delprinc", "delete_principal"), _delete),
    **dict.fromkeys(("ktadd", "xst"), _export),
    **dict.fromkeys(("getprinc", "get_principal"), _show),
    **dict.fromkeys(("listprincs", "list_principals"), _list),
    **dict.fromkeys(("addpol", "add_policy", "modpol", "modify_policy"), _policy),
    **dict.fromkeys(("delpol", "delete_policy"), _delete_policy),
}
