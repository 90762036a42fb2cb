"""The realm for other people's tests, in a process of its own and in a thread."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.testing import Realm
from tests.support import realm_conformance
from tests.support.realm_conformance import free

TOP = Path(__file__).parent.parent.parent


class ThreadTests(realm_conformance.RealmConformance):
    in_process = True

    def test_process(self) -> None:
        """The process that answers is this one; without ``in_process`` it is another."""
        for in_process in (True, False):
            with Realm(in_process=in_process) as realm:
                self.assertEqual(realm.pid == os.getpid(), in_process)


class ProcessTests(realm_conformance.RealmConformance):
    in_process = False

    def test_killed(self) -> None:
        """A test that is killed leaves no process, no port and no directory."""
        program = (
            "import json, os, sys; from kdc.testing import Realm\n"
            "realm = Realm(); realm.user('alice').kinit()\n"
            "print(json.dumps([realm.port, str(realm.directory), realm.pid]))\n"
            "sys.stdout.flush(); sys.stdin.read()\n"
        )
        test = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TOP,
        )
        assert test.stdin is not None and test.stdout is not None
        self.addCleanup(test.stdin.close)
        self.addCleanup(test.stdout.close)
        port, directory, child = json.loads(test.stdout.readline())
        self.assertFalse(free(port))
        watched = os.pidfd_open(child)
        self.addCleanup(os.close, watched)
        test.send_signal(signal.SIGKILL)
        test.wait()
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        self.assertTrue(poll.poll(120_000))  # only a failure waits so long
        self.assertTrue(free(port))
        self.assertFalse(Path(directory).exists())

    def test_given_directory_stays(self) -> None:
        """What we have not made we do not remove."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(mode=0o700)
        with Realm(directory=directory):
            pass
        self.assertTrue((directory / "krb5.conf").exists())


class ImportTests(SynchronousTestCase):
    def modules(self, program: str) -> set[str]:
        ends = "; import sys, json; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", program + ends], check=True, capture_output=True, cwd=TOP
        )
        return set(json.loads(done.stdout.splitlines()[-1]))

    def test_no_twisted(self) -> None:
        """A realm at work, in this process or as the child, has loaded no Twisted."""
        loaded = self.modules(
            "from kdc.testing import Realm\n"
            "with Realm(in_process=True) as realm: realm.user('a').kinit()\n"
            "import kdc.testing._child"
        )
        self.assertIn("kdc.kerberos.kdc", loaded)
        self.assertEqual(
            {name for name in loaded if name.split(".")[0] in ("twisted", "zope")}, set()
        )

    def test_nothing_of_it_elsewhere(self) -> None:
        """Who uses the rest of the product loads no Kerberos; nor does pytest's plugin."""
        for program in (
            "import kdc",
            "import kdc.api, kdc.commands.main, kdc.commands.client.subcommands",
            "import kdc.commands.tap, kdc.commands.admin.subcommands, kdc.server.service",
            "import kdc.testing",
        ):
            loaded = self.modules(program)
            self.assertNotIn("kdc.kerberos", loaded, program)
            self.assertNotIn("kdc.testing.realm", loaded, program)
        self.assertNotIn("attrs", self.modules("import kdc.testing"))
        loaded = self.modules("import kdc.testing.pytest_plugin")
        self.assertNotIn("kdc.kerberos", loaded)
