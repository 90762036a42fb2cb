"""What suites that start MIT's KDC find on their PATH instead: four programs by its names.

They read the ports and the database's name from the ``kdc.conf`` and ``krb5.conf`` that such
a suite (k5test's, for example) has written, and share the database in a file.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError, KDCError
from kdc.testing import _kadmin, _statefile
from kdc.testing._database import Database
from kdc.testing._host import Host, HostSettings

__all__ = ["PROGRAMS", "main", "write_shims"]

PROGRAMS = ("kdb5_util", "kadmin.local", "krb5kdc", "kadmind")


def write_shims(directory: Path) -> None:
    """Put the programs into ``directory``, for the Python that runs now."""
    here = str(Path(__file__).parent.parent.parent)
    for program in PROGRAMS:
        path = directory / program
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.append({here!r})\n"
            f"from kdc.testing.shims import main\nmain({program!r}, sys.argv[1:])\n",
            encoding="utf-8",
        )
        path.chmod(0o755)


@attrs.frozen
class _Profile:
    """What the configuration files say."""

    realm: str
    host: str
    port: int
    kpasswd_port: int
    database: Path


def _profile() -> _Profile:
    kdc_conf = _text("KRB5_KDC_PROFILE")
    krb5_conf = _text("KRB5_CONFIG")
    host = _value(krb5_conf, "kdc").rpartition(":")[0]
    return _Profile(
        _value(krb5_conf, "default_realm"),
        socket.gethostbyname(host),
        int(_value(kdc_conf, "kdc_ports")),
        int(_value(kdc_conf, "kpasswd_port")),
        Path(_value(kdc_conf, "database_name") + ".json"),
    )


def _text(variable: str) -> str:
    """The files that a variable names, one behind the other."""
    try:
        paths = os.environ[variable].split(":")
        return "\n".join(Path(path).read_text(encoding="utf-8") for path in paths)
    except KeyError:
        raise ConfigurationError(f"{variable} is not set", hint="name the file in it") from None
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None


def _value(text: str, name: str) -> str:
    found = re.search(rf"^\s*{re.escape(name)}\s*=\s*(\S+)", text, re.MULTILINE)
    if found is None:
        raise ConfigurationError(f"the configuration says nothing of {name}")
    return found[1]


def main(program: str, arguments: list[str]) -> None:
    try:
        _RUN[program](_profile(), arguments)
    except KDCError as error:
        text = f"{program}: {error}" + (f"\n  {error.hint}" if error.hint else "")
        sys.stderr.write(text + "\n")
        raise SystemExit(1) from None


def _create(profile: _Profile, arguments: list[str]) -> None:
    if arguments[:1] != ["create"]:
        raise ConfigurationError("there is only create here")
    database = Database(profile.realm, HostSettings(profile.realm).etypes)
    database.create()
    _statefile.save(database, profile.database)


def _query(profile: _Profile, arguments: list[str]) -> None:
    if arguments[:1] != ["-q"] or len(arguments) != 2:
        raise ConfigurationError("there is only one query at a time here, as -q QUERY")
    with _statefile.locked(profile.database):
        database = Database(profile.realm, HostSettings(profile.realm).etypes)
        _statefile.load(database, profile.database)
        sys.stdout.write(_kadmin.answered(database, arguments[1]) + "\n")
        _statefile.save(database, profile.database)


def _serve(profile: _Profile, _: list[str]) -> None:
    host = Host(
        HostSettings(
            profile.realm,
            profile.host,
            profile.port,
            profile.kpasswd_port,
            state=str(profile.database),
        )
    )
    host.call("start", {})
    _wait()
    host.close()


def _wait_only(_: _Profile, __: list[str]) -> None:
    """The other daemon: passwords are changed at ``krb5kdc`` here."""
    _wait()


def _wait() -> None:
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    sys.stdout.write("starting...\n")
    sys.stdout.flush()
    signal.sigwait(ends)


_RUN: dict[str, Callable[[_Profile, list[str]], None]] = {
    "kdb5_util": _create,
    "kadmin.local": _query,
    "krb5kdc": _serve,
    "kadmind": _wait_only,
}

if __name__ == "__main__":
    write_shims(Path(sys.argv[1]))
