"""What a KDC lets its clients do, and the file it is read from again at SIGHUP.

TOML:

    enrol = "invite"
    lifetime = 300
    log-format = "json"

    [limits]
    keys-per-second = 200

    [permit]
    "db-*" = ["app-*", "alice"]

    [relay]
    links = 10000

    [status]
    endpoint = "tcp:127.0.0.1:9464"

    [kerberos]
    life = 36000
    renewable-life = 604800
    fast = "advertise"

    [store]
    url = "etcd://kdc1.example,kdc2.example,kdc3.example/"
    state = "/var/lib/kdc"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from kdc.admin.log_lines import LogFormat
from kdc.errors import ConfigurationError, ErrorKind
from kdc.files.private import read_small
from kdc.issuing.decisions import Enrolment
from kdc.issuing.permits import Permits
from kdc.limits import Limits
from kdc.protocol.messages import LIFETIME_SECONDS
from kdc.relay import limits as relay
from kdc.server.kerberos_settings import SETTINGS as KERBEROS

__all__ = ["LIMITS", "Policy", "read_policy"]

LIMITS = {field.name.replace("_", "-"): field for field in attrs.fields(Limits)}
_SETTINGS = frozenset(
    (
        *("enrol", "kerberos", "lifetime", "limits", "log-format"),
        *("permit", "relay", "status", "store"),
    )
)
_PATHS = frozenset(("ca", "certificate", "key", "password-file", "state"))
_STORE = frozenset(("url", "user", "node", "confirm-within", *_PATHS))
_MAX_BYTES = 65_536
_HIGHEST = 10**9


@attrs.frozen
class Policy:
    """What can change while the KDC runs; None: not said.

    ``status`` and ``store`` count at the start only.
    """

    enrolment: Enrolment | None = None
    lifetime_seconds: int | None = None
    limits: dict[str, int] = attrs.field(factory=dict)
    permits: Permits | None = None
    relay_limits: dict[str, int] = attrs.field(factory=dict)
    status: dict[str, str] = attrs.field(factory=dict)
    log_format: str = ""
    kerberos: dict[str, int] = attrs.field(factory=dict)
    store: dict[str, str | int] = attrs.field(factory=dict)

    def over(self, other: Policy) -> Policy:
        """Return this, and ``other`` where this says nothing."""
        return Policy(
            self.enrolment or other.enrolment,
            self.lifetime_seconds or other.lifetime_seconds,
            {**other.limits, **self.limits},
            self.permits or other.permits,
            {**other.relay_limits, **self.relay_limits},
            {**other.status, **self.status},
            self.log_format or other.log_format,
            {**other.kerberos, **self.kerberos},
            {**other.store, **self.store},
        )

    @classmethod
    def of(cls, values: dict[str, Any]) -> Policy:
        """Check plain values; raises `ConfigurationError` naming the one that is wrong."""
        unknown = values.keys() - _SETTINGS
        if unknown:
            raise ConfigurationError(
                f"there is no setting {min(unknown)[:40]!r}",
                hint="there are enrol, lifetime, log-format, and the tables kerberos, limits,"
                " permit, relay, status and store",
            )
        lifetime, enrol = values.get("lifetime"), values.get("enrol")
        if lifetime is not None:
            lifetime = _number(
                "lifetime", lifetime, LIFETIME_SECONDS.start, LIFETIME_SECONDS.stop - 1
            )
        return cls(
            None if enrol is None else _enrolment(enrol),
            lifetime,
            _limits("limits", LIMITS, values.get("limits"), lambda name: 1),
            _permits(values.get("permit")),
            _limits("relay", relay.LIMITS, values.get("relay"), relay.lowest),
            _status(values.get("status")),
            _log_format(values.get("log-format")),
            _kerberos(values.get("kerberos")),
            _store(values.get("store")),
        )


def read_policy(path: Path) -> Policy:
    """Raises `ConfigurationError` or `LocalIOError`."""
    text = read_small(path, _MAX_BYTES)
    try:
        return Policy.of(tomllib.loads(text.decode()))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}", hint=error.hint, kind=error.kind) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {error}", hint="it must be TOML") from None


def _enrolment(value: Any) -> Enrolment:
    try:
        return Enrolment(value)
    except ValueError:
        raise ConfigurationError("enrol is open, invite or closed") from None


def _log_format(value: Any) -> str:
    if value is None:
        return ""
    try:
        return LogFormat(value).value
    except ValueError:
        raise ConfigurationError("log-format is text or json") from None


def _limits(
    table: str, known: Mapping[str, Any], values: Any, lowest: Callable[[str], int]
) -> dict[str, int]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(f"{table} is a table of numbers")
    limits = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigurationError(
                f"no limit is called {str(name)[:40]!r}",
                hint=f"there are {', '.join(known)}",
                kind=ErrorKind.NO_SUCH_LIMIT if known is LIMITS else None,
            )
        limits[known[name].name] = _number(name, value, lowest(name), _HIGHEST)
    return limits


def _kerberos(values: Any) -> dict[str, int]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError("kerberos is a table")
    found = {}
    for name, value in values.items():
        if name == "fast":
            if value not in ("answer", "advertise"):
                raise ConfigurationError("fast, in the table kerberos, is answer or advertise")
            found["advertise_fast"] = value == "advertise"
        elif name in KERBEROS:
            found[name.replace("-", "_")] = _number(name, value, *KERBEROS[name])
        else:
            raise ConfigurationError(
                f"kerberos has no {str(name)[:40]!r}", hint=f"there are fast, {', '.join(KERBEROS)}"
            )
    return found


def _status(values: Any) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
        raise ConfigurationError("status is a table of texts")
    unknown = values.keys() - {"endpoint", "token-file"}
    if unknown:
        raise ConfigurationError(
            f"status has no {min(unknown)[:40]!r}", hint="there are endpoint and token-file"
        )
    return dict(values)


def _store(values: Any) -> dict[str, str | int]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError("store is a table")
    unknown = values.keys() - _STORE
    if unknown:
        raise ConfigurationError(
            f"store has no {min(unknown)[:40]!r}", hint=f"there are {', '.join(sorted(_STORE))}"
        )
    for key, value in values.items():
        if key == "confirm-within":
            _number(key, value, 3, 60)
        elif not isinstance(value, str) or not value or "\0" in value:
            raise ConfigurationError(f"{key} of store is a text")
        elif key in _PATHS and not value.startswith("/"):
            # A daemon has another directory when it reads the file again.
            raise ConfigurationError(f"{key} of store begins with a /")
    return dict(values)


def _permits(values: Any) -> Permits | None:
    if values is None:
        return None
    if not isinstance(values, dict) or not all(isinstance(each, list) for each in values.values()):
        raise ConfigurationError(
            "permit is a table of lists of clients", hint='such as "db-*" = ["app-*", "alice"]'
        )
    try:
        return Permits(values)
    except ValueError as error:
        raise ConfigurationError(
            f"permit: {error}", hint="letters are small, and * stands for any of them"
        ) from None


def _number(name: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ConfigurationError(f"{name} is a whole number from {low} to {high}")
    return value
