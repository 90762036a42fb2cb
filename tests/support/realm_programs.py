"""Kerberos programs of the machine, against a realm of `kdc.testing`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.testing import Realm
from tests.support.kerberos_servers import Machine, need, programs_path

__all__ = ["RealmTestCase"]


class RealmTestCase(SynchronousTestCase):
    """A realm with alice and a web server in it, for programs that this machine may not have."""

    needs: tuple[str, ...] = ("kinit", "kvno", "klist")
    package = "krb5-user"

    def setUp(self) -> None:
        need(*self.needs, package=self.package, path=self.path())
        self.realm = self.new_realm()
        self.alice = self.realm.user("alice", "pw")
        self.web = self.realm.service("HTTP/localhost")

    def path(self) -> str:
        """Where programs are looked for."""
        return programs_path()

    def new_realm(self, **settings: object) -> Realm:
        realm = Realm(in_process=True, **settings)  # type: ignore[arg-type]
        self.addCleanup(realm.close)
        return realm

    @property
    def machine(self) -> Machine:
        """The realm as programs see it."""
        realm = self.realm
        environment = {**os.environ, "PATH": self.path(), **realm.environment, "LC_ALL": "C"}
        return Machine(self, realm.directory, realm.krb5_config, realm.keytab, environment)

    def run_program(self, line: str, typed: str = "", status: int = 0, **more: str) -> str:
        """Run it in the realm's environment; return all that it printed."""
        return self.run_argv(line.split(), typed, status, **more)

    def run_argv(self, argv: list[str], typed: str = "", status: int = 0, **more: str) -> str:
        machine = self.machine
        try:
            return attrs.evolve(machine, environment={**machine.environment, **more}).run(
                argv, typed, status
            )
        except self.failureException as error:
            raise self.failureException(f"{error} {self.realm.decisions}") from None

    def add_libdefault(self, line: str) -> None:
        """Have one more setting in krb5.conf."""
        config: Path = self.realm.krb5_config
        text = config.read_text("utf-8").replace("[libdefaults]", f"[libdefaults]\n    {line}")
        config.write_text(text, "utf-8")

    def flags(self) -> str:
        """The flags of the first ticket in the cache."""
        found = re.search(r"Flags: (\w+)", self.run_program("klist -f"))
        return found[1] if found else ""
