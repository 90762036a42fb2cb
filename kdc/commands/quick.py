"""``kdc quick``: a KDC of one's own on this machine, and principals that need no options."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.python import usage

from kdc.admin.wire import connect
from kdc.client import configuration
from kdc.client.secret import SecretSource, ensure_key_file
from kdc.client.settings import absolute
from kdc.commands.admin.database import AdminStore
from kdc.commands.options import Command, name_of, whole_number
from kdc.commands.serve import serve, start_in_background, stop
from kdc.errors import (
    ConfigurationError,
    ExitStatus,
    KDCError,
    LocalIOError,
    local_error,
)
from kdc.files.atomic import PartialFile
from kdc.files.opening import open_regular
from kdc.files.private import read_small
from kdc.terminal import say, shown

__all__ = ["QuickOptions", "default_store"]

DEFAULT_PORT = 12345


def default_store() -> Path:
    """Where the KDC that one has for oneself keeps its principals."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser() / "kdc" / "pwd.txt"
    except RuntimeError:  # no HOME, and a user that the system does not know
        raise ConfigurationError(
            "there is no home directory to keep a database in", hint="name one with --file"
        ) from None


class QuickOptions(Command):
    """``kdc quick [NAME...]``"""

    synopsis = "kdc quick [NAME...] [-p PORT] [-f FILE] [--stop]"
    longdesc = (
        "Start a KDC in the background, for this machine only, unless it runs already; and make"
        " principals that can be used at once on this account: each gets a key file and a"
        " configuration, so that kdcclient -n NAME needs no other options.  Nobody else can take"
        " a name there without an invitation."
    )
    optParameters = [
        ["file", "f", None, "the principal database; by default ~/.local/state/kdc/pwd.txt"],
        [
            "port",
            "p",
            None,
            (
                "its port on 127.0.0.1, 0 for one that is free; by default the one it had last,"
                f" or {DEFAULT_PORT}, or one that is free if that is taken"
            ),
        ],
    ]
    optFlags = [
        ["stop", None, "end that KDC"],
        ["force", None, "replace configurations that say something else"],
    ]

    def parseArgs(self, *names: str) -> None:
        self["names"] = tuple(dict.fromkeys(map(name_of, names)))

    def run(self) -> int:
        given = self["port"]
        port = None if given is None else whole_number(given, 0, 65535, "a port")
        path = absolute(self["file"]) or default_store().absolute()
        if self["stop"]:
            say("kdc: stopped" if stop(path) else f"kdc: none runs with {path}")
            return int(ExitStatus.DONE)
        _make_directory(path.parent)
        status = _ensure_running(path, port)
        if status == ExitStatus.DONE:
            kdc = _place_of(AdminStore(path))
            _remember_port(path, kdc.port)
            _lead_to(kdc)
            for name in self["names"]:
                _introduce(AdminStore(path), kdc, name, force=bool(self["force"]))
            self._tell(path, kdc)
        return status

    def _tell(self, path: Path, kdc: _Place) -> None:
        say(f"kdc: running at {kdc.host} port {kdc.port} until kdc quick --stop; its database:")
        say(f"  {path}")
        names = self["names"]
        if not names:
            return
        say(f"kdc: on this account {', '.join(names)} can be used at once:")
        say(f"  kdcclient receive -n {names[-1]} --inbox . --yes")
        if len(names) > 1:
            say(f"  kdcclient send -n {names[0]} {names[-1]} FILE")


@attrs.frozen
class _Place:
    """Where a KDC is, and how it is known."""

    host: str
    port: int
    realm: str
    fingerprint: str


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise local_error(path, error) from None


def _ensure_running(path: Path, port: int | None) -> int:
    """One after the other: who comes second finds the KDC that the first has started."""
    lock = path.with_name("quick.lock")
    try:
        fd = open_regular(lock, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise local_error(lock, error) from None
    with contextlib.ExitStack() as held:
        held.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        connected = connect(path)
        if connected is None:
            return _start(path, port, held.close)
        connected.close()
        return int(ExitStatus.DONE)


def _usual_port(path: Path) -> int:
    """The one that the KDC of this database had last."""
    with contextlib.suppress(KDCError, ValueError, usage.UsageError):
        return whole_number(read_small(_port_file(path), 16).decode(), 1, 65535, "a port")
    return DEFAULT_PORT


def _port_file(path: Path) -> Path:
    return path.with_name("quick.port")


def _remember_port(path: Path, port: int) -> None:
    file = PartialFile(_port_file(path))
    try:
        file.write([b"%d" % port])
        file.finish()
        file.show()
    finally:
        file.discard()


def _start(path: Path, given: int | None, let_go: Callable[[], None]) -> int:
    """``let_go`` is called in the new process: what is held for this start is not the KDC's."""
    port = _usual_port(path) if given is None else given

    def words(port: int) -> list[str]:
        return [
            *("--port", str(port), "--file", str(path), "--enrol", "invite"),
            *("--output", str(path.with_name("out.txt")), "--realm", AdminStore(path).realm),
        ]

    def another() -> list[str]:
        say(f"kdc: port {port} is in use: taking another one")
        return words(0)

    def run(started: Callable[[], None]) -> int:
        let_go()
        return serve(words(port), lambda line: None, started, another if given is None else None)

    return start_in_background(run, path.with_name("kdc.log"))


def _place_of(store: AdminStore) -> _Place:
    """Where the KDC is that runs; raises `KDCError`."""
    (stats,) = store.ask({"command": "stats"})
    if not stats.get("port"):
        raise LocalIOError(
            f"no KDC that has {shown(str(store.path), 4096)} listens on a TCP port now",
            hint=f"if it has ended again, {shown(str(store.path.with_name('kdc.log')), 4096)}"
            " may say why",
        )
    host = stats["address"] or "127.0.0.1"
    return _Place(host, stats["port"], stats["realm"], stats["fingerprint"])


def _lead_to(kdc: _Place) -> None:
    """Let all principals that were made here find the KDC, which may have got another port."""
    for path in sorted(configuration.path_of("any").parent.glob("*.toml")):
        values = _values(path.stem, kdc, path.with_suffix(".key"))
        try:
            found = configuration.load(path)
        except KDCError:
            continue  # who wants that name is told
        if "port" in found and _is_current(path, {**values, "port": found["port"]}):
            configuration.save(path, values)


def _values(name: str, kdc: _Place, key_file: Path) -> dict[str, str | int]:
    return {
        "name": name,
        "address": kdc.host,
        "port": kdc.port,
        "realm": kdc.realm,
        "kdc-fingerprint": kdc.fingerprint,
        "key-file": key_file.name,
    }


def _introduce(store: AdminStore, kdc: _Place, name: str, *, force: bool) -> None:
    """Make ``name`` a principal with a key and a configuration on this account.

    Whatever it was interrupted at, the same again completes it.
    """
    path = configuration.path_of(name)
    key_file = path.with_name(f"{name}.key")
    values = _values(name, kdc, key_file)
    _check_not_shadowed(path, values)
    current = not force and _is_current(path, values)
    if not current and not force and os.path.lexists(path):
        raise ConfigurationError(
            f"{path} says something else than that {name} is at this KDC",
            hint="--force replaces it",
        )
    _make_directory(path.parent)
    made = ensure_key_file(key_file)
    try:
        _add(store, name, key_file, kdc.realm)
    except KDCError as error:
        # Only if it surely was not taken: otherwise it may be the only copy.
        if made and error.exit_status is ExitStatus.REFUSED:
            key_file.unlink()
        raise
    if not current:
        configuration.save(path, values)


def _check_not_shadowed(path: Path, values: dict[str, Any]) -> None:
    """Raises `ConfigurationError` if the user's own file is of that name at another KDC.

    It comes first: whatever ``path`` says would count for nothing.
    """
    own = configuration.load()
    place = own.get("addresses") or own.get("address", "127.0.0.1"), own.get("port")
    if own.get("name", "").lower() == values["name"] and place != (
        values["address"],
        str(values["port"]),
    ):
        raise ConfigurationError(
            f"{configuration.default_path()} says that {values['name']} is at another KDC, and it"
            f" comes before {path}",
            hint="choose another name, or move that file to the directory names beside it",
        )


def _is_current(path: Path, values: dict[str, Any]) -> bool:
    if not os.path.lexists(path):
        return False
    wanted = {**values, "key-file": path.with_name(values["key-file"])}
    return configuration.load(path) == {key: str(value) for key, value in wanted.items()}


def _add(store: AdminStore, name: str, key_file: Path, realm: str) -> None:
    """Tell the KDC; a name that has this key there already is no error."""
    keys = SecretSource(key_file=key_file).keys(realm, name)
    request = {
        "command": "add",
        "name": name,
        "address": "",
        "port": 0,
        "if_absent": True,
        "verify_key": keys.verify_key.hex(),
        "reply_key": keys.reply_key.hex(),
    }
    for _ in store.ask(request):
        pass
