"""The flat-file store on a real file system: modes, locks, links, processes, other tools."""

from __future__ import annotations

import base64
import errno
import itertools
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.protocol.codec import ADDRESS, enc
from kdc.store import (
    Create,
    KerberosPart,
    Outcome,
    Record,
    Replace,
    Status,
    StoreError,
    StoreLost,
    StoreUnavailable,
)
from kdc.store.flatfile._store import FlatFileStore, Folding
from kdc.store.flatfile.backup import backup
from kdc.store.flatfile.check import check
from kdc.store.flatfile.repair import repair
from kdc.store.sealed.files import Files
from kdc.store.sealed.lines import BadLine, Entry, Sealer, _split, has_part
from kdc.store.sealed.table import CHUNK_BYTES, Table, lines_of
from tests.support.disk import abandon
from tests.support.processes import PATIENCE_SECONDS
from tests.support.store_conformance import active, invited, serving, token
from tests.vectors.make_store_vectors import make

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_VECTORS = os.path.join(_ROOT, "tests", "vectors")


class FlatFileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(os.path.abspath(self.directory), "pwd.txt")

    def open(self, path: str = "", realm: str = "LOCAL", **options: object) -> FlatFileStore:
        store = FlatFileStore.open(path or self.path, realm=realm, **options)  # type: ignore[arg-type]
        self.addCleanup(store.close)
        return store

    def refused(self, **options: object) -> StoreError:
        return self.assertRaises(StoreError, self.open, **options)

    def read(self, end: str = "") -> str:
        with open(self.path + end) as file:
            return file.read()


class MountTests(FlatFileCase):
    def test_a_file_mounted_by_itself(self) -> None:
        """It is refused before anything is made beside it; a master key may be mounted so."""
        for end in ("", ".journal", ".generation", ".lock"):

            class Mounted(Files):
                def mounted_alone(self, path: str) -> bool:
                    return path.endswith(f"pwd.txt{end}")  # noqa: B023 - used in this turn only

            error = self.refused(files=Mounted())
            self.assertIn(f"{self.path}{end} is mounted by itself", str(error))
            self.assertIn("mount the directory", error.hint)
            self.assertEqual(os.listdir(self.directory), [])

        class Secret(Files):
            def mounted_alone(self, path: str) -> bool:
                return path.endswith(".key")

        self.open(files=Secret())


class DiscardTests(FlatFileCase):
    """A start that fails gives back what it has made."""

    def test_made_now(self) -> None:
        """What was made is gone, but for the lock; a store can be made there again."""
        store = self.open()
        store.apply([Create(active("alice"), token(0))])
        store.discard()
        self.assertEqual(os.listdir(self.directory), ["pwd.txt.lock"])
        self.assertEqual(len(self.open()), 0)

    def test_there_before(self) -> None:
        """A store that was there stays as it is, and so do a key and an empty file."""
        store = self.open()
        store.apply([Create(active("alice"), token(0))])
        store.close()
        self.open().discard()
        self.assertIsNotNone(self.open().get("alice"))
        second = os.path.join(os.path.abspath(self.mktemp()), "pwd.txt")
        os.mkdir(os.path.dirname(second))
        self.open(second, key_path=self.path + ".key").discard()
        self.assertTrue(os.path.exists(self.path + ".key"))
        self.assertEqual(os.listdir(os.path.dirname(second)), ["pwd.txt.lock"])
        open(second, "w").close()
        self.open(second).discard()
        self.open(second)

    def test_another_ones(self) -> None:
        """What has been put in the place of ours by somebody else is not ours to remove."""
        store = self.open()
        os.rename(self.path, self.path + ".elsewhere")
        with open(self.path, "w") as file:
            file.write("somebody else's")
        store.discard()
        self.assertEqual(self.read(), "somebody else's")

    def test_cut_short(self) -> None:
        """Whichever file could not be removed any more: what is left can be opened."""
        for removed in range(4):

            class Full(Files):
                left = removed

                def unlink(self, path: str) -> None:
                    if path.endswith((".new", ".fold")):
                        return super().unlink(path)
                    self.left -= 1
                    if self.left < 0:
                        raise OSError(errno.EIO, "Input/output error")
                    return super().unlink(path)

            self.open(files=Full()).discard()
            self.open().discard()


class OldAddressTests(FlatFileCase):
    def test_an_ipv4_address_in_an_ipv6_one(self) -> None:
        """A line that an older version wrote is read, and says what can be sent to others."""
        sealer = Sealer(b"M" * 32, "LOCAL", "0" * 16, os.urandom)
        for old in ("::ffff:c000:207", "::ffff:192.0.2.7"):  # as Python prints it, and 3.13
            record = active("alice")
            object.__setattr__(record, "address", old)
            (line,) = sealer.lines([Entry(record)])
            self.assertIn(f":[{old}]:".encode(), line)
            found = sealer.entry(line).record
            self.assertEqual(found.address, "192.0.2.7")
            ADDRESS.check(found.address)
            (again,) = sealer.lines([Entry(found)])
            self.assertIn(b":192.0.2.7:", again)


class FilesTests(FlatFileCase):
    def test_everything_is_0600_whatever_the_umask(self) -> None:
        """Neither a careless nor a paranoid umask changes the modes."""
        for umask in 0o000, 0o277, 0o777:
            old = os.umask(umask)
            try:
                path = os.path.join(self.directory, f"{umask:o}.txt")
                store = FlatFileStore.open(path, realm="LOCAL")
                store.apply([Create(active("alice"), token(1))])
                store.close()
            finally:
                os.umask(old)
        names = os.listdir(self.directory)
        self.assertEqual(len(names), 15)
        for name in names:
            mode = os.stat(os.path.join(self.directory, name)).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600, name)

    def test_an_empty_file_is_a_new_store(self) -> None:
        """As people make it with touch, for the original program."""
        with open(self.path, "w"):
            pass
        os.chmod(self.path, 0o644)
        self.open().apply([Create(active("alice"), token(1))])
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_a_start_without_registrations_is_not_remembered(self) -> None:
        """A store in which nobody ever was may be removed and made again."""
        self.open().close()
        os.unlink(self.path)
        self.open().close()

    def test_a_store_that_must_exist(self) -> None:
        """``create=False`` makes nothing, not even a key."""
        self.assertIn("no store", str(self.refused(create=False)))
        self.assertEqual(os.listdir(self.directory), ["pwd.txt.lock"])

    def test_symbolic_links_are_not_followed(self) -> None:
        """Whatever name of the store is a link: refused, and its target untouched."""
        self.open().apply([Create(active("alice"), token(1))])
        for end in "", ".key", ".journal", ".lock", ".generation":
            directory = self.mktemp()
            shutil.copytree(self.directory, directory)
            path = os.path.join(directory, "pwd.txt")
            shutil.move(path + end, path + ".elsewhere")
            os.symlink("pwd.txt.elsewhere", path + end)
            error = self.refused(path=path)
            self.assertIn("symbolic links", str(error) + error.hint, end)
        target = os.path.join(self.directory, "target")
        with open(target, "w") as file:
            file.write("precious")
        new = os.path.join(self.directory, "new.txt")
        for end in ".new", ".key.new", ".journal.new", ".generation.new":
            os.symlink(target, new + end)
        self.open(new).apply([Create(active("alice"), token(1))])
        with open(target) as file:
            self.assertEqual(file.read(), "precious")

    def test_a_fifo_does_not_hang_the_start(self) -> None:
        """What is not a regular file is refused at once."""
        self.open().apply([Create(active("alice"), token(1))])
        for end in "", ".journal", ".key", ".generation":
            directory = self.mktemp()
            shutil.copytree(self.directory, directory)
            path = os.path.join(directory, "pwd.txt")
            os.unlink(path + end)
            os.mkfifo(path + end, 0o600)
            self.refused(path=path)

    def test_a_master_key_that_others_can_read_is_refused(self) -> None:
        """It may have leaked; somebody has to know."""
        store = self.open()
        store.close()
        os.chmod(self.path + ".key", 0o640)
        error = self.refused()
        self.assertIn("may be read by others (mode 640)", str(error))
        self.assertIn("chmod 600", error.hint)

    def test_left_over_temporary_files_are_removed(self) -> None:
        """What a crash in the middle of a replacement left is cleaned at the next start."""
        self.open().close()
        left = [self.path + end for end in (".new", ".fold", ".journal.new", ".key.new")]
        for path in left:
            with open(path, "w") as file:
                file.write("half of someth")
        self.open()
        self.assertFalse([path for path in left if os.path.exists(path)])

    def test_no_secret_is_readable(self) -> None:
        """Neither keys, nor codes, nor tokens are in any file but the master key's own."""
        store = self.open()
        store.apply([Create(active("alice"), token(1)), Create(invited("bob"), b"T" * 16)])
        store.fold()
        for end in "", ".journal", ".generation", ".lock":
            with open(self.path + end, "rb") as file:
                content = file.read()
            for secret in (b"alicevvv", b"alicerrr", b"c" * 16, b"T" * 16):
                self.assertNotIn(secret, content)
        self.assertNotIn("vvv", repr(store.get("alice")))

    def test_people_can_read_it(self) -> None:
        """One line a principal, in the order of the original program's fields."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        store.apply([Create(active("bob", address="2001:db8::1"), token(2))])
        store.close()
        first, alice, bob, end, _ = self.read().split("\n")
        self.assertRegex(first, r"^kdc-principals:1:LOCAL:[0-9a-f]{16}:[0-9a-f]{16}:2:2:$")
        self.assertRegex(alice, r"^:alice:10\.4\.5\.11:35678:[\w+/]+=*:active:1:1700000000:0:$")
        self.assertRegex(bob, r"^:bob:\[2001:db8::1\]:35678:[\w+/]+=*:active:2:1700000000:0:$")
        self.assertRegex(end, r"^end:[\w+/]{43}=:$")

    def test_an_end_is_a_field_only_if_there_is_one(self) -> None:
        """A store without ends is as before; with one its line is no line to who knows none."""
        sealer = Sealer(b"k" * 32, "LOCAL", "0" * 16, os.urandom)
        plain = Entry(active("alice"), token(1))
        record = active("alice", expiry_time=1_900_000_000, renewal_seconds=7)
        lengths = []
        for entry in (plain, Entry(record, token(1))):
            (line,) = sealer.lines([entry])
            self.assertEqual(sealer.entry(line), entry)
            lengths.append(len(base64.b64decode(line.split(b":")[4])))
        secrets = 4 * 4 + 32 + 32 + 0 + 16
        self.assertEqual(lengths, [12 + secrets + 16, 12 + secrets + 4 + 16 + 16])

    def test_ends_that_no_version_writes(self) -> None:
        """An end that is none, has another length, or comes twice, is refused."""
        four = (b"v" * 32, b"r" * 32, b"", b"t" * 16)
        end = bytes(7) + b"\2" + bytes(8)
        for more in (
            *((bytes(16),), (b"e" * 15,), (b"e" * 17,), (b"\0" * 7 + b"e" * 9,) * 2, (b"",)),
            *((end, bytes(320 + 1)), (end, b"p"), (end, KerberosPart(1).encoded(), b"")),
        ):
            self.assertRaises(BadLine, _split, enc(*four, *more))
        self.assertEqual(_split(enc(*four, end))[4:], ((2, 0), None))
        part = KerberosPart(1)
        self.assertEqual(_split(enc(*four, bytes(16), part.encoded()))[4:], ((0, 0), part))
        self.assertRaises(BadLine, _split, enc(*four) + b"\0")
        self.assertRaises(BadLine, _split, enc(*four[:3]))

    def test_a_line_with_a_part(self) -> None:
        """It is longer than any without, so that it is found without being opened."""
        sealer = Sealer(b"k" * 32, "LOCAL", "0" * 16, os.urandom)
        long = 10**18 - 1
        longest = Record(
            "a" * 64,
            Status.DISABLED,
            address="1111:1111:1111:1111:1111:1111:1111:1111",
            port=65535,
            verify_key=b"v" * 32,
            reply_key=b"r" * 32,
            invitation=b"i" * 32,
            invitation_end_time=long,
            changed_time=long,
            expiry_time=long,
            renewal_seconds=long,
            generation=long,
        )
        shortest = Record("a", Status.DELETED, kerberos=KerberosPart(1))
        for record, has in ((longest, False), (shortest, True)):
            (line,) = sealer.lines([Entry(record, b"t" * 16)])
            self.assertIs(has_part(line), has)
            self.assertEqual(sealer.entry(line).record, record)

    def test_the_same_record_is_sealed_differently_each_time(self) -> None:
        """Nobody sees in pwd.txt that two records hold one key."""
        sealer = Sealer(b"k" * 32, "LOCAL", "0" * 16, os.urandom)
        one, two = sealer.lines([Entry(active("alice"))] * 2)
        self.assertNotEqual(one, two)


class LockTests(FlatFileCase):
    def test_the_second_writer_is_told_who_is_the_first(self) -> None:
        """With the process id, and what to do."""
        store = self.open()
        error = self.refused()
        self.assertIn(f"in use by process {os.getpid()}", str(error))
        store.close()
        self.open()

    def test_the_lock_ends_with_its_process(self) -> None:
        """A killed server's lock keeps nobody out."""
        code = (
            "import os, sys; from kdc.store.flatfile._store import FlatFileStore\n"
            "FlatFileStore.open(sys.argv[1], realm='LOCAL'); print(os.getpid(), flush=True)\n"
            "sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, self.path],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            pid = child.stdout.readline().strip()
            self.assertIn(f"in use by process {pid}", str(self.refused()))
            child.send_signal(signal.SIGKILL)
            child.wait()
        self.open()

    def test_two_stores_after_the_lock_was_removed(self) -> None:
        """The first acknowledges nothing more; what the second acknowledges is there."""
        first = self.open()
        first.apply([Create(active("alice"), token(1))])
        os.unlink(self.path + ".lock")
        second = self.open()
        second.apply([Create(active("bob"), token(2))])
        self.assertRaises(StoreLost, first.apply, [Create(active("carol"), token(3))])
        self.assertIsNone(first.get("carol"))
        first.close()
        second.apply([Create(active("dave"), token(4))])
        abandon(second)
        self.assertEqual([record.name for record in self.open()], ["alice", "bob", "dave"])

    def test_what_is_put_there_is_not_overwritten(self) -> None:
        """Any file removed, replaced or written over by hand: nothing is changed any more."""
        ends = "", ".key", ".journal", ".lock", ".generation"
        for number, (end, how) in enumerate(itertools.product(ends, ("rm", "mv", "cp"))):
            if how == "cp" and end in (".lock", ".generation"):
                continue  # the same file, and nothing is read from it while it is ours
            path = os.path.join(os.path.abspath(self.directory), f"{number}.txt")
            store = self.open(path)
            store.apply([Create(active("alice"), token(1))])
            if how == "rm":
                os.unlink(path + end)
            elif how == "mv":
                shutil.copy(path + end, path + ".copy")
                os.replace(path + ".copy", path + end)
            elif how == "cp":
                with open(path + end, "w") as file:
                    file.write("an older one\n")
            with open(path + ".fold", "w") as file:
                file.write("another's, who folds\n")
            saved = self.contents()
            self.assertRaises(StoreLost, store.check_ours)
            for _ in range(2):
                error = self.assertRaises(StoreLost, store.apply, [Create(active("bob"), token(2))])
                self.assertIn(f"{path}{end} was removed", str(error), how)
                self.assertRaises(StoreLost, store.fold)
                self.assertRaises(StoreLost, store.rotate_master_key)
            self.assertIn("removed", store.trouble)
            self.assertIsNone(store.get("bob"))
            store.close()
            self.assertEqual(self.contents(), saved, (end, how))

    def contents(self) -> dict[str, bytes]:
        found = {}
        for name in os.listdir(self.directory):
            with open(os.path.join(self.directory, name), "rb") as file:
                found[name] = file.read()
        return found

    def test_taken_over_in_the_middle_of_a_change(self) -> None:
        """What was written just when another took the files over is not acknowledged."""
        path = self.path

        class Racing(Files):
            race = False

            def fdatasync(self, fd: int) -> None:
                super().fdatasync(fd)
                if self.race:
                    os.unlink(path + ".lock")

        files = Racing()
        store = self.open(files=files)
        store.apply([Create(active("alice"), token(1))])
        files.race = True
        self.assertRaises(StoreLost, store.apply, [Create(active("bob"), token(2))])
        self.assertIsNone(store.get("bob"))
        files.race = False

    def test_a_refused_start_leaves_no_lock(self) -> None:
        """The next start is not kept out by one that failed."""
        with open(self.path, "w") as file:
            file.write("something else\n")
        self.assertIn("line 1", str(self.refused()))
        os.unlink(self.path)
        self.open()

    def test_a_closed_store_takes_no_change(self) -> None:
        """It says so, and closing twice is harmless."""
        store = self.open()
        store.close()
        store.close()
        self.assertRaises(StoreUnavailable, store.apply, [Create(active("alice"), token(1))])


class GenerationFileTests(FlatFileCase):
    def test_it_may_be_kept_elsewhere(self) -> None:
        """Where a backup of the store does not reach, it shows that one was put back."""
        elsewhere = os.path.join(self.mktemp(), "..", "generation-of-pwd")
        store = self.open(generation_path=elsewhere)
        store.apply([Create(active("alice"), token(1))])
        store.close()
        saved = self.mktemp()
        shutil.copytree(self.directory, saved)
        store = self.open(generation_path=elsewhere)
        store.apply([Create(active("bob"), token(2))])
        store.close()
        shutil.rmtree(self.directory)
        shutil.copytree(saved, self.directory)
        error = self.refused(generation_path=elsewhere)
        self.assertIn("at generation 1, and was at 2", str(error))
        self.assertNotIn("pwd.txt.generation", os.listdir(self.directory))

    def test_a_missing_one_is_told(self) -> None:
        """The store opens, as after a restore on another machine, and says what it cannot know."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        store.close()
        os.unlink(self.path + ".generation")
        (note,) = self.open().notes
        self.assertIn("an old backup would not have been noticed", note)


class FullDiskTests(FlatFileCase):
    def test_a_file_size_limit(self) -> None:
        """A file system that takes no more: refused, readable, and well when space returns."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = os.stat(self.path + ".journal").st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
            for _ in range(3):
                error = self.assertRaises(
                    StoreUnavailable, store.apply, [Create(active("bob"), token(2))]
                )
                self.assertIn(os.strerror(errno.EFBIG), str(error))
                self.assertIsNone(store.get("bob"))
                self.assertIsNotNone(store.get("alice"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, old)
        (result,) = store.apply([Create(active("bob"), token(2))])
        self.assertIs(result.outcome, Outcome.DONE)
        abandon(store)
        self.assertEqual([record.name for record in self.open()], ["alice", "bob"])

    def test_a_full_file_system(self) -> None:
        """No room left: nothing acknowledged is lost, and all is well when there is room again."""
        directory = self.mktemp()
        os.mkdir(directory)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "none", directory],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            raise SkipTest("mounting a file system needs root")
        self.addCleanup(subprocess.run, ["umount", "-l", directory], check=True)
        filler = os.path.join(directory, "filler")
        with open(filler, "wb") as file:
            file.write(bytes(400_000))
        store = self.open(os.path.join(directory, "pwd.txt"))
        acknowledged: list[str] = []
        error: StoreUnavailable | None = None
        while error is None:
            name = f"user{len(acknowledged)}"
            try:
                store.apply([Create(active(name), token(1))])
            except StoreUnavailable as refused:
                error = refused
            else:
                acknowledged.append(name)
        self.assertIn(os.strerror(errno.ENOSPC), str(error))
        self.assertGreater(len(acknowledged), 10)
        self.assertEqual(sorted(record.name for record in store), sorted(acknowledged))
        os.unlink(filler)
        store.apply([Create(active("late"), token(2))])
        abandon(store)
        again = self.open(os.path.join(directory, "pwd.txt"))
        self.assertEqual(sorted(record.name for record in again), sorted([*acknowledged, "late"]))


class FoldTests(FlatFileCase):
    def test_folds_in_the_background_while_changes_and_reads_go_on(self) -> None:
        """Thousands of changes with many folds: all are there, in memory and on disk."""
        store = self.open(folding=Folding(30_000))
        failures: list[str] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                if store.get("n0000") is None:
                    failures.append("n0000")
                done.wait(0.0005)

        store.apply([Create(active("n0000"), token(0))])
        reader = threading.Thread(target=read)
        reader.start()
        inodes = set()
        for start in range(1, 2001, 20):
            names = [f"n{number * 7919 % 10000:04d}" for number in range(start, start + 20)]
            store.apply([Create(active(name), token(1)) for name in names])
            inodes.add(os.stat(self.path).st_ino)
        done.set()
        reader.join()
        self.assertEqual(failures, [])
        self.assertGreater(len(inodes), 1)
        records = list(store)
        self.assertEqual(len(records), 2001)
        abandon(store)
        self.assertEqual(list(self.open()), records)

    def test_no_change_waits_until_the_old_pwd_txt_is_freed(self) -> None:
        """A large file takes its time to go: it does so when changes may go on."""
        said: list[str] = []

        class Watched(Files):
            fds: dict[int, int] = {}

            def open(self, path: str, flags: int) -> int:
                fd = super().open(path, flags)
                self.fds[fd] = os.fstat(fd).st_ino
                return fd

            def rename(self, old: str, new: str) -> None:
                if new.endswith("pwd.txt"):
                    going.append(os.stat(new).st_ino)
                    said.append("held" if going[0] in self.fds.values() else "freed")
                super().rename(old, new)

            def close(self, fd: int) -> None:
                if going and self.fds.get(fd) == going[0]:
                    said.append("waiting" if store._writing.locked() else "going on")
                self.fds.pop(fd, None)
                super().close(fd)

        going: list[int] = []
        store = self.open()
        store.close()
        store = self.open(files=Watched(), run=lambda work: work())
        store.apply([Create(active("alice"), token(1))])
        self.assertTrue(store.fold())
        self.assertEqual(said, ["held", "going on"])

    def test_a_change_costs_the_same_in_a_large_store(self) -> None:
        """What one change writes does not grow with the number of principals."""

        class Counting(Files):
            written = 0

            def write(self, fd: int, content: bytes | memoryview) -> int:
                self.written += len(content)
                return super().write(fd, content)

        files = Counting()
        store = self.open(files=files)
        costs = []
        for size in 10, 3000:
            changes = [Create(active(f"n{i}-{size}"), token(1)) for i in range(size)]
            for at in range(0, size, 1000):
                store.apply(changes[at : at + 1000])
            before = files.written
            store.apply([Create(active(f"one-{size}"), token(1))])
            costs.append(files.written - before)
        self.assertLess(costs[1] - costs[0], 10)

    def test_closing_leaves_a_complete_pwd_txt(self) -> None:
        """After a regular stop the one file has everybody."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        self.assertNotIn(":alice:", self.read())
        store.close()
        self.assertIn(":alice:", self.read())


class RotationTests(FlatFileCase):
    def test_everything_is_under_the_new_key(self) -> None:
        """The same records, another key; the old one opens nothing."""
        store = self.open()
        store.apply([Create(active("alice"), token(1)), Create(invited("bob"), token(2))])
        iterator = iter(store)
        first = next(iterator)
        old_key, records = self.read(".key"), list(store)
        store.rotate_master_key()
        self.assertEqual([first, *iterator], records)
        self.assertEqual(list(store), records)
        (retry,) = store.apply([Create(active("alice"), token(1))])
        self.assertIs(retry.outcome, Outcome.DONE)
        store.apply([Create(active("carol"), token(3))])
        records = list(store)
        abandon(store)
        self.assertEqual(list(self.open()), records)
        self.assertEqual(check(self.path), [])
        new_key = self.read(".key")
        self.assertEqual(len(new_key.splitlines()), 1)
        self.assertNotEqual(new_key, old_key)

    def test_a_rotation_cut_short_anywhere(self) -> None:
        """Whichever call fails: the store goes on, opens again, and rotating again works."""
        for number in range(1, 100):
            path = os.path.join(self.directory, f"{number}.txt")
            files = _FailOnce()
            store = self.open(path, files=files)
            store.apply([Create(active("alice"), token(1))])
            files.left = number
            try:
                store.rotate_master_key()
            except StoreUnavailable:
                pass
            else:
                self.assertGreater(number, 10)
                return
            store.apply([Create(active("bob"), token(2))])
            self.assertEqual([record.name for record in store], ["alice", "bob"])
            abandon(store)
            again = self.open(path)
            self.assertEqual(list(again), list(store))
            again.rotate_master_key()
            records = list(again)
            abandon(again)
            self.assertEqual(list(self.open(path)), records)
            self.assertEqual(check(path), [])
        raise AssertionError("it never ended")


class _FailOnce(Files):
    """Fails one call of those that change something."""

    left = 0

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write(self, fd: int, content: bytes | memoryview) -> int:
        self._count()
        return super().write(fd, content)

    def fsync(self, fd: int) -> None:
        self._count()
        super().fsync(fd)

    def rename(self, old: str, new: str) -> None:
        self._count()
        super().rename(old, new)


class EarlierVersionsTests(FlatFileCase):
    def test_a_store_of_version_1(self) -> None:
        """A store written by the first release opens, with every record as it was."""
        shutil.rmtree(self.directory)
        shutil.copytree(os.path.join(_VECTORS, "store-1"), self.directory)
        os.chmod(self.path + ".key", 0o600)  # version control does not keep modes
        self.assertEqual(check(self.path), [])
        store = self.open(realm="VECTORS")
        self.assertEqual(
            list(store),
            [
                active("alice", status=Status.DISABLED, generation=6),
                attrs.evolve(invited("bob"), generation=2),
                active("carol", address="2001:db8::1", generation=3),
                Record("dave", Status.DELETED, changed_time=17, generation=7),
            ],
        )
        self.assertEqual(store.generation, 9)
        (retry,) = store.apply([Create(active("carol"), token(3))])
        self.assertIs(retry.outcome, Outcome.DONE)

    def test_no_part_no_change(self) -> None:
        """A store without Kerberos is written as it was before there was any, byte for byte."""
        make(self.directory)
        for end in ("", ".journal", ".key", ".generation"):
            with open(os.path.join(_VECTORS, "store-1", f"pwd.txt{end}")) as file:
                self.assertEqual(self.read(end), file.read(), end)


class FormatTests(FlatFileCase):
    """Who knows nothing of Kerberos parts must not take such a store for damaged, nor use it."""

    def formats(self) -> tuple[str, str]:
        one, two = self.read(), self.read(".journal")
        return one[: one.index(":", 15)], two[: two.index(":", 12)]

    def test_with_the_first_part(self) -> None:
        """The journal says so before the part is in it, pwd.txt once it has it; not for ever."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        self.assertEqual(self.formats(), ("kdc-principals:1", "kdc-journal:1"))
        (made,) = store.apply([Create(serving("web", "HTTP/web"), token(2))])
        self.assertEqual(self.formats(), ("kdc-principals:1", "kdc-journal:2"))
        self.assertEqual(check(self.path), [])
        abandon(store)
        store = self.open()
        self.assertEqual(store.owner_of("HTTP/web"), "web")
        store.apply([Create(active("bob"), token(3))])
        self.assertEqual(self.formats(), ("kdc-principals:1", "kdc-journal:2"))
        store.fold()
        self.assertEqual(self.formats(), ("kdc-principals:2", "kdc-journal:2"))
        self.assertEqual(check(self.path), [])
        store.close()
        store = self.open()
        self.assertEqual([record.name for record in store], ["alice", "bob", "web"])
        self.assertEqual(store.owner_of("HTTP/web"), "web")
        assert made.record is not None
        store.apply([Replace(active("web"), made.record.generation)])
        store.fold()
        self.assertEqual(self.formats(), ("kdc-principals:1", "kdc-journal:2"))
        store.rotate_master_key()
        self.assertEqual(self.formats(), ("kdc-principals:1", "kdc-journal:1"))
        self.assertEqual(check(self.path), [])

    def test_another_key(self) -> None:
        """A new master key leaves the formats as what is there needs them."""
        store = self.open()
        store.apply([Create(serving("web", "HTTP/web"), token(2))])
        store.rotate_master_key()
        self.assertEqual(self.formats(), ("kdc-principals:2", "kdc-journal:2"))
        store.close()
        self.assertEqual(check(self.path), [])
        self.assertEqual(self.open().owner_of("HTTP/web"), "web")

    def test_repaired(self) -> None:
        """A repair keeps the part, and says that there is one."""
        store = self.open()
        store.apply([Create(serving("web", "HTTP/web"), token(1)), Create(active("x"), token(2))])
        store.close()
        text = self.read().replace(":x:10", ":y:10")
        with open(self.path, "w") as file:
            file.write(text)
        repair(self.path)
        self.assertEqual(self.formats(), ("kdc-principals:2", "kdc-journal:2"))
        self.assertEqual(check(self.path), [])
        self.assertEqual(self.open().owner_of("HTTP/web"), "web")

    def test_a_part_that_line_1_does_not_know(self) -> None:
        """It is told of: such a file no version writes."""
        store = self.open()
        store.apply([Create(serving("web", "HTTP/web"), token(1))])
        store.close()
        text = self.read().replace("kdc-principals:2:", "kdc-principals:1:")
        with open(self.path, "w") as file:
            file.write(text)
        self.assertIn("a Kerberos part", "".join(map(str, check(self.path))))


class BackupTests(FlatFileCase):
    def test_a_backup_beside_the_running_store(self) -> None:
        """It is checked, opens with the key, and reveals nothing without."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        store.fold()
        store.apply([Create(active("bob"), token(2))])
        directory = self.mktemp()
        os.mkdir(directory)
        copies = backup(self.path, directory)
        self.assertEqual(sorted(os.listdir(directory)), ["pwd.txt", "pwd.txt.journal"])
        for copy in copies:
            self.assertEqual(stat.S_IMODE(os.stat(copy).st_mode), 0o600)
        self.assertRaises(StoreError, backup, self.path, directory)
        path = os.path.join(directory, "pwd.txt")
        self.assertIn("master key", str(self.refused(path=path)))
        shutil.copy(self.path + ".key", path + ".key")
        self.assertEqual(list(self.open(path)), list(store))

    def test_a_backup_with_the_key_elsewhere(self) -> None:
        """The copy is checked with the master key that the store really has."""
        elsewhere = self.mktemp()
        store = self.open(key_path=elsewhere)
        store.apply([Create(active("alice"), token(1))])
        directory = self.mktemp()
        os.mkdir(directory)
        self.assertRaises(StoreError, backup, self.path, self.mktemp())
        backup(self.path, directory, with_key=True, key_path=elsewhere)
        self.assertEqual(list(self.open(os.path.join(directory, "pwd.txt"))), list(store))

    def test_a_backup_of_a_damaged_store_is_refused(self) -> None:
        """So that nobody finds out when it is needed."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        store.close()
        with open(self.path, "a") as file:
            file.write(":x\n")
        directory = self.mktemp()
        os.mkdir(directory)
        error = self.assertRaises(StoreError, backup, self.path, directory)
        self.assertIn("not good", str(error))


class TableTests(SynchronousTestCase):
    def line(self, name: str, filling: int = 0) -> bytes:
        return f":{name}:{'x' * filling}:0:0:active:1:0:0:\n".encode()

    @settings(max_examples=60)
    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3000), st.booleans()), max_size=120)
    )
    def test_it_is_a_sorted_dictionary(self, steps: list[tuple[int, int, bool]]) -> None:
        """Whatever is put and removed, in chunks of any size."""
        table, model = Table(), {}
        for number, filling, put in steps:
            name = f"n{number * 37 % 61}"
            if put:
                model[name] = self.line(name, filling)
                table.put(model[name])
            elif name in model:
                del model[name]
                table.remove(name.encode())
            else:
                self.assertRaises(KeyError, table.remove, name.encode())
        self.assertEqual(len(table), len(model))
        self.assertEqual(table.total_bytes, sum(map(len, model.values())))
        expected = [model[name] for name in sorted(model)]
        chunks = table.snapshot()
        self.assertEqual(list(lines_of(chunks)), expected)
        self.assertTrue(all(len(chunk) <= 3 * CHUNK_BYTES for chunk in chunks))
        for number in range(61):
            self.assertEqual(table.get(f"n{number}".encode()), model.get(f"n{number}"))
        again = Table()
        again.extend(b"".join(expected), len(expected))
        self.assertEqual(list(lines_of(again.snapshot())), expected)


class LineTests(SynchronousTestCase):
    sealer = Sealer(b"k" * 32, "LOCAL", "0" * 16, os.urandom)

    @settings(max_examples=200)
    @given(st.binary(max_size=300) | st.text(alphabet=":abc019=[]\n", max_size=300).map(str.encode))
    def test_any_bytes_are_a_bad_line(self, line: bytes) -> None:
        """Nothing but what was sealed is read, and nothing else is ever raised."""
        self.assertRaises(BadLine, self.sealer.entry, line)

    @settings(max_examples=100)
    @given(st.data())
    def test_any_change_of_a_line(self, data: st.DataObject) -> None:
        """A byte changed, left out or put in anywhere: a bad line."""
        (line,) = self.sealer.lines([Entry(active("alice", address="2001:db8::1"), token(1))])
        at = data.draw(st.integers(0, len(line) - 1))
        byte = data.draw(st.binary(max_size=1))
        changed = line[:at] + byte + line[at + 1 :]
        if changed != line:
            self.assertRaises(BadLine, self.sealer.entry, changed)
        self.assertRaises(BadLine, self.sealer.entry, line[:at] + b":" + line[at:])
        self.assertEqual(self.sealer.entry(line).token, token(1))


class KilledTests(FlatFileCase):
    def test_killed_at_random_moments(self) -> None:
        """Some rounds of ``bench/store_kill9.py``, which runs 200."""
        done = subprocess.run(
            [sys.executable, os.path.join("bench", "store_kill9.py"), "--rounds", "4"],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": _ROOT},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("4 rounds", done.stdout)
