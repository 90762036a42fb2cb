"""Several KDCs of one realm, asked as if they were one: order of events, bounds, errors."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred

from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.client.nodes import CONNECT_SECONDS, SILENCE_SECONDS, Nodes
from kdc.errors import (
    AuthenticationRefused,
    ErrorKind,
    KDCUnreachable,
    NotReceiving,
    Refusal,
    RefusedByPolicy,
    UnknownPeer,
    WrongIdentity,
)
from kdc.issuing.decisions import Enrolment
from kdc.server.certificate import ServerTLS, make_certificate
from kdc.store import Replace
from kdc.store.memory import MemoryStore
from tests.support.core import keys_of
from tests.support.edge import KDC, KDC_PORT, NOW, factory_of
from tests.support.nodes import HOSTS, NodesTestCase

# The rest is final: what the realm's rules refuse, and what only a program that is wrong gets.
_NEXT = {
    *(Refusal.UNKNOWN_PRINCIPAL, Refusal.NOT_RECEIVING, Refusal.RATE, Refusal.INTERNAL),
    *(Refusal.NOT_AUTHENTIC, Refusal.MALFORMED, Refusal.VERSION),
}


class OrderTests(NodesTestCase):
    def test_sticks(self) -> None:
        """One is asked, and asked again; the others hear nothing."""
        self.receive("bob", 0, 1, 2)
        client = self.nodes("alice")
        for _ in range(3):
            node, grant = self.do(client.grant_from("bob"))
            self.assertEqual((node.where, grant.reply.port), (f"{HOSTS[0]} port 88", 60000))
        self.assertEqual([events.count("issued") for events in self.asked()], [3, 0, 0])

    def test_shuffled_once(self) -> None:
        """Who comes first is drawn for each client; the order of `nodes` is everybody's."""
        first = [self.client("alice", kdc=host) for host in HOSTS]
        client = Nodes(first[::-1], shuffle=lambda order: order.reverse())
        self.assertEqual([node.where for node in client.nodes], [f"{h} port 88" for h in HOSTS])
        self.assertEqual(client.where, f"{HOSTS[2]} port 88")
        seen = {Nodes(first).where for _ in range(200)}
        self.assertEqual(len(seen), 3)

    def test_goes_where_it_was_answered(self) -> None:
        """Who does not find a peer at one goes to the next at once, and stays there."""
        self.receive("bob", 1)
        client = self.nodes("alice")
        self.assertEqual(self.do(client.grant("bob")).reply.port, 60001)
        self.assertEqual(client.where, f"{HOSTS[1]} port 88")
        self.do(client.grant("bob"))
        self.assertEqual([events.count("issued") for events in self.asked()], [0, 2, 0])
        self.assertEqual(len(self.asked()[2]), 0)

    def test_refused(self) -> None:
        """A KDC that is not there costs no time."""
        self.receive("bob", 0, 1, 2)
        client = self.nodes("alice")
        self.do(client.grant("bob"))
        self.kdcs[0].stop()
        self.kdcs[1].stop()
        self.assertEqual(self.do(client.grant("bob")).reply.port, 60002)

    def test_nowhere(self) -> None:
        """A peer that receives nowhere is asked for once everywhere, and that is what is told."""
        self.kdc.add("bob")
        client = self.nodes("alice")
        self.failure(NotReceiving, client.grant("bob"))
        self.failure(UnknownPeer, client.grant("nobody"))
        self.kdcs[1].stop()
        self.failure(NotReceiving, client.grant("bob"))
        self.assertEqual(client.where, f"{HOSTS[0]} port 88")
        self.kdcs[0].stop()
        self.failure(NotReceiving, client.grant("bob"))
        self.assertEqual(client.where, f"{HOSTS[2]} port 88", "who has said so")

    def test_none_there(self) -> None:
        """When no KDC is there each of them is named."""
        client = self.nodes("alice")
        for kdc in self.kdcs:
            kdc.stop()
        error = self.failure(KDCUnreachable, client.grant("bob"))
        for host in HOSTS:
            self.assertIn(f"{host} port 88", str(error))
        self.assertTrue(error.hint)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_policy_is_final(self) -> None:
        """What the realm's policy refuses is asked for once."""
        client = self.nodes("alice")
        self.failure(RefusedByPolicy, client.grant("alice"))
        self.assertEqual([len(events) for events in self.asked()][1:], [0, 0])

    def test_expired_is_final(self) -> None:
        """Whose time is over is told so by the first."""
        client = self.nodes("alice")
        record = self.kdc.store.get("alice")
        assert record is not None
        self.kdc.apply(Replace(attrs.evolve(record, expiry_time=1), record.generation))
        error = self.failure(RefusedByPolicy, client.link())
        self.assertIs(error.kind, ErrorKind.PRINCIPAL_EXPIRED)
        self.assertEqual([len(events) for events in self.asked()][1:], [0, 0])

    def test_each_refusal(self) -> None:
        """Only of these is the answer of another KDC another one; each is asked once."""
        self.receive("bob", 0, 1, 2)
        for code in Refusal:
            client = self.nodes("alice")
            self.refuse(0, code)
            asking = self.begin(client.grant("bob"))
            if code in _NEXT:
                self.assertEqual(self.successResultOf(asking).reply.port, 60001, code)
            else:
                self.failureResultOf(asking)
            self.ends(client)
        self.assertEqual(self.asked()[0].count("issued"), 0)

    def test_lost_in_between(self) -> None:
        """One that dies as it is asked is no reason to have no answer."""
        self.receive("bob", 0, 1, 2)
        client = self.nodes("alice")
        self.do(client.grant("bob"))
        (serving,) = [p for s, p in self.kdcs[0].factory._protocols.items() if s.name == "alice"]
        serving.dataReceived = lambda data: serving.transport.abortConnection()  # type: ignore[method-assign,union-attr]
        self.kdcs[0].port.stopListening()
        self.assertEqual(self.do(client.grant("bob")).reply.port, 60001)

    def test_another_identity(self) -> None:
        """One that shows another key is told nothing, and the next is asked."""
        self.receive("bob", 0, 1, 2)
        client = self.nodes("alice")
        wrong = ClientTLS(Pin("sha256:" + "0" * 64), HOSTS[0])
        client.nodes[0].tls = wrong
        self.assertEqual(self.do(client.grant("bob")).reply.port, 60001)
        self.assertEqual(self.asked()[0], self.asked()[2])
        for node in client.nodes:
            node.close()
            node.tls = wrong
        self.failure(WrongIdentity, client.grant("bob"))

    def test_several_pins(self) -> None:
        """While the key is changed, clients have two pins, and KDCs may show either key."""
        another = ServerTLS(*make_certificate((HOSTS[0],), NOW))
        self.kdcs[0].stop()
        self.kdcs[0] = KDC(self.network, store=self.kdc.store, tls=another, host=HOSTS[0])
        self.receive("bob", 1, 2)
        pins = Pin(f"{another.fingerprint},{self.kdc.tls.fingerprint}")
        client = self.nodes("alice", identity=pins)
        self.failure(UnknownPeer, client.grant("nobody"))
        self.assertEqual(self.do(client.grant("bob")).reply.port, 60001)


class SilenceTests(NodesTestCase):
    def test_hung(self) -> None:
        """A KDC that says nothing for a second is not waited for, nor given up meanwhile."""
        self.receive("bob", 0, 1, 2)
        client = self.nodes("alice")
        self.do(client.grant("bob"))
        self.hang(0)
        asking = self.begin(client.grant("bob"))
        self.network.advance(SILENCE_SECONDS - 0.1)
        self.assertNoResult(asking)
        self.network.advance(0.2)
        self.assertEqual(self.successResultOf(asking).reply.port, 60001)
        self.do(client.grant("bob"))
        self.assertEqual([events.count("issued") for events in self.asked()], [1, 2, 0])
        self.ends(client)

    def test_two_hung(self) -> None:
        """Each that is silent costs a second, also one that was never connected to."""
        self.receive("bob", 0, 1, 2)
        client = self.nodes("alice")
        self.hang(0)
        self.hang(1)
        asking = self.begin(client.grant("bob"))
        self.network.advance(2 * SILENCE_SECONDS - 0.1)
        self.assertNoResult(asking)
        self.network.advance(0.2)
        self.assertEqual(self.successResultOf(asking).reply.port, 60002)
        self.ends(client)

    def test_late_answer(self) -> None:
        """Who is slow, and answers before the next, has answered."""
        self.receive("bob", 0)
        client = self.nodes("alice")
        self.do(client.grant("bob"))
        (serving,) = [p for s, p in self.kdcs[0].factory._protocols.items() if s.name == "alice"]
        take = serving.dataReceived
        serving.dataReceived = lambda data: (  # type: ignore[method-assign,assignment]
            self.network.callLater(1.5, take, data)
        )
        self.hang(1)
        asking = self.begin(client.grant("bob"))
        self.network.advance(1.6)
        self.assertEqual(self.successResultOf(asking).reply.port, 60000)
        self.assertEqual(client.where, f"{HOSTS[0]} port 88")
        self.ends(client)

    def test_all_hung(self) -> None:
        """When none begins TLS within three seconds, that is told, and no timer is left."""
        client = self.nodes("alice")
        for number in range(3):
            self.hang(number)
        asking = self.begin(client.grant("bob"))
        self.network.advance(2 * SILENCE_SECONDS + CONNECT_SECONDS - 0.1)
        self.assertNoResult(asking)
        self.network.advance(0.2)
        error = self.failureResultOf(asking, KDCUnreachable).value
        self.assertIn("did not begin TLS", str(error))
        self.ends(client)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """Who gives up asks nobody else."""
        client = self.nodes("alice")
        self.hang(0)
        asking: Deferred[Any] = self.begin(client.grant("bob"))
        asking.cancel()
        self.network.advance(20)
        self.failureResultOf(asking)
        self.assertEqual(self.asked()[1:], [[], []])
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_full(self) -> None:
        """KDCs that all close at once are tried again, for ten seconds."""
        client = self.nodes("alice")
        for kdc in self.kdcs:
            kdc.port.stopListening()
        closing = [self.network.listen(host, KDC_PORT, factory_of()) for host in HOSTS]
        asking = self.begin(client.link())
        self.assertNoResult(asking)
        self.network.advance(2)
        closing[1].stopListening()
        self.network.listen(HOSTS[1], KDC_PORT, self.kdcs[1].port.factory)
        self.network.advance(9)
        self.assertEqual(self.successResultOf(asking).where, f"{HOSTS[1]} port 88")
        self.kdcs[1].stop()
        asking = self.begin(client.link())
        self.network.advance(11)
        self.failureResultOf(asking, KDCUnreachable)
        self.assertEqual(self.network.getDelayedCalls(), [])


class ProofTests(NodesTestCase):
    def test_not_heard_of_us(self) -> None:
        """A principal that one KDC has not heard of yet is known at the next."""
        self.kdcs[0].stop()
        stale = KDC(self.network, store=MemoryStore(), tls=self.kdc.tls, host=HOSTS[0])
        client = self.nodes("alice")
        self.assertEqual(self.do(client.link()).where, f"{HOSTS[1]} port 88")
        self.assertEqual(stale.events(), ["refused"])

    def test_wrong_secret(self) -> None:
        """A wrong secret is refused twice, and not by the third."""
        self.kdc.add("alice")
        client = self.nodes("alice", secret="no")
        self.failure(AuthenticationRefused, client.link())
        self.assertEqual([len(events) for events in self.asked()], [1, 1, 0])

    def test_new_keys(self) -> None:
        """Keys that are changed are changed for all of them."""
        client = self.nodes("alice")
        client.keys = keys_of("alice", "second")
        for node in client.nodes:
            self.assertEqual(node.keys.verify_key, keys_of("alice", "second").verify_key)


class RegistrationTests(NodesTestCase):
    def test_one_at_a_time(self) -> None:
        """A registration that is not answered is waited for: nobody else is asked meanwhile."""
        client = self.nodes("alice", known=False)
        self.kdcs[0].disk.slow = True
        registering = self.begin(client.register("", 60000))
        self.network.advance(5)
        self.assertNoResult(registering)
        self.assertEqual(self.asked()[1:], [[], []])
        self.kdcs[0].disk.work()
        self.network.settle()
        self.assertEqual(self.successResultOf(registering), 1)
        self.ends(client)

    def test_no_connection(self) -> None:
        """After three seconds without a connection the next is asked."""
        client = self.nodes("alice", known=False)
        self.network.silent.add(HOSTS[0])
        self.hang(1)
        registering = self.begin(client.register("", 60000))
        self.network.advance(2 * CONNECT_SECONDS - 0.1)
        self.assertNoResult(registering)
        self.network.advance(0.2)
        self.assertEqual(self.successResultOf(registering), 1)
        self.assertEqual(client.where, f"{HOSTS[2]} port 88")
        self.ends(client)

    def test_lost_answer(self) -> None:
        """One that was made and not answered is made again elsewhere, and is the same."""
        client = self.nodes("alice", known=False)
        self.kdcs[0].disk.slow = True
        registering = self.begin(client.register("", 60000))
        self.kdcs[0].disk.work()  # it is in the store, and then the KDC dies
        self.kdcs[0].stop()
        self.assertEqual(self.successResultOf(registering), 1)
        self.assertEqual(client.where, f"{HOSTS[1]} port 88")
        self.ends(client)

    def test_invitation(self) -> None:
        """Refused for want of an invitation is refused."""
        for kdc in self.kdcs:
            kdc.realm.enrolment = Enrolment.INVITE
        error = self.failure(
            AuthenticationRefused, self.nodes("alice", known=False).register("", 0)
        )
        self.assertIs(error.kind, ErrorKind.INVITATION_NEEDED)
        self.assertEqual([len(events) for events in self.asked()][1:], [0, 0])

    def test_change(self) -> None:
        """For a change there is one connection, to one of them."""
        client = self.nodes("alice")
        self.kdcs[0].stop()
        link = self.do(client.login())
        self.assertEqual(link.where, f"{HOSTS[1]} port 88")
        self.assertEqual(self.do(link.change(keys_of("alice", "second"))), 2)
        self.ends(client)


class SameTests(NodesTestCase):
    def test_attributes(self) -> None:
        """It has whatever one KDC's client has, of which all have the same."""
        client = self.nodes("alice")
        for each in ("reactor", "keys", "random", "reach", "relay", "weakness"):
            for node in client.nodes:
                self.assertEqual(getattr(client, each), getattr(node, each), each)
        one = self.client("alice")
        self.assertEqual(list(one.nodes), [one])
        self.assertIsInstance(one, KDCClient)
