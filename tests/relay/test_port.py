"""What comes to a relay's port and over its links: bounded, told apart, and joined exactly."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.errors import IntegrityError
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.relay import (
    MAX_MESSAGE,
    RELAY,
    SERVICE,
    Call,
    Claim,
    Claimed,
    Dialled,
    Message,
    Reach,
    Release,
    Verdict,
    Verify,
    decode,
    dial_back,
    encode,
    show_token,
)
from kdc.relay.limits import RelayLimits
from tests.support.core import SeededRandom
from tests.support.edge import HalfRecorder, Recorder, factory_of
from tests.support.relay import RELAY_HOST, RELAY_PORT, RelayTestCase

EPOCH = bytes(range(16))
# The beginning of a 309 for that epoch, of a length that one may have.
PRESENT = (200).to_bytes(2, "big") + b"\x01\x35\x01" + EPOCH
STRANGER = "198.51.100.66"


class PortTestCase(RelayTestCase):
    """Bare connections to the relay's port, and a link that a test speaks over itself."""

    def arrive(self, data: bytes = b"", address: str = STRANGER) -> HalfRecorder:
        recorder = HalfRecorder()
        self.network.connect(address, RELAY_HOST, RELAY_PORT, recorder)
        recorder.out.write(data)
        self.network.settle()
        return recorder

    def link(self, name: str = "bob", address: str | None = None) -> Recorder:
        """A link of ``name``; `said` reads what the relay says over it."""
        recorder = Recorder()
        self.successResultOf(self.linking(recorder, name, address))
        return recorder

    def linking(self, link: Recorder, name: str, address: str | None = None) -> Deferred[Any]:
        client = self.known_client(name, address=address)
        endpoint = ChannelClientEndpoint(client, RELAY, SERVICE, reach=Reach.DIRECT)
        connecting = endpoint.connect(factory_of(link))
        self.network.settle()
        return connecting

    def say(self, link: Recorder, *messages: Message) -> None:
        link.out.write(b"".join(map(encode, messages)))
        self.network.settle()

    def heard(self, link: Recorder) -> list[Message]:
        """What came over it since the last look."""
        frames = FrameBuffer(MAX_MESSAGE)
        frames.feed(bytes(link.received))
        link.received.clear()
        messages = []
        while (body := frames.next()) is not None:
            messages.append(decode(body))
        return messages

    def claimed(self, name: str = "bob", epoch_id: bytes = EPOCH) -> Recorder:
        link = self.link(name)
        self.say(link, Claim(epoch_id))
        self.assertEqual(self.heard(link), [Claimed(epoch_id, Verdict.YES)])
        return link

    def call_of(self, link: Recorder) -> Call:
        (call,) = self.heard(link)
        return cast(Call, call)

    def joined(self) -> tuple[HalfRecorder, HalfRecorder]:
        """A sender and its receiver, brought together."""
        link = self.claimed()
        sender = self.arrive(PRESENT)
        receiver = self.arrive(show_token(self.call_of(link).token), "203.0.113.9")
        self.assertEqual(bytes(receiver.received), PRESENT)
        receiver.received.clear()
        return sender, receiver

    def assert_closed(self, recorder: Recorder) -> None:
        self.network.settle()
        self.assertIsNotNone(recorder.lost)
        self.assertEqual(bytes(recorder.received), b"")

    def assert_well(self) -> None:
        """Somebody is still linked, called and joined."""
        link = self.claimed("carol", b"carol's epoch id")
        sender = self.arrive(PRESENT[:5] + b"carol's epoch id", "203.0.113.77")
        receiver = self.arrive(show_token(self.call_of(link).token), "203.0.113.78")
        sender.out.write(b"well?")
        self.network.settle()
        self.assertTrue(bytes(receiver.received).endswith(b"well?"))
        for recorder in (sender, receiver, link):
            recorder.out.abortConnection()
        self.network.settle()


class ArrivalTests(PortTestCase):
    def test_nonsense(self) -> None:
        """What can be nothing is closed with its first wrong byte, without a word."""
        for data in (b"GET / HTTP/1.1\r\n", b"\x00\x17\x01\x35\x02", b"\xff\xff", bytes(64)):
            self.assert_closed(self.arrive(data))
        self.assert_well()

    def test_unknown_epoch(self) -> None:
        self.assert_closed(self.arrive(PRESENT))
        self.assert_well()

    def test_a_token_that_is_none(self) -> None:
        self.assert_closed(self.arrive(show_token(bytes(32))))

    def test_slow(self) -> None:
        """Five seconds for what has to be known, however it drips in."""
        silent = self.arrive()
        dripping = self.arrive(PRESENT[:1])
        for at in range(1, 5):
            self.network.advance(1)
            dripping.out.write(PRESENT[at : at + 1])
        self.network.advance(0.9)
        self.assertEqual((silent.lost, dripping.lost), (None, None))
        self.network.advance(0.2)
        self.assert_closed(silent)
        self.assert_closed(dripping)

    def test_no_more_is_read_than_needed(self) -> None:
        """Of what a sender sends, no more is taken than 64 bytes until its receiver is there."""
        self.claimed()
        sender = self.arrive(PRESENT + bytes(1_000_000))
        self.assertGreaterEqual(len(sender.out.waiting), 1_000_000 + len(PRESENT) - 64)

    def test_a_copy_of_a_309_for_the_relay(self) -> None:
        """For a link the relay is a receiver like any other: a first message is good once."""
        before = len(self.network.wires)
        self.link()
        made = self.network.wires[before:]
        (first,) = [bytes(wire.sent) for wire in made if wire.peer.host.port == RELAY_PORT]
        again = self.arrive(first[: 2 + int.from_bytes(first[:2], "big")])
        self.assert_closed(again)


class UnprovenTests(PortTestCase):
    relay_limits = RelayLimits(unproven=6, unproven_per_address=3)

    def test_newcomers_get_in(self) -> None:
        """However many sit there in silence; those have to go, the oldest of an address first."""
        silent = [self.arrive() for _ in range(5)]
        self.network.advance(0.6)
        self.assertEqual([each.lost is None for each in silent], [False, False, True, True, True])
        self.assert_well()


class CallTests(PortTestCase):
    def test_called(self) -> None:
        """The receiver is told for which epoch, and where the sender is."""
        link = self.claimed()
        sender = self.arrive(PRESENT)
        call = self.call_of(link)
        host = sender.out.getHost()
        self.assertEqual((call.epoch_id, call.address, call.port), (EPOCH, STRANGER, host.port))

    def test_both_kinds_of_addresses(self) -> None:
        """One side of a pair has an IPv6 address, the other an IPv4 one."""
        link = self.claimed()
        sender = self.arrive(PRESENT, "2001:db8::66")
        call = self.call_of(link)
        self.assertEqual(call.address, "2001:db8::66")
        receiver = self.arrive(show_token(call.token), "203.0.113.9")
        sender.out.write(b"six to four")
        self.network.settle()
        self.assertEqual(bytes(receiver.received), PRESENT + b"six to four")

    def test_nobody_comes(self) -> None:
        """After ten seconds the sender is let go, and the token is good for nothing."""
        link = self.claimed()
        sender = self.arrive(PRESENT)
        token = self.call_of(link).token
        self.network.advance(9.9)
        self.assertIsNone(sender.lost)
        self.network.advance(0.2)
        self.assert_closed(sender)
        self.assert_closed(self.arrive(show_token(token)))
        self.assertEqual((self.relay.figures.joined, self.relay.figures.waiting), (0, 0))

    def test_a_token_twice(self) -> None:
        link = self.claimed()
        self.arrive(PRESENT)
        token = self.call_of(link).token
        self.arrive(show_token(token))
        self.assert_closed(self.arrive(show_token(token)))
        self.assertEqual(self.relay.figures.joined, 1)

    def test_released(self) -> None:
        """Nobody is sent to an epoch that was given up, or whose link is gone."""
        link = self.claimed()
        self.say(link, Release(EPOCH))
        self.assert_closed(self.arrive(PRESENT))
        self.say(link, Claim(EPOCH))
        link.out.loseConnection()
        self.network.settle()
        self.assert_closed(self.arrive(PRESENT))

    def test_the_sender_does_not_wait(self) -> None:
        """Who comes for a sender that has gone finds that it has."""
        link = self.claimed()
        sender = self.arrive(PRESENT)
        token = self.call_of(link).token
        sender.out.abortConnection()
        self.network.settle()
        self.assert_closed(self.arrive(show_token(token)))
        self.assertEqual(self.relay.figures.joined, 0)


class JoinedTests(PortTestCase):
    def test_both_ways(self) -> None:
        """All bytes pass as they are, both ways, none twice."""
        sender, receiver = self.joined()
        one, other = SeededRandom("one")(3_000_000), SeededRandom("other")(1_000_000)
        sender.out.write(one)
        receiver.out.write(other)
        self.network.settle()
        self.assertEqual(bytes(receiver.received), one)
        self.assertEqual(bytes(sender.received), other)
        self.assertEqual(self.relay.figures.bytes, len(one) + len(other) + len(PRESENT))

    def test_back_pressure(self) -> None:
        """Whoever does not read holds the other up, and not the relay's memory."""
        sender, receiver = self.joined()
        receiver.out.pauseProducing()
        sender.out.write(bytes(5_000_000))
        self.network.settle()
        kept = sum(len(wire.waiting) for wire in self.relayed())
        self.assertLess(kept, 1_000_000)
        receiver.out.resumeProducing()
        self.network.settle()
        self.assertEqual(len(receiver.received), 5_000_000)

    def test_half_close(self) -> None:
        for turned in (False, True):
            one, other = self.joined()[:: -1 if turned else 1]
            one.out.write(b"last")
            one.out.loseWriteConnection()
            self.network.settle()
            self.assertEqual((bytes(other.received), other.ends), (b"last", ["read"]))
            other.out.write(b"answer")
            self.network.settle()
            self.assertTrue(bytes(one.received).endswith(b"answer"))
            other.out.loseConnection()
            self.network.settle()
            # The relay's part is over, whether or not they have closed theirs.
            self.assertEqual(self.relay.figures.joined, 0)
            self.assertEqual(self.relay._port.open, set())
            one.out.loseConnection()
            self.network.settle()
            for each in (one, other):
                self.assertIsInstance(each.lost, ConnectionDone)

    def test_abort(self) -> None:
        """A reset is passed on as a reset, never as an end."""
        for turned in (False, True):
            one, other = self.joined()[:: -1 if turned else 1]
            one.out.abortConnection()
            self.network.settle()
            self.assertNotIsInstance(other.lost, ConnectionDone)
            self.assertIsNotNone(other.lost)
            self.assertEqual(other.ends, [])
            self.assertEqual(self.relay.figures.joined, 0)

    def test_idle(self) -> None:
        """Where nothing moves for a quarter of an hour nobody is there any more."""
        sender, receiver = self.joined()
        self.network.advance(899)
        sender.out.write(b".")
        self.network.advance(890)
        self.assertIsNone(receiver.lost)
        self.network.advance(920)
        self.assertIsNotNone(receiver.lost)
        self.assertIsNotNone(sender.lost)

    def test_one_that_never_reads_the_rest(self) -> None:
        """The sender is gone, and its receiver does not take what is left: not for ever."""
        sender, receiver = self.joined()
        receiver.out.pauseProducing()
        sender.out.write(bytes(600_000))
        sender.out.loseConnection()
        self.network.advance(2000)
        self.assertEqual([w for w in self.relayed() if type(w.protocol).__name__ == "Joined"], [])


class SlowSystemTests(JoinedTests):
    """The same on a system that takes nothing at once: all of it goes through Twisted's buffers."""

    def joined(self) -> tuple[HalfRecorder, HalfRecorder]:
        ends = super().joined()
        for wire in self.relayed():
            wire.socket.full = True
        return ends


class HalfFullTests(JoinedTests):
    """The same, and what does not fit is in the way of what follows, however often that changes."""

    def joined(self) -> tuple[HalfRecorder, HalfRecorder]:
        ends = super().joined()
        for wire in self.relayed():
            wire.bufferSize = 1000
        return ends


class LimitTests(PortTestCase):
    relay_limits = RelayLimits(joined_per_address=2, links_per_principal=1)

    def test_joined(self) -> None:
        """At a limit who comes is refused, and whoever is there goes on."""
        self.claimed()
        first, second = self.arrive(PRESENT), self.arrive(PRESENT)
        self.assert_closed(self.arrive(PRESENT))
        self.assertEqual((first.lost, second.lost), (None, None))
        elsewhere = self.arrive(PRESENT, "203.0.113.9")
        self.assertIsNone(elsewhere.lost)

    def test_links(self) -> None:
        """A principal's links are counted: his oldest, dead perhaps, makes room for his next."""
        link, carols = self.claimed(), self.link("carol")
        another = self.link()
        self.assertIsNotNone(link.lost)
        self.assertEqual((another.lost, carols.lost), (None, None))
        self.assertEqual(self.relay.figures.links, 2)
        self.assert_closed(self.arrive(PRESENT))
        self.say(another, Claim(EPOCH))
        self.assertEqual(self.heard(another), [Claimed(EPOCH, Verdict.YES)])


class RateTests(PortTestCase):
    relay_limits = RelayLimits(bytes_per_second=100_000)

    def test_bytes_a_second(self) -> None:
        """A principal's share, both directions of all its connections together."""
        sender, receiver = self.joined()
        sender.out.write(bytes(3_000_000))
        self.network.settle()
        self.assertLess(len(receiver.received), 1_500_000)
        self.network.advance(10)
        self.assertLess(len(receiver.received), 2_500_000)
        self.network.advance(20)
        self.assertEqual(len(receiver.received), 3_000_000)


class LinkTests(PortTestCase):
    def test_nonsense(self) -> None:
        """Whatever a receiver does not say ends its link, and nothing else."""
        other = self.claimed("carol", b"another epoch id")
        for wrong in (
            b"\0\0",
            b"\xff\xff",
            b"\0\1\x07",
            encode(Claim(EPOCH))[:-1] + b"\0\0\0",
            encode(Claimed(EPOCH, 0)),
            encode(Call(EPOCH, bytes(32), "", 0)),
        ):
            link = self.link("dave")
            link.out.write(wrong)
            self.network.settle()
            self.assertIsInstance(link.lost, IntegrityError)
        self.assertIsNone(other.lost)

    def test_somebody_elses(self) -> None:
        self.claimed("carol")
        eve = self.link("eve")
        self.say(eve, Claim(EPOCH))
        self.assertEqual(self.heard(eve), [Claimed(EPOCH, Verdict.NOT_YOURS)])

    def test_deaf(self) -> None:
        """A receiver that reads nothing is told nothing more, and is dropped before long."""
        link = self.claimed()
        link.out.pauseProducing()
        for _ in range(20_000):
            link.out.write(encode(Claim(EPOCH)))
        self.network.settle()
        kept = sum(len(wire.waiting) for wire in self.relayed())
        self.assertLess(kept, 1_500_000)
        self.assert_closed(self.arrive(PRESENT))
        self.network.advance(31)
        self.assertEqual(self.relay.figures.links, 0)

    def test_dropped(self) -> None:
        """Over a link that is dropped nobody is called, not even before its end is there."""
        self.claimed()
        (end,) = self.relay._links.open
        self.assertTrue(end.hears)
        end.drop()
        self.assertFalse(end.hears)

    def test_verify(self) -> None:
        """The relay comes once, to the address it sees and the port that was named."""
        link = self.link("bob", "203.0.113.50")
        here = Recorder()
        self.network.listen("203.0.113.50", 4711, factory_of(here))
        self.say(link, Verify(4711, EPOCH))
        self.assertEqual(bytes(here.received), dial_back(EPOCH))
        self.assertIsInstance(here.lost, ConnectionDone)
        self.assertEqual(self.heard(link), [Dialled(EPOCH, 1)])
        self.say(link, Verify(4712, EPOCH))
        self.assertEqual(self.heard(link), [Dialled(EPOCH, 0)])

    def test_no_scanner(self) -> None:
        """It comes seldom, and to one port at a time."""
        link = self.link("bob", "203.0.113.50")
        tried: list[int] = []
        for number in range(1000, 1050):
            self.network.listen("203.0.113.50", number, _Counting(tried, number))
        self.say(link, *(Verify(number, EPOCH) for number in range(1000, 1050)))
        self.assertEqual(tried, list(range(1000, 1006)))
        self.assertEqual(len(self.heard(link)), 50)
        self.network.silent.add("203.0.113.50")
        self.network.advance(60)
        self.say(link, *(Verify(number, EPOCH) for number in range(1000, 1010)))
        self.assertEqual(len(self.heard(link)), 9)
        self.network.advance(3.1)
        self.assertEqual(self.heard(link), [Dialled(EPOCH, 0)])


class OwnedTests(PortTestCase):
    """In the KDC's own process a claim is looked up."""

    def start_relay(self, **options: Any) -> Any:
        def owns(principal: str, epoch_id: bytes) -> bool:
            epoch = self.kdc.realm.epoch_of(principal)
            return epoch is not None and epoch.epoch_id == epoch_id

        return super().start_relay(owns=owns, **options)

    def test_only_the_owner(self) -> None:
        bob = self.listen("bob")
        self.network.advance(4)
        (epoch_id,) = bob.epochs.ids
        eve = self.link("eve")
        self.say(eve, Claim(epoch_id), Claim(EPOCH))
        self.assertEqual(
            self.heard(eve),
            [Claimed(epoch_id, Verdict.NOT_YOURS), Claimed(EPOCH, Verdict.NOT_YOURS)],
        )
        self.successResultOf(self.reach("bob", near := Recorder()))
        near.out.loseConnection()


class _Counting:
    def __init__(self, tried: list[int], number: int) -> None:
        self._tried, self._number = tried, number

    def buildProtocol(self, address: Any) -> Recorder:
        self._tried.append(self._number)
        return Recorder()
