"""Where a stream is stored: all of it, or nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.deposit import Arrival, Deposit, Sealed
from kdc.errors import LocalIOError, Refusal, RemoteProtocolError
from kdc.items import Content, Finished, Item, Kind
from tests.test_items import is_safe


def file_of(name: str, *pieces: bytes) -> list[Arrival]:
    size = sum(map(len, pieces))
    return [Item(Kind.FILE, name, size), *map(Content, pieces), Finished()]


class DepositTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def listing(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}

    def test_one_file(self) -> None:
        """``output`` is replaced, whatever the sender called the file."""
        path = self.directory / "outfile"
        path.write_bytes(b"old")
        deposit = Deposit(output=path)
        deposit.take(file_of("in.txt", b"new ", b"content"))
        self.assertEqual(path.read_bytes(), b"old")
        (stored,) = deposit.show()
        self.assertEqual((stored.path, stored.size, stored.item.name), (path, 11, "in.txt"))
        self.assertEqual(self.listing(), {"outfile": b"new content"})

    def test_many(self) -> None:
        """``directory`` gets each item under its own name, in however many pieces it came."""
        deposit = Deposit(directory=self.directory)
        arrivals = file_of("a", b"1", b"2") + file_of("empty") + file_of("a", b"3")
        for each in arrivals:
            deposit.take([each])
        self.assertTrue(all(name.endswith(".part") for name in self.listing()))
        stored = deposit.show()
        self.assertEqual([each.path.name for each in stored], ["a", "empty", "a.1"])
        self.assertEqual(self.listing(), {"a": b"12", "empty": b"", "a.1": b"3"})

    def test_unknown_size(self) -> None:
        """An item whose size was not known is stored as it came."""
        deposit = Deposit(directory=self.directory)
        deposit.take([Item(Kind.TEXT, "note", None), Content(b"x"), Content(b"y"), Finished()])
        deposit.show()
        self.assertEqual(self.listing(), {"note": b"xy"})

    def test_descriptors(self) -> None:
        """Any number of items in one stream takes no descriptors with it."""
        deposit = Deposit(directory=self.directory)
        before = len(os.listdir("/proc/self/fd"))
        deposit.take([each for n in range(300) for each in file_of(f"file{n}", b"x")])
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertEqual(len(deposit.show()), 300)

    def test_one_place_for_one_item(self) -> None:
        """A second item for one file is refused, and so is none at all."""
        deposit = Deposit(output=self.directory / "outfile")
        error = self.assertRaises(
            RemoteProtocolError, deposit.take, file_of("a", b"1") + file_of("b", b"2")
        )
        self.assertIs(error.refusal, Refusal.NOT_ALLOWED)
        deposit.discard()
        empty = Deposit(output=self.directory / "outfile")
        self.assertRaises(RemoteProtocolError, empty.show)
        self.assertEqual(self.listing(), {})

    def test_nowhere(self) -> None:
        """A receiver without a place to store anything stores nothing."""
        self.assertRaises(LocalIOError, Deposit().take, file_of("a", b"1"))

    def test_discard(self) -> None:
        """What is discarded leaves nothing, however far it had come."""
        stream = file_of("a", b"1") + file_of("b", b"2")
        for length in range(len(stream)):
            deposit = Deposit(directory=self.directory, records=self.directory / "outenc")
            deposit.take([Sealed(b"sealed"), *stream[:length]])
            deposit.discard()
            self.assertEqual(self.listing(), {})

    def test_records(self) -> None:
        """The sealed records are kept beside it, each byte in its order."""
        deposit = Deposit(output=self.directory / "outfile", records=self.directory / "outenc")
        item, one, end = file_of("a", b"plain")
        deposit.take([Sealed(b"first "), item, Sealed(b"second "), one])
        deposit.take([Sealed(b"third"), end])
        deposit.show()
        self.assertEqual(self.listing(), {"outfile": b"plain", "outenc": b"first second third"})

    def test_durable_first(self) -> None:
        """Before the first name appears, the content of every item is on the disk."""
        seen: list[str] = []

        def watch(name: str) -> None:
            original = getattr(os, name)

            def call(*args: Any, **named: Any) -> Any:
                seen.append(name)
                return original(*args, **named)

            self.patch(os, name, call)

        watch("fsync")
        watch("link")
        deposit = Deposit(directory=self.directory)
        deposit.take(file_of("a", b"1") + file_of("b", b"2"))
        self.assertEqual(seen, ["fsync", "fsync"])
        deposit.show()
        self.assertEqual(seen[2:], ["link", "fsync"] * 2)

    def test_all_or_nothing(self) -> None:
        """If the last item cannot be given its name, the ones before it disappear again."""
        link = os.link
        taken: list[object] = []

        def full(*args: Any, **named: Any) -> None:
            if len(taken) == 2:
                raise OSError(errno.ENOSPC, "no space")
            taken.append(args)
            link(*args, **named)

        self.patch(os, "link", full)
        (self.directory / "a").write_bytes(b"mine")
        deposit = Deposit(directory=self.directory)
        deposit.take(file_of("a", b"1") + file_of("b", b"2") + file_of("c", b"3"))
        self.assertRaises(LocalIOError, deposit.show)
        deposit.discard()
        self.assertEqual(self.listing(), {"a": b"mine"})

    def test_names_stay_inside(self) -> None:
        """No name that an item can have leads out of the directory."""
        for name in ("..", "../x", "/x", "a/../../x"):
            self.assertFalse(is_safe(name))
            self.assertRaises(ValueError, Item, Kind.FILE, name, 0)
