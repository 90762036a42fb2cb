"""MIT's programs by name, as suites start them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos.names import parsed
from kdc.testing import TicketRefused
from kdc.testing._database import Database
from kdc.testing._kadmin import answered
from kdc.testing.client import Client, over_tcp
from kdc.testing.loop import free_port
from kdc.testing.shims import write_shims

REALM = "KRBTEST.COM"


class ShimTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        write_shims(self.directory)

    def configure(self) -> None:
        self.port = free_port()
        (self.directory / "krb5.conf").write_text(
            f"[libdefaults]\n\tdefault_realm = {REALM}\n[realms]\n\t{REALM} = {{\n"
            f"\t\tkdc = localhost:{self.port}\n\t}}\n"
        )
        (self.directory / "kdc.conf").write_text(
            f"[realms]\n{REALM} = {{\nkdc_ports = {self.port}\nkpasswd_port = {free_port()}\n"
            f"database_name = {self.directory}/db\n}}\n"
        )
        self.environment = {
            **os.environ,
            "KRB5_CONFIG": f"{self.directory}/krb5.conf",
            "KRB5_KDC_PROFILE": f"{self.directory}/kdc.conf",
        }

    def run_program(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [str(self.directory / words[0]), *words[1:]],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stdout)
        return done.stdout

    def started(self) -> subprocess.Popen[str]:
        """The KDC; on other ports if somebody was quicker."""
        for _ in range(10):
            self.configure()
            process = subprocess.Popen(
                [str(self.directory / "krb5kdc"), "-n"],
                env=self.environment,
                text=True,
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            self.addCleanup(process.stdout.close)
            if process.stdout.readline() == "starting...\n":
                return process
            process.wait()
        raise AssertionError("no port is free")

    def test_a_realm(self) -> None:
        """Made, filled, served, changed while it is served, and ended."""
        self.configure()
        self.run_program("kdb5_util", "create", "-W", "-s", "-P", "master")
        self.run_program("kadmin.local", "-q", "addprinc -pw pw alice")
        process = self.started()
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        client = Client(REALM, over_tcp("127.0.0.1", self.port))
        alice = parsed("alice", REALM)
        client.initial(alice, "pw")
        self.run_program("kadmin.local", "-q", "cpw -pw other alice")
        self.run_program("kadmin.local", "-q", "modprinc +requires_preauth alice")
        client.initial(alice, "other")
        self.assertRaises(TicketRefused, client.initial, alice, "pw")
        process.terminate()
        self.assertEqual(process.wait(), 0)

    def test_errors(self) -> None:
        """One line and what to do, status 1."""
        self.configure()
        said = self.run_program("kadmin.local", "-q", "listprincs", status=1)
        self.assertIn("kadmin.local: there is no database", said)
        self.assertNotIn("Traceback", said)
        self.environment.pop("KRB5_KDC_PROFILE")
        said = self.run_program("krb5kdc", "-n", status=1)
        self.assertIn("KRB5_KDC_PROFILE is not set", said)


class QueryTests(SynchronousTestCase):
    """The queries of kadmin.local."""

    def setUp(self) -> None:
        self.database = Database(REALM, (18, 17), clock=lambda: 1_800_000_000.0)
        self.database.create()

    def ask(self, query: str) -> str:
        return answered(self.database, query)

    def test_attributes(self) -> None:
        """By plus and minus, dates and amounts."""
        self.ask("addprinc -pw pw -maxlife '1 day' +needchange -allow_forwardable 'a b'")
        entry = self.database.get("a b")
        self.assertEqual((entry.max_life, entry.needs_change), (86_400, True))
        self.assertFalse(entry.needs_preauth or entry.forwardable)
        for text, moment in (
            ("never", None),
            ("now", 1_800_000_000),
            ("yesterday", 1_799_913_600),
            ("2 days ago", 1_799_827_200),
            ("1d2h", 1_800_093_600),
            ("10 minutes", 1_800_000_600),
            ("30 seconds", 1_800_000_030),
        ):
            self.ask(f"modprinc -pwexpire '{text}' -allow_tix 'a b'")
            self.assertEqual(entry.password_expiration, moment, text)
        self.assertTrue(entry.disabled)

    def test_keytabs(self) -> None:
        """New keys unless told otherwise; added to what is there."""
        path = Path(self.mktemp()).absolute()
        self.ask("ank -randkey host/x")
        self.ask(f"ktadd -k {path} -norandkey host/x")
        self.ask(f"ktadd -k FILE:{path} -e aes128-cts:normal host/x")
        found = [(entry.kvno, entry.key.etype) for entry in read_keytab(path.read_bytes())]
        self.assertEqual(found, [(1, 18), (1, 17), (2, 17)])
        self.assertIn("host/x@KRBTEST.COM", self.ask("listprincs"))
        self.assertIn("vno 2, aes128-cts", self.ask("getprinc host/x"))
        self.ask("delprinc -force host/x")
        self.assertNotIn("host/x@KRBTEST.COM", self.ask("listprincs"))

    def test_policies(self) -> None:
        """Counted for new passwords, those of the operator too."""
        self.ask("addpol -minlength 6 -minclasses 2 -history 2 p")
        self.ask("addprinc -pw first-1 -policy p bob")
        for bad in ("short", "longenough", "first-1"):
            self.assertRaises(ConfigurationError, self.ask, f"cpw -pw {bad} bob")
        self.ask("cpw -pw second-2 bob")
        self.ask("delpol -force p")
        self.ask("cpw -pw x bob")

    def test_refused(self) -> None:
        """What there is not is said, with what there is."""
        for query in (
            *("frobnicate", "addprinc -colour red x", "addprinc", "addprinc -pw", "cpw nobody"),
            *("ktadd host/x", "modprinc -maxlife long kadmin/admin", "addprinc -e rc4 x"),
            *("addprinc 'unfinished", "delpol nothing", "addpol", "addprinc a@b@c"),
        ):
            self.assertRaises(ConfigurationError, self.ask, query)
        self.assertEqual(self.ask(""), "")
