"""The files of the activity log: all of them, in order, whatever is done to them meanwhile."""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.admin.log_files import LogReader, Wanted
from kdc.admin.log_lines import json_line, text_line
from kdc.errors import LocalIOError
from kdc.issuing.decisions import Audit

START = 1_795_410_735


class LogTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "out.txt"
        self.told: list[str] = []

    def lines(self, first: int, after: int, form: Callable[..., str] = text_line) -> bytes:
        """One a second, each of a client with its number."""
        made = [form(Audit("issued", f"c{n}", "", "bob"), START + n) for n in range(first, after)]
        return "".join(f"{line}\n" for line in made).encode()

    def write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def reader(self, **wanted: Any) -> LogReader:
        return LogReader(self.path, Wanted(**wanted), self.told.append)

    def read(self, **wanted: Any) -> list[int]:
        return [int(each.principal[1:]) for each in self.reader(**wanted).entries() if each]

    def since(self, number: int) -> str:
        return text_line(Audit("x", "", ""), START + number).split()[0]


class ReadTests(LogTestCase):
    def test_rotated(self) -> None:
        """Those that logrotate has put aside, by number or by date, packed or not: oldest first."""
        self.write("out.txt.3.gz", gzip.compress(self.lines(0, 2)))
        self.write("out.txt.2.bz2", bz2.compress(self.lines(2, 4)))
        self.write("out.txt.1", self.lines(4, 6))
        self.write("out.txt-20261123.gz", gzip.compress(self.lines(6, 8)))
        self.write("out.txt-20261124", self.lines(8, 10, json_line))
        self.write("out.txt-2026112505", self.lines(10, 12))
        self.write("out.txt-2026-11-26", self.lines(12, 14))
        self.write("out.txt", self.lines(14, 15) + self.lines(15, 16, json_line))
        for other in ("out.txt.bak", "out.txt~", "out.txt.1.swp", "xout.txt.1", "out.txt-a.gz"):
            self.write(other, self.lines(90, 92))
        self.assertEqual(self.read(), list(range(16)))
        self.assertEqual(self.told, [])

    def test_only_rotated(self) -> None:
        """Between a rotation and SIGHUP there is no file of its own name."""
        self.write("out.txt.1", self.lines(0, 3))
        self.assertEqual(self.read(), [0, 1, 2])

    def test_packed_just_now(self) -> None:
        """While a file is packed it is there twice: it is read once, and whole."""
        self.write("out.txt.1", self.lines(0, 50))
        self.write("out.txt.1.gz", gzip.compress(self.lines(0, 50))[:60])
        self.write("out.txt", self.lines(50, 52))
        self.assertEqual(self.read(), list(range(52)))
        self.assertEqual(self.told, [])

    def test_linked_twice(self) -> None:
        """So is one that has two names."""
        os.link(self.write("out.txt", self.lines(0, 3)), self.directory / "out.txt.1")
        self.assertEqual(self.read(), [0, 1, 2])

    def test_filters(self) -> None:
        """By client, by events, by time; all of them together."""
        lines = [
            text_line(Audit("refused", "bob", "", "RATE alice"), START),
            json_line(Audit("refused", "alice", "", "RATE bob"), START + 1),
            text_line(Audit("issued", "alice", "", "bob"), START + 2),
            json_line(Audit("issued", "bob", "", "alice"), START + 3),
            text_line(Audit("issued", "bobby", "", "refused"), START + 4),
        ]
        self.write("out.txt", "".join(f"{line}\n" for line in lines).encode())

        def found(**wanted: Any) -> list[int]:
            times = [each.time for each in self.reader(**wanted).entries() if each]
            return [int(time[17:19]) - 15 for time in times]

        self.assertEqual(found(), [0, 1, 2, 3, 4])
        self.assertEqual(found(client="bob"), [0, 3])
        self.assertEqual(found(events=frozenset(["refused"])), [0, 1])
        self.assertEqual(found(events=frozenset(["refused", "issued"])), [0, 1, 2, 3, 4])
        self.assertEqual(found(since=self.since(2)), [2, 3, 4])
        self.assertEqual(
            found(client="bob", events=frozenset(["issued"]), since=self.since(1)), [3]
        )

    def test_garbage(self) -> None:
        """What is no line of the log is passed over, counted and bounded; the rest is read."""
        content = (
            self.lines(0, 1)
            + b"\x00\xff\x1b[2J\n\n"
            + self.lines(1, 2)
            + b"\x00" * 100_000
            + b"\n"
            + self.lines(2, 3)
            + b"{}\n"
            + self.lines(3, 4)[:-9]
        )
        self.write("out.txt", content)
        self.assertEqual(self.read(), [0, 1, 2])
        first, second = self.told
        self.assertIn("3 lines are none of the log's", first)
        self.assertIn("the last line has no end", second)

    def test_empty(self) -> None:
        self.write("out.txt", b"")
        self.assertEqual((self.read(), self.told), ([], []))

    def test_damaged(self) -> None:
        """Of a packed file that is cut, changed or none what can be read is; the rest is told."""
        whole = gzip.compress(self.lines(0, 2000))
        self.write("out.txt.4.gz", whole[: len(whole) // 2])
        self.write("out.txt.3.gz", whole[:-8] + bytes(8))
        self.write("out.txt.2.gz", b"nothing of the sort")
        self.write("out.txt.1.bz2", b"BZh91")
        self.write("out.txt", self.lines(5000, 5001))
        self.assertEqual(self.read()[-1], 5000)
        damaged = [line for line in self.told if "it is damaged" in line]
        self.assertEqual(len(damaged), 4, self.told)

    def test_not_unpacked(self) -> None:
        """What cannot be unpacked here is named."""
        self.write("out.txt.1.xz", b"")
        self.write("out.txt", self.lines(0, 1))
        self.assertEqual(self.read(), [0])
        self.assertEqual(self.told, [f"{self.path}.1.xz: it was not read; unpack it first"])

    def test_not_a_file(self) -> None:
        """A missing file, a FIFO, a directory, a link: an error at once that names it."""
        self.assertIn("there is no such log", str(self.assertRaises(LocalIOError, self.read)))
        self.path = self.directory / "nowhere" / "out.txt"
        self.assertIn("nowhere", str(self.assertRaises(LocalIOError, self.read)))
        for number, make in enumerate((os.mkfifo, os.mkdir, lambda path: os.symlink("x", path))):
            self.path = self.directory / f"log{number}"
            make(self.path)
            self.assertIn(str(self.path), str(self.assertRaises(LocalIOError, self.read)))

    def test_something_beside_it(self) -> None:
        """What is called like a part of the log and is none is told, and not waited for."""
        self.write("out.txt", self.lines(0, 2))
        os.mkfifo(self.directory / "out.txt.1")
        (self.directory / "out.txt.2").mkdir()
        (self.directory / "out.txt.3").symlink_to("out.txt")
        self.assertEqual(self.read(), [0, 1])
        self.assertEqual(len(self.told), 3)

    def test_rights(self) -> None:
        """What may not be read is not left out silently."""
        self.write("out.txt", self.lines(0, 2))
        secret = self.write("out.txt.1", b"")

        def refused(path: Any, *args: Any, **kwargs: Any) -> int:
            if str(path) == str(secret):
                raise PermissionError(13, "Permission denied")
            return opened(path, *args, **kwargs)

        opened = os.open
        self.patch(os, "open", refused)
        error = self.assertRaises(LocalIOError, self.read)
        self.assertIn("out.txt.1: Permission denied", str(error))

    def test_bounded(self) -> None:
        """Megabytes cost no more memory than kilobytes, packed a thousandfold too."""
        self.write("out.txt.1.gz", gzip.compress(bytes(20_000_000)))
        self.write("out.txt", self.lines(0, 20_000))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        count = sum(1 for _ in self.reader().entries())
        self.assertEqual(count, 20_000)
        self.assertLess(tracemalloc.get_traced_memory()[1], 2_000_000)


class SinceTests(LogTestCase):
    def test_every_place(self) -> None:
        """Wherever the time falls, what is read begins there."""
        self.write("out.txt.2.gz", gzip.compress(self.lines(0, 5000)))
        self.write("out.txt.1", self.lines(5000, 10_000))
        self.write("out.txt", self.lines(10_000, 15_000, json_line))
        for first in (0, 1, 4999, 5000, 5001, 7500, 9999, 10_000, 12_345, 14_999, 15_000):
            self.assertEqual(self.read(since=self.since(first)), list(range(first, 15_000)), first)

    def test_among_garbage(self) -> None:
        """Where lines say nothing it is read from further before: nothing is lost."""
        self.write(
            "out.txt",
            self.lines(0, 3000)
            + b"#\n" * 200_000
            + self.lines(3000, 3001)
            + bytes(300_000)
            + b"\n"
            + self.lines(3001, 6000),
        )
        for first in (1, 2999, 3000, 3001, 3002, 5999):
            self.assertEqual(self.read(since=self.since(first)), list(range(first, 6000)), first)

    def test_little_is_read(self) -> None:
        """The end of a large file is found without reading the rest."""
        path = self.write("out.txt", self.lines(0, 60_000))
        read = 0
        reader = self.reader(since=self.since(59_990))
        find = Wanted.find

        def counted(wanted: Wanted, line: bytes) -> Any:
            nonlocal read
            read += len(line)
            return find(wanted, line)

        self.patch(Wanted, "find", counted)
        self.assertEqual(sum(1 for _ in reader.entries()), 10)
        self.assertLess(read, path.stat().st_size / 20)


class FollowTests(LogTestCase):
    """Each look at the file comes after the next of some steps; then it ends."""

    def follow(self, *steps: Callable[[], object], **wanted: Any) -> list[int]:
        left = [*steps, *[lambda: None] * 4]

        class Enough(Exception):
            """All was done."""

        def pause(seconds: float) -> None:
            if not left:
                raise Enough
            left.pop(0)()

        found: list[int] = []
        try:
            for entry in self.reader(**wanted).entries(pause):
                found += [] if entry is None else [int(entry.principal[1:])]
        except Enough:
            pass
        else:
            self.fail("it ended")
        return found

    def add(self, content: bytes, name: str = "out.txt") -> Callable[[], object]:
        def add() -> None:
            with (self.directory / name).open("ab") as file:
                file.write(content)

        return add

    def move(self, name: str, to: str) -> Callable[[], object]:
        return lambda: (self.directory / name).rename(self.directory / to)

    def pack(self, name: str) -> Callable[[], object]:
        def pack() -> None:
            path = self.directory / name
            self.write(f"{name}.gz", gzip.compress(path.read_bytes()))
            path.unlink()

        return pack

    def test_grows(self) -> None:
        """What is added is told, each line when it is whole."""
        self.write("out.txt", self.lines(0, 2))
        line = self.lines(3, 4)
        found = self.follow(self.add(self.lines(2, 3) + line[:20]), self.add(line[20:]))
        self.assertEqual((found, self.told), ([0, 1, 2, 3], []))

    def test_rotation(self) -> None:
        """A line that still went to the old file is told, and then those of the new one."""
        self.write("out.txt", self.lines(0, 2))
        found = self.follow(
            self.move("out.txt", "out.txt.1"),
            self.add(self.lines(2, 3), "out.txt.1"),
            self.add(self.lines(4, 5)),
            self.add(self.lines(3, 4), "out.txt.1"),
            self.add(self.lines(5, 6)),
        )
        self.assertEqual((found, self.told), ([0, 1, 2, 3, 4, 5], []))

    def test_rotated_twice(self) -> None:
        """Two rotations between two looks lose nothing, nor does packing."""
        self.write("out.txt", self.lines(0, 2))

        def twice() -> None:
            self.add(self.lines(2, 3))()
            for number in range(3, 6):
                for old in (3, 2, 1):
                    if (self.directory / f"out.txt.{old}").exists():
                        self.move(f"out.txt.{old}", f"out.txt.{old + 1}")()
                self.move("out.txt", "out.txt.1")()
                self.add(self.lines(number, number + 1))()

        self.assertEqual(self.follow(twice, self.add(self.lines(6, 7))), list(range(7)))
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        self.write("out.txt", self.lines(0, 2))

        def packed() -> None:
            self.add(self.lines(2, 3))()
            self.move("out.txt", "out.txt-20261123")()
            self.pack("out.txt-20261123")()
            self.add(self.lines(3, 4))()
            self.move("out.txt", "out.txt-20261124")()
            self.add(self.lines(4, 5))()

        self.assertEqual(self.follow(packed, self.add(self.lines(5, 6))), list(range(6)))

    def test_cut(self) -> None:
        """A file that was emptied in its place (copytruncate) is read from its beginning."""
        self.write("out.txt", self.lines(0, 5))
        found = self.follow(lambda: self.write("out.txt", b""), self.add(self.lines(5, 6)))
        self.assertEqual(found, list(range(6)))
        self.assertIn("it was cut", self.told[0])

    def test_replaced(self) -> None:
        """What cannot be a log in its place ends it with an error."""
        self.write("out.txt", self.lines(0, 1))

        def replace() -> None:
            self.path.unlink()
            os.mkfifo(self.path)

        error = self.assertRaises(LocalIOError, self.follow, replace)
        self.assertIn("out.txt", str(error))

    def test_filtered(self) -> None:
        """Filters go on, too, across a file that was packed before anything in it was wanted."""
        self.write("out.txt", self.lines(0, 5))

        def packed() -> None:
            self.move("out.txt", "out.txt.1")()
            self.pack("out.txt.1")()
            self.add(self.lines(5, 8))()

        self.assertEqual(self.follow(packed, client="c6"), [6])
        self.assertEqual(self.follow(self.add(self.lines(8, 9)), client="c2"), [2])
