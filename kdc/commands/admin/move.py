"""``move``: the whole database into etcd, for several KDCs, or back into a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import attrs
from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.command import AdminCommand
from kdc.commands.etcd import ETCD_LOGIN, etcd_of, state_path
from kdc.server.own_files import KEY_ENDS
from kdc.terminal import counted, say

if TYPE_CHECKING:
    from kdc.commands.admin.database import AdminStore
    from kdc.store.etcd.filling import Told
    from kdc.store.moving import Move, Sides

__all__ = ["MoveCommand"]

_ERASE = "\r\x1b[K"


class MoveCommand(AdminCommand):
    """``move``"""

    synopsis = "kdc admin move (--to|--from) etcd://HOST:PORT,HOST:PORT/ --state DIRECTORY"
    longdesc = (
        "Move the database from its file into etcd, where several KDCs can share it, or back;"
        " with its keys, to the state directory of a node or from there.  No KDC may run on the"
        " file; once the way back has begun, every node refuses.  Cut short, the same command"
        " goes on."
    )
    optParameters = [
        ["to", None, None, "etcd://HOST:PORT,HOST:PORT/ - put the principals there"],
        ["from", None, None, "etcd://HOST:PORT,HOST:PORT/ - take them from there"],
    ]

    def postOptions(self) -> None:
        if (self["to"] is None) == (self["from"] is None):
            raise usage.UsageError("where to, or where from? --to etcd://HOST/ or --from it")
        if self["to"] is not None and not self.given("state"):
            raise usage.UsageError("--to needs --state, a directory for a node's own files")

    @property
    def _url(self) -> str:
        return str(self["from"] if self["to"] is None else self["to"])

    def run(self) -> int:
        from kdc.store.moving import from_etcd, to_etcd

        store, state = self._file(), absolute(self.given("state"))
        with _progress(sys.stderr) as told:
            sides = self._sides(store, state, told)
            done = from_etcd(sides) if self["to"] is None else to_etcd(sides)
        if not done.again:
            way = "from" if self["to"] is None else "to"
            store.audit("admin-moved-store", "", f"{way} etcd, generation {done.generation}")
        if self["to"] is None or state is None:
            self._tell_back(store, done)
        else:
            self._tell_there(store, state, done)
        return 0

    def _file(self) -> AdminStore:
        """The database in its file, which may have its other name; raises `KDCError`."""
        path = absolute(self.given("file") or "pwd.txt")
        if path is None:
            raise usage.UsageError("--file must name the principal database")
        store, moved = self.store_at(path), self.store_at(path.with_name(f"{path.name}.moved"))
        store.check_owner()
        moved.check_owner()
        realm = store.realm if store.path.exists() or self.given("realm") else moved.realm
        return attrs.evolve(store, given_realm=realm)

    def _sides(self, store: AdminStore, state: Path | None, told: Told) -> Sides:
        from kdc.store.etcd.api import Gateway
        from kdc.store.etcd.opening import EtcdFiles
        from kdc.store.flatfile.paths import Paths
        from kdc.store.moving import Sides

        option = "from" if self["to"] is None else "to"
        login = {name: self.given(name) for name in (str(row[0]) for row in ETCD_LOGIN)}
        etcd = etcd_of({option: self[option], **login}, option)
        if etcd is None:
            raise usage.UsageError(f"--{option} is etcd://HOST:PORT,HOST:PORT/")
        file = Paths.of(store.path, **store.companions)
        node = EtcdFiles(file.key, file.generation, file.lock)
        if state is not None:
            self.store_at(state).check_owner()
            node = EtcdFiles.of(state_path(state))
        ends = KEY_ENDS if state is not None else ()
        return Sides(
            Gateway(etcd, etcd.context()),
            self.given("realm") or store.realm,
            file,
            node,
            [(f"{store.path}{end}", f"{state_path(state or Path())}{end}") for end in ends],
            told,
        )

    def _tell_there(self, store: AdminStore, state: Path, done: Move) -> None:
        self.show(
            attrs.asdict(done),
            f"{counted(done.principals, 'principal')} in etcd, at generation {done.generation};"
            f" what the file was is {store.path}.moved",
        )
        base = state_path(state)
        keys = [f"{base.name}{end}" for end in (".key", *KEY_ENDS) if Path(f"{base}{end}").exists()]
        say(
            f"start the KDC with --store {self._url} --state {state}; each other node needs"
            f" {', '.join(keys)} in its own, by a safe way"
        )

    def _tell_back(self, store: AdminStore, done: Move) -> None:
        self.show(
            attrs.asdict(done),
            f"{counted(done.principals, 'principal')} in {store.path}, at generation"
            f" {done.generation}; every node refuses now",
        )
        say(
            "a node that is cut off from etcd does not know that before its --confirm-within has"
            f" passed, 10 s by default: start the KDC with --file {store.path} after that"
        )


@contextlib.contextmanager
def _progress(stream: TextIO) -> Iterator[Told]:
    """Say on a terminal how far it is, in one line; nothing elsewhere."""
    shown = stream.isatty() and os.environ.get("TERM") != "dumb"

    def told(what: str, done: int, of: int) -> None:
        if shown:
            stream.write(f"{_ERASE}{what}: {done} of {counted(of, 'principal')}")
            stream.flush()

    try:
        yield told
    finally:
        if shown:
            stream.write(_ERASE)
            stream.flush()
