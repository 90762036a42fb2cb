"""The commands of ``kdc admin`` that work on files: check, repair, copies, other formats."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.python import usage

from kdc.adminstore import AdminStore
from kdc.errors import ConfigurationError, ExitStatus, LocalIOError
from kdc.options import Command, absolute, whole_number
from kdc.partial import local_error
from kdc.telling import say

if TYPE_CHECKING:
    from kdc.invitation import Invitation
    from kdc.store import Record
    from kdc.store.flatfile import FlatFileStore
    from kdc.store.portable import Imported, Invited

__all__ = ["AdminCommand", "Backup", "Check", "Dump", "Import", "Load", "Repair"]

_MAX_HOURS = 8760
_BATCH = 1000


class AdminCommand(Command):
    """One command of ``kdc admin``."""

    parent: Any

    @property
    def store(self) -> AdminStore:
        store: AdminStore = self.parent.store
        return store

    def run(self) -> int:
        raise NotImplementedError

    def show(self, answer: dict[str, Any], line: str) -> None:
        print(json.dumps(answer) if self.parent["json"] else line)


class Check(AdminCommand):
    """``check``"""

    synopsis = "kdc admin check"
    longdesc = "Look at every line of the database; say what is wrong, change nothing."

    def run(self) -> int:
        from kdc.store.check import check

        path = self.store.path
        if not path.exists():
            raise LocalIOError(f"there is no {path}", hint="check the path, or restore a backup")
        problems = check(path, **self.store.companions)
        for problem in problems:
            self.show(
                {
                    "file": problem.file,
                    "line": problem.line,
                    "problem": problem.text,
                    "harmless": problem.harmless,
                },
                str(problem),
            )
        if all(problem.harmless for problem in problems):
            say(f"{path}: good")
            return 0
        say(f"{path}: damaged; kdc admin repair keeps what is authentic")
        return int(ExitStatus.INTEGRITY)


class Repair(AdminCommand):
    """``repair``"""

    synopsis = "kdc admin repair"
    longdesc = "Keep every authentic line and put the others aside.  The KDC must be stopped."

    def run(self) -> int:
        from kdc.store.repair import repair

        self.store.check_owner()
        done = repair(self.store.path, now=int(time.time()), **self.store.companions)
        self.store.audit("admin-repaired", "", f"{done.kept} kept, {done.quarantined} aside")
        self.show(
            attrs.asdict(done),
            f"kept {done.kept} principals; {done.quarantined} lines are in {done.quarantine}",
        )
        for name in done.reserved:
            say(f"{name}: no line of it was authentic; the name is reserved by a tombstone")
        return 0


class Backup(AdminCommand):
    """``backup DIRECTORY``"""

    synopsis = "kdc admin backup DIRECTORY [--with-key]"
    longdesc = "Copy the database to an existing directory and check the copy."
    optFlags = [["with-key", None, "copy the master key too: the copy is then as precious"]]

    def parseArgs(self, directory: str = "") -> None:
        if not directory:
            raise usage.UsageError("name the directory: backup DIRECTORY")
        self["directory"] = directory

    def run(self) -> int:
        from kdc.store.portable import backup

        target = absolute(self["directory"]) or Path()
        if not target.is_dir():
            raise LocalIOError(f"{target} is not a directory", hint="make it first")
        copies = backup(
            self.store.path,
            target,
            with_key=bool(self["with-key"]),
            key_path=self.store.companions["key_path"],
        )
        for copy in copies:
            self.show({"file": copy}, copy)
        return 0


class Dump(AdminCommand):
    """``dump``"""

    synopsis = "kdc admin dump [--secrets]"
    longdesc = "Write the database as portable text to standard output."
    optFlags = [["secrets", None, "with the keys: whoever reads it can guess every passphrase"]]

    def run(self) -> int:
        for answer in self.store.ask({"command": "dump", "secrets": bool(self["secrets"])}):
            print(answer["line"])
        return 0


class _FromFile(AdminCommand):
    """A command that reads a file of principals, and may print invitations."""

    optParameters = [
        ["kdc-address", None, None, "where clients reach the KDC, for the invitations"],
        ["kdc-port", None, None, "its port"],
        ["kdc-fingerprint", None, None, "its fingerprint, if it was given its TLS key"],
        ["hours", None, "720", "how long the invitations are good"],
    ]

    def parseArgs(self, file: str = "") -> None:
        if not file:
            raise usage.UsageError("name the file to read")
        self["source"] = absolute(file)

    def run(self) -> int:
        seconds = 3600 * whole_number(self["hours"], 1, _MAX_HOURS, "--hours")
        path: Path = self["source"]
        try:
            file = path.open(encoding="utf-8", errors="replace")
        except OSError as error:
            raise local_error(path, error) from None
        with file:
            first = file.readline()
            # Before anything is changed: invitations that cannot be printed are lost.
            template = self._template() if self.invites(first) else None
            done = self._take(itertools.chain([first], file), int(time.time()), seconds)
        self._tell(done, template)
        return 0

    def invites(self, first_line: str) -> bool:
        """Whether what is read can become invitations."""
        return True

    def read(self, store: FlatFileStore, lines: Iterable[str], now: int, end_time: int) -> Imported:
        """Take principals into the store; invitations end at ``end_time``."""
        raise NotImplementedError

    def _take(self, lines: Iterable[str], now: int, seconds: int) -> Imported:
        with self.store.opened(create=True) as store:
            unwatch = store.watch(self._note)
            try:
                done = self.read(store, lines, now, now + seconds)
            finally:
                unwatch()
            _prolong(store, done.invited, now + seconds)
        return done

    def _note(self, record: Record) -> None:
        self.store.audit(f"admin-{self.parent.subCommand}ed", record.name, record.status.value)

    def _template(self) -> Invitation:
        """An invitation but for name and code."""
        from kdc.invitation import Invitation

        fingerprint = self["kdc-fingerprint"] or self.store.fingerprint
        if not self["kdc-address"] or not self["kdc-port"]:
            raise usage.UsageError("invitations need --kdc-address and --kdc-port")
        if not fingerprint:
            raise ConfigurationError(
                "the fingerprint of the KDC is not known here",
                hint="start the KDC once, or give --kdc-fingerprint",
            )
        port = whole_number(self["kdc-port"], 1, 65535, "a port")
        try:
            return Invitation(self.store.realm, "x", self["kdc-address"], port, fingerprint, b"")
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def _tell(self, done: Imported, template: Invitation | None) -> None:
        if template is not None:
            for invited in done.invited:
                text = str(attrs.evolve(template, name=invited.name, code=invited.code))
                self.show({"name": invited.name, "invitation": text}, text)
        for skipped in done.skipped:
            say(f"line {skipped.line} skipped: {skipped.reason}")


class Load(_FromFile):
    """``load FILE``"""

    synopsis = "kdc admin load FILE [--kdc-address HOST --kdc-port PORT]"
    longdesc = (
        "Add what dump has written; without keys in it, as names to be claimed by invitation."
        "  The KDC must be stopped."
    )

    def read(self, store: FlatFileStore, lines: Iterable[str], now: int, end_time: int) -> Imported:
        from kdc.store.portable import load

        return load(store, lines, random=os.urandom)

    def invites(self, first_line: str) -> bool:
        """With the keys in it, everybody stays who he is."""
        try:
            return not json.loads(first_line)["secrets"]
        except (ValueError, KeyError, TypeError):  # no dump: `load` says so
            return False


class Import(_FromFile):
    """``import FILE``"""

    synopsis = "kdc admin import FILE --kdc-address HOST --kdc-port PORT"
    longdesc = (
        "Read a database of the textbook format (:alice:10.4.5.11:35678:DIGEST=:) as names to be"
        " claimed by invitation.  The KDC must be stopped."
    )

    def read(self, store: FlatFileStore, lines: Iterable[str], now: int, end_time: int) -> Imported:
        from kdc.store.portable import import_textbook

        say("the old digests are of no use here: each name waits for its owner to claim it")
        return import_textbook(
            store, lines, random=os.urandom, now=now, invitation_end_time=end_time
        )


def _prolong(store: FlatFileStore, invited: list[Invited], end_time: int) -> None:
    """Give invitations their end: a dump knows none for names that were taken."""
    from kdc.store import Replace

    for at in range(0, len(invited), _BATCH):
        records = [store.get(one.name) for one in invited[at : at + _BATCH]]
        changes = [
            Replace(attrs.evolve(record, invitation_end_time=end_time), record.generation)
            for record in records
            if record is not None and record.invitation_end_time != end_time
        ]
        store.apply(changes)
