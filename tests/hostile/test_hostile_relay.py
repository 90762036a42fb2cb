"""A relay that does its worst: nothing wrong is ever shown under a final name."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.listening import Listening
from kdc.channel.services import Service
from kdc.errors import ExitStatus, KDCError
from kdc.protocol.relay import Reach
from kdc.relay.relay import Relay
from kdc.transfer._inbox import InboxDeposit
from kdc.transfer._parts import DIRECTORY
from kdc.transfer.messages import SERVICE
from kdc.transfer.receiver import Broken, Inbox
from kdc.transfer.sender import SendProtocol, send_factory
from kdc.transfer.source import Outgoing
from kdc.transfer.survey import Thing, survey
from tests.support.core import SeededRandom
from tests.support.hostile_relay import DEEDS, Deed, HostilePort, hostile
from tests.support.relay import RelayTestCase

# Longer than whatever anybody waits for.
AGES_SECONDS = 1200
FRAME = 2
# The first pieces each way, before there is a channel: 309 and the service, 310 and its status.
OPENING = 2


def at_once(call: Callable[..., Any], *args: Any) -> Deferred[Any]:
    return maybeDeferred(call, *args)


def pieces(stream: bytes) -> list[tuple[int, int]]:
    """Where each frame or record of a channel begins in ``stream``, and how long it is."""
    found, at = [], 0
    while at < len(stream):
        size = FRAME + int.from_bytes(stream[at : at + FRAME], "big")
        found.append((at, size))
        at += size
    return found


class WholeTransferTests(RelayTestCase):
    """Alice sends bob two files and a directory through it."""

    def setUp(self) -> None:
        super().setUp()
        random = SeededRandom("content")
        self.here = Path(self.mktemp()).absolute()
        self.here.mkdir()
        sizes = {"large.bin": 200_000, "small.txt": 15, "tree/one": 3000, "tree/deep/two": 70_000}
        self.contents = {name: random(size) for name, size in sizes.items()}
        self.others = {name: random(size) for name, size in sizes.items()}
        self.broken: list[Broken] = []
        self.inbox_number = 0
        self.new_inbox()
        self.alice = self.known_client("alice")
        self.start_receiver()

    def start_relay(self, **options: Any) -> Relay:
        return super().start_relay(make_port=hostile(), **options)

    @property
    def port(self) -> HostilePort:
        return cast(HostilePort, self.relay._port)

    def new_inbox(self) -> None:
        self.inbox_number += 1
        self.there = self.here / f"inbox{self.inbox_number}"
        self.there.mkdir()

    def start_receiver(self) -> None:
        inbox = Inbox(
            run=at_once,
            timers=self.network,
            deposit=lambda sender, offer: InboxDeposit(self.there, sender, offer),
            received=lambda sender, stored: None,
            broken=self.broken.append,
        )
        listening = Listening(
            self.known_client("bob"), {SERVICE: Service(inbox)}, "tcp:60000", reach=Reach.RELAY
        )
        self.parts.append(listening)
        self.do(listening.bind())
        self.assertNoResult(self.begin(listening.run()))

    def shown(self) -> dict[str, bytes]:
        """What bob has under final names."""
        return {
            str(path.relative_to(self.there)): path.read_bytes()
            for path in self.there.rglob("*")
            if path.is_file() and DIRECTORY not in path.parts
        }

    def send(self, contents: Mapping[str, bytes], deed: Deed | None = None) -> ExitStatus:
        """Send these to a new inbox, with a relay that does ``deed``; return how that ends."""
        self.new_inbox()
        self.port.deed = deed
        for name, content in contents.items():
            path = self.here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        surveyed = survey([Thing(n, self.here / n) for n in ("large.bin", "small.txt", "tree")])
        factory = send_factory(
            surveyed.offer,
            lambda held, remarks: Outgoing(surveyed, held, remarks=remarks),
            run=at_once,
            timers=self.network,
        )
        endpoint = ChannelClientEndpoint(self.alice, "bob", SERVICE, reach=Reach.RELAY)
        statuses: list[ExitStatus] = []
        ended = endpoint.connect(factory)
        _ = ended.addCallback(lambda sending: cast(SendProtocol, sending).done)
        _ = ended.addCallbacks(
            lambda delivery: statuses.append(ExitStatus.DONE),
            lambda failure: (
                statuses.append(failure.value.exit_status) if failure.check(KDCError) else failure
            ),
        )
        self.network.settle()
        for _ in range(AGES_SECONDS):
            if statuses and not self.relay.figures.joined:
                break
            self.network.advance(1)
        self.successResultOf(ended)
        self.port.deed = None
        return statuses[0]

    def test_left_alone(self) -> None:
        """Without a deed everything arrives."""
        self.assertEqual(self.send(self.contents), ExitStatus.DONE)
        self.assertEqual(self.shown(), self.contents)

    def expected(self, deed: Deed, index: int, count: int) -> set[ExitStatus]:
        """How it may end for the sender: what was hurt is the piece ``index`` of ``count``."""
        done, peer, integrity = ExitStatus.DONE, ExitStatus.PEER, ExitStatus.INTEGRITY
        if deed.what == "reset" and index in (OPENING, count - 1):
            # What was before it, and still on its way, is lost as well.
            return {integrity, done if index == count - 1 else peer}
        if deed.what == "delay" or index == count - 1:
            return {done}  # the last piece each way says nothing to the sender any more
        if index < OPENING:
            return {peer} if deed.what in ("cut", "reset", "stall") else {peer, integrity}
        if not deed.to_receiver and index == count - 2 and deed.what == "repeat" and deed.done:
            return {done}  # the acknowledgement itself had come
        return {integrity}

    def test_every_piece(self) -> None:
        """At each frame and record, both ways, by each deed: all of it and 0, or nothing wrong."""
        self.send(self.contents)
        streams = dict(self.port.before)
        # What is spliced in: the same names and sizes, and other bytes.
        self.assertEqual(self.send(self.others), ExitStatus.DONE)
        ends: Counter[tuple[str, ExitStatus]] = Counter()
        for to_receiver, stream in streams.items():
            found = pieces(stream)
            self.assertGreater(len(found), 5)
            for what, (index, (position, size)) in itertools.product(DEEDS, enumerate(found)):
                for offset in {0, 1, size // 2, size - 1}:
                    deed = Deed(what, to_receiver, position + offset, size)
                    ends[what, self.hurt(deed, index, len(found))] += 1
        for what in DEEDS:
            self.assertGreater(ends[what, ExitStatus.DONE], 0, what)
            self.assertEqual(ends[what, ExitStatus.INTEGRITY] > 0, what != "delay", what)
        # Nobody is the worse for it.
        self.assertEqual(self.send(self.contents), ExitStatus.DONE)
        self.assertEqual(self.shown(), self.contents)
        self.assertEqual(self.relay.figures.links, 1)

    def hurt(self, deed: Deed, index: int, count: int) -> ExitStatus:
        """Send, with that done to the piece ``index`` of ``count``; return how it ended."""
        broken = len(self.broken)
        status = self.send(self.contents, deed)
        why = str(deed)
        self.assertIn(status, self.expected(deed, index, count), why)
        shown = self.shown()
        if status is ExitStatus.DONE:
            self.assertEqual(shown, self.contents, why)
        else:
            # Whole, though the sender could not be told; or not there at all.
            self.assertIn(shown, ({}, self.contents), why)
        if index >= OPENING and not shown:
            # Who had begun to take something says that it came to nothing.
            self.assertEqual(len(self.broken), broken + 1, why)
        return status

    def test_a_whole_transfer_again(self) -> None:
        """What bob took once, and has moved away, is not there again because it is replayed."""
        self.send(self.others)
        for offset in range(0, 400, 7):
            deed = Deed("splice", True, offset)
            self.assertNotEqual(self.send(self.contents, deed), ExitStatus.DONE)
            self.assertEqual(self.shown(), {})
            self.send(self.others)
