"""Programs that log in by Kerberos, against the realm: Heimdal's, curl, ssh, psql.

What this machine does not have is skipped.  Heimdal's programs cannot be installed beside
MIT's: `make heimdal` unpacks them into build/heimdal.
"""

from __future__ import annotations

import glob
import os

from kdc.kerberos.profile import PROFILES
from tests.support.kerberos_servers import negotiating, postgres, sshd
from tests.support.processes import TOP
from tests.support.realm_programs import RealmTestCase
from tests.support.sshd import account

HEIMDAL = TOP / "build" / "heimdal"


class HeimdalCase(RealmTestCase):
    needs = ("kinit.heimdal", "klist.heimdal", "kgetcred")
    package = "heimdal-clients, by make heimdal"

    def path(self) -> str:
        return os.pathsep.join([super().path(), str(HEIMDAL / "usr" / "bin")])

    def heimdal(self, line: str, typed: str = "", status: int = 0) -> str:
        libraries = os.pathsep.join(glob.glob(f"{HEIMDAL}/usr/lib/*-linux-gnu*"))
        return self.run_program(line, typed, status, LD_LIBRARY_PATH=libraries)


class HeimdalTests(HeimdalCase):
    def test_password(self) -> None:
        """A ticket by password and one of a service; what is wrong is told."""
        password = self.realm.directory / "password"
        password.write_text("pw\n", "utf-8")
        self.heimdal(f"kinit.heimdal --password-file={password} alice")
        self.heimdal("kgetcred HTTP/localhost")
        self.assertIn("HTTP/localhost@KRBTEST.COM", self.heimdal("klist.heimdal klist"))
        self.heimdal("kgetcred HTTP/elsewhere", status=1)
        self.assertTrue(self.realm.decisions[-1].startswith("7 "))
        password.write_text("no\n", "utf-8")
        said = self.heimdal(f"kinit.heimdal --password-file={password} alice", status=1)
        self.assertIn("Password incorrect", said)

    def test_keytab(self) -> None:
        """By keytab, with each type that Heimdal has; renewed."""
        known = self.heimdal("kinit.heimdal --version")
        for etype in (18, 17) if "7." in known else PROFILES:
            self.realm = self.new_realm(etypes=(etype,))
            self.realm.service("HTTP/localhost")
            self.heimdal(f"kinit.heimdal -r 1d -k -t {self.realm.keytab} HTTP/localhost")
            self.heimdal("kinit.heimdal -R")
            self.heimdal("kgetcred HTTP/localhost")
            self.assertIn(PROFILES[etype].name, self.heimdal("klist.heimdal klist -v"))

    def test_our_cache(self) -> None:
        """What `User.kinit` writes, Heimdal reads and goes on with; also for somebody else."""
        self.alice.kinit()
        self.heimdal("kgetcred HTTP/localhost")
        self.heimdal(f"kinit.heimdal -k -t {self.realm.keytab} HTTP/localhost")
        out = self.realm.directory / "alice"
        line = f"kgetcred --out-cache={out} --impersonate=alice@KRBTEST.COM HTTP/localhost"
        self.heimdal(line)
        self.assertIn("alice@KRBTEST.COM", self.heimdal(f"klist.heimdal klist -c {out}"))


class CurlTests(RealmTestCase):
    needs = ("curl",)

    def setUp(self) -> None:
        super().setUp()
        self.line = negotiating(self.machine)

    def curl(self, *options: str) -> str:
        return self.run_argv([*self.line, *options])

    def test_negotiate(self) -> None:
        """Nobody without a ticket; with one it is alice; with delegation her ticket goes along."""
        self.assertEqual(self.curl(), "401")
        self.alice.kinit()
        self.assertEqual(self.curl(), "alice@KRBTEST.COM came\n200")
        said = self.curl("--delegation", "always")
        self.assertEqual(said, "alice@KRBTEST.COM came, and goes on as alice@KRBTEST.COM\n200")

    def test_delegation_by_policy(self) -> None:
        """Only to a service of which the realm says that it may have tickets."""
        self.alice.kinit()
        self.assertNotIn("goes on", self.curl("--delegation", "policy"))
        self.realm.modify("HTTP/localhost", ok_as_delegate=True)
        self.alice.kinit()
        self.assertIn("goes on", self.curl("--delegation", "policy"))


class SSHTests(RealmTestCase):
    needs = ("ssh", "klist", "kvno")
    package = "openssh-client, krb5-user"

    def test_delegation(self) -> None:
        """ssh -K: logged in by the ticket alone, and it is good for another on the far side."""
        me = self.realm.user(account())
        self.realm.service("host/localhost")
        options = sshd(self.machine)
        # Without a ticket nobody gets in; with one, but not handed over, there is none there.
        self.run_argv(["ssh", *options, "localhost", "true"], status=255)
        me.kinit()
        self.run_argv(["ssh", *options, "localhost", "klist", "-s"], status=1)
        far = "echo $KRB5CCNAME; kvno HTTP/localhost && klist -f; kdestroy"
        said = self.run_argv(["ssh", "-K", *options, "localhost", far])
        self.assertRegex(said, f"Default principal: {me}")
        self.assertRegex(said, r"krbtgt/KRBTEST.COM@KRBTEST.COM\n[^\n]*Flags: \w*f")  # forwarded
        self.assertIn("HTTP/localhost@KRBTEST.COM: kvno = 1", said)


class PostgresTests(RealmTestCase):
    needs = ("psql",)
    package = "postgresql"

    def test_encrypted(self) -> None:
        """psql with gssencmode=require: alice is who the ticket says, and all is encrypted."""
        self.realm.service("postgres/localhost")
        port = postgres(self.machine)
        place = f"host=localhost port={port} dbname=postgres"
        line = ["psql", "-XAtq", f"{place} user=alice gssencmode=require", "-c"]
        query = "select gss_authenticated, principal, encrypted from pg_stat_gssapi"
        mine = f"{query} where pid = pg_backend_pid()"
        self.assertIn("GSSAPI", self.run_argv([*line, mine], status=2))
        self.alice.kinit()
        self.assertEqual(self.run_argv([*line, mine]), "t|alice@KRBTEST.COM|t\n")
        # As somebody else, or in the clear, she does not get in.
        for other in ("user=postgres gssencmode=require", "user=alice gssencmode=disable"):
            said = self.run_argv(["psql", "-XAtq", f"{place} {other}", "-c", mine], status=2)
            self.assertIn("FATAL", said)
