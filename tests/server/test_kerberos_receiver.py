"""People get tickets, and machines keytabs, over a channel to the KDC's own process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from kdc.admin._request import Context
from kdc.admin.principals import administer
from kdc.channel.query import ask_resident
from kdc.client.client import KDCClient
from kdc.commands.client.kinit import ticket_in
from kdc.errors import ErrorKind, KDCError, RefusedByPolicy, RemoteProtocolError, UnknownPeer
from kdc.issuing.permits import Permits
from kdc.kerberos.ccache import Credential, ccache, read_ccache
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos.names import Principal
from kdc.protocol.kerberos import (
    KEYTAB,
    MAX_ANSWER,
    MAX_QUESTION,
    RECEIVER,
    TICKET,
    KeytabWanted,
    TicketWanted,
    decode_answer,
    encode_question,
)
from kdc.server._kerberos import KerberosRealm
from kdc.server._kerberos_receiver import KerberosReceiver
from kdc.server._residents import Resident
from kdc.server.kerberos_settings import KerberosSettings
from kdc.store import Change, Record, Replace, Result, Status
from kdc.testing.client import Client
from tests.channel.test_api import ListeningHost
from tests.support.edge import KDC_HOST, KDC_PORT, EdgeTestCase

PORT = 89
NOW = 1_800_000_000.0
LOCAL = "LOCAL"


class ReceiverTests(EdgeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        self.lines: list[Any] = []
        self.clients: list[KDCClient] = []
        self.faster: list[Change] = []
        self.current = True
        self.realm = KerberosRealm(
            KerberosSettings(),
            store=self.kdc.store,
            issuing=self.kdc.realm,
            current=lambda now: self.current,
            tell=self.lines.append,
            wall=lambda: NOW,
        )
        client = Resident(
            RECEIVER,
            Path(self.mktemp()).absolute(),
            "receiver of Kerberos",
            "free the name",
            ErrorKind.NAME_OF_KERBEROS_TAKEN,
        ).client(
            ListeningHost(self.network, KDC_HOST),
            self.kdc.realm,
            self.kdc.store,
            lambda: self.kdc.tls.fingerprint,
            (KDC_HOST, KDC_PORT),
            int(NOW),
        )
        self.receiver = KerberosReceiver(
            client, f"tcp:{PORT}", self.realm, self.write, self.said.append
        )
        self.receiver.start()
        self.network.settle()

    def tearDown(self) -> None:
        for client in self.clients:
            client.close()
        self.do(self.receiver.stop())
        self.network.settle()
        self.assertEqual(self.network.getDelayedCalls(), [])

    def write(self, change: Change) -> Deferred[Result]:
        while self.faster:
            self.kdc.store.apply([self.faster.pop()])
        return succeed(self.kdc.store.apply([change])[0])

    def ask(self, command: str, **request: Any) -> list[dict[str, Any]]:
        context = Context(
            now=int(NOW),
            random=os.urandom,
            audit=lambda *line: None,
            where=lambda: ("", 0, ""),
            rotate_tls=lambda: "",
        )
        return list(administer(self.kdc.store, {"command": command, **request}, context))

    def enable(self) -> None:
        self.ask("kerberos-enable")

    def record(self, name: str) -> Record:
        record = self.kdc.store.get(name)
        assert record is not None
        return record

    def change(self, name: str, **fields: Any) -> None:
        record = self.record(name)
        self.kdc.store.apply([Replace(attrs.evolve(record, **fields), record.generation)])

    def person(self, name: str) -> KDCClient:
        self.clients.append(self.known_client(name))
        return self.clients[-1]

    def asking(self, client: KDCClient, service: str, question: bytes) -> Any:
        return ask_resident(client, RECEIVER, service, question, MAX_ANSWER)

    def asked(self, client: KDCClient, service: str, question: bytes) -> bytes:
        return decode_answer(self.do(self.asking(client, service, question)))

    def ticket(self, client: KDCClient, **wanted: Any) -> Credential:
        content = self.asked(client, TICKET, encode_question(TicketWanted(**wanted)))
        return ticket_in(content, client.keys.name, LOCAL)

    def keytab(self, client: KDCClient, *services: str, new_keys: bool = False) -> Any:
        question = encode_question(KeytabWanted(services, new_keys))
        return read_keytab(self.asked(client, KEYTAB, question))

    def test_a_ticket(self) -> None:
        """It is for who asks, and good for services; the log says who got it."""
        self.enable()
        credential = self.ticket(self.person("alice"), life=600)
        self.assertEqual(credential.end_time, int(NOW) + 600)
        self.person("web1")
        self.ask("kerberos-services", name="web1", add=["HTTP/web"])
        client = Client(LOCAL, lambda data: self.realm.request(data, "a"), lambda: NOW)
        found = client.service(credential, Principal(("HTTP", "web"), LOCAL))
        self.assertEqual(found.client, Principal(("alice",), LOCAL))
        self.assertIn(("kerberos-issued", "alice"), [(e.event, e.principal) for e in self.lines])
        self.assertIn(f"receiving on {KDC_HOST} port {PORT}", self.said[0])

    def test_a_keytab(self) -> None:
        """A machine gets its own keys, made when they are first wanted, and the same again."""
        self.enable()
        web1 = self.person("web1")
        first = self.keytab(web1)
        self.assertEqual({str(entry.principal) for entry in first}, {f"web1@{LOCAL}"})
        self.ask("kerberos-services", name="web1", add=["HTTP/web", "host/web"])
        again = self.keytab(web1, "HTTP/web")
        self.assertEqual([e.key for e in again], [e.key for e in first])
        new = self.keytab(web1, new_keys=True)
        self.assertEqual({entry.kvno for entry in new}, {1, 2})
        self.assertEqual(len({str(entry.principal) for entry in new}), 3)
        client = Client(LOCAL, lambda data: self.realm.request(data, "a"), lambda: NOW)
        key = {entry.key.etype: entry.key for entry in new if entry.kvno == 2}
        client.initial(Principal(("HTTP", "web"), LOCAL), key.__getitem__)

    def test_another_ones_services(self) -> None:
        """Which services are whose the operator says, and nobody else."""
        self.enable()
        self.person("web1")
        self.ask("kerberos-services", name="web1", add=["HTTP/web"])
        mallory = self.person("mallory")
        for service in ("HTTP/web", "HTTP/other", f"krbtgt/{LOCAL}", "web1", ""):
            question = encode_question(KeytabWanted((service,)))
            error = self.assertRaises(RefusedByPolicy, self.asked, mallory, KEYTAB, question)
            self.assertIn("no service of mallory", str(error))
        self.assertIsNone(self.record("mallory").kerberos)

    def test_not_enabled(self) -> None:
        """A realm without keys says so, and who has to act."""
        client = self.person("alice")
        for service, wanted in ((TICKET, TicketWanted()), (KEYTAB, KeytabWanted())):
            error = self.assertRaises(
                RefusedByPolicy, self.asked, client, service, encode_question(wanted)
            )
            self.assertIn("no keys for Kerberos", str(error))
            self.assertTrue(error.hint)

    def test_disabled_meanwhile(self) -> None:
        """Whoever may not act any more when it comes to an answer gets none."""
        self.enable()
        client = self.person("alice")
        self.ticket(client)
        self.change("alice", status=Status.DISABLED)
        question = encode_question(TicketWanted())
        error = self.failure(KerberosError, self.receiver._ticket("alice", question))
        self.assertEqual(error.code, Code.CLIENT_REVOKED)
        self.failure(KerberosError, self.receiver._keytab("alice", encode_question(KeytabWanted())))
        self.change("alice", status=Status.ACTIVE)
        self.current = False
        error = self.assertRaises(RefusedByPolicy, self.asked, client, TICKET, question)
        self.assertIn("does not know just now", str(error))

    def test_permits(self) -> None:
        """Policy may keep people from the receiver, as from any."""
        self.enable()
        self.kdc.realm.permits = Permits({RECEIVER: ["bob"]})
        self.ticket(self.person("bob"))
        self.failure(KDCError, self.asking(self.person("alice"), TICKET, b""))

    def test_somebody_faster(self) -> None:
        """A record that changes meanwhile is not written over."""
        self.enable()
        client = self.person("web1")
        record = self.record("web1")
        self.faster.append(Replace(attrs.evolve(record, port=7), record.generation))
        error = self.assertRaises(
            RefusedByPolicy, self.asked, client, KEYTAB, encode_question(KeytabWanted())
        )
        self.assertIn("being changed", str(error))
        self.assertEqual(self.record("web1").port, 7)
        self.assertEqual(len(self.keytab(client)), 4)

    def test_nonsense(self) -> None:
        """What is no question is refused; what is too long is not read."""
        self.enable()
        client = self.person("alice")
        for bad in (b"", b"x", b"{}" * 300, b'{"life":-1}\n'):
            self.assertRaises(RefusedByPolicy, self.asked, client, TICKET, bad)
        self.failure(KDCError, self.asking(client, TICKET, b"x" * (MAX_QUESTION + 1)))
        self.failure(KDCError, self.asking(client, "other", b""))
        self.ticket(client)

    def test_too_often(self) -> None:
        """Who asks beyond his share is told to wait, and others are not."""
        self.enable()
        client = self.person("alice")
        self.kdc.realm.work_rate.charge("alice", 1000, self.network.milliseconds())
        question = encode_question(TicketWanted())
        error = self.assertRaises(KDCError, self.asked, client, TICKET, question)
        self.assertIn("often", str(error))
        self.ticket(self.person("bob"))
        self.network.advance(60)

    def test_answers_that_are_not_ours(self) -> None:
        """A client takes one ticket, its own, for the realm's service, or none at all."""
        self.enable()
        mine = self.ticket(self.person("alice"))
        alice, bob = Principal(("alice",), LOCAL), Principal(("bob",), LOCAL)
        for bad in (
            b"",
            b"rubbish",
            ccache(alice, []),
            ccache(alice, [mine, mine]),
            ccache(bob, [mine]),
            ccache(alice, [attrs.evolve(mine, client=bob)]),
            ccache(alice, [attrs.evolve(mine, server=bob)]),
        ):
            self.assertRaises(RemoteProtocolError, ticket_in, bad, "alice", LOCAL)
        good = ccache(alice, [mine])
        self.assertEqual(ticket_in(good, "alice", LOCAL), read_ccache(good)[1][0])
        self.assertRaises(RemoteProtocolError, ticket_in, good, "alice", "OTHER")

    def test_gone(self) -> None:
        """Without Kerberos nobody answers under that name."""
        self.do(self.receiver.stop())
        self.network.settle()
        self.failure(KDCError, self.asking(self.person("alice"), TICKET, b""))
        self.assertTrue(issubclass(UnknownPeer, KDCError))
