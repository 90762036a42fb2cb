"""MIT's programs against the realm, where the machine has them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from kdc.kerberos.profile import PROFILES
from tests.support.realm_programs import RealmTestCase

TOP = Path(__file__).parent.parent.parent
KDC = [sys.executable, "-c", "from kdc.commands.main import kdc_main; kdc_main()"]


class MITTests(RealmTestCase):
    def test_password(self) -> None:
        """By UDP and TCP, right and wrong, and known or not."""
        self.run_program("kinit alice", "pw\n")
        self.run_program("kvno HTTP/localhost")
        self.assertIn("HTTP/localhost@KRBTEST.COM", self.run_program("klist"))
        self.assertIn("incorrect", self.run_program("kinit alice", "no\n", 1))
        self.assertIn("not found", self.run_program("kinit bob", "", 1))
        self.add_libdefault("udp_preference_limit = 1")
        self.run_program("kinit alice", "pw\n")

    def test_our_cache(self) -> None:
        """What `User.kinit` writes, MIT reads and goes on with."""
        self.alice.kinit()
        self.run_program("kvno HTTP/localhost")

    def test_keytab(self) -> None:
        """Ours, read by MIT; each encryption type."""
        for etype, profile in PROFILES.items():
            self.realm = self.new_realm(etypes=(etype,))
            self.realm.service("HTTP/localhost")
            self.assertIn(profile.name, self.run_program("klist -ke"))
            self.run_program(f"kinit -k -t {self.realm.keytab} HTTP/localhost")
            self.run_program(f"kvno -k {self.realm.keytab} HTTP/localhost")
            self.assertIn(f"{profile.name}, {profile.name}", self.run_program("klist -e"))

    def test_flags(self) -> None:
        """Forwardable, proxiable, renewable and renewed, postdated."""
        self.run_program("kinit -f -p -l 1h -r 1d alice", "pw\n")
        self.assertEqual(set(self.flags()), set("FPRIA"))
        self.run_program("kinit -R")
        self.assertEqual(set(self.flags()), set("FPRAT"))
        self.run_program("kinit -s 1h -l 2h alice", "pw\n")
        self.assertIn("i", self.flags())
        self.run_program("kinit -v", status=1)

    def test_validated(self) -> None:
        """A postdated ticket, when its time has come for both sides."""
        if shutil.which("faketime") is None:
            self.skipTest("this machine has no faketime")
        self.run_program("kinit -s 1h -l 2h alice", "pw\n")
        self.realm.clock.advance(hours=1, minutes=1)
        self.run_program("faketime -f +61m kinit -v")
        self.assertNotIn("i", self.flags())

    def test_fast(self) -> None:
        """In the armour of another ticket; and for everything, if the realm says so."""
        armour = self.realm.directory / "armour"
        self.alice.kinit(armour)
        self.run_program(f"kinit -T {armour} alice", "pw\n")
        self.assertIn("incorrect", self.run_program(f"kinit -T {armour} alice", "no\n", 1))
        self.realm = self.new_realm(advertise_fast=True)
        self.realm.user("alice", "pw")
        self.realm.service("HTTP/localhost")
        self.run_program("kinit alice", "pw\n")
        trace = self.run_program("kvno HTTP/localhost", KRB5_TRACE="/dev/stdout")
        self.assertIn("FAST", trace)

    def test_user_to_user(self) -> None:
        self.realm.user("bob", "pw", is_service=False)
        theirs = self.realm.directory / "bob"
        self.run_program(f"kinit -c {theirs} bob", "pw\n")
        self.run_program("kinit alice", "pw\n")
        self.run_program("kvno bob", status=1)
        self.run_program(f"kvno --u2u {theirs} bob")

    def test_for_user(self) -> None:
        """S4U2Self, with both kinds of padata."""
        self.run_program(f"kinit -k -t {self.realm.keytab} HTTP/localhost")
        out = self.run_program("kvno -U alice HTTP/localhost")
        self.assertIn("kvno = 1", out)
        self.run_program("kvno -U nobody HTTP/localhost", status=1)

    def test_enterprise(self) -> None:
        self.run_program("kinit -E alice@KRBTEST.COM", "pw\n")

    def test_lost_packets(self) -> None:
        """A client that has to ask again gets its ticket."""
        self.realm.fail_next(error=29)
        self.run_program("kinit alice", "pw\n")
        self.assertTrue(self.realm.decisions[0].startswith("29 "))
        self.realm.fail_next(error=60)
        said = self.run_program("kinit alice", "pw\n", 1)
        self.assertIn("Generic error", said)

    def test_kpasswd(self) -> None:
        """A password is changed, one that has to be is by kinit itself, a bad one is refused."""
        self.realm.policy("strict", min_length=6, history=3)
        self.realm.modify("alice", policy="strict")
        said = self.run_program("kpasswd alice", "pw\nshort\nshort\n", 2)
        self.assertIn("the password is too short: it needs 6 characters", said)
        self.run_program("kpasswd alice", "pw\nlonger1\nlonger1\n")
        self.run_program("kinit alice", "longer1\n")
        said = self.run_program("kpasswd alice", "longer1\nlonger1\nlonger1\n", 2)
        self.assertIn("one of those before", said)
        self.realm.modify("alice", needs_change=True)
        self.run_program("kinit alice", "longer1\nlonger2\nlonger2\n")
        self.run_program("kinit alice", "longer2\n")

    def test_other_clock(self) -> None:
        """MIT takes the KDC's time from error 25: what is hours off gets a ticket all the same."""
        self.realm.clock.advance(hours=-3)
        self.run_program("kinit alice", "pw\n")


class CommandTests(RealmTestCase):
    """``kdc realm``."""

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*KDC, "realm", *words], cwd=TOP, capture_output=True, text=True, check=False
        )

    def test_command(self) -> None:
        """The command finds the realm, with a ticket and a keytab; its status is ours."""
        script = (
            "klist -s && kvno HTTP/localhost && klist -k && kinit alice"
            " < <(cut -d' ' -f2 $KDC_REALM_PASSWORDS) && exit 42"
        )
        users = ("--user", "alice", "--service", "HTTP/localhost")
        done = self.command(*users, "--", "bash", "-c", script)
        self.assertEqual(done.returncode, 42, done.stdout + done.stderr)

    def test_refused(self) -> None:
        """Nothing to run, what there is not, names that are none: said in one line."""
        for words in (
            (),
            ("--", "no-such-command"),
            ("--realm", "a b", "--", "true"),
            ("--port", "x", "--", "true"),
        ):
            done = self.command(*words)
            self.assertEqual(done.returncode, 1)
            self.assertNotIn("Traceback", done.stderr)
            self.assertTrue(done.stderr.startswith("kdc realm: "), done.stderr)

    def test_signal(self) -> None:
        done = self.command("--", "bash", "-c", "kill -9 $$")
        self.assertEqual(done.returncode, 137)
