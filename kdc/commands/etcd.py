"""The options that put the principals into etcd, and the settings that are made of them."""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.options import whole_number
from kdc.protocol.names import fold_name

if TYPE_CHECKING:
    from kdc.store.etcd.api import EtcdSettings

__all__ = [
    "ETCD_LOGIN",
    "ETCD_OPTIONS",
    "ETCD_VALUES",
    "confirm_seconds",
    "etcd_of",
    "later_etcd_of",
    "node_of",
    "state_path",
    "store_path",
    "with_store_table",
]

_MEMBER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?")
_PORT = 2379
_MOST_MEMBERS = 9
_NAME = "kdc"  # of what a node keeps in its state directory: kdc.key, kdc.tls ...
_NEEDED = (
    *("etcd-ca", "etcd-certificate", "etcd-key", "etcd-user", "etcd-password-file", "state"),
    *("node", "confirm-within"),
)

# The keys of the table [store] in the configuration, and the options that they stand for.
STORE_KEYS = {
    "url": "store",
    "ca": "etcd-ca",
    "certificate": "etcd-certificate",
    "key": "etcd-key",
    "user": "etcd-user",
    "password-file": "etcd-password-file",
    "state": "state",
    "node": "node",
    "confirm-within": "confirm-within",
}

ETCD_LOGIN = [
    ["etcd-ca", None, None, "PEM file: the authority that etcd's certificates are from"],
    ["etcd-certificate", None, None, "PEM file with our own certificate for etcd"],
    ["etcd-key", None, None, "PEM file with its key"],
    ["etcd-user", None, None, "our name at etcd, where it wants one"],
    ["etcd-password-file", None, None, "file with the password for --etcd-user"],
]
ETCD_OPTIONS = [
    [
        "store",
        None,
        None,
        (
            "etcd://HOST:PORT,HOST:PORT/ - keep the principals in etcd, for several KDCs of one"
            " realm, in the place of --file; the nearest member first"
        ),
    ],
    *ETCD_LOGIN,
    [
        "state",
        None,
        None,
        (
            "directory for what a node with --store keeps itself: kdc.key, kdc.tls,"
            " kdc.generation, the socket of its operators"
        ),
    ],
    [
        "node",
        None,
        None,
        "with --store: what operators call this node; by default the name of this machine",
    ],
    [
        "confirm-within",
        None,
        None,
        "with --store: seconds without most members after which no key is given, 3 to 60; 10",
    ],
]
# What a command needs of these that only speaks to etcd.
ETCD_VALUES = {
    "etcd-ca": "file",
    "etcd-certificate": "file",
    "etcd-key": "file",
    "etcd-password-file": "file",
    "state": "directory",
}


def with_store_table(options: Mapping[str, Any], table: Mapping[str, str | int]) -> dict[str, Any]:
    """Return the options about the store, and what the table says where there is none of them.

    A file that was named on the command line is not overruled: then both are there.
    """
    place = {name: options.get(name) for name in (*STORE_KEYS.values(), "file")}
    for key, value in table.items():
        name = STORE_KEYS[key]
        if place[name] is None:
            place[name] = str(value)
    return place


def store_path(options: Mapping[str, Any]) -> Path:
    """Where the principals are, or with --store what is beside them; raises `UsageError`."""
    if options["store"] is None:
        given = [name for name in _NEEDED if options[name] is not None]
        if given:
            raise usage.UsageError(f"--{given[0]} goes with --store")
        path = absolute("pwd.txt" if options["file"] is None else options["file"])
        if path is None:
            raise usage.UsageError("--file must name the principal database")
        return path
    if options["file"] is not None:
        raise usage.UsageError("--file and --store exclude each other")
    state = absolute(options["state"])
    if state is None:
        raise usage.UsageError("--store needs --state, a directory for this node's own files")
    return state_path(state)


def state_path(directory: Path) -> Path:
    """What the names of a node's own files begin with."""
    return directory / _NAME


def confirm_seconds(options: Mapping[str, Any]) -> float:
    given = options["confirm-within"]
    return 10.0 if given is None else float(whole_number(given, 3, 60, "--confirm-within"))


def node_of(options: Mapping[str, Any]) -> str:
    """What this node is called, or nothing if it is no node; raises `UsageError`."""
    if options["store"] is None:
        return ""
    given = options["node"]
    try:
        return fold_name(socket.gethostname() if given is None else given)
    except ValueError as error:
        of_machine = "; name this node with --node" if given is None else ""
        raise usage.UsageError(f"{error}{of_machine}") from None


def etcd_of(options: Mapping[str, Any], option: str = "store") -> EtcdSettings | None:
    """What --store and what goes with it say; raises `UsageError`, `KDCError`.

    ``option``: which one says where etcd is.
    """
    return None if options[option] is None else later_etcd_of(options, option)()


def later_etcd_of(options: Mapping[str, Any], option: str = "store") -> Callable[[], EtcdSettings]:
    """Return what reads the password and returns the rest, too.  Raises `UsageError` at once."""
    from kdc.store.etcd.api import EtcdSettings  # whoever has a file needs none of it

    if (options["etcd-certificate"] is None) != (options["etcd-key"] is None):
        raise usage.UsageError("--etcd-certificate and --etcd-key go together")
    if (options["etcd-user"] is None) != (options["etcd-password-file"] is None):
        raise usage.UsageError("--etcd-user and --etcd-password-file go together")
    settings = EtcdSettings(
        _members(options[option], option),
        absolute(options["etcd-ca"]),
        absolute(options["etcd-certificate"]),
        absolute(options["etcd-key"]),
        options["etcd-user"] or "",
    )
    return functools.partial(_with_password, settings, absolute(options["etcd-password-file"]))


def _with_password(settings: EtcdSettings, file: Path | None) -> EtcdSettings:
    from kdc.files.private import read_private

    if file is None:
        return settings
    password = read_private(file).decode("utf-8", "replace").strip()
    return attrs.evolve(settings, password=password)


def _members(typed: str, option: str) -> tuple[tuple[str, int], ...]:
    scheme, _, rest = typed.partition("://")
    members = rest.removesuffix("/").split(",")
    if scheme != "etcd" or not 1 <= len(members) <= _MOST_MEMBERS:
        raise usage.UsageError(f"--{option} is etcd://HOST:PORT,HOST:PORT/")
    return tuple(map(_member, members))


def _member(typed: str) -> tuple[str, int]:
    match = _MEMBER.fullmatch(typed)
    port = int(match[2] or _PORT) if match else 0
    if match is None or not 0 < port <= 0xFFFF:
        raise usage.UsageError(f"not a member of etcd: {typed[:80]!r}")
    return match[1].strip("[]"), port
