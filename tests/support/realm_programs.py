"""Kerberos programs of the machine, against a realm of `kdc.testing`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.testing import Realm
from tests.support.processes import Program

__all__ = ["RealmTestCase"]


class RealmTestCase(SynchronousTestCase):
    """A realm with alice and a web server in it, for programs that this machine may not have."""

    needs: tuple[str, ...] = ("kinit", "kvno", "klist")
    package = "krb5-user"

    def setUp(self) -> None:
        missing = [name for name in self.needs if shutil.which(name, path=self.path()) is None]
        if missing:
            self.skipTest(f"this machine has no {', '.join(missing)} (Debian: {self.package})")
        self.realm = self.new_realm()
        self.alice = self.realm.user("alice", "pw")
        self.web = self.realm.service("HTTP/localhost")

    def path(self) -> str:
        """Where programs are looked for."""
        return os.environ.get("PATH", os.defpath)

    def new_realm(self, **settings: object) -> Realm:
        realm = Realm(in_process=True, **settings)  # type: ignore[arg-type]
        self.addCleanup(realm.close)
        return realm

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "PATH": self.path(), **self.realm.environment, "LC_ALL": "C", **more}

    def run_program(self, line: str, typed: str = "", status: int = 0, **more: str) -> str:
        """Run it in the realm's environment; return all that it printed."""
        return self.run_argv(line.split(), typed, status, **more)

    def run_argv(self, argv: list[str], typed: str = "", status: int = 0, **more: str) -> str:
        done = subprocess.run(
            argv,
            input=typed,
            env=self.environment(more),
            text=True,
            errors="replace",  # Heimdal's notices have been seen with bytes that are no text
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        self.assertEqual(done.returncode, status, f"{argv}: {done.stdout} {self.realm.decisions}")
        return done.stdout

    def serve(self, argv: list[str], **more: str) -> Program:
        """Start what serves until the test ends."""
        environment = self.environment(more)
        directory = self.realm.directory
        program = Program(argv, directory=directory, environment=environment, merged=True)
        self.addCleanup(program.end)
        return program

    def add_libdefault(self, line: str) -> None:
        """Have one more setting in krb5.conf."""
        config: Path = self.realm.krb5_config
        text = config.read_text("utf-8").replace("[libdefaults]", f"[libdefaults]\n    {line}")
        config.write_text(text, "utf-8")

    def flags(self) -> str:
        """The flags of the first ticket in the cache."""
        found = re.search(r"Flags: (\w+)", self.run_program("klist -f"))
        return found[1] if found else ""
