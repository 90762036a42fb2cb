"""Both ends of a transfer over a channel in memory: offer, answer, content, acknowledgement."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from zope.interface.verify import verifyObject

from kdc.channel._sender import SenderChannel
from kdc.channel.services import Service
from kdc.channel.transport import IStreamProtocol, PrincipalAddress
from kdc.errors import (
    IntegrityError,
    KDCError,
    LocalIOError,
    PeerUnavailable,
    RefusedByPolicy,
    RemoteProtocolError,
    local_error,
)
from kdc.net import batching as batching_module
from kdc.net.pace import Pace
from kdc.protocol.records import AckStatus
from kdc.transfer import _arriving as arriving
from kdc.transfer import receiver as receiver_module
from kdc.transfer import sender as sender_module
from kdc.transfer import source as source_module
from kdc.transfer._framing import AnswerReader
from kdc.transfer._held import MAX_ANSWER_BYTES
from kdc.transfer._inbox import InboxDeposit
from kdc.transfer._rereading import LONG_BYTES
from kdc.transfer.deposit import Deposit, FileDeposit, Stored, StreamDeposit
from kdc.transfer.messages import (
    SERVICE,
    Accept,
    Held,
    Item,
    Kind,
    Offer,
    Omitted,
    Refuse,
    Remark,
    Why,
)
from kdc.transfer.receiver import Broken, Inbox
from kdc.transfer.sender import (
    TRANSITIONS,
    Delivery,
    Interrupted,
    Phase,
    SendProtocol,
    Step,
    Unconfirmed,
)
from kdc.transfer.source import Outgoing
from kdc.transfer.survey import Thing, survey
from tests.support.core import PROPERTY
from tests.support.edge import ChannelTestCase, StreamRecorder, Wire


def at_once(call: Callable[..., Any], *args: Any) -> Deferred[Any]:
    return maybeDeferred(call, *args)


def _no_disk(fd: int) -> None:
    raise OSError(5, os.strerror(5))


class Watched(Outgoing):
    """Calls ``between`` when its first chunk has been read."""

    between: Callable[[], object] = staticmethod(lambda: None)

    def read(self) -> memoryview:
        chunk = super().read()
        between, self.between = self.between, Watched.between
        between()
        return chunk


class TransferTestCase(ChannelTestCase):
    """Alice sends to bob."""

    work = staticmethod(at_once)
    pace: Pace | None = None
    long_bytes = LONG_BYTES

    def setUp(self) -> None:
        super().setUp()
        self.here, self.there = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        self.here.mkdir()
        self.there.mkdir()
        self.received: list[tuple[str, Stored]] = []
        self.broken: list[Broken] = []
        self.progress: list[int] = []
        self.chunk = source_module.CHUNK_BYTES
        self.between: Callable[[], object] = Watched.between
        self.receive()

    def receive(self, **options: Any) -> Inbox:
        """Have bob take things, as ``options`` say."""
        settings: dict[str, Any] = {
            "run": at_once,
            "timers": self.network,
            "deposit": lambda sender, offer: InboxDeposit(
                self.there, sender, offer, long_bytes=self.long_bytes
            ),
            "received": lambda sender, stored: self.received.append((sender, stored)),
            "broken": self.broken.append,
        }
        self.inbox = inbox = Inbox(**{**settings, **options})
        self.services[SERVICE] = Service(inbox)
        return inbox

    def ended(self) -> dict[str, int]:
        """What became of transfers, as it is counted; only what there was."""
        return {outcome: n for outcome, n in self.inbox.figures.ended.items() if n}

    def file(self, name: str, content: bytes) -> Thing:
        path = self.here / name
        path.write_bytes(content)
        return Thing(name, path)

    def send(self, *things: Thing, settle: bool = True) -> tuple[SendProtocol, SenderChannel, Wire]:
        surveyed = survey(things)

        def open_stream(held: Mapping[str, Held], remarks: frozenset[Remark]) -> Outgoing:
            how: dict[str, Any] = {"chunk_bytes": self.chunk, "long_bytes": self.long_bytes}
            self.outgoing = Watched(surveyed, held, remarks=remarks, **how)
            self.outgoing.between = self.between
            return self.outgoing

        protocol = SendProtocol(
            surveyed.offer,
            open_stream,
            run=self.work,
            timers=self.network,
            progress=self.progress.append,
            pace=self.pace,
        )
        channel = self.sender(protocol, SERVICE)
        wire = self.dial(channel)
        if settle:
            self.network.settle()
        return protocol, channel, wire

    def delivered(self, *things: Thing) -> Delivery:
        protocol, _, _ = self.send(*things)
        return self.successResultOf(protocol.done)

    def failed(self, expected: type[KDCError], protocol: SendProtocol) -> Any:
        return self.failureResultOf(protocol.done, expected).value

    def step_until(self, true: Callable[[], bool]) -> None:
        """Let the network work until then, and no longer."""
        while not true():
            for each in list(self.network.wires):
                each.step()

    def descriptor_of(self, name: str) -> int:
        """What we have open of a file that is being sent."""
        for each in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{each}").startswith(str(self.here / name)):
                    return int(each)
        raise AssertionError(f"{name} is not open")

    def arrived(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.there)): path.read_bytes()
            for path in self.there.rglob("*")
            if path.is_file()
        }

    def talk(self, *pieces: bytes, end: bool = False) -> StreamRecorder:
        """What a sender hears who says just this."""
        alice = StreamRecorder()
        alice.stored.callback(AckStatus.STORED)
        channel = self.sender(alice, SERVICE)
        self.dial(channel)
        self.network.settle()
        self.successResultOf(channel.opened)
        for piece in pieces:
            alice.out.write(piece)
            self.network.advance(batching_module.PILE_SECONDS)
        if end:
            alice.out.loseWriteConnection()
            self.network.settle()
        return alice

    def answer(self, *pieces: bytes) -> tuple[SendProtocol, StreamRecorder]:
        """What a sender makes of a receiver that says just this."""
        bob = StreamRecorder()
        self.offer(bob, SERVICE)
        protocol, _, _ = self.send(self.file("a", b"12345"))
        for piece in pieces:
            bob.out.write(piece)
            self.network.settle()
        return protocol, bob


class TransferTests(TransferTestCase):
    @PROPERTY
    @given(st.lists(st.binary(max_size=200_000), min_size=1, max_size=4), st.integers(1, 1 << 18))
    def test_equal(self, contents: list[bytes], chunk: int) -> None:
        """What arrives is what was sent, however it is cut."""
        self.setUp()
        self.chunk = chunk
        things = [self.file(f"file{n}", content) for n, content in enumerate(contents)]
        total = sum(map(len, contents))
        self.assertEqual(self.delivered(*things), Delivery("bob", total))
        expected = {f"file{n}": content for n, content in enumerate(contents)}
        self.assertEqual(self.arrived(), expected)
        self.assertEqual([stored.name for _, stored in self.received], list(expected))
        self.assert_quiet()

    def test_what_is_in_memory_is_read_at_once(self) -> None:
        """Without a change of threads; but the reactor gets its turn again and again."""
        calls: list[str] = []

        def work(call: Callable[..., Any], *args: Any) -> Deferred[Any]:
            calls.append(call.__name__)
            return at_once(call, *args)

        def cached(fd: int, rooms: list[memoryview], at: int, flags: int) -> int:
            data = os.pread(fd, len(rooms[0]), at)
            rooms[0][: len(data)] = data
            return len(data)

        self.patch(os, "preadv", cached)
        self.work = staticmethod(work)
        self.chunk = 1000
        self.delivered(self.file("a", bytes(80 * self.chunk)))
        self.assertEqual(self.arrived(), {"a": bytes(80 * self.chunk)})
        self.assertIn(calls.count("read"), range(10, 20))

    def test_tree(self) -> None:
        """A directory arrives as it is: empty directories, hidden files below, executables."""
        for path in ("d/empty", "d/.git", "d/deep/er"):
            (self.here / path).mkdir(parents=True)
        (self.here / "d/.git/config").write_bytes(b"[core]")
        (self.here / "d/deep/er/run").write_bytes(b"#!/bin/sh")
        (self.here / "d/deep/er/run").chmod(0o755)
        self.delivered(Thing("d", self.here / "d"))
        self.assertEqual(
            self.arrived(), {"d/.git/config": b"[core]", "d/deep/er/run": b"#!/bin/sh"}
        )
        self.assertTrue((self.there / "d/empty").is_dir())
        self.assertTrue(os.access(self.there / "d/deep/er/run", os.X_OK))
        ((sender, stored),) = self.received
        self.assertEqual((sender, stored.kind, stored.files), ("alice", Kind.DIRECTORY, 2))

    def test_progress(self) -> None:
        """Progress never goes back, and ends with all of it."""
        self.delivered(self.file("a", bytes(1_000_000)), self.file("b", bytes(5)))
        self.assertEqual(self.progress, sorted(self.progress))
        self.assertEqual(self.progress[-1], 1_000_005)

    def test_interfaces(self) -> None:
        """Both ends are what the channel expects of a protocol that stores a stream."""
        protocol, _, _ = self.send(self.file("a", b"1"))
        self.assertTrue(verifyObject(IStreamProtocol, protocol))
        self.successResultOf(protocol.done)

    def test_slow_reader(self) -> None:
        """While the receiver does not read, only little is taken from the disk."""
        protocol, _, wire = self.send(self.file("a", bytes(8 << 20)), settle=False)
        self.step_until(lambda: bool(self.progress))
        wire.stalled = True
        self.network.settle()
        self.assertLessEqual(max(self.progress), 2 * source_module.CHUNK_BYTES)
        self.assertLess(len(wire.sent), 1 << 20)
        wire.stalled = False
        self.network.settle()
        self.successResultOf(protocol.done)


class ChangingTests(TransferTestCase):
    """What is sent changes while it is sent."""

    def setUp(self) -> None:
        super().setUp()
        self.incomplete: list[tuple[str, list[Omitted], int]] = []
        self.chunk = 1000

    def receive(self, **options: Any) -> Inbox:
        def incomplete(sender: str, some: Sequence[Omitted], count: int) -> None:
            self.incomplete.append((sender, list(some), count))

        return super().receive(**{"incomplete": incomplete, **options})

    def changing(self, change: Callable[[], object], *things: Thing) -> SendProtocol:
        """Send; when the first chunk has been read, ``change`` is called."""
        self.between = change
        protocol, _, _ = self.send(*things)
        return protocol

    def tree(self) -> Thing:
        (self.here / "d").mkdir()
        for name in ("1", "2", "3"):
            (self.here / "d" / name).write_bytes(name.encode() * 5000)
        return Thing("d", self.here / "d")

    def test_in_place(self) -> None:
        """A file that is written over arrives as it is afterwards, and its mixture nowhere."""
        thing = self.tree()
        new = b"new" * 2000
        protocol = self.changing(lambda: (self.here / "d/1").write_bytes(new), thing)
        self.successResultOf(protocol.done)
        self.assertEqual(self.arrived()["d/1"], new[:5000])
        self.assertEqual(self.arrived()["d/3"], b"3" * 5000)
        self.assertEqual(self.received[0][1].files, 3)
        self.assertEqual(self.received[0][1].size, 15_000)
        self.assertEqual(self.outgoing.left_out.keys(), {"d/1"})  # it is longer by now
        self.assertEqual(self.incomplete, [])
        self.assert_quiet()

    def test_a_tree_that_changes(self) -> None:
        """All that holds still arrives; both ends are told of the rest."""
        thing = self.tree()

        def change() -> None:
            (self.here / "d/2").unlink()
            (self.here / "d/4").write_bytes(b"4")

        protocol = self.changing(change, thing)
        self.successResultOf(protocol.done)
        self.assertEqual(self.arrived().keys(), {"d/1", "d/3"})
        self.assertEqual(self.received[0][1].files, 2)
        self.assertEqual(self.outgoing.left_out.keys(), {"d/2", "d/4"})
        self.assertEqual(self.incomplete, [("alice", [Omitted("d/2", Why.GONE)], 1)])

    def test_into_one_file(self) -> None:
        """``-o FILE`` gets what the file is when it holds still, and nothing of before."""
        target = self.there / "out"
        self.receive(deposit=lambda sender, offer: FileDeposit(target, offer))
        thing = self.file("a", b"1" * 5000)
        protocol = self.changing(lambda: (self.here / "a").write_bytes(b"new"), thing)
        self.successResultOf(protocol.done)
        self.assertEqual(target.read_bytes(), b"new")

    def test_into_a_pipe(self) -> None:
        """What has been passed on cannot be taken back: it ends as an error, at both ends."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.receive(deposit=lambda sender, offer: StreamDeposit(writing, offer))
        thing = self.file("a", b"1" * 5000)
        self.assertTrue(self.delivered(thing).passed_on)
        protocol = self.changing(lambda: (self.here / "a").write_bytes(b"2" * 5000), thing)
        self.assertIn("changed while it was read", str(self.failed(LocalIOError, protocol)))
        self.assertEqual(len(self.received), 1)
        self.assertTrue(self.broken[0].accepted)

    def test_older_receiver(self) -> None:
        """To a receiver that knows nothing of all this the old messages are said, and no others."""
        thing = self.tree()
        (self.here / "d/4").symlink_to("1")
        bob = StreamRecorder()
        self.offer(bob, SERVICE)
        protocol, _, _ = self.send(thing)
        (self.here / "d/2").unlink()
        bob.out.write(Accept().encode())
        self.network.settle()
        self.assertNotIn(b"omitted", bytes(bob.received))
        self.assertTrue(bytes(bob.received).endswith(b"3" * 5000))
        self.assertEqual(self.outgoing.left_out.keys(), {"d/2"})
        bob.out.abortConnection()
        self.network.settle()
        self.failed(KDCError, protocol)

    def test_older_sender(self) -> None:
        """What a receiver says of itself is to a sender that does not know it nothing new."""
        alice = self.talk(Offer(("a",), items=1, size=5).encode())
        reader = AnswerReader()
        *remarks, accept = reader.feed(bytes(alice.received))
        self.assertEqual((len(remarks), accept), (2, Accept()))
        for remark in remarks:
            assert isinstance(remark, Held)
            self.assertEqual((remark.size, remark.sha256), (0, hashlib.sha256().hexdigest()))
        alice.out.write(Item(Kind.FILE, "a", 5).encode() + b"12345")
        alice.out.loseWriteConnection()
        self.network.settle()
        self.assertEqual(self.arrived(), {"a": b"12345"})
        alice.out.loseConnection()
        self.network.settle()


class AnswerTests(TransferTestCase):
    """What is wanted, and what is not."""

    def test_nothing_before_the_answer(self) -> None:
        """While a person thinks, however long, no content is on its way; then all of it is."""
        thinking: Deferred[None] = Deferred()

        async def think(sender: str, offer: Offer) -> None:
            self.assertEqual((sender, offer), ("alice", Offer(("a",), 0, 1, 300_000)))
            await thinking

        self.receive(consent=think)
        protocol, _, wire = self.send(self.file("a", bytes(300_000)))
        self.network.advance(1800)
        self.assertLess(len(wire.sent), 5000)
        self.assertNoResult(protocol.done)
        thinking.callback(None)
        self.network.settle()
        self.successResultOf(protocol.done)

    def test_refused(self) -> None:
        """A no reaches the sender with its reason, and nothing was stored."""
        for error, status, text in (
            (
                RefusedByPolicy("somebody\x1b said no"),
                8,
                'did not accept it, saying "somebody.+x1b said no"',
            ),
            (LocalIOError("/secret/path: full"), 8, "could not store it"),
        ):

            async def refuse(sender: str, offer: Offer, error: KDCError = error) -> None:
                raise error

            self.receive(consent=refuse)
            protocol, _, _ = self.send(self.file("a", b"1"))
            told = self.failed(RefusedByPolicy, protocol)
            self.assertRegex(str(told), text)
            self.assertNotIn("secret", f"{told} {told.hint}")
            self.assertEqual(told.exit_status, status)
            self.assertEqual(self.broken.pop(), Broken("alice", error, False, False))
            outcome = "refused" if isinstance(error, RefusedByPolicy) else "failed"
            self.assertEqual(self.ended(), {outcome: 1})
        self.assertEqual(self.arrived(), {})
        self.assert_quiet()

    def test_no_room(self) -> None:
        """A full disk is told by its reason, before and while it comes; what else fails is not."""
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for error, told in (
            (local_error(Path("/secret"), full), "no room: No space left on device"),
            (local_error(Path("/secret"), OSError(errno.EDQUOT, "")), "no room: Disk quota"),
            (local_error(Path("/secret"), OSError(errno.EIO, "")), "could not store it$"),
        ):
            for call in ("prepare", "take"):
                deposit = FileDeposit(self.there / "out", Offer(("a",)))

                def fail(*_: Any, error: LocalIOError = error) -> None:
                    raise error

                setattr(deposit, call, fail)
                self.receive(deposit=lambda sender, offer, deposit=deposit: deposit)
                protocol, _, _ = self.send(self.file("a", b"1"))
                self.assertRegex(str(refused := self.failed(RefusedByPolicy, protocol)), told)
                self.assertNotIn("secret", f"{refused} {refused.hint}")

    def test_watched(self) -> None:
        """Who looks on at the receiver hears how much has come of what, and when it is over."""
        seen: list[tuple[int, str] | str] = []

        class Watching:
            def update(self, done: int, name: str) -> None:
                seen.append((done, name))

            def close(self) -> None:
                seen.append("over")

        self.receive(watch=lambda sender, offer: Watching())
        self.delivered(self.file("a", bytes(300_000)), self.file("b", b"12345"))
        self.assertEqual(seen[-2:], [(300_005, "b"), "over"])
        steps = [step for step in seen if step != "over"]
        self.assertEqual(steps, sorted(steps))

    def test_too_large(self) -> None:
        """What is more than is taken is refused by its offer."""
        self.receive(max_bytes=10)
        protocol, _, _ = self.send(self.file("a", bytes(11)))
        self.assertIn("does not accept so much", str(self.failed(RefusedByPolicy, protocol)))
        self.delivered(self.file("a", bytes(10)))
        self.assertEqual(self.ended(), {"refused": 1, "stored": 1})
        self.assertEqual(self.inbox.figures.under_way, 0)
        self.assertGreater(self.inbox.figures.bytes, 10)

    def test_the_sender_leaves(self) -> None:
        """Nobody is asked any more about what a sender wanted that has gone."""
        cancelled: list[Any] = []

        async def think(sender: str, offer: Offer) -> None:
            await Deferred(cancelled.append)

        self.receive(consent=think)
        protocol, _, wire = self.send(self.file("a", b"1"))
        wire.abortConnection()
        self.network.settle()
        self.failed(Interrupted, protocol)
        self.assertEqual(self.ended(), {"cut": 1})
        self.assertEqual(len(cancelled), 1)
        self.assertFalse(self.broken[0].accepted)
        self.assert_quiet()

    def test_never_answers(self) -> None:
        """A receiver that says nothing costs the sender an hour."""
        protocol, _ = self.answer()
        self.network.advance(sender_module.ANSWER_SECONDS + 1)
        self.failed(PeerUnavailable, protocol)
        self.assert_quiet()

    def test_never_confirms(self) -> None:
        """So does one that takes everything and does not confirm it; what became of it is open."""
        protocol, _ = self.answer(Accept().encode())
        self.network.advance(sender_module.ACK_SECONDS + 1)
        error = self.failed(PeerUnavailable, protocol)
        self.assertIn("may have been stored or not", error.hint)

    def test_refuses_later(self) -> None:
        """A receiver may give up at any time, and the sender stops."""
        protocol, _ = self.answer(
            Accept().encode(), Refuse(AckStatus.STORAGE_FAILED, "disk gone").encode()
        )
        self.assertIn("disk gone", str(self.failed(RefusedByPolicy, protocol)))

    def test_nonsense(self) -> None:
        """A receiver that says what it should not is left, and nothing is taken for delivered."""
        for pieces in (
            (b"\0\2{}",),
            (b"\0\0",),
            (b"\xff\xff",),
            (Accept().encode(), Accept().encode()),
            (Accept().encode(), Held("a", 1, "0" * 64).encode()),
        ):
            protocol, _ = self.answer(*pieces)
            self.failed(KDCError, protocol)
            self.assert_quiet()

    def test_lies_about_what_it_has(self) -> None:
        """Whatever a receiver claims to have, what it has not proved is sent."""
        for held in (Held("a", 5, "0" * 64), Held("a", 6, "0" * 64), Held("b", 5, "0" * 64)):
            protocol, bob = self.answer(held.encode(), Accept().encode())
            self.assertTrue(bytes(bob.received).endswith(b"12345"))
            self.assertIn(b'"from":0', bob.received)
            self.network.advance(sender_module.ACK_SECONDS + 1)
            self.failed(PeerUnavailable, protocol)


class SenderTableTests(TransferTestCase):
    """Every state of a sender with everything that a receiver can say."""

    def reach(self, phase: Phase) -> tuple[SendProtocol, StreamRecorder]:
        """A sender in ``phase``, and its receiver."""
        stuck = phase is Phase.SENDING
        self.patch(self, "work", (lambda *_: Deferred()) if stuck else at_once)
        protocol, bob = self.answer(*([Accept().encode()] if phase is not Phase.OFFERED else []))
        if phase is Phase.DELIVERED:
            protocol.acknowledged(AckStatus.STORED)
        if phase is Phase.FAILED:
            protocol.acknowledged(AckStatus.STORAGE_FAILED)
        self.assertIs(protocol.phase, phase)
        return protocol, bob

    def test_every_step(self) -> None:
        """What is in the table happens; anything else fails, and takes nothing confirmed back."""
        says: dict[Step, Any] = {
            Step.HAVE: Held("a", 1, "0" * 64),
            Step.ACCEPT: Accept(),
            Step.REFUSE: Refuse(AckStatus.NOT_ALLOWED, "no"),
            Step.STORED: AckStatus.STORED,
            Step.NOT_STORED: AckStatus.STORAGE_FAILED,
        }
        for phase, (step, said) in itertools.product(Phase, says.items()):
            protocol, bob = self.reach(phase)
            self.patch(self, "work", lambda *_: Deferred())
            protocol._run = self.work
            if isinstance(said, AckStatus):
                protocol.acknowledged(said)
            else:
                bob.out.write(said.encode())
                self.network.settle()
            kept = phase is Phase.DELIVERED
            expected = TRANSITIONS.get((phase, step), phase if kept else Phase.FAILED)
            self.assertIs(protocol.phase, expected, (phase, step))
            bob.out.abortConnection()
            self.network.advance(sender_module.FAREWELL_SECONDS)
            if expected is Phase.DELIVERED:
                self.successResultOf(protocol.done)
            else:
                self.failureResultOf(protocol.done, KDCError)
            self.assert_quiet()

    def test_accepted_twice(self) -> None:
        """Who accepts again while it is being sent says more than was asked."""
        protocol, bob = self.reach(Phase.SENDING)
        bob.out.write(Accept().encode())
        self.network.settle()
        self.assertIs(protocol.phase, Phase.FAILED)
        error = self.failureResultOf(protocol.done, IntegrityError).value
        self.assertIn("more than was asked", str(error))
        self.assert_quiet()

    def test_our_own_end(self) -> None:
        """That all is sent is said by nothing but sending it all."""
        steps = {key for key in TRANSITIONS if key[1] is Step.ALL_SENT}
        self.assertEqual(steps, {(Phase.SENDING, Step.ALL_SENT)})


class ReceiverTableTests(TransferTestCase):
    """Every state of a receiver with everything that can happen to it."""

    def receiver(self) -> Any:
        address = PrincipalAddress("alice", "LOCAL", "192.0.2.1", 1)
        return self.receive().buildProtocol(address)

    def test_every_pair(self) -> None:
        """What is not in the table is malformed, and leads nowhere."""
        for phase, step in itertools.product(arriving.Phase, arriving.Step):
            protocol = self.receiver()
            protocol.phase = phase
            expected = arriving.TRANSITIONS.get((phase, step))
            if expected is None:
                self.assertRaises(RemoteProtocolError, protocol._step, step)
            else:
                protocol._step(step)
            self.assertIs(protocol.phase, expected or phase, (phase, step))

    def test_every_transfer_ends(self) -> None:
        """From each state there is a way to an end, and from an end none back."""
        ends = {arriving.Phase.STORED, arriving.Phase.OVER}
        ways: dict[Any, set[Any]] = {phase: {phase} for phase in arriving.Phase}
        for _ in ways:
            for (phase, _), after in arriving.TRANSITIONS.items():
                ways[phase] |= ways[after]
        self.assertEqual(ways[arriving.Phase.AWAITING_OFFER], set(arriving.Phase))
        for phase, reached in ways.items():
            self.assertTrue(reached & ends, phase)
            if phase in ends:
                self.assertEqual(reached, {phase})

    def test_what_a_sender_can_do(self) -> None:
        """In each state a sender says, ends and breaks off: the table holds, and all ends."""
        offer, item = Offer(("a",), size=2), Item(Kind.FILE, "a", 2)
        phases = arriving.Phase
        before: dict[Any, tuple[bytes, ...]] = {
            phases.AWAITING_OFFER: (),
            phases.DECIDING: (offer.encode(),),
            phases.TAKING: (offer.encode(), item.encode() + b"12"),
            phases.REFUSED: (offer.encode(), b"\0\0"),
        }
        for phase, said in before.items():
            for what in ("offer", "content", "end", "cut"):
                thinking: Deferred[None] = Deferred()

                async def think(*_: Any, thinking: Deferred[None] = thinking) -> None:
                    await thinking

                deciding = phase is phases.DECIDING
                self.broken.clear()
                self.received.clear()
                self.receive(**({"consent": think} if deciding else {}))
                alice = self.talk(*said)
                if what == "offer":
                    alice.out.write(offer.encode())
                elif what == "content":
                    alice.out.write(item.encode() + b"12")
                elif what == "end":
                    alice.out.loseWriteConnection()
                else:
                    alice.out.abortConnection()
                self.network.settle()
                stored = phase is phases.TAKING and what == "end"
                if not stored:
                    self.network.advance(receiver_module.REFUSED_SECONDS + 1)
                    self.network.advance(receiver_module.OFFER_SECONDS)
                if phase is phases.AWAITING_OFFER and what == "offer":
                    self.assertIn(b'"accept"', bytes(alice.received))
                    alice.out.abortConnection()
                    self.network.settle()
                self.assertEqual(len(self.received), int(stored), (phase, what))
                self.assertEqual(len(self.broken), int(not stored), (phase, what))
                self.assertEqual(os.listdir(self.there), ["a"] if stored else [])
                if stored:
                    (self.there / "a").unlink()
                    alice.out.loseConnection()
                    self.network.settle()
                self.assert_quiet()


class HostileReceiverTests(TransferTestCase):
    """Whoever is sent something may say anything."""

    def test_more_held_than_offered(self) -> None:
        """Of what the receiver claims to have only so much is kept as can have been offered."""
        claims = [Held(f"a/{n}", 1, "0" * 64).encode() for n in range(5000)]
        protocol, _ = self.answer(b"".join(claims))
        self.assertIs(protocol.phase, Phase.OFFERED)
        self.assertLessEqual(len(protocol._held.of), 1)
        protocol, _ = self.answer(Held("b", 1, "0" * 64).encode())
        self.assertEqual(len(protocol._held.of), 0)

    def test_endless(self) -> None:
        """Who goes on and on about what it has is left."""
        claim = Held("a", 1, "0" * 64).encode()[2:]
        padded = claim + b" " * (16_384 - len(claim))
        message = len(padded).to_bytes(2, "big") + padded
        protocol, bob = self.answer()
        for _ in range(MAX_ANSWER_BYTES // len(message) // 64 + 1):
            self.assertIs(protocol.phase, Phase.OFFERED)
            bob.out.write(message * 64)
            self.network.settle()
        self.assertIn("bytes about what is there", str(self.failed(RemoteProtocolError, protocol)))
        self.assert_quiet()


class HostileSenderTests(TransferTestCase):
    """Who is allowed to send may say anything."""

    def refused(self, *pieces: bytes, end: bool = False) -> None:
        self.broken.clear()
        alice = self.talk(*pieces, end=end)
        self.assertIn(b'"answer":"refuse"', bytes(alice.received))
        self.network.advance(receiver_module.REFUSED_SECONDS + 1)
        self.assertEqual(len(self.broken), 1)
        self.assertEqual(os.listdir(self.there), [])
        self.assertNotIn(AckStatus.STORED, alice.acknowledgements)
        self.assert_quiet()

    def test_before_the_answer(self) -> None:
        """Content that nobody has agreed to is refused."""

        async def think(sender: str, offer: Offer) -> None:
            await Deferred()

        self.receive(consent=think)
        self.refused(Offer(("a",)).encode(), Item(Kind.FILE, "a", 1).encode())

    def test_not_the_offer(self) -> None:
        """What was not offered, what is cut, and what is no message at all."""
        offer = Offer(("a",), size=1).encode()
        for pieces in (
            (offer, Item(Kind.FILE, "a", 2).encode()),
            (offer, Item(Kind.FILE, "b", 1).encode()),
            (offer, Item(Kind.FILE, "a", 1, start=1).encode()),
            (b"\0\2{}",),
            (b"\0\0",),
        ):
            self.refused(*pieces)
        for cut in ((), (offer,), (offer, Item(Kind.FILE, "a", 1).encode())):
            self.refused(*cut, end=True)

    def test_silence(self) -> None:
        """Who opens a channel and offers nothing is shown the door."""
        alice = self.talk()
        self.network.advance(receiver_module.OFFER_SECONDS + 1)
        self.assertIsNotNone(alice.lost)
        self.assert_quiet()

    def test_acknowledged_when_it_is_stored(self) -> None:
        """While it is made durable, however long that takes, nothing is acknowledged."""
        storing: list[Callable[[], Any]] = []

        def run(call: Callable[..., Any], *args: Any) -> Deferred[Any]:
            if getattr(call, "__name__", "") != "show":
                return at_once(call, *args)
            done: Deferred[Any] = Deferred()
            storing.append(lambda: at_once(call, *args).chainDeferred(done))
            return done

        for fails in (False, True):
            self.receive(run=run)
            piece = Item(Kind.FILE, "a", 1).encode() + b"1"
            alice = self.talk(Offer(("a",), size=1).encode(), piece, end=True)
            self.network.advance(60)
            self.assertEqual(alice.acknowledgements, [])
            if fails:
                self.patch(os, "fsync", _no_disk)
            storing.pop()()
            self.network.settle()
            expected = AckStatus.STORAGE_FAILED if fails else AckStatus.STORED
            self.assertEqual(alice.acknowledgements, [expected])
            self.assertEqual(os.listdir(self.there), ["a"])
            alice.out.abortConnection()
            self.network.settle()

    def test_many_small_things(self) -> None:
        """Of items that have hardly a byte only few are in memory at a time."""
        pending: list[Any] = []

        def run(call: Callable[..., Any], *args: Any) -> Deferred[Any]:
            if getattr(call, "__name__", "") != "take":
                return at_once(call, *args)
            pending.append(args)
            return Deferred()

        inbox = self.receive(run=run)
        made: list[Any] = []
        build = inbox.buildProtocol

        def built(_: Inbox, address: Any) -> Any:
            made.append(build(address))
            return made[-1]

        self.patch(Inbox, "buildProtocol", built)
        alice = self.talk(Offer(("d",)).encode(), Item(Kind.DIRECTORY, "d", 0).encode())
        items = b"".join(Item(Kind.FILE, f"d/{n}", 0).encode() for n in range(60_000))
        for at in range(0, len(items), 1 << 16):
            alice.out.write(items[at : at + (1 << 16)])
            self.network.settle()
        self.assertLess(len(made[-1]._arriving._pile), 25_000)
        alice.out.abortConnection()

    def test_names(self) -> None:
        """No name leads out of the inbox."""
        for name in ("../x", "/x", "a/../../x", ".x", "a/.."):
            text = Offer(("a",)).encode()[2:].replace(b'"a"', f'"{name}"'.encode())
            self.refused(len(text).to_bytes(2, "big") + text)
            item = Item(Kind.DIRECTORY, "a", 0).encode()
            text = item[2:].replace(b'"a"', f'"{name}"'.encode())
            self.refused(Offer(("a",)).encode(), len(text).to_bytes(2, "big") + text)
        self.assertEqual(os.listdir(self.there.parent), [self.there.name])


class CutTests(TransferTestCase):
    """Networks that end in the middle."""

    def test_anywhere(self) -> None:
        """Cut after any number of bytes: all of it is there, or nothing; and then it goes on."""
        content = os.urandom(3 << 20)
        thing = self.file("a", content)
        _, _, whole = self.send(thing)
        total = len(whole.sent)
        (self.there / "a").unlink()
        for share in (0.1, 0.4, 0.2, 0.2):
            protocol, _, wire = self.send(thing, settle=False)
            wire.cut_after = int(total * share)
            self.network.settle()
            self.failed(IntegrityError, protocol)
            self.assertNotIn("a", os.listdir(self.there))
        self.progress.clear()
        _, _, wire = self.send(thing)
        self.assertEqual(self.arrived(), {"a": content})
        self.assertLess(len(wire.sent), 0.3 * total)
        self.assertTrue(self.broken[-1].kept)

    def test_changed_in_between(self) -> None:
        """A file that is another one by now is sent from its beginning."""
        first, second = os.urandom(3 << 20), os.urandom(3 << 20)
        protocol, _, wire = self.send(self.file("a", first), settle=False)
        wire.cut_after = 2 << 20
        self.network.settle()
        self.failed(IntegrityError, protocol)
        self.delivered(self.file("a", second))
        self.assertEqual(self.arrived(), {"a": second})

    def test_long(self) -> None:
        """Both read what was kept while the rest is sent: cut again and again, it arrives."""
        self.long_bytes = 1
        self.test_anywhere()

    def test_long_changed_in_between(self) -> None:
        """Then it was gone on with in vain; nothing but what is there now is ever shown."""
        self.long_bytes = 1
        for cuts in (1, 2, 3):  # some of them within what goes on behind something else
            contents = [os.urandom(3 << 20) for _ in range(cuts + 1)]
            for content in contents[:-1]:
                protocol, _, wire = self.send(self.file("a", content), settle=False)
                wire.cut_after = 2 << 20
                self.network.settle()
                self.failed(IntegrityError, protocol)
            self.delivered(self.file("a", contents[-1]))
            self.assertEqual(self.arrived(), {"a": contents[-1]})
            self.assertEqual((self.outgoing.done, self.outgoing.spared), (3 << 20, 0))
            (self.there / "a").unlink()

    def test_long_damaged(self) -> None:
        """If what was kept, or what was noted of it, is damaged, it is sent anew."""
        self.long_bytes = 1
        content = os.urandom(3 << 20)
        thing = self.file("a", content)
        found_out = []
        for name, damage in (
            ("1/a", lambda kept: kept[:-1] + bytes([kept[-1] ^ 1])),
            ("1/a", lambda kept: bytes([kept[0] ^ 1]) + kept[1:]),
            ("1/a", lambda kept: kept[: 1 << 20]),
            ("1/a", lambda kept: b""),
            ("1.received", lambda note: note[: len(note) // 2]),
            ("1.received", lambda note: note.replace(b'"a"', b'"b"')),
            ("1.received", lambda note: re.sub(b'"[0-9a-f]{64}"', b'"' + b"0" * 64 + b'"', note)),
            ("1.received", lambda note: re.sub(b",[0-9]+,", b",1,", note)),
            ("1.received", lambda note: b""),
        ):
            protocol, _, wire = self.send(thing, settle=False)
            wire.cut_after = 2 << 20
            self.network.settle()
            self.failed(IntegrityError, protocol)
            (path,) = self.there.glob(f".kdc-partial/*/{name}")
            path.write_bytes(damage(path.read_bytes()))
            protocol, _, _ = self.send(thing)
            # It may be found out in the middle, or when all has been sent.
            found_out.append(protocol.phase in (Phase.FAILED, Phase.SENT))
            if found_out[-1]:
                self.failed(Interrupted, protocol)  # and it is tried again
                self.delivered(thing)
            self.assertEqual(self.arrived(), {"a": content})
            (self.there / "a").unlink()
        self.assertEqual(found_out, [True, True, False, False, False, False, True, True, False])

    def test_is_it_known(self) -> None:
        """Before the end nothing is stored; after it nobody knows, and the error says so."""
        protocol, _, wire = self.send(self.file("a", bytes(4 << 20)), settle=False)
        wire.cut_after = 1 << 20
        self.network.settle()
        error = self.failed(Interrupted, protocol)
        self.assertNotIsInstance(error, Unconfirmed)
        self.assertIn("nothing of it is to be seen", error.hint)
        protocol, _ = self.answer(Accept().encode())
        (wire,) = [each for each in self.network.wires if each.host.host == "192.0.2.1"]
        wire.abortConnection()
        self.network.settle()
        error = self.failed(Unconfirmed, protocol)
        self.assertIn("stored all of it or nothing", error.hint)

    def test_ghost(self) -> None:
        """Who lost its connection goes on where it was, though the receiver has not noticed."""
        content = os.urandom(4 << 20)
        thing = self.file("a", content)
        lost, _, ghost = self.send(thing, settle=False)
        self.step_until(lambda: len(self.progress) > 8)
        ghost.stalled = True
        self.network.settle()
        # No word of it ever arrives: as if the cable were out.
        ghost.peer.stalled = True
        _, _, wire = self.send(thing)
        self.network.advance(receiver_module.SILENT_SECONDS + 1)
        self.assertEqual(self.arrived(), {"a": content})
        self.assertLess(len(wire.sent), len(content) - (1 << 20))
        self.failed(Interrupted, lost)

    def test_not_a_ghost(self) -> None:
        """Two of the same at the same time both arrive."""
        content = os.urandom(4 << 20)
        thing = self.file("a", content)
        first, _, wire = self.send(thing, settle=False)
        self.step_until(lambda: len(self.progress) > 8)
        wire.stalled = True
        second, _, _ = self.send(thing)
        wire.stalled = False
        self.network.settle()
        self.network.advance(receiver_module.SILENT_SECONDS + 1)
        for protocol in (first, second):
            self.successResultOf(protocol.done)
        self.assertEqual(self.arrived(), {"a": content, "a (1)": content})

    def test_local_trouble(self) -> None:
        """A sender that cannot go on stops; the receiver keeps nothing under its name."""
        thing = self.file("a", bytes(4 << 20))
        protocol, _, _ = self.send(thing, settle=False)
        self.step_until(lambda: bool(self.progress))
        (self.here / "a").unlink()
        os.truncate(f"/proc/self/fd/{self.descriptor_of('a')}", 1000)
        self.network.settle()
        self.assertIn("a: it is gone", str(self.failed(LocalIOError, protocol)))
        self.assertNotIn("a", os.listdir(self.there))

    def test_full_disk(self) -> None:
        """A receiver whose disk is full says so at once, and leaves nothing."""

        def failing(sender: str, offer: Offer) -> Deposit:
            deposit = FileDeposit(self.there / "a", offer)

            def full(pieces: list[bytes | memoryview]) -> None:
                raise LocalIOError("/inbox/a: No space left on device")

            deposit._write = full  # type: ignore[method-assign]
            return deposit

        self.receive(deposit=failing)
        protocol, _, wire = self.send(self.file("a", bytes(8 << 20)))
        error = self.failed(RefusedByPolicy, protocol)
        self.assertIn("could not store it", str(error))
        self.assertNotIn("inbox", str(error))
        self.assertLess(len(wire.sent), 4 << 20)
        self.assertEqual(os.listdir(self.there), [])
        self.assert_quiet()

    def test_a_record_that_does_not_open(self) -> None:
        """What was changed on its way is not kept for another attempt either."""
        protocol, _, wire = self.send(self.file("a", bytes(4 << 20)), settle=False)
        seen = [0]

        def flip(data: bytes) -> bytes:
            seen[0] += len(data)
            return data if seen[0] < 2 << 20 else bytes([data[0], data[1], data[2] ^ 1]) + data[3:]

        wire.tamper = flip
        self.network.settle()
        self.failed(Interrupted, protocol)
        self.assertIsInstance(self.broken[0].error, RemoteProtocolError)
        self.assertEqual(os.listdir(self.there), [])

    def test_given_up(self) -> None:
        """A sender that is cancelled leaves nothing behind."""
        protocol, _, wire = self.send(self.file("a", bytes(4 << 20)), settle=False)
        self.step_until(lambda: bool(self.progress))
        protocol.done.cancel()
        self.failureResultOf(protocol.done, CancelledError)
        self.network.settle()
        self.assertFalse(wire.connected)
        self.assert_quiet()
        self.assertTrue(self.broken[0].accepted)
