"""ssh, curl and psql against a KDC that people started with ``--kerberos``.

Nobody has a Kerberos password: who logs in has a ticket by ``kdcclient kinit``, and the
servers have the keytab of the machine that they are on.
"""

from __future__ import annotations

from tests.end_to_end.test_kerberos import KerberosCase
from tests.support.kerberos_servers import Machine, need, negotiating, postgres, sshd
from tests.support.sshd import account

WEB1 = "web1.keytab"


class LoginTests(KerberosCase):
    def machine(self, *services: str) -> Machine:
        """web1, with these services besides."""
        for service in services:
            self.admin("services", "web1", "--add", service)
        self.assert_ends(self.mine("web1", "keytab", "-o", WEB1), 0)
        path = self.directory
        return Machine(self, path, path / "udp.conf", path / WEB1, self.surroundings("udp.conf"))

    def test_curl(self) -> None:
        """Nobody without a ticket; alice with one, who may hand hers on if she got it so."""
        machine = self.machine()
        curl = negotiating(machine)
        self.assertEqual(machine.run(curl), "401")
        self.kinit()
        self.assertEqual(machine.run(curl), "alice@LOCAL came\n200")
        said = machine.run([*curl, "--delegation", "always"])
        self.assertEqual(said, "alice@LOCAL came\n200")
        self.kinit("-f")
        said = machine.run([*curl, "--delegation", "always"])
        self.assertEqual(said, "alice@LOCAL came, and goes on as alice@LOCAL\n200")

    def test_curl_disabled(self) -> None:
        """A ticket that is out there gets her nothing new, whatever she asks for."""
        machine = self.machine()
        curl = negotiating(machine)
        self.kinit()
        self.operate("disable", "alice")
        self.assertEqual(machine.run(curl), "401")

    def test_ssh(self) -> None:
        """ssh -K: logged in by the ticket alone, and it is good for another on the far side."""
        need("ssh", "klist", "kvno", package="openssh-client, krb5-user")
        me = account()
        self.register(self.running, me)
        machine = self.machine()
        options = sshd(machine)
        machine.run(["ssh", *options, "localhost", "true"], status=255)
        self.assert_ends(self.mine(me, "kinit", "-c", "cache", "-f"), 0)
        machine.run(["ssh", *options, "localhost", "klist", "-s"], status=1)
        far = "kvno HTTP/localhost && klist -f; kdestroy"
        said = machine.run(["ssh", "-K", *options, "localhost", far])
        self.assertIn(f"Default principal: {me}@LOCAL", said)
        self.assertRegex(said, r"krbtgt/LOCAL@LOCAL\n[^\n]*Flags: \w*f")  # forwarded
        self.assertIn("HTTP/localhost@LOCAL: kvno = 1", said)

    def test_psql(self) -> None:
        """gssencmode=require: alice is who the ticket says, and all is encrypted."""
        machine = self.machine("postgres/localhost")
        port = postgres(machine)
        place = f"host=localhost port={port} dbname=postgres gssencmode=require"
        query = "select gss_authenticated, principal, encrypted from pg_stat_gssapi"
        mine = ["-c", f"{query} where pid = pg_backend_pid()"]
        alice = ["psql", "-XAtq", f"{place} user=alice", *mine]
        self.assertIn("GSSAPI", machine.run(alice, status=2))
        self.kinit()
        self.assertEqual(machine.run(alice), "t|alice@LOCAL|t\n")
        said = machine.run(["psql", "-XAtq", f"{place} user=postgres", *mine], status=2)
        self.assertIn("FATAL", said)
