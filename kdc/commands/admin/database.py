"""The principal database as ``kdc admin`` reaches it: through the running KDC, or by its lock.

What only one of the two ways needs is imported there: a command should start at once.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from kdc.admin.log_lines import LINES, LogFormat
from kdc.admin.wire import ask, connect
from kdc.errors import ConfigurationError, LocalIOError, local_error
from kdc.files.opening import open_regular

if TYPE_CHECKING:
    from kdc.admin.principals import AdminAnswer, Context, Request
    from kdc.store import Store
    from kdc.store.etcd.api import EtcdSettings

__all__ = ["AdminStore", "Ask"]

Ask: TypeAlias = "Callable[[Request], Iterator[AdminAnswer]]"

_MAX_LINE = 1024
_TURN_SECONDS = 0.1
_TRIES = 100
# What may begin a database that is not there yet.  A mistyped path must not.
_CREATING = ("add", "invite")


@attrs.frozen
class AdminStore:
    """``given_realm`` counts for a database that is yet to be made.

    ``output`` is where changes are noted that no running KDC can note, in ``log_format``.
    ``running_only``: what is at ``path`` is only what a running KDC keeps beside its store.
    ``etcd``: the same, and this tells where the store is, which is then opened without a KDC.
    ``tries``: so often, a tenth of a second apart, for a store that somebody has.
    """

    path: Path
    given_realm: str = "LOCAL"
    output: Path | None = None
    master_key: Path | None = None
    generation: Path | None = None
    log_format: LogFormat = LogFormat.TEXT
    running_only: bool = False
    etcd: Callable[[], EtcdSettings] | None = None
    tries: int = _TRIES
    pause: Callable[[float], None] = time.sleep

    @property
    def companions(self) -> dict[str, Any]:
        return {"key_path": self.master_key, "generation_path": self.generation}

    @property
    def exists(self) -> bool:
        """Whether there is anything of a database here, if only what is left of one."""
        return any(self.path.parent.glob(f"{glob.escape(self.path.name)}*"))

    @property
    def realm(self) -> str:
        """The database's own, or for one that is yet to be made the one that was given."""
        if self.shared:
            return self._realm_of_running() or self.given_realm
        from kdc.store.flatfile.base import Header

        try:
            with os.fdopen(open_regular(self.path), "rb") as file:
                header = Header.parse(file.readline(_MAX_LINE))
        except FileNotFoundError:
            header = None
        except OSError as error:
            raise local_error(self.path, error) from None
        return self.given_realm if header is None else header.realm

    @property
    def shared(self) -> bool:
        """Whether the principals are in no file here."""
        return self.running_only or self.etcd is not None

    def _realm_of_running(self) -> str:
        connected = connect(self.path)
        answers = [] if connected is None else list(ask(connected, {"command": "stats"}))
        return str(answers[0]["realm"]) if answers else ""

    def check_files(self) -> None:
        """Refuse what is done to files, where the principals are in none."""
        if self.shared:
            raise ConfigurationError(
                "the principals are in etcd, not in a file here",
                hint="a backup is a snapshot of etcd, and kdc.key and kdc.tls kept elsewhere",
            )

    @property
    def fingerprint(self) -> str:
        """Of the TLS key that the KDC has made, or nothing if it has made none."""
        from kdc.server.certificate import TLSFiles

        files = TLSFiles.beside(self.path)
        return files.load().fingerprint if files.own.exists() else ""

    def ask(self, request: Request) -> Iterator[AdminAnswer]:
        """Have the running KDC do it, or do it ourselves.  Raises `KDCError`."""
        connected = connect(self.path)
        if connected is not None:
            yield from ask(connected, request)
            return
        with self._by_lock(create=self._creates(request["command"] in _CREATING)) as answer:
            yield from answer(request)

    @contextlib.contextmanager
    def asking(self, *, create: bool) -> Iterator[Ask]:
        """Ask one thing after the other, of the running KDC or of a store that is opened once.

        What has been done stays done if a later request fails.
        """
        connected = connect(self.path)
        if connected is None:
            with self._by_lock(create=self._creates(create)) as answer:
                yield answer
            return
        connected.close()
        yield self._ask_running

    def _ask_running(self, request: Request) -> Iterator[AdminAnswer]:
        connected = connect(self.path)
        if connected is None:
            raise LocalIOError(
                "the KDC was stopped in the middle",
                hint="what was done so far counts; the same command does the rest",
            )
        return ask(connected, request)

    @contextlib.contextmanager
    def _by_lock(self, *, create: bool) -> Iterator[Ask]:
        """Do it ourselves, and hold the store from the first request on."""
        from kdc.admin.principals import administer

        self._check_file()
        with contextlib.ExitStack() as held:
            store: Store | None = None

            def answer(request: Request) -> Iterator[AdminAnswer]:
                nonlocal store
                if store is None:
                    if create and not self.exists:
                        self._rehearse(request)
                    store = held.enter_context(self.opened(create=create))
                return administer(store, request, self._context())

            yield answer

    def _creates(self, create: bool) -> bool:
        """A realm of several KDCs is made by the first of them, which has a certificate, too."""
        return create and not self.shared

    def _rehearse(self, request: Request) -> None:
        """Raise what ``request`` is refused for, before a database is made for it."""
        from kdc.admin.principals import administer
        from kdc.store.memory import MemoryStore

        context = attrs.evolve(self._context(), audit=lambda *line: None)
        for _ in administer(MemoryStore(self.realm), request, context):
            pass

    @contextlib.contextmanager
    def opened(self, *, create: bool) -> Iterator[Store]:
        """Hold the store; raises `StoreError` if somebody else does, as a running KDC."""
        self._check_file()
        self.check_owner()
        if not create and not self.exists and not self.shared:
            # Before a lock file is left where nothing ever was.
            raise LocalIOError(f"there is no {self.path}", hint="check the path, or start the KDC")
        with contextlib.closing(self._when_free(create=create)) as store:
            yield store

    def _when_free(self, *, create: bool) -> Store:
        """Open it, after whoever has it just now: several operators' commands take their turns."""
        from kdc.store import StoreInUse
        from kdc.store.opened import open_store

        for left in reversed(range(self.tries)):
            try:
                return open_store(
                    self.path,
                    realm=self.given_realm if self.shared else self.realm,
                    create=create,
                    etcd=None if self.etcd is None else self.etcd(),
                    **self.companions,
                )
            except StoreInUse:
                if not left:
                    raise
            self.pause(_TURN_SECONDS)
        raise AssertionError("no try at all")

    def _check_file(self) -> None:
        """Refuse to look for a database where there is none: it is in etcd."""
        if self.running_only:
            raise LocalIOError(
                f"no KDC runs with {self.path.parent}",
                hint="start it, ask another node, or say where etcd is: the principals are there",
            )

    def check_owner(self) -> None:
        """Refuse to make files that the KDC could not read: it is usually not root."""
        path = self.path.parent if self.shared else self.path
        try:
            owner = path.stat().st_uid
        except OSError:  # whoever opens it says why
            return
        if owner != os.geteuid():
            raise ConfigurationError(
                f"{path} belongs to another user (uid {owner})",
                hint="the KDC could not read files made by us; do it as that user: runuser -u",
            )

    def audit(self, event: str, name: str, detail: str = "") -> None:
        """Note a change that no running KDC has noted."""
        from kdc.issuing.decisions import Audit
        from kdc.server.audit_log import open_log
        from kdc.terminal import say

        path = self.output or self.path.with_name(f"{self.path.name}.audit")
        line = Audit(event, name, "local", f"{detail} by uid {os.getuid()}".strip())
        try:
            with os.fdopen(open_log(path), "w") as file:
                file.write(LINES[self.log_format](line, time.time()) + "\n")
        except OSError as error:
            say(f"{local_error(path, error)}: the change is made, but not noted there")

    def _context(self) -> Context:
        from kdc.admin.principals import Context

        return Context(
            now=int(time.time()),
            random=os.urandom,
            audit=self.audit,
            where=lambda: ("", 0, self.fingerprint),
            rotate_tls=self._rotate_tls,
            running=False,
        )

    def _rotate_tls(self) -> str:
        from kdc.server.certificate import TLSFiles

        return TLSFiles.beside(self.path).renew().fingerprint
