"""What every client command has to know: who am I, which KDC, how do I know it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.python import usage

from kdc import config, known
from kdc.errors import ConfigurationError, UnknownIdentity
from kdc.net.exit_status import say
from kdc.net.tls import Authority, Identity, Pin, parse_fingerprint
from kdc.options import Command, absolute, whole_number
from kdc.protocol.names import check_realm, fold_name
from kdc.secret import SecretSource, has_terminal, interruptible

__all__ = ["PROGRAM", "ClientOptions", "ClientSettings", "client_settings", "identity_of"]

PROGRAM = "kdcclient"
SYSTEM_CA = "system"
DEFAULT_LISTEN_PORT = 60_000
LISTEN_OPTIONS = [
    [
        "listen",
        None,
        None,
        (
            "port or Twisted endpoint to listen on; by default port 60000,"
            " on this machine only if the KDC is on it too"
        ),
    ],
    ["advertise", None, "", "the address to tell peers, if it is not the one the KDC sees"],
]


@attrs.frozen
class ClientSettings:
    """One principal and its KDC; paths are absolute."""

    name: str
    host: str
    port: int
    realm: str = "LOCAL"
    secret: SecretSource = attrs.field(factory=SecretSource)
    fingerprint: str | None = None
    ca: str | None = None  # a path, or "system"
    known_kdcs: Path = attrs.field(factory=known.default_path)
    accept_new: bool = False

    @property
    def where(self) -> str:
        return f"{self.host} port {self.port}"

    @property
    def on_loopback(self) -> bool:
        return self.host.lower() in ("localhost", "::1") or self.host.startswith("127.")


class ClientOptions(Command):
    """Options that all client commands share."""

    optParameters = [
        ["name", "n", None, "our name, as registered with the KDC"],
        ["address", "a", None, "host name or address of the KDC; by default 127.0.0.1"],
        ["port", "p", None, "port of the KDC"],
        ["realm", None, None, "the realm, LOCAL by default; must be the same at the KDC"],
        ["passphrase-file", None, None, "read the passphrase from this file (mode 0600)"],
        ["passphrase-fd", None, None, "read the passphrase from this descriptor"],
        ["key-file", None, None, "use this key file (see keygen) instead of a passphrase"],
        ["kdc-fingerprint", None, None, "the KDC's identity: sha256:..., as it prints itself"],
        [
            "kdc-ca",
            None,
            None,
            "PEM file of the CA of the KDC's certificate, or 'system' for the system's CAs",
        ],
        ["known-kdcs", None, None, "the file of KDCs met before, instead of the user's own"],
        ["config", None, None, "the file with defaults for these, instead of the user's own"],
    ]
    optFlags = [
        ["accept-new", None, "trust a KDC that was never met before, and remember it"],
    ]


_SECRETS = ("passphrase-file", "passphrase-fd", "key-file")
_IDENTITIES = ("kdc-fingerprint", "kdc-ca")
_DEFAULTS = {"address": "127.0.0.1", "realm": "LOCAL"}


def client_settings(options: Mapping[str, Any]) -> ClientSettings:
    """Combine ``options`` (missing or None: not given) with the configuration file.

    Raises `ConfigurationError` or `LocalIOError`.
    """
    given = {key: value for key, value in options.items() if value is not None}
    values = {**_DEFAULTS, **_fitting(config.load(absolute(given.get("config"))), given), **given}
    for group in (_SECRETS, _IDENTITIES):
        if sum(key in values for key in group) > 1:
            raise ConfigurationError(f"give one of {' and '.join('--' + key for key in group)}")
    for key, what in (("name", "our name"), ("port", "the KDC's port")):
        if not values.get(key):
            raise ConfigurationError(
                f"{what} is not known",
                hint=f"give it with --{key}, or put it into {config.default_path()};"
                " kdcclient init writes that from an invitation",
            )
    return _settings(values)


def _fitting(defaults: dict[str, str], given: dict[str, Any]) -> dict[str, str]:
    """Drop the file's defaults that an option of the same kind replaces.

    What is known of one KDC's identity says nothing of another's.
    """
    dropped: set[str] = set()
    for group in (_SECRETS, _IDENTITIES):
        if any(key in given for key in group):
            dropped.update(group)
    if _differs("name", given, defaults):
        dropped.update(_SECRETS)
    if any(_differs(key, given, defaults) for key in ("address", "port")):
        dropped.update(_IDENTITIES)
    return {key: value for key, value in defaults.items() if key not in dropped}


def _differs(key: str, given: dict[str, Any], defaults: dict[str, str]) -> bool:
    """Whether an option means another one than the file; capitals are no difference."""
    return key in given and str(given[key]).lower() != defaults.get(key, "").lower()


def _settings(values: dict[str, Any]) -> ClientSettings:
    fd, ca, fingerprint = (values.get(k) for k in ("passphrase-fd", "kdc-ca", "kdc-fingerprint"))
    try:
        return ClientSettings(
            name=name_of(values["name"]),
            host=_host(values["address"]),
            port=whole_number(str(values["port"]), 1, 65535, "a port"),
            realm=check_realm(values["realm"]),
            secret=SecretSource(
                absolute(values.get("passphrase-file")),
                None if fd is None else whole_number(fd, 0, 65535, "a descriptor"),
                absolute(values.get("key-file")),
            ),
            fingerprint=None if fingerprint is None else parse_fingerprint(fingerprint),
            ca=ca if ca in (None, SYSTEM_CA) else str(absolute(ca)),
            known_kdcs=absolute(values.get("known-kdcs")) or known.default_path(),
            accept_new=bool(values.get("accept-new")),
        )
    except (ValueError, usage.UsageError) as error:
        raise ConfigurationError(str(error)) from None


def _host(typed: str) -> str:
    """Refuse what neither the resolver nor TLS could take for a host."""
    try:
        typed.encode("idna")
    except UnicodeError:
        raise ValueError(f"not a host: {typed[:80]!r}") from None
    if typed[:1] in ("", "-") or any(map(str.isspace, typed)):
        raise ValueError(f"not a host: {typed[:80]!r}")
    return typed


def name_of(typed: str) -> str:
    """The principal's name a person meant; raises `usage.UsageError`."""
    try:
        return fold_name(typed)
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


def identity_of(settings: ClientSettings, *, ask: bool = True) -> Identity:
    """Decide how the KDC will be known, asking a person, with ``ask``, if it was never met.

    Blocking: at first contact it looks at the KDC's certificate.  Raises
    `UnknownIdentity` if nobody can vouch for it, `KDCUnreachable`,
    `ConfigurationError`.
    """
    if settings.fingerprint is not None:
        return Pin(settings.fingerprint)
    if settings.ca is not None:
        return Authority(settings.host, None if settings.ca == SYSTEM_CA else settings.ca)
    pin = known.find(settings.known_kdcs, settings.host, settings.port)
    if pin is not None:
        return pin
    shown = known.look(settings.host, settings.port)
    if not settings.accept_new and not (ask and _person_accepts(settings, shown)):
        line = known.line_for(settings.host, settings.port, shown)
        raise UnknownIdentity(
            f"the KDC at {settings.where} was never met before, and nobody has vouched for it",
            fingerprint=shown,
            hint="compare the fingerprint with what the KDC prints when it starts; if it is the"
            f" same, give --kdc-fingerprint, or add this line to {settings.known_kdcs}:\n"
            f"  {line}",
        )
    known.add(settings.known_kdcs, settings.host, settings.port, shown)
    return Pin(shown, str(settings.known_kdcs))


def _person_accepts(settings: ClientSettings, fingerprint: str) -> bool:
    if not has_terminal():
        return False
    say(f"The KDC at {settings.where} was never met before.  Its fingerprint is\n  {fingerprint}")
    say("Compare it with what the KDC printed when it started.")
    with interruptible(), open("/dev/tty", "r+b", buffering=0) as terminal:
        terminal.write(b"Is it the same (yes/no)? ")
        answer = terminal.readline(100)
    return answer.strip().lower() in (b"yes", b"y")


def listen_endpoint(text: str | None, loopback: bool, ipv6: bool) -> str:
    """The endpoint that was given, or its port on the interface that suits the KDC's address."""
    if text is not None and ":" in text:
        return text
    port = DEFAULT_LISTEN_PORT if text is None else whole_number(text, 0, 65535, "a port")
    kind = "tcp6" if ipv6 else "tcp"
    if not loopback:
        return f"{kind}:{port}"
    return f"{kind}:{port}:interface=" + ("\\:\\:1" if ipv6 else "127.0.0.1")
