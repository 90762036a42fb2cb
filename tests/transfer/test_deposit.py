"""Where a transfer is stored: all of it, or nothing under its final name."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import resource
import secrets
import shutil
import stat
import time
import types
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import LocalIOError, Refusal, RemoteProtocolError
from kdc.files import atomic as atomic_module
from kdc.files import tree as tree_module
from kdc.files.system import SYSTEM, System
from kdc.transfer import _inbox as inbox_module
from kdc.transfer import _partials as partials_module
from kdc.transfer import _room as room_module
from kdc.transfer._framing import Content, Finished
from kdc.transfer._inbox import InboxDeposit
from kdc.transfer._parts import DIRECTORY
from kdc.transfer.deposit import (
    Anew,
    Arrival,
    Deposit,
    FileDeposit,
    Recorded,
    Sealed,
    StreamDeposit,
)
from kdc.transfer.messages import Held, Item, Kind, Offer, Omitted, Why
from tests.support.core import PROPERTY
from tests.support.rereading import ReadLater

MIB = 1 << 20


def file_of(name: str, *pieces: bytes | memoryview, start: int = 0, **fields: Any) -> list[Arrival]:
    size = start + sum(map(len, pieces))
    item = Item(Kind.FILE, name, size, start=start, **fields)
    return [item, *map(Content, pieces), Finished()]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def directory(name: str) -> list[Arrival]:
    return [Item(Kind.DIRECTORY, name, 0), Finished()]


_HOW = ("force", "free", "process", "long_bytes", "rereading")


class DepositTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.system = SYSTEM

    def listing(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in self.directory.rglob("*")
            if path.is_file() or path.is_symlink()
        }

    def inbox(self, *names: str, sender: str = "alice", **fields: Any) -> InboxDeposit:
        how = {name: fields.pop(name) for name in _HOW if name in fields}
        offer = Offer(names or ("a",), **fields)
        deposit = InboxDeposit(self.directory, sender, offer, system=self.system, **how)
        self.addCleanup(deposit.discard)
        return deposit

    def stored(self, deposit: Deposit, *arrivals: Arrival) -> list[str]:
        """Prepare, take, show; return the names under which it appeared."""
        deposit.prepare()
        deposit.take(arrivals)
        return [each.path.name for each in deposit.show()]


class FileDepositTests(DepositTestCase):
    """``-o FILE`` and ``-o -``."""

    def test_one_file(self) -> None:
        """The file is replaced, whatever the sender called it, and not before the end."""
        path = self.directory / "outfile"
        path.write_bytes(b"old")
        deposit = FileDeposit(path, Offer(("in.txt",)))
        self.assertEqual(deposit.prepare(), [])
        deposit.take(file_of("in.txt", b"new ", b"content"))
        self.assertEqual(path.read_bytes(), b"old")
        (stored,) = deposit.show()
        self.assertEqual((stored.path, stored.size, stored.name), (path, 11, "in.txt"))
        self.assertEqual(self.listing(), {"outfile": b"new content"})

    def test_no_place_for_it(self) -> None:
        """Several things, and directories, do not fit into one file."""
        for make in (
            lambda offer: FileDeposit(self.directory / "outfile", offer),
            lambda offer: StreamDeposit(1, offer),
        ):
            many = self.assertRaises(RemoteProtocolError, make(Offer(("a", "b"))).prepare)
            self.assertIs(many.refusal, Refusal.NOT_ALLOWED)
            deposit = make(Offer(("d",)))
            deposit.prepare()
            error = self.assertRaises(RemoteProtocolError, deposit.take, directory("d"))
            self.assertIs(error.refusal, Refusal.NOT_ALLOWED)
            deposit.discard()
        self.assertEqual(self.listing(), {})

    def test_known_before(self) -> None:
        """What cannot be stored is known before the sender is told to go on."""
        for path, size in (
            (self.directory / "missing" / "outfile", 1),
            (self.directory, 1),
            (self.directory / "outfile", 1 << 60),
        ):
            deposit = FileDeposit(path, Offer(("a",), size=size))
            self.assertRaises(LocalIOError, deposit.prepare)
            deposit.discard()
        self.assertEqual(self.listing(), {})

    def test_stream(self) -> None:
        """Standard output gets the bytes as they come, and an error if nobody reads."""
        reading, writing = os.pipe()
        deposit = StreamDeposit(writing, Offer(("a",)))
        deposit.prepare()
        deposit.take(file_of("a", b"one", b"two")[:-1])
        self.assertEqual(os.read(reading, 100), b"onetwo")
        os.close(reading)
        self.assertRaises(LocalIOError, deposit.take, [Content(b"three")])
        os.close(writing)

    def test_into_a_fifo(self) -> None:
        """What is no regular file is written to, and stays what it is; nobody is waited for."""
        path = self.directory / "fifo"
        os.mkfifo(path)
        deposit = StreamDeposit(path, Offer(("a",)))
        error = self.assertRaises(LocalIOError, deposit.prepare)
        self.assertIn("nobody reads from", str(error))
        deposit.discard()
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        deposit.prepare()
        deposit.take(file_of("a", b"content"))
        (stored,) = deposit.show()
        self.assertEqual((stored.path, stored.size, stored.passed_on), (path, 7, True))
        self.assertEqual(os.read(reading, 100), b"content")
        self.assertEqual(os.read(reading, 100), b"", "it is closed when all is written")
        self.assertTrue(path.is_fifo())
        deposit = StreamDeposit(Path("/dev/null"), Offer(("a",)))
        deposit.prepare()
        deposit.take(file_of("a", b"content"))
        deposit.show()
        self.assertTrue(Path("/dev/null").is_char_device())
        # What leads to a descriptor of ours is written to where that is, whatever it is.
        log = self.directory / "log"
        fd = os.open(log, os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, fd)
        os.write(fd, b"before ")
        link = self.directory / "link"
        link.symlink_to(f"/dev/fd/{fd}")
        deposit = StreamDeposit(link, Offer(("a",)))
        deposit.prepare()
        deposit.take(file_of("a", b"content"))
        deposit.show()
        self.assertEqual((log.read_bytes(), link.is_symlink()), (b"before content", True))
        # What has become a file meanwhile is not written over.
        path.unlink()
        path.write_bytes(b"precious")
        self.assertRaises(LocalIOError, StreamDeposit(path, Offer(("a",))).prepare)
        self.assertEqual(path.read_bytes(), b"precious")

    def test_records(self) -> None:
        """The sealed records are kept beside it, each byte in its order, and go with it."""
        for whole in (True, False):
            inner = FileDeposit(self.directory / "outfile", Offer(("a",)))
            deposit = Recorded(inner, self.directory / "outenc")
            deposit.prepare()
            item, one, end = file_of("a", b"plain")
            deposit.take([Sealed(b"first "), item, Sealed(b"second "), one])
            deposit.take([Sealed(b"third"), end])
            if not whole:
                deposit.discard()
                self.assertEqual(self.listing(), {})
                continue
            deposit.show()
            expected = {"outfile": b"plain", "outenc": b"first second third"}
            self.assertEqual(self.listing(), expected)
            for path in self.directory.iterdir():
                path.unlink()


class InboxTests(DepositTestCase):
    """``--inbox DIR``."""

    def test_many(self) -> None:
        """Each thing gets its own name, in however many pieces it came."""
        deposit = self.inbox("a", "empty", "d")
        deposit.prepare()
        arrivals = file_of("a", b"1", b"2") + file_of("empty") + directory("d")
        for each in [*arrivals, *directory("d/e"), *file_of("d/e/x", b"3", executable=True)]:
            deposit.take([each])
        self.assertEqual(os.listdir(self.directory), [DIRECTORY])
        stored = deposit.show()
        self.assertEqual([each.path.name for each in stored], ["a", "empty", "d"])
        self.assertEqual([(each.size, each.files) for each in stored], [(2, 1), (0, 1), (1, 1)])
        self.assertEqual(self.listing(), {"a": b"12", "empty": b"", "d/e/x": b"3"})
        self.assertEqual(sorted(os.listdir(self.directory)), ["a", "d", "empty"])

    def test_modes(self) -> None:
        """What arrives is its receiver's alone; executable if the sender's was, never more."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.stored(
            self.inbox("d"),
            *(*directory("d"), *file_of("d/x", b"1"), *file_of("d/y", b"1", executable=True)),
        )
        for name, mode in (("d", 0o700), ("d/x", 0o600), ("d/y", 0o700)):
            found = stat.S_IMODE((self.directory / name).stat().st_mode)
            self.assertEqual(found, mode, name)

    def under(self, umask: int) -> None:
        self.addCleanup(os.umask, os.umask(umask))

    def test_times_and_modes(self) -> None:
        """They are kept as far as the umask lets them, in directories as well, and never setuid."""
        self.under(0o027)
        then = 1_000_000_000_123_456_789
        arrivals: list[Arrival] = [
            *(Item(Kind.DIRECTORY, "d", 0, mode=0o555, modified=then), Finished()),
            *file_of("d/a", b"1", mode=0o777, modified=then),
            *file_of("d/only read", b"2", mode=0o444, modified=-then),
            *file_of("d/old", b"3", executable=True),
            *(Item(Kind.DIRECTORY, "d/e", 0, mode=0, modified=then), Finished()),
            *file_of("d/e/secret", b"4", mode=0, modified=1 << 62),
        ]
        self.stored(self.inbox("d"), *arrivals)
        found = {path.name: path.stat() for path in self.directory.rglob("*")}
        self.assertEqual(
            {name: oct(stat.S_IMODE(status.st_mode)) for name, status in found.items()},
            {
                "d": "0o750",
                "e": "0o700",
                "a": "0o750",
                "only read": "0o440",
                "old": "0o700",
                "secret": "0o0",
            },
        )
        times = {name: status.st_mtime_ns for name, status in found.items()}
        self.assertEqual([times[name] for name in ("d", "a", "e")], [then] * 3)
        self.assertEqual(times["only read"], -then)

    def test_not_preserved(self) -> None:
        """A receiver that does not want them keeps nothing of that."""
        deposit = InboxDeposit(self.directory, "alice", Offer(("a",)), preserve=False)
        self.addCleanup(deposit.discard)
        before = time.time()
        self.stored(deposit, *file_of("a", b"1", mode=0o777, executable=True, modified=0))
        status = (self.directory / "a").stat()
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o700)
        self.assertGreater(status.st_mtime, before - 10)

    def test_only_to_be_read(self) -> None:
        """A file that nobody may write to is gone on with after a cut, and withdrawn, as others."""
        self.under(0o022)
        content = os.urandom(2 * MIB)
        read_only = file_of("d/a", content, mode=0o444)
        deposit = self.inbox("d")
        deposit.prepare()
        deposit.take([*directory("d"), *read_only])
        self.assertTrue(deposit.discard(keep=True))
        deposit = self.inbox("d")
        (held,) = deposit.prepare()
        taken_up = Item(Kind.FILE, "d/a", 2 * MIB, start=held.size, mode=0o444)
        gone = [*file_of("d/b", b"1", mode=0o444), Omitted("d/b", Why.CHANGED)]
        deposit.take([*directory("d"), taken_up, Finished(), *gone])
        deposit.show()
        self.assertEqual(self.listing(), {"d/a": content})
        self.assertEqual(stat.S_IMODE((self.directory / "d/a").stat().st_mode), 0o444)

    def test_holes(self) -> None:
        """What has holes has them here too, at its end as well, cut or not."""
        size = 4 * MIB
        data = bytes(MIB) + os.urandom(MIB // 2) + bytes(size - MIB - MIB // 2)
        pieces = [memoryview(data)[at : at + 65_000] for at in range(0, size, 65_000)]
        (item, *contents, end) = file_of("d/a", *pieces, sparse=True)
        deposit = self.inbox("d", size=size)
        deposit.prepare()
        deposit.take([*directory("d"), item, *contents[:50]])
        self.assertTrue(deposit.discard(keep=True))
        deposit = self.inbox("d", size=size)
        (held,) = deposit.prepare()
        self.assertEqual(held.size, 50 * 65_000)
        item = Item(Kind.FILE, "d/a", size, start=held.size, sparse=True)
        deposit.take([*directory("d"), item, *contents[50:], end])
        (stored,) = deposit.show()
        self.assertEqual(stored.size, size)
        status = (self.directory / "d/a").stat()
        self.assertEqual((self.directory / "d/a").read_bytes(), data)
        self.assertLess(status.st_blocks * 512, size // 3)

    def test_nothing_is_overwritten(self) -> None:
        """A name that is taken, by whatever it may be, is left alone; the next free one is used."""
        for with_system_call in (True, False):
            if not with_system_call:
                self.system = System(object())
                self.directory = self.directory / "again"
                self.directory.mkdir()
            (self.directory / "a").write_bytes(b"mine")
            (self.directory / "a (1)").symlink_to("nowhere")
            (self.directory / "d").mkdir()
            (self.directory / "d" / "precious").write_bytes(b"mine")
            deposit = self.inbox("a", "d")
            arrivals = [*file_of("a", b"1"), *directory("d"), *file_of("d/x", b"2")]
            self.assertEqual(self.stored(deposit, *arrivals), ["a (2)", "d (1)"])
            self.assertEqual((self.directory / "a").read_bytes(), b"mine")
            self.assertEqual(os.listdir(self.directory / "d"), ["precious"])
            self.assertEqual((self.directory / "d (1)" / "x").read_bytes(), b"2")
            self.assertFalse((self.directory / "nowhere").exists())

    def test_force(self) -> None:
        """With ``--force`` it takes the place of what is there; links are not followed."""
        outside = self.directory / "outside"
        outside.write_bytes(b"precious")
        (self.directory / "a").symlink_to(outside)
        (self.directory / "d").mkdir()
        (self.directory / "d" / "old").write_bytes(b"old")
        (self.directory / "f").write_bytes(b"old")
        deposit = self.inbox("a", "d", "f", "new", force=True)
        arrivals = [*file_of("a", b"1"), *directory("d"), *file_of("d/x", b"2")]
        arrivals += [*file_of("f", b"3"), *file_of("new", b"4")]
        self.assertEqual(self.stored(deposit, *arrivals), ["a", "d", "f", "new"])
        expected = {"outside": b"precious", "a": b"1", "d/x": b"2", "f": b"3", "new": b"4"}
        self.assertEqual(self.listing(), expected)

    def test_durable_first(self) -> None:
        """Before a name appears, the content of everything is on the disk."""
        seen: list[str] = []

        def watch(where: Any, name: str) -> None:
            original = getattr(where, name)

            def call(*args: Any, **named: Any) -> Any:
                seen.append(name)
                return original(*args, **named)

            self.patch(where, name, call)

        class Watched(System):
            def rename(self, *args: Any) -> bool:
                seen.append("rename")
                return SYSTEM.rename(*args)

        self.system = Watched(object())
        deposit = self.inbox("a", "b")
        deposit.prepare()
        seen.clear()  # of what was tried
        watch(os, "fsync")
        deposit.take(file_of("a", b"1") + file_of("b", b"2"))
        self.assertEqual(seen, ["fsync"] * 2)
        deposit.show()
        self.assertEqual(seen[2:], ["fsync", "rename", "rename", "fsync"])

    def test_many_durable_at_once(self) -> None:
        """Any number of files takes no descriptors with it, and one call makes them durable."""
        for has_syncfs in (True, False):
            if not has_syncfs:
                self.system = System(object())
            seen: list[tree_module.Tree] = []

            def watched(
                tree: tree_module.Tree, system: System, seen: list[tree_module.Tree] = seen
            ) -> None:
                seen.append(tree)
                tree_module.sync_all(tree, system)

            self.patch(inbox_module, "sync_all", watched)
            deposit = self.inbox("d")
            deposit.prepare()
            before = len(os.listdir("/proc/self/fd"))
            deposit.take(
                [*directory("d"), *(x for n in range(300) for x in file_of(f"d/{n}", b"x"))]
            )
            self.assertLessEqual(len(os.listdir("/proc/self/fd")), before + 1)
            (stored,) = deposit.show()
            self.assertEqual((stored.files, len(list(stored.path.iterdir()))), (300, 300))
            self.assertEqual(len(seen), 1)

    def test_all_or_nothing(self) -> None:
        """If the last thing cannot be given its name, the ones before it disappear again."""
        given = []

        class Full(System):
            def rename(self, source_fd: int, source: str, *rest: Any) -> bool:
                if source == "c":
                    raise OSError(errno.ENOSPC, "no space")
                given.append(source)
                return SYSTEM.rename(source_fd, source, *rest)

        self.system = Full(object())
        (self.directory / "a").write_bytes(b"mine")
        deposit = self.inbox("a", "b", "c")
        deposit.prepare()
        deposit.take(file_of("a", b"1") + file_of("b", b"2") + file_of("c", b"3"))
        self.assertRaises(LocalIOError, deposit.show)
        self.assertEqual(given[2:], ["a", "a", "b"])  # two were to see whether it can be
        deposit.discard()
        self.assertEqual(self.listing(), {"a": b"mine"})
        self.assertEqual(os.listdir(self.directory), ["a"])

    def test_discard(self) -> None:
        """What is discarded leaves nothing, however far it had come."""
        stream = [*directory("d"), *file_of("d/a", b"1"), *file_of("b", b"2")]
        for length in range(len(stream)):
            deposit = self.inbox("d", "b")
            deposit.prepare()
            deposit.take(stream[:length])
            self.assertFalse(deposit.discard())
            self.assertEqual(os.listdir(self.directory), [])

    def test_twice(self) -> None:
        """One name twice, and something below what is no directory, are malformed."""
        for arrivals in (
            file_of("a", b"1") * 2,
            [*directory("d"), *directory("d")],
            [*file_of("a", b"1"), *file_of("a/b", b"2")],
            file_of("d/b", b"2"),
        ):
            deposit = self.inbox("a", "d")
            deposit.prepare()
            self.assertRaises((RemoteProtocolError, LocalIOError), deposit.take, arrivals)
            deposit.discard()
            self.assertEqual(os.listdir(self.directory), [])

    def test_no_room(self) -> None:
        """What cannot fit is refused before it comes; a missing inbox, too."""
        deposit = self.inbox("a", size=1 << 60)
        error = self.assertRaises(LocalIOError, deposit.prepare)
        self.assertIn("No space", str(error))
        deposit.discard()
        missing = InboxDeposit(self.directory / "missing", "alice", Offer(("a",)))
        self.assertRaises(LocalIOError, missing.prepare)
        missing.discard()
        self.assertEqual(os.listdir(self.directory), [])


class PlantedTests(DepositTestCase):
    """Somebody else can write where things arrive."""

    def setUp(self) -> None:
        super().setUp()
        self.outside = Path(self.mktemp())
        self.outside.mkdir()

    def attempt(self) -> Path:
        """Where the transfer that is under way is put together."""
        (found,) = self.directory.glob(f"{DIRECTORY}/*/1")
        return found

    def test_link_for_the_receipts(self) -> None:
        """A link in the place of what is written down of a transfer leads nowhere."""
        victim = self.outside / "victim"
        make = os.mkdir

        def planting(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            make(path, mode, dir_fd=dir_fd)
            if path == "1":
                os.symlink(victim.absolute(), "1.received", dir_fd=dir_fd)

        self.patch(os, "mkdir", planting)
        deposit = self.inbox("a")
        error = self.assertRaises(LocalIOError, deposit.prepare)
        self.assertIn("File exists", str(error))
        deposit.discard()
        self.assertFalse(victim.exists())

    def test_names_that_are_no_numbers(self) -> None:
        """What is no attempt of ours where transfers are put together is passed over."""
        deposit = self.inbox("a")
        deposit.prepare()
        for name in ("\u00b2", "\u00b2.received", "x", "-1", "1x"):
            (self.attempt().parent / name).touch()
        deposit.take(file_of("a", b"1"))
        deposit.discard()
        again = self.inbox("a")
        again.prepare()
        again.discard()

    def test_link_during_the_transfer(self) -> None:
        """A link in the place of a directory leads nowhere: nothing is written outside."""
        for warm in (True, False):
            deposit = self.inbox("d", "z")
            deposit.prepare()
            deposit.take([*directory("d"), *directory("d/e")])
            if warm:
                deposit.take(file_of("d/e/0", b"0"))
            else:
                deposit.take(directory("d/other"))
            place = self.attempt() / "d"
            place.rename(self.attempt() / "moved")
            (self.attempt() / "d").symlink_to(self.outside.absolute())
            (self.outside / "e").mkdir(exist_ok=True)
            arrivals = [*file_of("z", b"1"), *file_of("d/e/x", b"secret")]
            self.assertRaises((LocalIOError, RemoteProtocolError), deposit.take, arrivals)
            self.assertEqual(os.listdir(self.outside / "e"), [])
            deposit.discard()

    @PROPERTY
    @given(st.permutations(range(6)), st.integers(0, 5))
    def test_links_anywhere(self, order: list[int], at: int) -> None:
        """Whatever is replaced by a link, and when: no byte gets outside, no link is followed."""
        paths = ["d", "d/a", "d/a/b", "d/a/b/c", "e", "e/f"]
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        deposit = self.inbox("d", "e")
        deposit.prepare()
        try:
            for number, path in enumerate(paths):
                deposit.take(directory(path))
                deposit.take(file_of(f"{path}/x", b"secret"))
                if number == at:
                    for victim in order:
                        place = self.attempt() / paths[victim]
                        if place.is_dir() and not place.is_symlink():
                            place.rename(self.attempt() / f"moved-{victim}")
                            place.symlink_to(self.outside.absolute())
                            break
            deposit.show()
        except (LocalIOError, RemoteProtocolError):
            deposit.discard()
        self.assertEqual(os.listdir(self.outside), [])

    def test_shared_partials(self) -> None:
        """A place for partial files that others can look into, or a link to one, is refused."""
        for mode in (0o777, 0o755, 0o710):
            (self.directory / DIRECTORY).mkdir()
            (self.directory / DIRECTORY).chmod(mode)
            error = self.assertRaises(LocalIOError, self.inbox().prepare)
            self.assertIn("open to others", str(error))
            (self.directory / DIRECTORY).rmdir()
        (self.directory / DIRECTORY).symlink_to(self.outside.absolute())
        self.assertRaises(LocalIOError, self.inbox().prepare)
        self.assertEqual(os.listdir(self.outside), [])

    def test_reopened(self) -> None:
        """What is gone on with is an ordinary file of one name, even at the last moment."""
        (self.outside / "precious").write_bytes(b"1")
        (self.outside / "other").write_bytes(b"1")
        (self.directory / "link").symlink_to((self.outside / "other").absolute())
        os.link(self.outside / "precious", self.directory / "second")
        os.mkfifo(self.directory / "pipe")
        tree = tree_module.Tree(os.open(self.directory, os.O_RDONLY))
        self.addCleanup(tree.close)
        for name in ("link", "second", "pipe"):
            self.assertRaises(OSError, tree.reopen, (name,))

    def test_links_that_are_held(self) -> None:
        """A link, or a file with a second name, among partial files is not gone on with."""
        precious = self.outside / "precious"
        precious.write_bytes(bytes(2 * MIB))
        first = self.inbox("a")
        first.prepare()
        first.take(file_of("a", bytes(2 * MIB))[:-1])
        for plant in (os.symlink, os.link):
            place = self.attempt() / "a"
            place.unlink()
            plant(precious.absolute(), place)
            self.assertTrue(first.discard(keep=True))
            again = self.inbox("a")
            self.assertEqual(again.prepare(), [])
            again.discard()
            self.assertEqual(precious.read_bytes(), bytes(2 * MIB))
            first = self.inbox("a")
            first.prepare()
            first.take(file_of("a", bytes(2 * MIB))[:-1])


class ResumeTests(DepositTestCase):
    """What was cut is gone on with."""

    def cut(self, *arrivals: Arrival, keep: bool = True, **fields: Any) -> bool:
        deposit = self.inbox("a", "d", **fields)
        deposit.prepare()
        deposit.take(arrivals)
        return deposit.discard(keep=keep)

    def test_what_is_long_goes_to_the_disk_while_it_arrives(self) -> None:
        """Each file by itself; one that is gone on with from there."""
        asked: list[tuple[int, int]] = []
        self.patch(os, "posix_fadvise", lambda fd, start, count, _: asked.append((start, count)))
        files = [*file_of("a", *[bytes(MIB)] * 9), *directory("d")]
        files += file_of("d/x", *[bytes(MIB)] * 9)[:-1]
        deposit = self.inbox("a", "d")
        deposit.prepare()
        for arrival in files:
            deposit.take([arrival])
        deposit.discard(keep=True)
        self.assertEqual(asked, [(0, 8 * MIB)] * 2)

        asked.clear()
        deposit = self.inbox("a", "d")
        deposit.prepare()
        deposit.take([*file_of("a", start=9 * MIB), *directory("d")])
        for arrival in file_of("d/x", *[bytes(MIB)] * 9, start=9 * MIB):
            deposit.take([arrival])
        self.assertEqual(asked, [(0, 17 * MIB)])

    def test_goes_on(self) -> None:
        """What is there is told, by name, size and digest; the rest is appended."""
        whole, half = bytes(range(256)) * 8192, os.urandom(MIB)
        files = [*file_of("a", whole), *directory("d"), *file_of("d/x", half)[:-1]]
        self.assertTrue(self.cut(*files))
        self.assertEqual(os.listdir(self.directory), [DIRECTORY])

        deposit = self.inbox("a", "d")
        held = {each.name: each for each in deposit.prepare()}
        digest = hashlib.sha256(half).hexdigest()
        self.assertEqual(held["d/x"], Held("d/x", MIB, digest))
        deposit.take([*file_of("a", start=len(whole)), *directory("d")])
        deposit.take(file_of("d/x", b"the rest", start=MIB))
        stored = deposit.show()
        self.assertEqual([each.size for each in stored], [len(whole), MIB + 8])
        self.assertEqual(self.listing(), {"a": whole, "d/x": half + b"the rest"})

    def test_withdrawn(self) -> None:
        """What was withdrawn is not gone on with; what came again after that is."""
        content = os.urandom(2 * MIB)
        again = Omitted("d/a", Why.CHANGED, again=True)
        kept = [*directory("d"), *file_of("d/big", bytes(2 * MIB))]
        whole = [*file_of("d/a", bytes(2 * MIB)), again]
        for arrivals, held in (
            (whole, set()),
            ([*whole, *file_of("d/a", content)[:-1]], {"d/a"}),
            ([*whole, *file_of("d/a", content), Omitted("d/a", Why.CHANGED)], set()),
        ):
            deposit = self.inbox("d", size=8 * MIB)
            deposit.prepare()
            deposit.take([*kept, *arrivals])
            self.assertTrue(deposit.discard(keep=True))
            deposit = self.inbox("d", size=8 * MIB)
            self.assertEqual({each.name for each in deposit.prepare()}, {"d/big"} | held)
            deposit.discard()
        # Nor does it come back when it is taken up again, and changes only then.
        deposit = self.inbox("d", size=8 * MIB)
        deposit.prepare()
        deposit.take([*kept, *file_of("d/a", content)])
        deposit.discard(keep=True)
        deposit = self.inbox("d", size=8 * MIB)
        deposit.prepare()
        start = Item(Kind.FILE, "d/a", 2 * MIB, start=2 * MIB)
        taken_up: list[Arrival] = [start, Finished(), again]
        deposit.take([*directory("d"), *taken_up, *file_of("d/a", b"new")])
        (stored,) = deposit.show()
        self.assertEqual((stored.files, stored.size), (1, 3))
        self.assertEqual(self.listing(), {"d/a": b"new"})

    def test_omitted_at_the_top(self) -> None:
        """Of several things the others are shown; one that came again is there once."""
        again = Omitted("a", Why.CHANGED, again=True)
        arrivals = [*file_of("a", b"1"), again, *file_of("a", b"2"), Omitted("b", Why.GONE)]
        self.assertEqual(self.stored(self.inbox("a", "b"), *arrivals), ["a"])
        self.assertEqual(self.listing(), {"a": b"2"})
        # What is omitted and has not come is nothing that came before it.
        arrivals = [*file_of("c", b"3"), Omitted("d", Why.GONE), Omitted("c", Why.GONE)]
        self.assertEqual(self.stored(self.inbox("c", "d"), *arrivals), ["c"])

    def test_leftovers_never_appear(self) -> None:
        """What is not sent again is not shown, nor is a tail that the sender does not want."""
        many = [*directory("d"), *file_of("d/old", bytes(MIB)), *file_of("d/x", b"12345")]
        self.assertTrue(self.cut(*file_of("a", b"old"), *many))
        deposit = self.inbox("a", "d")
        deposit.prepare()
        arrivals = [*file_of("a", b"new"), *directory("d"), *file_of("d/x", start=3)]
        self.assertEqual(self.stored_again(deposit, arrivals), {"a": b"new", "d/x": b"123"})

    def stored_again(self, deposit: Deposit, arrivals: list[Arrival]) -> dict[str, bytes]:
        deposit.take(arrivals)
        deposit.show()
        return self.listing()

    def test_cut_many_times(self) -> None:
        """Each attempt goes on from all the earlier ones, the newest first."""
        content = os.urandom(8 * MIB)
        for number in range(7):
            deposit = self.inbox("a", "d")
            have = sum(each.size for each in deposit.prepare())
            self.assertEqual(have, number * MIB)
            item = Item(Kind.FILE, "a", len(content), start=have)
            deposit.take([item, Content(content[have : have + MIB])])
            self.assertTrue(deposit.discard(keep=True))
        deposit = self.inbox("a", "d")
        (held,) = deposit.prepare()
        arrivals = [*file_of("a", content[held.size :], start=held.size), *directory("d")]
        deposit.take(arrivals)
        deposit.show()
        self.assertEqual(self.listing(), {"a": content})
        self.assertNotIn(DIRECTORY, os.listdir(self.directory))

    def test_more_than_is_held(self) -> None:
        """Who claims that more is here than there is, is refused."""
        self.cut(*file_of("a", bytes(MIB))[:-1])
        for name, start in (("a", MIB + 1), ("b", 1)):
            deposit = self.inbox("a", "d")
            deposit.prepare()
            self.assertRaises(RemoteProtocolError, deposit.take, file_of(name, b"x", start=start))
            deposit.discard(keep=True)

    def test_twice(self) -> None:
        """What has come anew is not replaced by what was held under the same name."""
        self.cut(*file_of("a", bytes(MIB))[:-1])
        deposit = self.inbox("a", "d")
        deposit.prepare()
        deposit.take(file_of("a", b"new"))
        self.assertRaises(RemoteProtocolError, deposit.take, file_of("a", start=MIB))

    def test_not_worth_it(self) -> None:
        """Little, what was wrong, and what has no size are not kept."""
        self.assertFalse(self.cut(*file_of("a", bytes(1000))[:-1]))
        self.assertFalse(self.cut(*file_of("a", bytes(MIB))[:-1], keep=False))
        self.assertFalse(self.cut(Item(Kind.FILE, "a", None), Content(bytes(MIB))))
        self.assertEqual(os.listdir(self.directory), [])

    def test_others(self) -> None:
        """Another sender, or another offer, finds nothing."""
        self.assertTrue(self.cut(*file_of("a", bytes(MIB))[:-1]))
        for sender, names in (("mallory", ("a", "d")), ("alice", ("a",)), ("alice", ("a", "e"))):
            deposit = self.inbox(*names, sender=sender)
            self.assertEqual(deposit.prepare(), [])
            deposit.discard()
        self.assertEqual(len(self.inbox("a", "d").prepare()), 1)

    def test_at_the_same_time(self) -> None:
        """Two of the same do not get into each other's way; the second keeps nothing."""
        first, second = self.inbox("a"), self.inbox("a")
        first.prepare()
        second.prepare()
        for each, content in ((first, b"1"), (second, b"2")):
            each.take(file_of("a", content * MIB))
        self.assertEqual([each.path.name for each in first.show()], ["a"])
        self.assertFalse(second.discard(keep=True))
        third = self.inbox("a")
        self.assertEqual(third.prepare(), [])
        third.discard()
        self.assertEqual(os.listdir(self.directory), ["a"])

    def test_tidy(self) -> None:
        """After a week it is gone, and of one sender no more than a few are kept."""
        for number in range(room_module._MAX_KEPT_OF_ONE_SENDER + 3):
            deposit = self.inbox(f"file{number}")
            deposit.prepare()
            deposit.take(file_of(f"file{number}", bytes(MIB))[:-1])
            self.assertTrue(deposit.discard(keep=True))
        partials = self.directory / DIRECTORY
        fd = os.open(self.directory, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        room_module.tidy(fd, "bob")
        self.assertEqual(len(os.listdir(partials)), room_module._MAX_KEPT_OF_ONE_SENDER)
        room_module.tidy(fd, "alice")
        self.assertEqual(len(os.listdir(partials)), room_module._MAX_KEPT_OF_ONE_SENDER)
        busy = self.inbox("file7")
        self.assertEqual(len(busy.prepare()), 1)
        room_module.tidy(fd, now=time.time() + room_module.KEEP_SECONDS + 60)
        self.assertEqual(len(os.listdir(partials)), 1)

    def test_room_is_made(self) -> None:
        """What is kept gives way to what comes, the oldest first."""
        for number in range(3):
            deposit = self.inbox(f"file{number}")
            deposit.prepare()
            deposit.take(file_of(f"file{number}", bytes(MIB))[:-1])
            deposit.discard(keep=True)
            (place,) = self.directory.glob(f"{DIRECTORY}/{deposit.key}")
            os.utime(place, (1000 * number, time.time() - 1000 + number))
        fd = os.open(self.directory, os.O_RDONLY)
        self.addCleanup(os.close, fd)

        def five(_: int) -> int:
            return 5

        room_module.make_room(fd, "alice", MIB, five)
        left = os.listdir(self.directory / DIRECTORY)
        self.assertEqual(len(left), 2)
        self.assertNotIn(self.inbox("file0").key, left)
        self.assertRaises(LocalIOError, room_module.make_room, fd, "alice", 3 * MIB, five)
        self.assertRaises(LocalIOError, room_module.make_room, fd, "mallory", MIB, five)
        self.assertEqual(os.listdir(self.directory / DIRECTORY), left)

    def test_absurd_offers(self) -> None:
        """However much is offered, it costs nobody what is kept for somebody else."""
        self.assertTrue(self.cut(*file_of("a", bytes(MIB))[:-1]))
        partials = self.directory / DIRECTORY
        before = os.listdir(partials)
        for sender, names in (("mallory", ("x",)), ("alice", ("x",)), ("alice", ("a", "d"))):
            deposit = self.inbox(*names, sender=sender, size=1 << 60)
            self.assertRaises(LocalIOError, deposit.prepare)
            deposit.discard(keep=True)
            self.assertEqual(os.listdir(partials), before)
        # Nor if there would be room without it: nobody knows whether it will ever come.
        deposit = self.inbox("x", sender="mallory", size=MIB // 2, free=lambda _: 0)
        self.assertRaises(LocalIOError, deposit.prepare)
        deposit.discard()
        self.assertEqual(os.listdir(partials), before)
        deposit = self.inbox("x", size=MIB // 2, free=lambda _: 0)
        self.assertEqual(deposit.prepare(), [])
        self.assertEqual(os.listdir(partials), [deposit.key])

    def test_not_what_is_gone_on_with(self) -> None:
        """Of too many of one sender the oldest goes, but if it is that which goes on."""
        for number in range(room_module._MAX_KEPT_OF_ONE_SENDER):
            deposit = self.inbox(f"file{number}")
            deposit.prepare()
            deposit.take(file_of(f"file{number}", bytes(MIB))[:-1])
            self.assertTrue(deposit.discard(keep=True))
            (place,) = self.directory.glob(f"{DIRECTORY}/{deposit.key}")
            os.utime(place, (1000, time.time() - 1000 + number))
        oldest = self.inbox("file0")
        self.assertEqual(len(oldest.prepare()), 1)
        other = self.inbox("other")
        other.prepare()
        oldest.take(file_of("file0", b"rest", start=MIB))
        oldest.show()
        self.assertEqual((self.directory / "file0").read_bytes(), bytes(MIB) + b"rest")

    def test_killed(self) -> None:
        """Who is killed has kept all but the last MiB of a file, though nothing was finished."""
        first = self.inbox("a")
        first.prepare()
        content = os.urandom(5 * MIB + 1000)
        first.take([Item(Kind.FILE, "a", 9 * MIB)])
        for at in range(0, len(content), MIB // 4):
            first.take([Content(content[at : at + MIB // 4])])
        self.kill(first)
        (held,) = self.inbox("a").prepare()
        self.assertGreater(held.size, 4 * MIB)
        self.assertEqual(held.sha256, hashlib.sha256(content[: held.size]).hexdigest())

    def kill(self, deposit: InboxDeposit) -> None:
        """As far as others can see."""
        os.close(deposit._required._fd)  # which is what the system does with its lock
        deposit._required._fd = os.open("/dev/null", os.O_RDONLY)

    def test_changed_here(self) -> None:
        """What is not as it came is neither told of nor gone on with."""
        for planted in (b"x" * MIB, b"short", bytes(MIB) + b"more"):
            self.assertTrue(self.cut(*file_of("a", bytes(MIB))[:-1]))
            (part,) = self.directory.glob(f"{DIRECTORY}/*/1/a")
            part.write_bytes(planted)
            (part.parent / "other").write_bytes(b"x" * MIB)
            deposit = self.inbox("a", "d")
            told = [(held.name, held.size) for held in deposit.prepare()]
            self.assertEqual(told, [("a", MIB)] if len(planted) > MIB else [])
            deposit.discard()

    def test_long_goes_on(self) -> None:
        """Of a long file what was written down is told, and what is there is read meanwhile."""
        kept = os.urandom(2 * MIB)
        for start in (2 * MIB, MIB):  # a sender may rely on less
            self.assertTrue(self.cut(*file_of("a", kept)[:-1]))
            deposit = self.inbox("a", "d", long_bytes=MIB)
            (held,) = deposit.prepare()
            self.assertEqual(held.sha256, hashlib.sha256(kept).hexdigest())
            deposit.take(file_of("a", b"rest", start=start))
            (stored,) = deposit.show()
            self.assertEqual(stored.path.read_bytes(), kept[:start] + b"rest")
            stored.path.unlink()

    def test_long_changed_here(self) -> None:
        """What is not as it came is told of, and never shown; the next time it is not told."""
        for planted in (b"x" * 2 * MIB, bytes(2 * MIB - 1) + b"y", b"y" + bytes(3 * MIB)):
            self.assertTrue(self.cut(*file_of("a", bytes(2 * MIB))[:-1]))
            (part,) = self.directory.glob(f"{DIRECTORY}/*/1/a")
            part.write_bytes(planted)
            deposit = self.inbox("a", "d", long_bytes=MIB)
            (held,) = deposit.prepare()
            self.assertEqual(held.sha256, hashlib.sha256(bytes(2 * MIB)).hexdigest())
            self.assertRaises(Anew, deposit.take, file_of("a", b"rest", start=held.size))
            deposit.discard(keep=True)
            deposit = self.inbox("a", "d", long_bytes=MIB)
            self.assertEqual(deposit.prepare(), [])
            deposit.discard()
            self.assertEqual(os.listdir(self.directory), [])

    def later(self, content: bytes) -> tuple[InboxDeposit, ReadLater]:
        """One that goes on with a long file of which ``content`` is kept, and has read nothing."""
        self.assertTrue(self.cut(*file_of("a", content)[:-1]))
        later = ReadLater()
        deposit = self.inbox("a", "d", long_bytes=MIB, rereading=lambda: later)
        self.assertEqual([each.size for each in deposit.prepare()], [len(content)])
        return deposit, later

    def test_long_is_read_later(self) -> None:
        """Nothing waits for what was kept to be read, but what is written down of it does."""
        kept, more = os.urandom(2 * MIB), os.urandom(3 * MIB)
        for sparse in (False, True):
            whole = kept + more + bytes(MIB)
            for read in (False, True):
                deposit, later = self.later(kept)
                item = Item(Kind.FILE, "a", len(whole), start=len(kept), sparse=sparse)
                deposit.take([item, Content(more), Content(bytes(MIB))])
                if read:
                    later.read()
                    deposit.take([Content(b"")])
                if read:
                    self.assertTrue(deposit.discard(keep=True))
                else:
                    self.kill(deposit)
                deposit = self.inbox("a", "d")
                (held,) = deposit.prepare()
                size = len(whole) if read else len(kept)
                self.assertEqual((held.size, held.sha256), (size, sha256(whole[:size])))
                deposit.take(file_of("a", whole[size:], start=size))
                (stored,) = deposit.show()
                self.assertEqual(stored.path.read_bytes(), whole)
                stored.path.unlink()

    def test_long_was_changed_here(self) -> None:
        """As soon as it is found out, it is begun anew: not only when all has come."""
        kept = bytes(2 * MIB)
        deposit, later = self.later(kept)
        (part,) = self.directory.glob(f"{DIRECTORY}/*/1/a")
        part.write_bytes(kept[:-1] + b"x")
        deposit.take([Item(Kind.FILE, "a", 9 * MIB, start=len(kept)), Content(bytes(MIB))])
        later.read()
        self.assertRaises(Anew, deposit.take, [Content(bytes(MIB))])
        deposit.discard(keep=True)
        self.assertEqual(self.inbox("a", "d", long_bytes=MIB).prepare(), [])

    def test_long_has_another_name_now(self) -> None:
        """What is gone on with is what is read, and nothing that was put in its place."""
        kept = bytes(2 * MIB)
        deposit, later = self.later(kept)
        (part,) = self.directory.glob(f"{DIRECTORY}/*/1/a")
        part.rename(part.with_name("kept"))
        part.write_bytes(b"x" * 2 * MIB)
        deposit.take([Item(Kind.FILE, "a", 9 * MIB, start=len(kept)), Content(b"rest")])
        later.read()
        self.assertTrue(deposit.discard(keep=True))
        self.assertNotIn(b"rest", part.parent.parent.joinpath("2/a").read_bytes())

    def test_long_given_up(self) -> None:
        """Who leaves before it has been read is not waited for, and keeps nothing open."""
        before = len(os.listdir("/proc/self/fd"))
        self.assertTrue(self.cut(*directory("d"), *file_of("d/a", bytes(20 * MIB))[:-1]))
        deposit = self.inbox("a", "d", long_bytes=MIB)
        self.assertEqual([each.size for each in deposit.prepare()], [20 * MIB])
        deposit.discard()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_many_attempts(self) -> None:
        """However often it is cut, there are few of them, and few descriptors."""
        self.assertTrue(self.cut(*file_of("a", bytes(MIB))[:-1]))
        for _ in range(partials_module._MAX_ATTEMPTS + 10):
            deposit = self.inbox("a", "d")
            deposit.prepare()
            deposit.take(file_of("a", b"x", start=MIB)[:-1])
            deposit.discard(keep=True)
        (place,) = self.directory.glob(f"{DIRECTORY}/*")
        attempts = [path for path in place.iterdir() if path.is_dir()]
        self.assertLessEqual(len(attempts), partials_module._MAX_ATTEMPTS + 1)

    def test_begun_anew(self) -> None:
        """Who never recognises what is held, or sends something else each time, fills no disk."""
        for other_names in (False, True):
            for number in range(8):
                deposit = self.inbox("d", size=2 * MIB, items=2)
                deposit.prepare()
                name = f"d/{number if other_names else 0}"
                deposit.take([*directory("d"), *file_of(name, bytes(2 * MIB))])
                self.assertTrue(deposit.discard(keep=True))
                kept = sum(len(content) for content in self.listing().values())
                self.assertLess(kept, 6 * MIB + 100_000, (other_names, number))

    def test_root_elsewhere(self) -> None:
        """A link in the place of the root leads nowhere, and what is another user's is not used."""
        root = self.directory / DIRECTORY
        outside = Path(self.mktemp()).absolute()
        outside.mkdir(mode=0o700)
        root.symlink_to(outside)
        self.assertRaises(LocalIOError, self.inbox().prepare)
        self.assertEqual(list(outside.iterdir()), [])
        root.unlink()
        root.mkdir(mode=0o700)
        if os.geteuid() == 0:  # who is not root cannot give anything away
            os.chown(root, 12345, -1)
            self.assertRaises(LocalIOError, self.inbox().prepare)
            self.assertEqual(list(root.iterdir()), [])

    def test_a_reserve(self) -> None:
        """The last hundredth of a disk, up to 64 MiB, is left alone."""
        block, reserve = 4096, 64 * MIB

        def disk(blocks: int, available: int) -> Any:
            return lambda _: types.SimpleNamespace(
                f_blocks=blocks, f_frsize=block, f_bavail=available
            )

        for blocks, available, free in (
            (10**8, 10**8, 10**8 * block - reserve),
            (100_000, 50_000, 49_000 * block),
            (100_000, 999, 0),
        ):
            self.patch(os, "fstatvfs", disk(blocks, available))
            self.assertEqual(room_module.free_bytes(-1), free)

    def test_executable_or_not(self) -> None:
        """What is gone on with has the mode of what is sent now."""
        for before, now in ((False, True), (True, False)):
            self.assertTrue(self.cut(*file_of("a", bytes(MIB), executable=before)[:-1]))
            deposit = self.inbox("a", "d")
            deposit.prepare()
            deposit.take(file_of("a", b"x", start=MIB, executable=now))
            (part,) = self.directory.glob(f"{DIRECTORY}/*/2/a")
            self.assertEqual(stat.S_IMODE(part.stat().st_mode), 0o700 if now else 0o600)
            deposit.discard()

    def test_more_than_was_told(self) -> None:
        """Behind what was told of a part there may be more, of others: it is not gone on with."""
        self.assertTrue(self.cut(*file_of("a", bytes(MIB))[:-1]))
        (part,) = self.directory.glob(f"{DIRECTORY}/*/1/a")
        with part.open("ab") as file:
            file.write(b"of others")
        deposit = self.inbox("a", "d")
        self.assertEqual([held.size for held in deposit.prepare()], [MIB])
        arrivals = file_of("a", b"x", start=MIB + 9)
        self.assertRaises(RemoteProtocolError, deposit.take, arrivals)
        deposit.discard()

    def test_a_note_of_what_was_not_whole(self) -> None:
        """Receipts that a power cut has shortened are no reason to say that all was shown."""
        pieces = [os.urandom(MIB) for _ in range(3)]
        deposit = self.inbox("a", size=3 * MIB, process="x")
        deposit.prepare()
        for arrival in file_of("a", *pieces):
            deposit.take([arrival])
        deposit.show()
        (receipts,) = self.directory.glob(f"{DIRECTORY}/*/*.received")
        lines = receipts.read_bytes().splitlines(keepends=True)
        self.assertGreater(len(lines), 1)
        for kept, noted in ((lines, True), (lines[:-1], False)):
            receipts.write_bytes(b"".join(kept))
            again = self.inbox("a", size=3 * MIB, process="x")
            self.assertIs(again.open().noted() is not None, noted)
            again.discard()

    def test_root_removed(self) -> None:
        """Another transfer that was the last one removes the root while we open it."""
        real = os.open
        calls: list[int] = []

        def removed(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            fd = real(path, flags, mode, dir_fd=dir_fd)
            if path == DIRECTORY and len(calls) < 2:
                if not calls:
                    os.rmdir(path, dir_fd=dir_fd)
                calls.append(fd)
            return fd

        self.patch(os, "open", removed)
        self.assertEqual(self.stored(self.inbox(), *file_of("a", b"1")), ["a"])
        self.assertEqual((len(calls), os.listdir(self.directory)), (2, ["a"]))

    def test_root_removed_before(self) -> None:
        """Or between our finding it and our opening it."""
        real = os.open
        calls: list[Any] = []

        def removed(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if path == DIRECTORY and not calls:
                calls.append(path)
                os.rmdir(path, dir_fd=dir_fd)
            return real(path, flags, mode, dir_fd=dir_fd)

        self.patch(os, "open", removed)
        self.assertEqual(self.stored(self.inbox(), *file_of("a", b"1")), ["a"])
        self.assertEqual((calls, os.listdir(self.directory)), ([DIRECTORY], ["a"]))

    def test_inbox_removed(self) -> None:
        """An inbox that is no more is no reason to try for ever."""
        inbox = self.inbox()
        self.directory.rmdir()
        self.assertIn("No such file", str(self.assertRaises(LocalIOError, inbox.prepare)))

    def test_place_removed(self) -> None:
        """Or our place, between our opening and locking it."""
        real = fcntl.flock
        calls: list[int] = []

        def removed(fd: int, operation: int) -> None:
            if not calls:
                (place,) = self.directory.glob(f"{DIRECTORY}/*")
                place.rmdir()
            calls.append(fd)
            real(fd, operation)

        self.patch(fcntl, "flock", removed)
        self.assertEqual(self.stored(self.inbox(), *file_of("a", b"1")), ["a"])
        self.assertEqual(os.listdir(self.directory), ["a"])

    def test_planted_note(self) -> None:
        """Nothing is written through a link where a note would be."""
        outside = Path(self.mktemp())
        outside.write_bytes(b"precious")
        deposit = InboxDeposit(self.directory, "alice", Offer(("a",), size=1), process="x")
        deposit.prepare()
        deposit.take(file_of("a", b"1"))
        (place,) = self.directory.glob(f"{DIRECTORY}/*")
        (place / "showing").symlink_to(outside.absolute())
        self.assertRaises(LocalIOError, deposit.show)
        deposit.discard()
        self.assertEqual(outside.read_bytes(), b"precious")


class DurableTests(DepositTestCase):
    """The last step: what is called stored is on the disk."""

    def many(self) -> list[Arrival]:
        return [*directory("d"), *(x for n in range(40) for x in file_of(f"d/{n}", b"x"))]

    def test_many_at_once(self) -> None:
        """Many files are made durable by one call of the system, before the first gets its name."""
        seen: list[str] = []
        inbox_device = self.directory.stat().st_dev

        class Watched(System):
            def sync(self, fd: int) -> bool:
                seen.append("syncfs" if os.fstat(fd).st_dev == inbox_device else "elsewhere")
                return SYSTEM.sync(fd)

            def rename(self, *args: Any) -> bool:
                seen.append("rename")
                return SYSTEM.rename(*args)

        self.system = Watched(object())
        self.stored(self.inbox("d"), *self.many())
        # Two were to see whether it can be, with nothing in them.
        self.assertEqual(seen, [*["rename"] * 2, "syncfs", "rename"])

    def synced(self) -> list[int]:
        """The numbers of the inodes that were made durable, from now on."""
        found: list[int] = []
        real = os.fsync

        def fsync(fd: int) -> None:
            found.append(os.fstat(fd).st_ino)
            real(fd)

        self.patch(os, "fsync", fsync)
        return found

    def test_one_by_one(self) -> None:
        """Where there is no such call, or it fails, each file and each directory is."""

        class Failing:
            def syncfs(self, fd: int) -> int:
                return -1

        for libc in (object(), Failing()):
            self.system = System(libc)
            synced = self.synced()
            (name,) = self.stored(self.inbox("d"), *self.many())
            top = self.directory / name
            for path in (*top.iterdir(), top, self.directory):
                self.assertIn(path.stat().st_ino, synced, path)

    def test_few(self) -> None:
        """Few files are, each when it is whole, and then the names."""
        synced = self.synced()
        self.stored(self.inbox("a", "d"), *file_of("a", b"1"), *directory("d"), *file_of("d/x"))
        for path in ("a", "d", "d/x", "."):
            self.assertIn((self.directory / path).stat().st_ino, synced, path)

    def test_neither_few_nor_many(self) -> None:
        """However many they are: each by itself, or all at once, and none is forgotten."""
        for number in range(28, 38):
            at_once: list[int] = []

            class Watched(System):
                rename = SYSTEM.rename

                def sync(self, fd: int, at_once: list[int] = at_once) -> bool:
                    at_once.append(fd)
                    return SYSTEM.sync(fd)

            self.system = Watched(object())
            synced = self.synced()
            files = [x for n in range(number) for x in file_of(f"d/{n}", b"x")]
            (name,) = self.stored(self.inbox("d"), *directory("d"), *files)
            inodes = {path.stat().st_ino for path in (self.directory / name).iterdir()}
            self.assertEqual(len(inodes), number)
            self.assertTrue(at_once or inodes <= set(synced), number)

    def test_the_disk_fails(self) -> None:
        """Whichever call fails, nothing is to be seen, and nobody is told that it was stored."""
        real = os.fsync
        for arrivals in ([*file_of("a", b"1"), *directory("d")], [*file_of("a"), *self.many()]):
            for allowed in range(100):
                left = [allowed]

                def failing(fd: int, left: list[int] = left) -> None:
                    left[0] -= 1
                    if left[0] < 0:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    real(fd)

                self.patch(os, "fsync", failing)
                self.system = System(object())
                deposit = self.inbox("a", "d")
                try:
                    self.stored(deposit, *arrivals)
                except LocalIOError:
                    deposit.discard()
                    self.assertEqual(os.listdir(self.directory), [])
                else:
                    break
            self.assertGreater(allowed, 3)
            shutil.rmtree(self.directory)
            self.directory.mkdir()

    def test_no_renameat2(self) -> None:
        """An old system or file system: nothing is replaced even so, and all of it arrives."""

        class Old:
            def renameat2(self, *args: Any) -> int:
                ctypes.set_errno(errno.ENOSYS)
                return -1

        for libc in (object(), Old()):
            self.system = System(libc)
            (self.directory / "a").write_bytes(b"mine")
            (self.directory / "d").mkdir()
            arrivals = [*file_of("a", b"1"), *directory("d"), *file_of("d/x", b"2")]
            self.assertEqual(self.stored(self.inbox("a", "d"), *arrivals), ["a (1)", "d (1)"])
            self.assertEqual(self.listing(), {"a": b"mine", "a (1)": b"1", "d (1)/x": b"2"})
            self.assertEqual(self.stored(self.inbox("a", force=True), *file_of("a", b"3")), ["a"])
            self.assertEqual((self.directory / "a").read_bytes(), b"3")
            shutil.rmtree(self.directory)
            self.directory.mkdir()

    def no_links(self) -> None:
        """The file system knows neither hard links nor renaming without replacing."""
        self.system = System(object())

        def refuse(*args: Any, **named: Any) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        self.patch(os, "link", refuse)

    def test_no_hard_links_either(self) -> None:
        """Files arrive even there, and still nothing is replaced that has the name."""
        self.no_links()
        (self.directory / "a").write_bytes(b"mine")
        (self.directory / "a (1)").symlink_to("nowhere")
        (self.directory / "a (2)").mkdir()
        self.assertEqual(self.stored(self.inbox(), *file_of("a", b"1")), ["a (3)"])
        self.assertEqual((self.directory / "a").read_bytes(), b"mine")
        self.assertEqual((self.directory / "a (3)").read_bytes(), b"1")
        self.assertFalse((self.directory / "nowhere").exists())
        self.assertEqual(sorted(os.listdir(self.directory)), ["a", "a (1)", "a (2)", "a (3)"])

    def test_no_hard_links_and_no_name(self) -> None:
        """If it cannot get its name after all, the place that was taken for it is free again."""
        self.no_links()
        deposit = self.inbox()
        deposit.prepare()
        deposit.take(file_of("a", b"1"))
        rename = os.rename

        def failing(source: Any, target: Any, **named: Any) -> None:
            if target == "a":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rename(source, target, **named)

        self.patch(os, "rename", failing)
        self.assertRaises(LocalIOError, deposit.show)
        deposit.discard()
        self.assertEqual(os.listdir(self.directory), [])

    def imposed(self, mode: int) -> None:
        """The file system has one mode for all directories."""
        mkdir = os.mkdir

        def imposing(path: Any, _: int = 0o777, *, dir_fd: int | None = None) -> None:
            mkdir(path, dir_fd=dir_fd)
            os.chmod(path, mode, dir_fd=dir_fd)

        self.patch(os, "mkdir", imposing)

    def test_no_modes_either(self) -> None:
        """As on a memory stick, where all may read: things arrive, and are gone on with."""
        self.no_links()
        self.imposed(0o755)

        def refuse(*_: Any) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        self.patch(os, "fchmod", refuse)
        content = os.urandom(2 * MIB)
        item = Item(Kind.FILE, "a", len(content), mode=0o444)
        deposit = self.inbox()
        deposit.prepare()
        deposit.take([item, Content(content[:MIB])])
        self.assertTrue(deposit.discard(keep=True))
        deposit = self.inbox()
        (held,) = deposit.prepare()
        self.assertEqual(held.size, MIB)
        deposit.take(file_of("a", content[MIB:], start=MIB, mode=0o444))
        deposit.show()
        self.assertEqual(self.listing(), {"a": content})

    def test_modes_with_which_anybody_may_write(self) -> None:
        """But not where others could put things into what arrives; and that leaves nothing."""
        self.imposed(0o777)
        self.assertRaises(LocalIOError, self.inbox().prepare)
        self.assertEqual(os.listdir(self.directory), [])

    def test_directories_that_replace_none(self) -> None:
        """Where a directory cannot be renamed over an empty one it arrives all the same."""
        self.no_links()
        rename = os.rename

        def strict(source: Any, target: Any, **named: Any) -> None:
            if (self.directory / target).is_dir():
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            rename(source, target, **named)

        self.patch(os, "rename", strict)
        (self.directory / "d").mkdir()
        arrivals = [*directory("d"), *file_of("d/x", b"2")]
        self.assertEqual(self.stored(self.inbox("d"), *arrivals), ["d (1)"])
        self.assertEqual(self.listing(), {"d (1)/x": b"2"})
        self.assertEqual(sorted(os.listdir(self.directory)), ["d", "d (1)"])

    def test_directories_that_get_no_name(self) -> None:
        """If it cannot get its name at all, there is no empty directory of that name."""
        self.no_links()
        rename = os.rename
        failing: list[bool] = []

        def fail(source: Any, target: Any, **named: Any) -> None:
            if failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rename(source, target, **named)

        self.patch(os, "rename", fail)
        deposit = self.inbox("d")
        deposit.prepare()
        deposit.take([*directory("d"), *file_of("d/x", b"2")])
        failing.append(True)
        self.assertRaises(LocalIOError, deposit.show)
        self.assertEqual(os.listdir(self.directory), [DIRECTORY])
        failing.clear()
        deposit.discard()
        self.assertEqual(os.listdir(self.directory), [])

    def test_known_before_it_is_accepted(self) -> None:
        """Where nothing would get its name, nothing is accepted; and the try leaves nothing."""

        class Elsewhere(System):
            def rename(self, *args: Any) -> bool:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        self.system = Elsewhere(object())
        deposit = self.inbox()
        self.assertRaises(LocalIOError, deposit.prepare)
        deposit.discard()
        self.assertEqual(os.listdir(self.directory), [])


class DescriptorTests(DepositTestCase):
    """One sender does not use up what all need."""

    def allow(self, count: int) -> None:
        """So many more descriptors are to be had, and no more."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        fillers = [os.dup(0)]
        while fillers[-1] <= highest:
            fillers.append(os.dup(0))
        os.close(fillers.pop())
        for fd in fillers:
            self.addCleanup(os.close, fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, *fillers, 0) + 1 + count, hard))

    def deep(self, top: str) -> list[Arrival]:
        paths = ["/".join([top, *["d"] * depth]) for depth in range(63)]
        made = [each for path in paths for each in directory(path)]
        return [*made, *file_of(f"{paths[-1]}/x", b"1"), *file_of(f"{top}/y", b"2")]

    def test_deep_trees(self) -> None:
        """Sixteen trees, 63 deep, at the same time take ten each: to store, cut, resume, remove."""
        self.allow(16 * 10)
        names = [f"t{number}" for number in range(16)]
        deposits = [self.inbox(name, sender=name) for name in names]
        for name, deposit in zip(names, deposits, strict=True):
            deposit.prepare()
            deposit.take([*self.deep(name), *file_of(f"{name}/z", bytes(MIB))[:-1]])
        for deposit in deposits[:8]:
            self.assertTrue(deposit.discard(keep=True))
        for name, deposit in zip(names[8:], deposits[8:], strict=True):
            deposit.take([Finished()])
            deposit.show()
            (self.directory / name).rename(self.directory / "shown")
            shutil.rmtree(self.directory / "shown")
        for name in names[:8]:
            deposit = self.inbox(name, sender=name)
            self.assertEqual(len(deposit.prepare()), 3)
            self.assertFalse(deposit.discard())
        self.assertEqual(os.listdir(self.directory), [])

    def test_many_names(self) -> None:
        """There are no more things at the top than can be told of."""
        deposit = self.inbox(*map(str, range(16)), more=1_000_000)
        error = self.assertRaises(RemoteProtocolError, deposit.prepare)
        self.assertIs(error.refusal, Refusal.NOT_ALLOWED)


class PlantedNameTests(DepositTestCase):
    """Random names protect nothing by themselves: whoever guesses one gains nothing."""

    def test_planted(self) -> None:
        """A file, a link and a link to nowhere where a partial file would be are left alone."""
        self.patch(secrets, "token_hex", lambda _: "guessed")
        victim = self.directory / "victim"
        name = self.directory / ".kdc-guessed.part"
        tree = tree_module.Tree(os.open(self.directory, os.O_RDONLY))
        self.addCleanup(tree.close)
        plants: tuple[Any, ...] = (
            lambda: name.write_bytes(b"precious"),
            lambda: name.symlink_to(victim.absolute()),
            lambda: name.symlink_to("nowhere"),
        )
        for plant in plants:
            victim.write_bytes(b"precious")
            plant()
            before = self.listing() if name.exists() else {}
            self.assertRaises(LocalIOError, atomic_module.PartialFile, self.directory / "out")
            self.assertRaises(FileExistsError, tree.create, (name.name,))
            if before:
                self.assertEqual(self.listing(), before)
            self.assertFalse((self.directory / "nowhere").exists())
            name.unlink()
