"""The principals of a test realm, in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import attrs

from kdc.errors import ConfigurationError
from kdc.kerberos.as_exchange import CHANGE_SERVICE
from kdc.kerberos.keys import Entry, KeySet, PasswordKeys, RandomKeys
from kdc.kerberos.names import Principal, parsed
from kdc.kerberos.profile import PROFILES
from kdc.kerberos.realm import TGS

__all__ = ["Database", "PasswordPolicy"]

# What may be said of a principal, by the names of `Entry`.
ATTRIBUTES = frozenset(
    attribute.name
    for attribute in attrs.fields(Entry)
    if attribute.name not in ("principal", "keys")
)


@attrs.define
class PasswordPolicy:
    """What a new password has to be; and how long it is good, in seconds."""

    min_length: int = 1
    min_classes: int = 1
    history: int = 1
    max_life: int | None = None
    min_life: int | None = None

    def fault(self, password: str) -> str:
        """Return what is wrong with ``password``, or nothing."""
        if len(password) < self.min_length:
            return f"the password is too short: it needs {self.min_length} characters"
        if _classes(password) < self.min_classes:
            return f"the password has fewer than {self.min_classes} kinds of characters"
        return ""


def _classes(password: str) -> int:
    """Small letters, capitals, digits, punctuation, anything else: how many of them there are."""
    kinds = set()
    for char in password:
        for kind, found in enumerate((char.islower(), char.isupper(), char.isdigit())):
            if found:
                kinds.add(kind)
                break
        else:
            kinds.add(3 if char.isascii() and char.isprintable() and char != " " else 4)
    return len(kinds)


@attrs.define
class Database:
    """One realm's principals and password policies."""

    realm: str
    etypes: tuple[int, ...]
    random: Callable[[int], bytes] = os.urandom
    clock: Callable[[], float] = time.time
    entries: dict[Principal, Entry] = attrs.field(factory=dict, repr=False)
    policies: dict[str, PasswordPolicy] = attrs.field(factory=dict)
    changed: dict[Principal, float] = attrs.field(factory=dict)
    history: dict[Principal, list[KeySet]] = attrs.field(factory=dict, repr=False)

    def create(self) -> None:
        """What every realm has: its ticket-granting service, and that which changes passwords."""
        self.add(f"{TGS}/{self.realm}", None)
        self.add("/".join(CHANGE_SERVICE), None)
        self.add("kadmin/admin", None)

    def principal(self, name: str) -> Principal:
        try:
            return parsed(name, self.realm)
        except ValueError as error:
            raise ConfigurationError(f"{name!r} is no name of a principal: {error}") from None

    def get(self, name: str) -> Entry:
        """Raises `ConfigurationError` if there is none of that name."""
        principal = self.principal(name)
        entry = self.entries.get(principal)
        if entry is None:
            hint = "add it first"
            raise ConfigurationError(f"there is no principal {principal}", hint=hint)
        return entry

    def add(
        self,
        name: str,
        password: str | None,
        etypes: tuple[int, ...] | None = None,
        **attributes: Any,
    ) -> Entry:
        """Add a principal with a password, or with random keys if that is None."""
        principal = self.principal(name)
        if principal in self.entries:
            hint = "take another name, or remove the one that is there"
            raise ConfigurationError(f"there is a principal {principal} already", hint=hint)
        _check(attributes)
        keys = self._keys(principal, password, etypes)
        entry = Entry(principal=principal, keys={1: keys}, **attributes)
        self.entries[principal] = entry
        self.changed[principal] = self.clock()
        self._set_expiration(entry)
        return entry

    def modify(self, name: str, **attributes: Any) -> Entry:
        _check(attributes)
        entry = self.get(name)
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        return entry

    def remove(self, name: str) -> None:
        entry = self.get(name)
        del self.entries[entry.principal]

    def change(
        self,
        name: str,
        password: str | None,
        etypes: tuple[int, ...] | None = None,
        *,
        keep: bool = False,
    ) -> Entry:
        """Give a principal its next key version; ``keep`` leaves the older ones good as well."""
        entry = self.get(name)
        keys = self._keys(entry.principal, password, etypes)
        older = dict(entry.keys) if keep else {}
        self.history.setdefault(entry.principal, []).append(entry.current)
        entry.keys = {**older, entry.kvno + 1: keys}
        entry.needs_change = False
        self.changed[entry.principal] = self.clock()
        self._set_expiration(entry)
        return entry

    def fault(self, entry: Entry, password: str) -> str:
        """Return what a policy has against a new password, or nothing."""
        policy = self.policies.get(entry.policy or "")
        if policy is None:
            return ""
        age = self.clock() - self.changed.get(entry.principal, 0)
        if policy.min_life is not None and age < policy.min_life and not entry.needs_change:
            return f"the password can be changed {policy.min_life - age:.0f} s from now"
        older = [*self.history.get(entry.principal, []), entry.current][-policy.history :]
        for keys in older:
            if isinstance(keys, PasswordKeys) and keys.is_password(password):
                return "the password is one of those before"
        return policy.fault(password)

    def _set_expiration(self, entry: Entry) -> None:
        policy = self.policies.get(entry.policy or "")
        if policy is not None and policy.max_life is not None:
            entry.password_expiration = int(self.clock()) + policy.max_life

    def _keys(
        self, principal: Principal, password: str | None, etypes: tuple[int, ...] | None
    ) -> KeySet:
        wanted = self.etypes if etypes is None else etypes
        unknown = [etype for etype in wanted if etype not in PROFILES]
        if unknown or not wanted:
            hint = f"take some of {', '.join(map(str, sorted(PROFILES)))}"
            raise ConfigurationError(f"no such encryption types: {unknown}", hint=hint)
        if password is None:
            return RandomKeys.made(wanted, self.random)
        return PasswordKeys(password, principal.salt, wanted)


def _check(attributes: dict[str, Any]) -> None:
    for name in attributes:
        if name not in ATTRIBUTES:
            hint = f"there are {', '.join(sorted(ATTRIBUTES))}"
            raise ConfigurationError(f"a principal has no {name!r}", hint=hint)
