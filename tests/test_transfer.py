"""Sending files: whole or not at all, acknowledged when durable, in flat memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface.verify import verifyObject

from kdc.channel import IStreamProtocol, SenderChannel, Service
from kdc.deposit import Stored
from kdc.errors import (
    ExitStatus,
    IntegrityError,
    KDCError,
    LocalIOError,
    PeerUnavailable,
    RefusedByPolicy,
    RemoteProtocolError,
)
from kdc.items import Item, Kind
from kdc.noise import CipherState
from kdc.records import MAX_DATA, AckStatus, RecordStream
from kdc.transfer import (
    ACK_SECONDS,
    CHUNK_BYTES,
    SERVICE,
    Delivery,
    Inbox,
    Source,
    send_factory,
)
from tests.edge import ChannelTestCase, StreamRecorder, Wire
from tests.test_channel import behind_handshake


class Worker:
    """A worker thread that the test may hold up; remembers what it was asked to do."""

    def __init__(self) -> None:
        self.slow = False
        self.calls: list[str] = []
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, call: Any, *args: Any) -> Deferred[Any]:
        self.calls.append(call.__name__)
        if not self.slow:
            return maybeDeferred(call, *args)
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, lambda: call(*args)))
        return done

    def work(self) -> None:
        """Do what has been waiting longest."""
        done, call = self.waiting.pop(0)
        result = maybeDeferred(call)
        _ = result.addBoth(done.callback)


class TransferTestCase(ChannelTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.outbox = Path(self.mktemp())
        self.outbox.mkdir()
        self.disk, self.reader = Worker(), Worker()
        self.stored: list[tuple[str, Stored]] = []
        self.failed: list[tuple[str, KDCError]] = []
        self.inbox(directory=self.directory)

    def inbox(self, **where: Path) -> None:
        """Where things go from now on."""
        self.services[SERVICE] = Service(
            Inbox(
                run=self.disk.run,
                received=lambda sender, stored: self.stored.append((sender, stored)),
                failed=lambda sender, error: self.failed.append((sender, error)),
                **where,
            )
        )

    def file(self, name: str, content: bytes) -> Source:
        path = self.outbox / name
        path.write_bytes(content)
        return Source.of_file(path)

    def begin(
        self, sources: Sequence[Source], *, progress: Callable[[int], None] = lambda sent: None
    ) -> tuple[Deferred[Delivery], Wire]:
        """Start sending; what it comes to, and the sender's end of the connection."""
        factory = send_factory(sources, run=self.reader.run, timers=self.network, progress=progress)
        channel = SenderChannel(self.grant(), SERVICE, factory, self.network)
        wire = self.dial(channel)
        done: Deferred[Delivery] = Deferred()

        def opened(protocol: Any) -> None:
            _ = protocol.done.chainDeferred(done)

        _ = channel.opened.addCallbacks(opened, done.errback)
        return done, wire

    def send(self, *sources: Source) -> Deferred[Delivery]:
        done, _ = self.begin(sources)
        self.network.settle()
        return done

    def listing(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}

    def assert_nothing_kept(self) -> None:
        """No file under a final name, no temporary one, and nobody was told of one."""
        self.assertEqual(self.listing(), {})
        self.assertEqual(self.stored, [])

    def assert_still_works(self) -> None:
        """A normal transfer still gets through."""
        before = len(self.stored)
        self.successResultOf(self.send(self.file("afterwards", b"still there")))
        self.assertEqual(len(self.stored), before + 1)
        self.assertEqual(self.stored[-1][1].path.read_bytes(), b"still there")
        self.assert_quiet()


class DeliveryTests(TransferTestCase):
    def test_one(self) -> None:
        """A file arrives as it was, both ends are told, and nothing is left open."""
        content = os.urandom(100_000)
        delivery = self.successResultOf(self.send(self.file("report.pdf", content)))
        self.assertEqual(delivery, Delivery("bob", 100_000))
        self.assertEqual(self.listing(), {"report.pdf": content})
        ((sender, stored),) = self.stored
        self.assertEqual((sender, stored.size), ("alice", 100_000))
        self.assertEqual(self.failed, [])
        self.assert_quiet()

    def test_sizes(self) -> None:
        """Nothing, one byte, and everything around the edges of records and chunks."""
        header = len(Item(Kind.FILE, "x", MAX_DATA).encode())
        for size in (
            *(0, 1, MAX_DATA - header, MAX_DATA - 1, MAX_DATA, MAX_DATA + 1, 2 * MAX_DATA),
            *(CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 5 * CHUNK_BYTES + 7),
        ):
            content = bytes(range(251)) * (size // 251 + 1)
            source = self.file("x", content[:size])
            self.assertEqual(self.successResultOf(self.send(source)).total_bytes, size)
            (path,) = self.directory.iterdir()
            self.assertEqual(path.read_bytes(), content[:size], size)
            path.unlink()
        self.assert_quiet()

    def test_many(self) -> None:
        """Many files, empty ones among them, in one go and in order."""
        sources = [self.file(f"file{n:03}", bytes([n % 256]) * (n % 7)) for n in range(300)]
        self.successResultOf(self.send(*sources))
        self.assertEqual(len(self.listing()), 300)
        self.assertEqual([s.item.name for _, s in self.stored], [s.item.name for s in sources])
        self.assertEqual(self.listing()["file006"], bytes([6]) * 6)

    def test_pipe(self) -> None:
        """What has no size is sent to its end; only the last of several may be such."""
        path = self.outbox / "pipe"
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writing = os.open(path, os.O_WRONLY)
        os.write(writing, b"from a pipe")
        os.close(writing)
        source = Source(Item(Kind.TEXT, "note", None), lambda: os.fdopen(reading, "rb"))
        one = self.file("one", b"1")
        self.failureResultOf(self.send(source, one), LocalIOError)
        self.assertEqual(self.listing(), {})
        self.successResultOf(self.send(one, source))
        self.assertEqual(self.listing(), {"one": b"1", "note": b"from a pipe"})

    def test_output(self) -> None:
        """One file for whatever comes, replaced each time; the records beside it."""
        output, records = self.directory / "outfile", self.directory / "outenc"
        self.inbox(output=output, records=records)
        self.successResultOf(self.send(self.file("first", b"1")))
        done, wire = self.begin([self.file("second", b"2" * 200_000)])
        self.network.settle()
        self.successResultOf(done)
        self.assertEqual(output.read_bytes(), b"2" * 200_000)
        sealed = records.read_bytes()
        self.assertTrue(behind_handshake(wire).startswith(sealed))
        self.assertLess(len(behind_handshake(wire)) - len(sealed), 100, "all but the last ACK")

    def test_records_open(self) -> None:
        """What was kept as ciphertext is what was sent: its key opens it, to the end."""
        made: list[CipherState] = []
        create = CipherState.__init__

        def remember(state: CipherState, *args: Any) -> None:
            create(state, *args)
            made.append(CipherState.__new__(CipherState))
            create(made[-1], *args)

        self.patch(CipherState, "__init__", remember)
        records = self.directory / "outenc"
        self.inbox(output=self.directory / "outfile", records=records)
        content = os.urandom(300_000)
        self.successResultOf(self.send(self.file("x", content)))
        for receiving in made:
            stream = RecordStream(receiving, receiving)
            stream.feed(records.read_bytes())
            try:
                events = list(stream.events())
            except RemoteProtocolError:
                continue
            data = b"".join(event.data for event in events[:-1])  # type: ignore[union-attr]
            self.assertTrue(data.endswith(content))
            self.assertTrue(stream.received_end)
            return
        self.fail("no key opens it")

    def test_several_at_once(self) -> None:
        """Senders do not mix: each file is whole, and the same name does not clash."""
        sending = [self.begin([self.file("x", bytes([n]) * 200_000)])[0] for n in range(8)]
        self.network.settle()
        for each in sending:
            self.successResultOf(each)
        contents = set(self.listing().values())
        self.assertEqual(contents, {bytes([7]) * 200_000})
        self.assertEqual(len(self.listing()), 8)

    def test_progress(self) -> None:
        """Progress counts the bytes of the content, up to all of it."""
        seen: list[int] = []
        done, _ = self.begin([self.file("x", bytes(3 * CHUNK_BYTES + 5))], progress=seen.append)
        self.network.settle()
        self.successResultOf(done)
        self.assertEqual(seen, [CHUNK_BYTES * n for n in (1, 2, 3)] + [3 * CHUNK_BYTES + 5])

    def test_interfaces(self) -> None:
        """Both ends say themselves when a stream has been dealt with."""
        sending = send_factory([], run=self.reader.run, timers=self.network).buildProtocol(None)
        self.assertTrue(verifyObject(IStreamProtocol, sending))


class AcknowledgementTests(TransferTestCase):
    """The sender is told "stored" when the receiver's disk has everything under its name."""

    def test_order(self) -> None:
        """Content, fsync, name, fsync of the directory, and only then ACK."""
        self.disk.slow = True
        calls: list[str] = []
        for owner, name in ((os, "fsync"), (os, "link"), (RecordStream, "send_ack")):
            self._watch(owner, name, calls)
        done, _ = self.begin([self.file("x", b"content")])
        self.network.settle()
        while self.disk.waiting:
            self.assertNoResult(done)
            self.assertNotIn("send_ack", calls)
            self.disk.work()
            self.network.settle()
        self.assertEqual(calls[:4], ["fsync", "link", "fsync", "send_ack"])
        self.assertEqual(self.disk.calls[-1], "show")
        self.successResultOf(done)

    def _watch(self, owner: Any, name: str, calls: list[str]) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **named: Any) -> Any:
            calls.append(name)
            return original(*args, **named)

        self.patch(owner, name, call)

    def test_a_disk_that_hangs(self) -> None:
        """A receiver that never confirms: the sender gives up, and says what is not known."""
        self.disk.slow = True
        done = self.send(self.file("x", b"content"))
        self.network.advance(ACK_SECONDS - 1)
        self.assertNoResult(done)
        self.network.advance(2)
        error = self.failureResultOf(done, PeerUnavailable).value
        self.assertIn("stored or not", error.hint)

    def test_a_lie(self) -> None:
        """An answer that is not a stored one is a failure, each with its exit status."""
        for status, expected in (
            (AckStatus.NOT_ALLOWED, "did not accept"),
            (AckStatus.TOO_LARGE, "so much"),
            (AckStatus.STORAGE_FAILED, "could not store"),
        ):
            other = StreamRecorder()
            self.offer(other, SERVICE)
            other.stored.callback(status)
            error = self.failureResultOf(self.send(self.file("x", b"1")), RefusedByPolicy).value
            self.assertIn(expected, str(error))
            self.assertIs(error.exit_status, ExitStatus.REFUSED)
            self.assert_quiet()

    def test_an_end_without_an_answer(self) -> None:
        """A receiver that closes after everything was sent, without ACK: not delivered."""
        other = StreamRecorder()
        self.offer(other, SERVICE)
        done = self.send(self.file("x", b"1"))
        other.out.abortConnection()
        self.network.settle()
        error = self.failureResultOf(done, IntegrityError).value
        self.assertIs(error.exit_status, ExitStatus.INTEGRITY)

    def test_a_receiver_that_says_something_else(self) -> None:
        """A byte that is no status is a breach of the protocol."""
        for said, expected in ((b"\7", IntegrityError), (b"\1", RefusedByPolicy)):
            other = StreamRecorder()
            self.offer(other, SERVICE)
            done = self.send(self.file("x", b"1"))
            other.out.write(said)
            self.network.settle()
            self.failureResultOf(done, expected)
            self.assert_quiet()


class FailureTests(TransferTestCase):
    """Whatever goes wrong: nothing under a final name, nothing else left, both ends told."""

    def test_full_disk(self) -> None:
        """The disk fills up at any call: nothing is kept, and the next transfer works."""
        for name in ("writev", "fsync", "link"):
            original = getattr(os, name)

            def full(*args: Any, **named: Any) -> Any:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patched = self.patch(os, name, full)
            error = self.failureResultOf(
                self.send(self.file("a", b"1"), self.file("b", b"2")), RefusedByPolicy
            ).value
            patched.restore()
            self.assertIs(getattr(os, name), original)
            self.assertIn("could not store", str(error))
            self.assertEqual(self.listing(), {})
            self.assertIsInstance(self.failed[-1][1], LocalIOError)
            self.assertIs(self.failed[-1][1].exit_status, ExitStatus.LOCAL_IO)
            self.assert_quiet()
        self.assertEqual(self.stored, [])
        self.assert_still_works()

    def test_told_at_once(self) -> None:
        """A sender does not go on sending for nothing when the disk is full."""
        self.patch(os, "writev", self._full)
        done, wire = self.begin([self.file("x", bytes(50 * CHUNK_BYTES))])
        self.network.settle()
        self.failureResultOf(done, RefusedByPolicy)
        self.assertLess(len(wire.sent), 20 * CHUNK_BYTES)
        self.assert_nothing_kept()
        self.assert_quiet()

    @staticmethod
    def _full(*args: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def test_full_and_slow(self) -> None:
        """The same when the disk takes its time to say so."""
        self.disk.slow = True
        self.patch(os, "fsync", self._full)
        done = self.send(self.file("a", b"1"))
        while self.disk.waiting:
            self.disk.work()
            self.network.settle()
        self.failureResultOf(done, RefusedByPolicy)
        self.assert_nothing_kept()
        self.assertEqual(len(self.failed), 1)
        self.assert_quiet()

    def test_no_directory(self) -> None:
        """A place that is not there."""
        self.inbox(directory=self.directory / "missing")
        self.failureResultOf(self.send(self.file("a", b"1")), RefusedByPolicy)
        self.assertIn("missing", str(self.failed[0][1]))
        self.assert_nothing_kept()

    def test_hostile_streams(self) -> None:
        """Names that lead elsewhere, a second item for one file, no item, half an item."""
        outside = self.directory.parent / "outside"
        for stream in (
            b"\0\x05{bad}",
            _raw_item("../outside", 1) + b"x",
            _raw_item("/tmp/outside", 1) + b"x",
            _raw_item(".bashrc", 1) + b"x",
            _raw_item("a", 5) + b"1234",
            _raw_item("a", 1) + b"1" + b"\0",
            b"\xff\xff" + bytes(100),
        ):
            one = StreamRecorder()
            channel = self.sender(one, SERVICE)
            self.dial(channel)
            self.network.settle()
            one.out.write(stream)
            one.out.loseWriteConnection()
            one.stored.callback(AckStatus.STORED)
            self.network.settle()
            self.assertEqual(one.acknowledgements, [AckStatus.NOT_ALLOWED], stream[:30])
            self.assertEqual(one.received[:1], b"\1")
            self.assertIsInstance(self.failed[-1][1], RemoteProtocolError)
            self.assertFalse(outside.exists())
            self.assert_nothing_kept()
            self.assert_quiet()
        self.inbox(output=self.directory / "outfile")
        two = [self.file("a", b"1"), self.file("b", b"2")]
        self.failureResultOf(self.send(*two), RefusedByPolicy)
        self.failureResultOf(self.send(), RefusedByPolicy)
        self.assert_nothing_kept()
        self.assert_still_works()

    def test_cut(self) -> None:
        """Wherever the connection is cut, nothing is kept unless all had come."""
        done, wire = self.begin([self.file("x", b"content"), self.file("y", b"")])
        self.network.settle()
        self.successResultOf(done)
        length = len(wire.sent)
        whole = self.listing()
        for path in self.directory.iterdir():
            path.unlink()
        for at in range(1, length, 2):
            del self.stored[:]
            done, wire = self.begin([self.file("x", b"content"), self.file("y", b"")])
            wire.cut_after = at
            self.network.advance(10)
            self.assertIn(self.listing(), ({}, whole), at)
            if done.called:
                _ = done.addErrback(lambda failure: failure.trap(KDCError) and None)
                delivery = self.successResultOf(done)
                self.assertTrue(delivery is None or self.listing() == whole, at)
            self.assertEqual(len(self.stored), len(self.listing()))
            for path in self.directory.iterdir():
                path.unlink()
        self.assert_quiet()
        self.assert_still_works()

    def test_cut_while_the_disk_is_busy(self) -> None:
        """A connection that is cut while a part is being written leaves nothing in the end."""
        self.disk.slow = True
        done, wire = self.begin([self.file("x", bytes(10 * CHUNK_BYTES))])
        self.network.settle()
        wire.abortConnection()
        self.network.settle()
        self.failureResultOf(done, IntegrityError)
        while self.disk.waiting:
            self.disk.work()
        self.assert_nothing_kept()
        ((sender, error),) = self.failed
        self.assertEqual(sender, "alice")
        self.assertIsInstance(error, IntegrityError)
        self.assert_quiet()

    def test_gone_when_all_has_come(self) -> None:
        """A sender that vanishes after the end: the stream was whole, so it is kept."""
        self.disk.slow = True
        done, wire = self.begin([self.file("x", b"content")])
        self.network.settle()
        wire.abortConnection()
        self.network.settle()
        self.failureResultOf(done, IntegrityError)
        while self.disk.waiting:
            self.disk.work()
        self.assertEqual(self.listing(), {"x": b"content"})
        self.assertEqual(self.failed, [])
        self.assert_quiet()


def _raw_item(name: str, size: int) -> bytes:
    import json

    text = json.dumps({"kind": "file", "name": name, "size": size}).encode()
    return len(text).to_bytes(2, "big") + text


class SourceTests(TransferTestCase):
    """What is sent may change or vanish under our hands."""

    def test_shrinks(self) -> None:
        """A file that becomes shorter while it is sent is not delivered."""
        source = self.file("x", bytes(3 * CHUNK_BYTES))
        self.reader.slow = True
        done, _ = self.begin([source])
        self.network.settle()
        os.truncate(self.outbox / "x", CHUNK_BYTES + 5)
        while self.reader.waiting:
            self.reader.work()
            self.network.settle()
        error = self.failureResultOf(done, LocalIOError).value
        self.assertIn("shorter", str(error))
        self.assert_nothing_kept()
        self.assert_still_works_fast()

    def assert_still_works_fast(self) -> None:
        self.reader.slow = False
        self.assert_still_works()

    def test_grows(self) -> None:
        """Of a file that grows while it is sent, what was there at the start is delivered."""
        source = self.file("x", b"12345")
        (self.outbox / "x").write_bytes(b"1234567890")
        self.successResultOf(self.send(source))
        self.assertEqual(self.listing(), {"x": b"12345"})

    def test_vanishes(self) -> None:
        """A file that is gone when its turn comes: nothing of the whole is delivered."""
        sources = [self.file("a", b"1"), self.file("b", b"2")]
        (self.outbox / "b").unlink()
        error = self.failureResultOf(self.send(*sources), LocalIOError).value
        self.assertIn("No such file", str(error))
        self.assert_nothing_kept()
        self.assert_still_works()

    def test_unreadable(self) -> None:
        """What cannot be read, or has a name that cannot be sent, is known beforehand."""
        self.assertRaises(LocalIOError, Source.of_file, self.outbox / "missing")
        self.assertRaises(LocalIOError, Source.of_file, self.outbox)
        (self.outbox / ".hidden").write_bytes(b"")
        error = self.assertRaises(LocalIOError, Source.of_file, self.outbox / ".hidden")
        self.assertIn("another name", error.hint)

    def test_an_error_while_reading(self) -> None:
        """A disk that fails while it is read is an error of ours, with the file's name."""

        class Broken:
            def read(self, size: int) -> bytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            def __enter__(self) -> Broken:
                return self

            def __exit__(self, *_: object) -> None:
                """Nothing is open."""

        source = Source(Item(Kind.FILE, "x", 5), Broken)  # type: ignore[arg-type]
        error = self.failureResultOf(self.send(source), LocalIOError).value
        self.assertIn("x: ", str(error))
        self.assert_nothing_kept()

    def test_descriptors(self) -> None:
        """No file stays open, however it ended."""
        before = len(os.listdir("/proc/self/fd"))
        self.successResultOf(self.send(self.file("a", b"1"), self.file("b", b"2")))
        done, wire = self.begin([self.file("c", bytes(20 * CHUNK_BYTES))])
        wire.peer.reading = True
        self.network.settle()
        self.successResultOf(done)
        done, wire = self.begin([self.file("d", bytes(20 * CHUNK_BYTES))])
        for _ in range(20):
            wire.step()
            wire.peer.step()
        wire.abortConnection()
        self.network.settle()
        self.failureResultOf(done)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_stops_reading(self) -> None:
        """After the connection has gone, no further file is opened."""
        opened: list[str] = []

        def source(name: str) -> Source:
            plain = self.file(name, bytes(CHUNK_BYTES))

            def open_() -> Any:
                opened.append(name)
                return plain.open()

            return Source(plain.item, open_)

        self.reader.slow = True
        done, wire = self.begin([source(f"file{n}") for n in range(20)])
        self.network.settle()
        wire.abortConnection()
        self.network.settle()
        while self.reader.waiting:
            self.reader.work()
        self.failureResultOf(done, IntegrityError)
        self.assertEqual(opened, ["file0"])


class MemoryTests(TransferTestCase):
    """Neither end holds more than a few MiB, however large the file and slow the other side."""

    def test_a_slow_disk(self) -> None:
        """While the receiver's disk is busy, the sender is made to wait."""
        self.disk.slow = True
        size = 60 * CHUNK_BYTES
        done, wire = self.begin([self.file("x", bytes(size))])
        self.network.settle()
        held = len(wire.waiting)
        self.assertLess(held, 3 * CHUNK_BYTES)
        self.assertFalse(wire.peer.reading)
        self.assertLess(len(wire.sent), 12 * CHUNK_BYTES)
        most = 0
        while self.disk.waiting:
            self.disk.work()
            self.network.settle()
            most = max(most, len(wire.waiting))
        self.assertLess(most, 3 * CHUNK_BYTES)
        self.assertEqual(self.successResultOf(done).total_bytes, size)
        self.assertEqual((self.directory / "x").stat().st_size, size)

    def test_a_slow_network(self) -> None:
        """While nothing gets through, the sender does not go on reading its file."""
        done, wire = self.begin([self.file("x", bytes(30 * CHUNK_BYTES))])
        for _ in range(8):
            wire.step()
            wire.peer.step()
        wire.stalled = True
        self.network.settle()
        self.assertLess(len(wire.waiting), 3 * CHUNK_BYTES)
        self.assertLess(self.reader.calls.count("read"), 5)
        wire.stalled = False
        self.network.settle()
        self.successResultOf(done)

    def test_records_too(self) -> None:
        """The same where the sealed records are kept."""
        self.inbox(output=self.directory / "outfile", records=self.directory / "outenc")
        self.disk.slow = True
        done, wire = self.begin([self.file("x", bytes(40 * CHUNK_BYTES))])
        self.network.settle()
        self.assertLess(len(wire.sent), 12 * CHUNK_BYTES)
        while self.disk.waiting:
            self.disk.work()
            self.network.settle()
        self.successResultOf(done)
        sealed = (self.directory / "outenc").stat().st_size
        self.assertGreater(sealed, 40 * CHUNK_BYTES)

    def test_many_small_items(self) -> None:
        """A flood of empty items cannot get ahead of the disk either."""
        self.disk.slow = True
        one = StreamRecorder()
        channel = self.sender(one, SERVICE)
        wire = self.dial(channel)
        self.network.settle()
        item = _raw_item("a", 0)
        one.out.write(item * 500_000)
        self.network.settle()
        self.assertGreater(len(wire.waiting), 5 * CHUNK_BYTES)
        wire.abortConnection()
        self.network.settle()
        self.disk.waiting.clear()
