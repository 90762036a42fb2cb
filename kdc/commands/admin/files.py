"""``check``, ``repair`` and ``backup``: the files of the database."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.command import AdminCommand
from kdc.errors import ExitStatus, LocalIOError
from kdc.files.directory import check_directory
from kdc.terminal import counted, harmless, say

if TYPE_CHECKING:
    from kdc.commands.admin.database import AdminStore
    from kdc.store.etcd.api import EtcdSettings

__all__ = ["BackupCommand", "CheckCommand", "RepairCommand"]


class CheckCommand(AdminCommand):
    """``check``"""

    synopsis = "kdc admin check"
    longdesc = "Look at every line of the database; say what is wrong, change nothing."

    def run(self) -> int:
        from kdc.store.flatfile.check import examine
        from kdc.store.flatfile.paths import Paths

        if self.store.etcd is not None:
            return self._check_shared(self.store, self.store.etcd())
        self.store.check_files()
        path = self.store.path
        if not self.store.exists:
            raise LocalIOError(f"there is no {path}", hint="check the path, or restore a backup")
        found = examine(Paths.of(path, **self.store.companions))
        for problem in found.problems:
            self.show(
                {
                    "file": problem.file,
                    "line": problem.line,
                    "problem": problem.text,
                    "harmless": problem.harmless,
                },
                str(problem),
            )
        if all(problem.harmless for problem in found.problems):
            say(f"{path}: good")
            return 0
        say(
            f"{path}: damaged; kdc admin repair keeps what is authentic"
            if found.repairable
            else f"{path}: cannot be opened nor repaired; put the right files in its place"
        )
        return int(ExitStatus.INTEGRITY)

    def _check_shared(self, store: AdminStore, etcd: EtcdSettings) -> int:
        """What is in etcd, as this node sees it; beside a running KDC, too."""
        from kdc.store.opened import check_etcd

        found = check_etcd(etcd, store.path, realm=store.realm, **store.companions)
        for problem in found.problems:
            self.show({"problem": problem, "harmless": False}, harmless(problem))
        if found.problems:
            say(f"etcd ({etcd.hosts}): damaged; restore a snapshot of it")
            return int(ExitStatus.INTEGRITY)
        say(f"etcd ({etcd.hosts}): good, {counted(found.count, 'principal')}")
        return 0


class RepairCommand(AdminCommand):
    """``repair``"""

    synopsis = "kdc admin repair"
    longdesc = "Keep every authentic line and put the others aside.  The KDC must be stopped."

    def run(self) -> int:
        from kdc.store.flatfile.repair import repair

        self.store.check_files()
        self.store.check_owner()
        check_directory(self.store.path)
        done = repair(self.store.path, now=int(time.time()), **self.store.companions)
        self.store.audit("admin-repaired", "", f"{done.kept} kept, {done.quarantined} aside")
        self.show(
            attrs.asdict(done),
            f"kept {counted(done.kept, 'principal')};"
            f" {counted(done.quarantined, 'line is', 'lines are')} in {done.quarantine}",
        )
        for name in done.reserved:
            say(f"{name}: no line of it was authentic; the name is reserved by a tombstone")
        return 0


class BackupCommand(AdminCommand):
    """``backup DIRECTORY``"""

    synopsis = "kdc admin backup DIRECTORY [--with-key]"
    longdesc = "Copy the database to an existing directory and check the copy."
    optFlags = [["with-key", None, "copy the master key too: the copy is then as precious"]]

    def parseArgs(self, directory: str = "") -> None:
        if not directory:
            raise usage.UsageError("name the directory: backup DIRECTORY")
        self["directory"] = directory

    def run(self) -> int:
        from kdc.store.flatfile.backup import backup

        self.store.check_files()
        target = absolute(self["directory"]) or Path()
        if not os.path.isdir(target):
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
