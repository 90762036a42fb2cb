"""The principals of a store as Kerberos sees them, and the keys that it keeps for them.

Who is registered is ``alice@REALM``, and has no Kerberos key unless it was given one for
a keytab; services such as ``HTTP/web.example.org`` are names of a principal that has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from kdc.errors import ConfigurationError, RefusedByPolicy
from kdc.kerberos.keys import DEFAULT_ETYPES, Entry, KeySet, RandomKeys, StoredKeys
from kdc.kerberos.keytab import KeytabEntry, keytab
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import PROFILES, Key
from kdc.kerberos.realm import TGS
from kdc.protocol.names import check_name
from kdc.store import (
    RESERVED,
    KerberosKey,
    KerberosPart,
    Record,
    Status,
    Store,
    part_owner,
)

__all__ = [
    "Principals",
    "check_service",
    "check_upper",
    "keytab_of",
    "live_part",
    "made_anew",
    "rotated",
    "tgs_part",
]

# Of a machine's keys the newest and those before: what was issued under these is still opened.
_VERSIONS_KEPT = 2
_COMPONENT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def check_upper(realm: str) -> str:
    """Return ``realm``; raises `ConfigurationError` unless it is as Kerberos' clients want it."""
    if realm != realm.upper():
        raise ConfigurationError(
            f"the realm is called {realm}, and Kerberos' clients want capital letters",
            hint="a realm cannot be renamed: keys are bound to it; begin one in capital letters",
        )
    return realm


def check_service(text: str) -> str:
    """Return ``text`` if it can be a service's name, such as HTTP/web.example.org.

    Raises `ConfigurationError`.
    """
    parts = text.split("/")
    good = len(parts) == 2 and all(part and set(part) <= _COMPONENT for part in parts)
    if not good or len(text) > 255 or parts[0] in RESERVED:
        raise ConfigurationError(
            f"{text[:80]!r} is no name of a service",
            hint="it is a kind and a host, such as HTTP/web.example.org",
        )
    return text


def live_part(record: Record | None) -> KerberosPart | None:
    """Return the part that counts: one that was made beside the key that the record has."""
    part = None if record is None else record.kerberos
    if record is None or part is None or not part.keys or not part.is_of(record.verify_key):
        return None
    return part


def tgs_part(store: Store) -> KerberosPart | None:
    """Return the realm's own keys; None where there is no Kerberos (yet)."""
    record = store.get(TGS)
    own = record is not None and record.status is Status.DISABLED and not record.verify_key
    return live_part(record) if own else None


def _new_keys(
    kvno: int, now: int, random: Callable[[int], bytes], etypes: Iterable[int]
) -> tuple[KerberosKey, ...]:
    return tuple(
        KerberosKey(kvno, etype, random(PROFILES[etype].key_size), now) for etype in etypes
    )


def made_anew(
    record: Record,
    now: int,
    random: Callable[[int], bytes],
    *,
    etypes: tuple[int, ...] = DEFAULT_ETYPES,
) -> KerberosPart:
    """Return the part of ``record`` with keys of the next version, and one version before.

    Raises `RefusedByPolicy` if there is no room for them beside its services.
    """
    part = record.kerberos or KerberosPart()
    kvno = part.kvno + 1
    live = live_part(record)
    kept = () if live is None else tuple(k for k in live.keys if k.kvno > kvno - _VERSIONS_KEPT)
    try:
        return KerberosPart(
            kvno,
            (*kept, *_new_keys(kvno, now, random, etypes)),
            flags=part.flags,
            services=record.services,
            owner=part_owner(record.verify_key),
        )
    except ValueError as error:
        raise RefusedByPolicy(
            f"{record.name} has too many services to have other keys: {error}",
            hint="whoever runs the KDC can let another principal have some of them",
        ) from None


def rotated(
    part: KerberosPart | None,
    now: int,
    random: Callable[[int], bytes],
    keep_seconds: int,
    *,
    etypes: tuple[int, ...] = DEFAULT_ETYPES,
) -> KerberosPart:
    """Return the realm's keys with a new version.

    Older ones stay until ``keep_seconds`` after another came: as long as a ticket under them
    may still be renewed.  Raises `RefusedByPolicy` if there are too many of these.
    """
    kvno = (0 if part is None else part.kvno) + 1
    kept = () if part is None else tuple(_still_good(part, now, keep_seconds))
    try:
        return KerberosPart(
            kvno, (*kept, *_new_keys(kvno, now, random, etypes)), owner=part_owner(b"")
        )
    except ValueError:
        raise RefusedByPolicy(
            "there are too many keys of which tickets may still be renewed",
            hint="wait until the oldest can be dropped, or drop them all now",
        ) from None


def _still_good(part: KerberosPart, now: int, keep_seconds: int) -> Iterable[KerberosKey]:
    """Yield the keys that were the newest less than ``keep_seconds`` ago."""
    made = {key.kvno: key.made_time for key in part.keys}
    for key in part.keys:
        superseded = min((time for kvno, time in made.items() if kvno > key.kvno), default=None)
        if superseded is None or now - superseded <= keep_seconds:
            yield key


def keytab_of(record: Record, realm: str, names: Iterable[str]) -> bytes:
    """Return the keytab of ``record`` for these names: the same as long as its keys are."""
    part = live_part(record)
    return keytab(
        KeytabEntry(
            Principal(tuple(name.split("/")), realm),
            key.kvno,
            Key(key.etype, key.content),
            min(key.made_time, 0xFFFF_FFFF),
            1 if "/" not in name else 3,
        )
        for name in names
        for key in (() if part is None else sorted(part.keys, key=lambda key: -key.kvno))
    )


@attrs.define
class Principals:
    """What `kdc.kerberos.realm.Realm` looks up; ``now`` is a clock on the wall.

    ``keep_seconds``: how long a ticket may be renewed at most.
    """

    store: Store
    realm: str
    now: Callable[[], float]
    random: Callable[[int], bytes]
    keep_seconds: int
    # Of who has no key for Kerberos: nobody has it, so nothing ever opens under it.
    _nobodys: RandomKeys = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._nobodys = RandomKeys.made(DEFAULT_ETYPES, self.random)

    def __call__(self, principal: Principal) -> Entry | None:
        if principal.realm != self.realm:
            return None
        if principal.components == (TGS, self.realm):
            return self._tgs(principal)
        name = self.owner_of(principal.components)
        record = None if name is None else self.store.get(name)
        if record is None or record.status not in (Status.ACTIVE, Status.DISABLED):
            return None
        part = live_part(record)
        if part is None and len(principal.components) > 1:
            return None
        return Entry(
            principal,
            {1: self._nobodys} if part is None else _versions(part.keys),
            disabled=record.status is Status.DISABLED,
            is_service=part is not None,
            postdatable=False,
            expiration=record.expiry_time or None,
            owner=record.name,
            since=record.changed_time,
        )

    def owner_of(self, components: tuple[str, ...]) -> str | None:
        """Whose name that is, or would be if it were registered."""
        if len(components) == 1:
            try:
                return None if components[0] in RESERVED else check_name(components[0])
            except ValueError:
                return None
        if any("/" in part for part in components):
            return None
        return self.store.owner_of("/".join(components))

    def _tgs(self, principal: Principal) -> Entry | None:
        part = tgs_part(self.store)
        if part is None:
            return None
        keys = _still_good(part, int(self.now()), self.keep_seconds)
        return Entry(principal, _versions(keys), postdatable=False)


def _versions(keys: Iterable[KerberosKey]) -> dict[int, KeySet]:
    found: dict[int, dict[int, Key]] = {}
    for key in keys:
        if key.etype in PROFILES:
            found.setdefault(key.kvno, {})[key.etype] = Key(key.etype, key.content)
    return {kvno: StoredKeys(keys) for kvno, keys in sorted(found.items())}
