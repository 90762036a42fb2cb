"""A receiver at several KDCs of its realm: an epoch at each, in an order, and one end for all."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.reach import Direct
from kdc.channel.receiver import ChannelListener
from kdc.channel.receptions import Receptions
from kdc.channel.services import Service
from kdc.client.identity import ClientTLS, Pin
from kdc.client.nodes import CONNECT_SECONDS, Nodes
from kdc.errors import (
    AuthenticationRefused,
    RemoteProtocolError,
    Superseded,
    WrongIdentity,
)
from kdc.net import clock
from kdc.protocol.epoch_sets import EpochSets
from kdc.store import Replace, Status
from kdc.store.memory import MemoryStore
from tests.support.core import SeededRandom
from tests.support.edge import KDC, KDC_PORT, Recorder, factory_of
from tests.support.nodes import HOSTS, NodesTestCase

PORT = 60000


class Receiver:
    """One that keeps a listener reachable, and what it has said."""

    def __init__(self, test: ReceptionsTestCase, name: str) -> None:
        self.client = test.nodes(name)
        self.sets = EpochSets(len(HOSTS))
        self.heard: list[Recorder] = []
        self.said: list[Any] = []
        host = self.client.reactor
        self.listener = ChannelListener(
            "LOCAL",
            {"": Service(factory_of(*(self._recorder() for _ in range(9))))},
            timers=test.network,
            random=SeededRandom(f"{name} listener"),
            now_milliseconds=test.network.milliseconds,
            epochs=self.sets,
        )
        test.network.listen(host.address, PORT, self.listener)
        self.receptions = Receptions(
            self.client,
            self.listener,
            self.sets,
            port=PORT,
            way=lambda node: Direct("", PORT),
            begun=self.said.append,
            lost=lambda error, seconds: self.said.append(type(error)),
        )
        self.running = Deferred.fromCoroutine(self.receptions.run())

    def _recorder(self) -> Recorder:
        self.heard.append(Recorder())
        return self.heard[-1]

    @property
    def held(self) -> list[bool]:
        """At which of them there is a current epoch."""
        return [epochs.current is not None for epochs in self.sets.each]


class ReceptionsTestCase(NodesTestCase):
    def receiver(self, name: str = "bob") -> Receiver:
        receiver = Receiver(self, name)
        self.addCleanup(receiver.receptions.stop)
        self.network.settle()
        return receiver

    def begun_at(self) -> list[int]:
        """How many epochs each KDC has begun."""
        return [events.count("epoch-begun") for events in self.asked()]

    def back(self, number: int, **options: Any) -> None:
        """The KDC of that number is there again."""
        options = {"store": self.kdc.store, "tls": self.kdc.tls, **options}
        self.kdcs[number] = KDC(self.network, host=HOSTS[number], **options)

    def send(self, client: Nodes, at: int) -> None:
        """A channel by a key from that KDC alone comes through."""
        one = client.nodes[at]
        connecting = ChannelClientEndpoint(one, "bob").connect(factory_of(recorder := Recorder()))
        self.network.settle()
        self.assertIs(self.successResultOf(connecting), recorder)
        recorder.out.loseConnection()
        self.network.settle()


class ReachableTests(ReceptionsTestCase):
    def test_everywhere(self) -> None:
        """Reachable by a key from any of the KDCs, each of which knows its own epoch only."""
        receiver = self.receiver()
        self.assertEqual(receiver.said, [1, 2, 3])
        self.assertEqual(self.begun_at(), [1, 1, 1])
        self.assertEqual(len(set(receiver.sets.ids)), 3)
        alice = self.nodes("alice")
        for number in range(3):
            self.send(alice, number)

    def test_a_ticket_counts_once(self) -> None:
        """Whichever KDC it is from: a first message that was seen before is not taken again."""
        receiver = self.receiver()
        grant = self.do(self.nodes("alice").nodes[2].grant("bob"))
        body = grant.presentation().present()[2:]
        now = {"now_milliseconds": clock.milliseconds(), "allow": lambda name: True}
        random = SeededRandom("once")
        self.assertEqual(receiver.sets.accept(body, random=random, **now).sender, "alice")  # type: ignore[arg-type]
        error = self.assertRaises(
            RemoteProtocolError, receiver.sets.accept, body, random=random, **now
        )
        self.assertIn("used before", str(error))

    def test_sorted(self) -> None:
        """Whatever order a client asks in, it begins to receive at the same one as everybody."""
        self.kdcs[0].disk.slow = True
        for number in (1, 2):
            self.network.silent.add(HOSTS[number])
        receiver = self.receiver()
        self.assertEqual((receiver.held, self.begun_at()), ([True, False, False], [1, 0, 0]))

    def test_first_is_away(self) -> None:
        """Where the first is not there, the next is the first."""
        self.kdcs[0].stop()
        receiver = self.receiver()
        self.assertEqual(receiver.held, [False, True, True])
        self.assertEqual([each for each in receiver.said if each in (1, 2, 3)], [1, 2])
        self.back(0)
        self.network.advance(60)
        self.assertEqual(receiver.held, [True, True, True])
        self.assertEqual(receiver.said[-1], 3)

    def test_first_hangs(self) -> None:
        """One that is silent is given up after three seconds."""
        self.hang(0)
        receiver = self.receiver()
        self.network.advance(CONNECT_SECONDS - 0.1)
        self.assertEqual(self.begun_at(), [0, 0, 0])
        self.network.advance(0.2)
        self.assertEqual(receiver.held, [False, True, True])

    def test_none_there(self) -> None:
        """Until one is there it is tried again, ever more seldom."""
        for kdc in self.kdcs:
            kdc.stop()
        receiver = self.receiver()
        self.network.advance(10)
        self.assertEqual(set(receiver.said), {receiver.said[0]})
        self.assertLess(len(receiver.said), 10)
        self.back(2)
        self.network.advance(60)
        self.assertEqual(receiver.held, [False, False, True])


class LossTests(ReceptionsTestCase):
    def test_one_dies(self) -> None:
        """The others go on, and it is told once for as long as it is away."""
        receiver = self.receiver()
        self.kdcs[1].stop()
        self.network.advance(600)
        self.assertEqual(receiver.held, [True, False, True])
        self.assertEqual(receiver.receptions.kdc_links, 2)
        lost = [each for each in receiver.said if not isinstance(each, int)]
        self.assertEqual(len(lost), 1)
        self.assertEqual([each for each in receiver.said if isinstance(each, int)], [1, 2, 3, 2])
        alice = self.nodes("alice")
        for number in (0, 2):
            self.send(alice, number)
        self.back(1)
        self.network.advance(60)
        self.assertEqual(receiver.said[-1], 3)
        self.send(alice, 1)

    def test_keys_on_their_way(self) -> None:
        """A key of a KDC that has died since is good for as long as it would have been."""
        receiver = self.receiver()
        grant = self.do(self.nodes("alice").nodes[1].grant("bob"))
        self.kdcs[1].stop()
        self.assertTrue(receiver.sets.knows(grant.reply.epoch_id))
        self.network.advance(grant.reply.lifetime_seconds + 1)
        self.assertFalse(receiver.sets.knows(grant.reply.epoch_id))

    def test_renewed(self) -> None:
        """Each epoch is renewed at its own KDC, daily."""
        receiver = self.receiver()
        before = receiver.sets.ids
        self.network.advance(25 * 3600)
        self.assertEqual(self.begun_at(), [2, 2, 2])
        self.assertFalse(set(before) & set(receiver.sets.ids))

    def test_renewed_when_full(self) -> None:
        """Only the one whose tickets are nearly used up is renewed."""
        receiver = self.receiver()
        epoch = receiver.sets.each[1].current
        assert epoch is not None
        epoch._used = _NearlyFull()  # type: ignore[assignment]
        self.send(self.nodes("alice"), 1)
        self.assertEqual(self.begun_at(), [1, 2, 1])


class _NearlyFull:
    filled = 1.0

    def __contains__(self, ticket_id: bytes) -> bool:
        return False

    def full(self, now: int) -> bool:
        return False

    def add(self, ticket: Any) -> None:
        """Forgotten."""


class EndTests(ReceptionsTestCase):
    def test_superseded(self) -> None:
        """Who begins under our name at any of them ends it at all of them."""
        for number in range(3):
            with self.subTest(number=number):
                name = f"bob{number}"
                receiver = self.receiver(name)
                link = self.login_at(name, number)
                self.do(link.receive_under(bytes([9]) + bytes(31), "", 1))
                error = self.failureResultOf(receiver.running, Superseded).value
                self.assertIn("elsewhere", str(error))
                self.assertIn("two of the addresses", error.hint)
                self.assertEqual((receiver.held, receiver.sets.ids), ([False] * 3, []))

    def test_two_at_once(self) -> None:
        """Of two receivers that begin at one moment exactly one stays, and everywhere."""
        both = [Receiver(self, "bob"), Receiver(self, "bob")]
        for each in both:
            self.addCleanup(each.receptions.stop)
        self.network.advance(60)
        (ended,) = [each for each in both if each.running.called]
        (stays,) = [each for each in both if each is not ended]
        self.failureResultOf(ended.running, Superseded)
        self.assertEqual((ended.held, stays.held), ([False] * 3, [True] * 3))

    def test_stop(self) -> None:
        """Nothing is left, at whichever point it is stopped."""
        self.network.silent.add(HOSTS[2])
        receiver = self.receiver()
        receiver.receptions.stop()
        self.network.advance(1)
        self.assertIsNone(self.successResultOf(receiver.running))
        receiver.client.close()
        self.network.advance(400)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_stop_before_it_began(self) -> None:
        """The same while there is none."""
        for kdc in self.kdcs:
            kdc.stop()
        receiver = self.receiver()
        receiver.receptions.stop()
        self.network.settle()
        self.assertIsNone(self.successResultOf(receiver.running))
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_one_does_not_know_us(self) -> None:
        """One that has not heard of us yet is asked again, and does not end the others."""
        self.kdcs[2].stop()
        self.back(2, store=MemoryStore())
        receiver = self.receiver()
        self.assertEqual(receiver.held, [True, True, False])
        self.assertIn(AuthenticationRefused, receiver.said)
        self.assertNoResult(receiver.running)
        self.kdcs[2].stop()
        self.back(2)
        self.network.advance(60)
        self.assertEqual(receiver.held, [True, True, True])

    def test_disabled(self) -> None:
        """Who is refused by all that are there is refused."""
        receiver = self.receiver()
        self.kdcs[2].stop()
        self.network.advance(1)
        record = self.kdc.store.get("bob")
        assert record is not None
        disabled = attrs.evolve(record, status=Status.DISABLED)
        self.kdc.apply(Replace(disabled, record.generation))
        self.network.advance(60)
        self.failureResultOf(receiver.running, AuthenticationRefused)
        self.assertEqual(receiver.sets.ids, [])

    def test_another_identity(self) -> None:
        """One with another key is told nothing; if all have another, that is the end."""
        wrong = ClientTLS(Pin("sha256:" + "0" * 64), HOSTS[0])
        client = self.nodes("carol")
        for node in client.nodes:
            node.tls = wrong
        sets = EpochSets(3)
        listener = ChannelListener(
            "LOCAL", {}, timers=self.network, random=SeededRandom("carol"), epochs=sets
        )
        receptions = Receptions(
            client, listener, sets, port=KDC_PORT, way=lambda node: Direct("", PORT)
        )
        self.failureResultOf(self.begin(receptions.run()), WrongIdentity)
        self.assertEqual(self.begun_at(), [0, 0, 0])
