"""Ends of joined connections, on real sockets: whatever order they close in, nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from kdc.channel.receiver import ChannelListener
from kdc.net import clock
from kdc.protocol.relay import Call, show_token
from kdc.relay._links import LinkEnd
from kdc.relay._port import Joined, Port
from kdc.relay._registry import Registry
from kdc.relay.limits import RelayLimits
from tests.support.edge import HalfRecorder, factory_of

HERE = "127.0.0.1"
EPOCH = bytes(range(16))
PRESENT = (200).to_bytes(2, "big") + b"\x01\x35\x01" + EPOCH
_reactor = cast(Any, reactor)


class Link:
    """A receiver's link that remembers who called."""

    hears = True

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def call(self, call: Call) -> None:
        self.calls.append(call)


class EndTests(TestCase):
    """The ends of a sender and a receiver are those that they see themselves."""

    def setUp(self) -> None:
        self.registry: Registry[LinkEnd, Joined] = Registry(RelayLimits(), os.urandom)
        self.link = Link()
        link = cast(LinkEnd, self.link)
        self.registry.link(link, "bob", HERE)
        self.registry.claim(link, EPOCH)
        listener = ChannelListener("LOCAL", {}, timers=_reactor, random=os.urandom)
        self.relay = Port(
            self.registry,
            listener,
            timers=_reactor,
            now=clock.milliseconds,
            tell=lambda line: None,
        )
        self.port = _reactor.listenTCP(0, self.relay, interface=HERE)
        self.addCleanup(self.port.stopListening)
        self.before = self.descriptors()

    @staticmethod
    def descriptors() -> int:
        """How many sockets this process has."""
        count = 0
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the listing's own
                count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        return count

    async def until(self, so: Callable[[], bool]) -> None:
        """The reactor goes on until it is; the test runner's limit is for when it never is."""
        while not so():
            await deferLater(_reactor, 0)

    async def read_end(self, end: HalfRecorder) -> None:
        await self.until(lambda: "read" in end.ends)

    async def arrive(self, data: bytes) -> HalfRecorder:
        recorder = HalfRecorder()
        endpoint = TCP4ClientEndpoint(_reactor, HERE, self.port.getHost().port)
        await endpoint.connect(factory_of(recorder))
        recorder.out.write(data)
        return recorder

    async def joined(self) -> tuple[HalfRecorder, HalfRecorder]:
        sender = await self.arrive(PRESENT)
        await self.until(lambda: bool(self.link.calls))
        receiver = await self.arrive(show_token(self.link.calls.pop().token))
        await self.until(lambda: bytes(receiver.received) == PRESENT)
        receiver.received.clear()
        return sender, receiver

    async def assert_nothing_is_left(self, *ends: HalfRecorder) -> None:
        """The relay lets go by itself, and then each of ``ends`` that has not closed yet does."""
        await self.until(lambda: self.registry.joined == 0 and not self.relay.open)
        for end in ends:
            if end.lost is None:
                await self.read_end(end)
                end.out.loseConnection()
        await self.until(lambda: all(end.lost is not None for end in ends))
        for end in ends:
            self.assertIsInstance(end.lost, ConnectionDone)
        await self.until(lambda: self.descriptors() <= self.before)

    async def by_halves(self, first: HalfRecorder, second: HalfRecorder) -> None:
        """Each ends in its turn, the second one when it has read the first one's end."""
        for one, other in ((first, second), (second, first)):
            one.out.write(b"x" * 300_000)
            one.out.loseWriteConnection()
            await self.read_end(other)
            self.assertEqual(len(other.received), 300_000)
        await self.assert_nothing_is_left(first, second)

    def test_sender_first(self) -> Deferred[None]:
        async def work() -> None:
            sender, receiver = await self.joined()
            await self.by_halves(sender, receiver)

        return Deferred.fromCoroutine(work())

    def test_receiver_first(self) -> Deferred[None]:
        async def work() -> None:
            sender, receiver = await self.joined()
            await self.by_halves(receiver, sender)

        return Deferred.fromCoroutine(work())

    def test_both_at_once(self) -> Deferred[None]:
        async def work() -> None:
            ends = await self.joined()
            for end in ends:
                end.out.loseWriteConnection()
            await self.assert_nothing_is_left(*ends)

        return Deferred.fromCoroutine(work())

    def test_more_than_there_is_room_for(self) -> Deferred[None]:
        """Whoever reads slowly gets all of it, in order, and the end behind it."""

        async def work() -> None:
            sender, receiver = await self.joined()
            content = random.Random(1).randbytes(20_000_000)
            receiver.out.pauseProducing()
            sender.out.write(content)
            sender.out.loseWriteConnection()
            await self.until(lambda: any(end._behind for end in self.relay.open))
            (behind,) = (end for end in self.relay.open if end._behind)
            # Nothing more is read from the other meanwhile: what is kept for it stays bounded.
            self.assertNotIn(cast(Any, behind._other).transport, _reactor.getReaders())
            self.assertLess(self.relay.bytes, len(content))
            receiver.out.resumeProducing()
            await self.read_end(receiver)
            self.assertTrue(bytes(receiver.received) == content)
            receiver.out.loseConnection()
            await self.assert_nothing_is_left(sender, receiver)

        return Deferred.fromCoroutine(work())

    def test_nothing_passes_what_waits(self) -> Deferred[None]:
        """There is room again, and something is still to be sent: what comes then comes later."""

        async def work() -> None:
            sender, receiver = await self.joined()
            ours = sender.out.getHost()
            (end,) = (each for each in self.relay.open if each._transport.getPeer() == ours)
            content = random.Random(2).randbytes(20_000_000)
            receiver.out.pauseProducing()
            end.dataReceived(content)
            # What the system has of it is taken out before the reactor comes to send more.
            taken = bytearray()
            with contextlib.suppress(BlockingIOError):
                while True:
                    taken += receiver.out.getHandle().recv(1 << 20)
            end.dataReceived(b"last")
            receiver.out.resumeProducing()
            whole = len(content) + len(b"last")
            await self.until(lambda: len(taken) + len(receiver.received) >= whole)
            self.assertTrue(bytes(taken + receiver.received) == content + b"last")
            for each in (sender, receiver):
                each.out.loseConnection()
            await self.assert_nothing_is_left(sender, receiver)

        return Deferred.fromCoroutine(work())

    def test_many_at_once(self) -> Deferred[None]:
        """Each of many gets what is for it, whole, while all the others are carried."""

        async def work() -> None:
            pairs = [await self.joined() for _ in range(40)]
            contents = [random.Random(n).randbytes(300_000 + n) for n in range(len(pairs))]
            for (sender, _), content in zip(pairs, contents, strict=True):
                sender.out.write(content)
                sender.out.loseWriteConnection()
            for (_, receiver), content in zip(pairs, contents, strict=True):
                await self.read_end(receiver)
                self.assertTrue(bytes(receiver.received) == content)
                receiver.out.loseConnection()
            await self.assert_nothing_is_left(*(end for pair in pairs for end in pair))

        return Deferred.fromCoroutine(work())

    def test_cut_with_something_left(self) -> Deferred[None]:
        """What was still on its way when one is cut is not followed by an end."""

        async def work() -> None:
            sender, receiver = await self.joined()
            receiver.out.pauseProducing()
            sender.out.write(bytes(20_000_000))
            await self.until(lambda: any(end._behind for end in self.relay.open))
            sender.out.abortConnection()
            receiver.out.resumeProducing()
            await self.until(lambda: receiver.lost is not None)
            self.assertNotIsInstance(receiver.lost, ConnectionDone)
            self.assertEqual(receiver.ends, [])
            self.assertLess(len(receiver.received), 20_000_000)

        return Deferred.fromCoroutine(work())

    def test_whole(self) -> Deferred[None]:
        """One closes for good, and the other one when it has seen that."""

        async def work() -> None:
            sender, receiver = await self.joined()
            sender.out.loseConnection()
            await self.until(lambda: receiver.ends == ["read"])
            receiver.out.loseConnection()
            await self.assert_nothing_is_left(sender, receiver)

        return Deferred.fromCoroutine(work())
