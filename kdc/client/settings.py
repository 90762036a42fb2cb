"""Who we are and which KDC is ours: what every client has to be told."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from kdc.client import addresses, configuration, known_kdcs
from kdc.client._strength import LEAST_LETTERS
from kdc.client.addresses import Place
from kdc.client.secret import SecretSource
from kdc.client.typed import whole_number
from kdc.errors import ConfigurationError, ErrorKind
from kdc.hostile_text import shown
from kdc.net.tls import parse_fingerprints
from kdc.protocol.names import check_realm, fold_name
from kdc.protocol.relay import RELAY, Reach

__all__ = ["ClientSettings", "absolute", "client_settings", "configuration_file"]

SYSTEM_CA = "system"


@attrs.frozen
class ClientSettings:
    """One principal and its KDC; paths are absolute.

    ``others``: where more KDCs of the same realm are, besides ``host`` and ``port``.
    ``fingerprint``: one, or several with commas between.
    """

    name: str
    host: str
    port: int
    realm: str = "LOCAL"
    secret: SecretSource = attrs.field(factory=SecretSource)
    fingerprint: str | None = None
    ca: str | None = None  # a path, or "system"
    known_kdcs: Path = attrs.field(factory=known_kdcs.default_path)
    accept_new: bool = False
    reach: Reach = Reach.AUTO
    relay: str = RELAY
    others: tuple[Place, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the KDCs are, as they were typed."""
        return ((self.host, self.port), *self.others)

    @property
    def where(self) -> str:
        return addresses.shown_places(self.places)

    @property
    def on_loopback(self) -> bool:
        """Whether all of them are on this machine."""
        return all(
            host.lower() in ("localhost", "::1") or host.startswith("127.")
            for host, _ in self.places
        )

    @property
    def ipv6(self) -> bool:
        """Whether one of them was given by an IPv6 address."""
        return any(":" in host for host, _ in self.places)


_SECRETS = ("passphrase-file", "passphrase-fd", "key-file")

_IDENTITIES = ("kdc-fingerprint", "kdc-ca")

_ADDRESSES = ("address", "addresses")

_DEFAULTS = {"address": (("127.0.0.1", None),), "realm": "LOCAL", "reach": Reach.AUTO.value}


def client_settings(options: Mapping[str, Any]) -> ClientSettings:
    """Combine ``options`` (missing or None: not given) with the configuration file.

    ``address`` is one or several, ``kdc-fingerprint`` too.

    Raises `ConfigurationError` or `LocalIOError`.
    """
    given = _placed({key: value for key, value in options.items() if value is not None})
    configured = _placed(configuration.load(configuration_file(given)))
    values = {**_DEFAULTS, **_fitting(configured, given), **given}
    for group in (_SECRETS, _IDENTITIES):
        several = [key for key in group if key in values]
        if len(several) > 1:
            raise ConfigurationError(f"give one of {' and '.join(several)}")
    ported = all(port for _, port in values["address"])
    for key, what in (("name", "our name"), ("port", "the KDC's port")):
        if not values.get(key) and not (key == "port" and ported):
            raise ConfigurationError(
                f"{what} is not known",
                hint=f"put it into {configuration.default_path()}",
                kind=ErrorKind.SETTING_MISSING,
                facts={"key": key, "path": str(configuration.default_path())},
            )
    return _settings(values)


def configuration_file(options: Mapping[str, Any]) -> Path | None:
    """The file that counts: the one that is named, or that of the name; None: the user's own.

    Whoever has several principals on one account has a file for each of them.  Raises
    as `client_settings` does.
    """
    named = absolute(options.get("config"))
    if named is not None:
        return named
    name = options.get("name")
    if name is not None and _differs("name", {"name": name}, configuration.load()):
        # What is no name is told with everything else.
        with contextlib.suppress(ValueError):
            own = configuration.path_of(fold_name(name))
            if os.path.lexists(own):
                return own
    return None


def _fitting(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Drop the file's defaults that an option of the same kind replaces.

    What is known of one KDC's identity says nothing of another's.
    """
    dropped: set[str] = set()
    for group in (_SECRETS, _IDENTITIES):
        if any(key in given for key in group):
            dropped.update(group)
    if _differs("name", given, defaults):
        dropped.update(_SECRETS)
    if not _places({**_DEFAULTS, **defaults, **given}) <= _places({**_DEFAULTS, **defaults}):
        dropped.update(_IDENTITIES)
    return {key: value for key, value in defaults.items() if key not in dropped}


def _differs(key: str, given: dict[str, Any], defaults: dict[str, Any]) -> bool:
    """Whether an option means another one than the file; capitals are no difference."""
    return key in given and str(given[key]).lower() != defaults.get(key, "").lower()


def _places(values: dict[str, Any]) -> set[tuple[str, str]]:
    """Which KDCs these mean; some of a realm's are not others than all of them."""
    return {(host.lower(), str(own or values.get("port"))) for host, own in values["address"]}


def _settings(values: dict[str, Any]) -> ClientSettings:
    fd, ca, fingerprint = (values.get(k) for k in ("passphrase-fd", "kdc-ca", "kdc-fingerprint"))
    try:
        reach, relay = _reach(values["reach"])
        typed = values.get("port")
        port = None if typed is None else whole_number(str(typed), 1, 65535, "a port")
        (host, first), *others = addresses.places(values["address"], port)
        return ClientSettings(
            name=fold_name(values["name"]),
            host=host,
            port=first,
            realm=check_realm(values["realm"]),
            secret=SecretSource(
                absolute(values.get("passphrase-file")),
                None if fd is None else whole_number(fd, 0, 65535, "a descriptor"),
                absolute(values.get("key-file")),
                1 if values.get("short-passphrase") else LEAST_LETTERS,
            ),
            fingerprint=None if fingerprint is None else parse_fingerprints(fingerprint),
            ca=ca if ca in (None, SYSTEM_CA) else str(absolute(ca)),
            known_kdcs=absolute(values.get("known-kdcs")) or known_kdcs.default_path(),
            accept_new=bool(values.get("accept-new")),
            reach=reach,
            relay=relay,
            others=tuple(others),
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _placed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each address read, and a port that stands in the only one as the port."""
    several = {key: values[key] for key in _ADDRESSES if values.get(key) is not None}
    if len(several) > 1:
        raise ConfigurationError(f"give one of {' and '.join(several)}")
    rest = {key: value for key, value in values.items() if key not in _ADDRESSES}
    if not several:
        return rest
    (given,) = several.values()
    try:
        read = addresses.read([given] if isinstance(given, str) else given)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    ports = [port for _, port in read if port is not None]
    typed = rest.get("port")
    # Of several, those have it that have none of their own.
    if typed and len(ports) == len(read) and {str(typed)} != set(map(str, ports)):
        known = ", ".join(map(str, ports))
        raise ConfigurationError(f"two ports of the KDC: {known} and {shown(str(typed))}")
    if len(read) > 1 or not ports:
        return {**rest, "address": read}
    return {**rest, "address": ((read[0][0], None),), "port": str(ports[0])}


def _reach(typed: str) -> tuple[Reach, str]:
    """By which ways, and the relay's name, which may stand behind: ``relay=NAME``."""
    way, named, relay = typed.partition("=")
    ways = [each.value for each in Reach]
    if way not in ways or (named and way == Reach.DIRECT.value):
        raise ValueError(
            f"reach is one of {', '.join(ways)}, or with the name of a relay relay=NAME, auto=NAME;"
            f" not {shown(typed)}"
        )
    return Reach(way), fold_name(relay) if named else RELAY


def absolute(path: str | Path | None) -> Path | None:
    """Absolute now: a daemon changes its directory later."""
    if path and "\0" in str(path):
        raise ValueError(f"no file can have a zero byte in its name: {str(path)[:80]!r}")
    return None if not path else Path(os.path.abspath(os.path.expanduser(path)))
