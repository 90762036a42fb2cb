"""What a realm for tests does, whether it runs in a thread or in a process of its own."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, KDCUnreachable
from kdc.kerberos.ccache import read_ccache
from kdc.kerberos.errors import Code
from kdc.kerberos.keytab import read_keytab
from kdc.testing import Realm, TicketRefused

__all__ = ["RealmConformance", "free"]


def free(port: int) -> bool:
    """Whether nobody has the port, for TCP nor UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


class RealmConformance(SynchronousTestCase):
    """Abstract: what holds wherever the realm runs."""

    in_process: bool

    def setUp(self) -> None:
        self.realm = Realm(in_process=self.in_process)
        self.addCleanup(self.realm.close)

    def test_ticket(self) -> None:
        """A user has a ticket in the cache, and the service can open the one it is shown."""
        alice = self.realm.user("alice", "pw")
        web = self.realm.service("HTTP/localhost")
        alice.kinit()
        client, (found,) = read_ccache(self.realm.ccache.read_bytes())
        self.assertEqual(client, alice.principal)
        ticket = self.realm.client().service(found, web.principal)
        keys = {(k.key.etype, k.kvno): k.key for k in read_keytab(self.realm.keytab.read_bytes())}
        part = ticket.ticket.part
        self.assertTrue(keys[part.etype, part.kvno or 0].open(2, part.cipher))

    def test_files_are_private(self) -> None:
        """Keys and tickets are nobody else's business."""
        self.realm.service("HTTP/localhost")
        self.realm.user("alice").kinit()
        self.assertEqual(stat.S_IMODE(self.realm.directory.stat().st_mode), 0o700)
        for path in self.realm.directory.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_end(self) -> None:
        """The port is free and the directory gone; ending twice is well."""
        port, directory = self.realm.port, self.realm.directory
        self.assertFalse(free(port))
        self.realm.close()
        self.assertTrue(free(port))
        self.assertFalse(directory.exists())
        self.realm.close()

    def test_stop(self) -> None:
        """The principals and the port are the same afterwards."""
        alice = self.realm.user("alice")
        port = self.realm.port
        self.realm.stop()
        self.assertTrue(free(port))
        self.assertRaises(KDCUnreachable, alice.kinit)
        self.realm.start()
        self.assertEqual(self.realm.port, port)
        alice.kinit()

    def test_clock(self) -> None:
        """Tickets end when the realm's clock says so; others are told how far off they are."""
        alice = self.realm.user("alice", "pw")
        web = self.realm.service("HTTP/localhost")
        tgt = alice.kinit(life=3600)
        self.realm.clock.advance(hours=2)
        error = self.assertRaises(TicketRefused, self.realm.client().service, tgt, web.principal)
        self.assertEqual(error.code, Code.TICKET_EXPIRED)
        client = self.realm.client()
        self.realm.clock.advance(minutes=-113)
        # A clock of its own, seven minutes behind the realm's.
        slow = client.__class__(client.realm, client.exchange)
        error = self.assertRaises(TicketRefused, slow.initial, alice.principal, "pw")
        self.assertEqual(error.code, Code.SKEW)
        self.assertIn("the client's clock is 7 min behind the KDC's", str(error))
        self.realm.clock.reset()
        alice.kinit()

    def test_failures(self) -> None:
        """The next requests fail as ordered, and only those."""
        alice = self.realm.user("alice")
        self.realm.fail_next(error=Code.SERVICE_UNAVAILABLE, times=2)
        for _ in range(2):
            error = self.assertRaises(TicketRefused, alice.kinit)
            self.assertEqual(error.code, Code.SERVICE_UNAVAILABLE)
        alice.kinit()
        self.assertRaises(ConfigurationError, self.realm.fail_next, error=999)

    def test_pause(self) -> None:
        """What is asked meanwhile is answered afterwards."""
        self.realm.pause()
        address = (self.realm.host, self.realm.port)
        stream = socket.create_connection(address)
        self.addCleanup(stream.close)
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(datagram.close)
        datagram.sendto(b"?", address)
        stream.sendall(b"\0\0\0\1?")
        for each in (stream, datagram):
            each.setblocking(False)
            self.assertRaises(BlockingIOError, each.recv, 1)
            each.setblocking(True)
        self.realm.resume()
        self.assertEqual(datagram.recv(4096)[:1], b"\x7e")
        with stream.makefile("rb") as answers:
            length = int.from_bytes(answers.read(4), "big")
            self.assertEqual(answers.read(length)[:1], b"\x7e")

    def test_attributes(self) -> None:
        """What is said of a principal counts, and what there is not is refused with the list."""
        self.realm.user("alice", "pw", disabled=True)
        self.realm.modify("alice", disabled=False, max_life=60)
        self.assertEqual(self.realm.show("alice")["max_life"], 60)
        error = self.assertRaises(ConfigurationError, self.realm.modify, "alice", colour=1)
        self.assertIn("max_life", error.hint)
        self.assertRaises(ConfigurationError, self.realm.user, "alice")
        self.assertRaises(ConfigurationError, self.realm.remove, "nobody")
        self.assertRaises(ConfigurationError, self.realm.add, "bob", "x", etypes=(23,))
        self.realm.remove("alice")
        self.assertNotIn("alice@KRBTEST.COM", self.realm.principals)

    def test_key_versions(self) -> None:
        """A keytab has each version that is good."""
        self.realm.service("nfs/localhost")
        self.assertEqual(self.realm.change_password("nfs/localhost", None, keep=True), 2)
        kvnos = {entry.kvno for entry in self.realm.keytab_entries("nfs/localhost")}
        self.assertEqual(kvnos, {1, 2})
        self.realm.change_password("nfs/localhost", None)
        path = self.realm.write_keytab(self.realm.directory / "one.keytab", "nfs/localhost")
        self.assertEqual({entry.kvno for entry in read_keytab(path.read_bytes())}, {3})

    def test_environment(self) -> None:
        """It is set inside, and afterwards as it was."""
        os.environ["KRB5CCNAME"] = "before"
        self.addCleanup(os.environ.pop, "KRB5CCNAME", None)
        os.environ.pop("KRB5_CONFIG", None)
        with self.realm.environ():
            self.assertEqual(os.environ["KRB5_CONFIG"], str(self.realm.krb5_config))
            self.assertNotEqual(os.environ["KRB5CCNAME"], "before")
        self.assertEqual(os.environ["KRB5CCNAME"], "before")
        self.assertNotIn("KRB5_CONFIG", os.environ)

    def test_decisions(self) -> None:
        """What was answered can be looked at; no password is in it."""
        self.realm.user("alice", "kanarienvogel").kinit()
        self.assertEqual([each[:2] for each in self.realm.decisions], ["25", "0 "])
        self.assertNotIn("kanarienvogel", str(self.realm.decisions))

    def test_port_in_use(self) -> None:
        """Who wants a certain port is told that another has it; nothing is left."""
        error = self.assertRaises(
            ConfigurationError, Realm, in_process=self.in_process, port=self.realm.port
        )
        self.assertIn(f"port {self.realm.port} ", str(error))

    def test_bad_name(self) -> None:
        """It is refused before anything is there, and no directory stays."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.patch(tempfile, "tempdir", str(directory))
        self.assertRaises(ConfigurationError, Realm, "no realm", in_process=self.in_process)
        self.assertEqual(list(directory.iterdir()), [])
