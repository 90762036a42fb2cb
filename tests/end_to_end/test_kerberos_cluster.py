"""Two KDCs on one etcd, both with ``--kerberos``: to Kerberos' programs they are one realm."""

from __future__ import annotations

from typing import NamedTuple

from kdc.kerberos.ccache import Credential, read_ccache
from kdc.kerberos.errors import Code
from kdc.kerberos.names import Principal
from kdc.testing.client import Client, TicketRefused, Wanted, over_tcp
from tests.end_to_end.test_cluster import ClusterCase
from tests.support.kerberos_servers import Machine, need, programs_path
from tests.support.processes import RunningKDC

_HERE = "interface=127.0.0.1"
_WEB, _HOST = (Principal((kind, "localhost"), "LOCAL") for kind in ("HTTP", "host"))


class _Node(NamedTuple):
    running: RunningKDC
    udp: int
    tcp: int


class KerberosClusterTests(ClusterCase):
    """alice registers at one node, and the machine web1 at the other."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.with_kerberos("one")
        self.admin("one", "kerberos", "enable", "--yes")
        self.copy_keys("key", "tls", "kerberos")
        self.second = self.with_kerberos("two")
        self.register(self.first.running, "alice")
        self.register(self.second.running, "web1")
        services = ("--add", "HTTP/localhost", "--add", "host/localhost")
        self.admin("two", "kerberos", "services", "web1", *services)

    def with_kerberos(self, name: str) -> _Node:
        running = self.node(name, "--kerberos", f"udp:0:{_HERE},tcp:0:{_HERE}")
        udp, tcp = (
            int(running.program.expect(rf"Kerberos at 127\.0\.0\.1 port (\d+) \({kind}\)\n")[1])
            for kind in ("UDP", "TCP")
        )
        running.program.expect(r"kdc: kerberos: receiving on 127\.0\.0\.1 port \d+\n")
        return _Node(running, udp, tcp)

    def mine(self, node: _Node, name: str, word: str, *options: str) -> None:
        program = self.client(word, "-n", name, *node.running.options, *self.key(name), *options)
        self.assert_ends(program, 0)

    def tgt(self, node: _Node) -> Credential:
        """Alice's, from that node."""
        self.mine(node, "alice", "kinit", "-c", "cache")
        return read_ccache((self.directory / "cache").read_bytes())[1][0]

    def ticket(self, node: _Node, tgt: Credential, service: Principal) -> int:
        """Ask that node for a ticket; return 0 or the code of its refusal."""
        client = Client("LOCAL", over_tcp("127.0.0.1", node.tcp))
        try:
            client.service(tgt, service, Wanted(options=0))
        except TicketRefused as error:
            return error.code
        return 0

    def test_one_realm(self) -> None:
        """A ticket of one node is good at the other; so is what an operator changes at either."""
        one, two = self.first, self.second
        self.eventually("web1 is known", lambda: "web1" in self.admin("one", "list"))
        tgt = self.tgt(one)
        for node in (one, two):
            self.assertEqual(self.ticket(node, tgt, _WEB), 0)
            self.mine(node, "web1", "keytab", "-o", f"{node.udp}.keytab")
        files = [self.directory / f"{node.udp}.keytab" for node in (one, two)]
        self.assertEqual(*(path.read_bytes() for path in files))
        # The realm's keys, changed at one: tickets under the old and the new at both.
        self.admin("two", "kerberos", "rotate")
        newer = self.tgt(two)
        self.assertNotEqual(tgt.ticket.part.kvno, newer.ticket.part.kvno)
        for node in (one, two):
            for each in (tgt, newer):
                self.becomes(0, node, each)
        self.admin("one", "disable", "alice")
        for node in (one, two):
            self.becomes(Code.CLIENT_REVOKED, node, newer)

    def becomes(self, code: int, node: _Node, tgt: Credential) -> None:
        """Wait until that node says so: one hears of what was done at the other."""
        self.eventually(f"code {code}", lambda: self.ticket(node, tgt, _HOST) == code)

    def test_one_ends(self) -> None:
        """MIT's programs, told of both, go on at the other: with the ticket that they have."""
        need("kvno", "klist", package="krb5-user")
        self.eventually("web1 is known", lambda: "web1" in self.admin("one", "list"))
        self.tgt(self.first)
        self.mine(self.second, "web1", "keytab", "-o", "web1.keytab")
        places = "".join(f"  kdc = 127.0.0.1:{node.udp}\n" for node in (self.first, self.second))
        config = self.file(
            "krb5.conf",
            (
                "[libdefaults]\n default_realm = LOCAL\n dns_lookup_kdc = false\n"
                " dns_canonicalize_hostname = false\n rdns = false\n"
                f" udp_preference_limit = 65000\n[realms]\n LOCAL = {{\n{places} }}\n"
            ).encode(),
        )
        keytab = self.directory / "web1.keytab"
        environment = {
            "PATH": programs_path(),
            "KRB5_CONFIG": str(config),
            "KRB5CCNAME": f"FILE:{self.directory / 'cache'}",
            "LC_ALL": "C",
        }
        machine = Machine(self, self.directory, config, keytab, environment)
        machine.run(["kvno", "-k", str(keytab), "HTTP/localhost"])
        self.first.running.program.kill()
        machine.run(["kvno", "-k", str(keytab), "host/localhost"])
        machine.run(["kinit", "-k", "-t", str(keytab), "web1"])
