"""``kdc realm -- COMMAND``: a command with a Kerberos realm of its own, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from twisted.python import usage

from kdc.errors import ConfigurationError, local_error
from kdc.kerberos.names import check_realm
from kdc.testing.realm import Realm

__all__ = ["RealmOptions"]

_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


class RealmOptions(usage.Options):
    """Options of a realm for one command."""

    synopsis = "kdc realm [--user NAME] [--service NAME] [options] -- COMMAND [ARGUMENT ...]"
    longdesc = (
        "Run a command with a Kerberos realm for tests, on a free port of this machine and"
        " gone when the command ends.  The environment tells Kerberos programs where it is"
        " (KRB5_CONFIG, KRB5_KTNAME, KRB5CCNAME and others); KDC_REALM_PASSWORDS names a file"
        " with a line NAME PASSWORD for each user.  The first user has a ticket already."
    )
    optParameters = [
        ["realm", None, "KRBTEST.COM", "name of the realm"],
        ["port", None, "0", "port of the KDC, UDP and TCP; 0 takes one that is free"],
        [
            "shims",
            None,
            None,
            (
                "only write MIT's programs kdb5_util, kadmin.local, krb5kdc and"
                " kadmind into this directory, for suites that start them"
            ),
        ],
    ]

    optRepeated = ("user", "service")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["user"] = []
        self["service"] = []
        self["command"] = ()

    def opt_user(self, name: str) -> None:
        """add somebody with a random password; may be repeated"""
        self["user"].append(name)

    def opt_service(self, name: str) -> None:
        """add a service, for example HTTP/localhost, and its keys to the keytab; may be repeated"""
        self["service"].append(name)

    def parseArgs(self, *command: str) -> None:
        self["command"] = command

    def postOptions(self) -> None:
        if not self["command"] and self["shims"] is None:
            raise usage.UsageError("no command to run: give it behind --")
        try:
            check_realm(self["realm"])
        except ValueError as error:
            raise usage.UsageError(str(error)) from None
        if not self["port"].isdecimal() or int(self["port"]) > 65535:
            raise usage.UsageError(f"{self['port'][:40]!r} is not a port")

    def run(self) -> int:
        """Return the command's status; 128 and its number if a signal ended it."""
        command = self["command"]
        if self["shims"] is not None:
            return _write_shims(Path(self["shims"]))
        if shutil.which(command[0]) is None:
            text = f"there is no command {command[0]}"
            raise ConfigurationError(text, hint="check the path")
        with Realm(self["realm"], port=int(self["port"])) as realm:
            return _run(list(command), {**os.environ, **_prepared(realm, self)})


def _write_shims(directory: Path) -> int:
    from kdc.testing.shims import write_shims

    try:
        directory.mkdir(exist_ok=True)
        write_shims(directory)
    except OSError as error:
        raise local_error(directory, error) from None
    return 0


def _prepared(realm: Realm, options: Any) -> dict[str, str]:
    """Add what was asked for; return the environment for it."""
    for name in options["service"]:
        realm.service(name)
    users = [realm.user(name) for name in options["user"]]
    passwords = realm.write_passwords(users)
    if users:
        users[0].kinit()
    return {**realm.environment, "KDC_REALM_PASSWORDS": str(passwords)}


def _run(command: list[str], environment: dict[str, str]) -> int:
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - what was typed
    # The terminal's Ctrl-C goes to the command as well: it decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _FORWARDED:
        signal.signal(number, lambda sent, _: process.send_signal(sent))
    status = process.wait()
    return status if status >= 0 else 128 - status
