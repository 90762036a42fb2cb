"""What every client command has to know: who am I, which KDC, how do I know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.python import usage

from kdc import known
from kdc.errors import UnknownIdentity
from kdc.options import Command, absolute, realm_of, whole_number
from kdc.principal import fold_name
from kdc.running import say
from kdc.secret import SecretSource, has_terminal
from kdc.tls import Authority, Identity, Pin, parse_fingerprint

__all__ = ["ClientOptions", "ClientSettings", "client_settings", "identity_of"]

SYSTEM_CA = "system"


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
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


class ClientOptions(Command):
    """Options that all client commands share."""

    optParameters = [
        ["name", "n", None, "our name, as registered with the KDC"],
        ["address", "a", "127.0.0.1", "host name or address of the KDC"],
        ["port", "p", None, "port of the KDC"],
        ["realm", None, "LOCAL", "the realm; must be the same at the KDC"],
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
    ]
    optFlags = [
        ["accept-new", None, "trust a KDC that was never met before, and remember it"],
    ]


def client_settings(options: Any) -> ClientSettings:
    """Raises `usage.UsageError` or `ConfigurationError`."""
    if not options["name"]:
        raise usage.UsageError("no name: give ours with --name")
    if not options["port"]:
        raise usage.UsageError("no port: give the KDC's with --port")
    secrets = [options[each] for each in ("passphrase-file", "passphrase-fd", "key-file")]
    if sum(secret is not None for secret in secrets) > 1:
        raise usage.UsageError("give one of --passphrase-file, --passphrase-fd and --key-file")
    if options["kdc-fingerprint"] and options["kdc-ca"]:
        raise usage.UsageError("give one of --kdc-fingerprint and --kdc-ca")
    fd = options["passphrase-fd"]
    ca = options["kdc-ca"]
    fingerprint = options["kdc-fingerprint"]
    return ClientSettings(
        name=name_of(options["name"]),
        host=options["address"],
        port=whole_number(options["port"], 1, 65535, "a port"),
        realm=realm_of(options),
        secret=SecretSource(
            absolute(options["passphrase-file"]),
            None if fd is None else whole_number(fd, 0, 65535, "a descriptor"),
            absolute(options["key-file"]),
        ),
        fingerprint=None if fingerprint is None else parse_fingerprint(fingerprint),
        ca=ca if ca in (None, SYSTEM_CA) else str(absolute(ca)),
        known_kdcs=absolute(options["known-kdcs"]) or known.default_path(),
        accept_new=bool(options["accept-new"]),
    )


def name_of(typed: str) -> str:
    """The principal's name a person meant; raises `usage.UsageError`."""
    try:
        return fold_name(typed)
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


def identity_of(settings: ClientSettings) -> Identity:
    """Decide how the KDC will be known, asking a person if it was never met.

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
    if not settings.accept_new and not _person_accepts(settings, shown):
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
    with open("/dev/tty", "r+b", buffering=0) as terminal:
        terminal.write(b"Is it the same (yes/no)? ")
        answer = terminal.readline(100)
    return answer.strip().lower() in (b"yes", b"y")
