"""What a KDC knows of a principal: its long-term keys, and what it may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from kdc.constant_time import same
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import PROFILES, Key

__all__ = [
    "DEFAULT_ETYPES",
    "Entry",
    "KeySet",
    "Lookup",
    "PasswordKeys",
    "RandomKeys",
    "StoredKeys",
]

# Best first; those that everybody has come before those of RFC 8009.
DEFAULT_ETYPES = (18, 17, 20, 19)


class KeySet(Protocol):
    """The keys of one version, one for each encryption type."""

    @property
    def etypes(self) -> tuple[int, ...]: ...
    @property
    def salt(self) -> str | None: ...
    def key(self, etype: int) -> Key: ...


@attrs.frozen
class StoredKeys:
    """Keys that are there."""

    _keys: dict[int, Key] = attrs.field(repr=False)
    salt: str | None = None

    @property
    def etypes(self) -> tuple[int, ...]:
        return tuple(self._keys)

    def key(self, etype: int) -> Key:
        return self._keys[etype]


@attrs.frozen
class RandomKeys(StoredKeys):
    """Keys that nobody chose."""

    @classmethod
    def made(cls, etypes: tuple[int, ...], random: Callable[[int], bytes]) -> RandomKeys:
        return cls({etype: Key(etype, random(PROFILES[etype].key_size)) for etype in etypes})


@attrs.define
class PasswordKeys:
    """Keys of a password, each derived when it is first wanted: that takes milliseconds."""

    password: str = attrs.field(repr=False)
    salt: str | None
    etypes: tuple[int, ...]
    _keys: dict[int, Key] = attrs.field(factory=dict, init=False, repr=False)

    def key(self, etype: int) -> Key:
        found = self._keys.get(etype)
        if found is None:
            content = PROFILES[etype].string_to_key(self.password, self.salt or "")
            found = self._keys[etype] = Key(etype, content)
        return found

    def is_password(self, password: str) -> bool:
        """Whether this is the password that the keys are of."""
        etype = self.etypes[0]
        other = PROFILES[etype].string_to_key(password, self.salt or "")
        return same(other, self.key(etype).content)


@attrs.define
class Entry:
    """One principal.  ``keys`` holds its key versions, the newest last.

    ``owner``: whose it is to those who know principals by other names.  ``since``: tickets in
    its name from before that are not of whoever it is now.
    """

    principal: Principal
    keys: dict[int, KeySet] = attrs.field(repr=False)
    needs_preauth: bool = True
    disabled: bool = False
    is_service: bool = True
    needs_change: bool = False
    forwardable: bool = True
    proxiable: bool = True
    postdatable: bool = True
    renewable: bool = True
    ok_as_delegate: bool = False
    max_life: int | None = None
    max_renewable_life: int | None = None
    expiration: int | None = None
    password_expiration: int | None = None
    policy: str | None = None
    owner: str = ""
    since: int | None = None

    @property
    def kvno(self) -> int:
        return max(self.keys)

    @property
    def current(self) -> KeySet:
        return self.keys[self.kvno]

    @property
    def best_key(self) -> Key:
        """The newest key, of the best type: what is sealed for this principal is under it."""
        current = self.current
        return current.key(current.etypes[0])

    def key(self, etype: int, kvno: int | None = None) -> Key | None:
        """The key of this type and version, the newest if no version is given."""
        found = self.keys.get(self.kvno if kvno is None else kvno)
        return found.key(etype) if found is not None and etype in found.etypes else None


Lookup = Callable[[Principal], Entry | None]
