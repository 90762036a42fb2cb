"""Looking through a store, and copying it: of any size, beside a KDC, on a disk that fails."""

from __future__ import annotations

import errno
import os
import tracemalloc
from collections.abc import Callable

from kdc.store import Create, StoreError
from kdc.store.flatfile.backup import backup
from kdc.store.flatfile.check import check, examine
from kdc.store.flatfile.paths import Paths
from kdc.store.flatfile.repair import repair
from tests.store.test_damage import DamageCase, open_on
from tests.store.test_faults import PATH
from tests.store.test_flatfile import FlatFileCase
from tests.support.store_conformance import active, token

_MANY = 4000


class MemoryTests(FlatFileCase):
    """A million principals would take gigabytes as objects: what is held is a part of the file."""

    def setUp(self) -> None:
        super().setUp()
        store = self.open()
        changes = [Create(active(f"user{number:06d}"), token(number)) for number in range(_MANY)]
        for at in range(0, _MANY, store.most_changes):
            store.apply(changes[at : at + store.most_changes])
        store.close()  # and so folds: all is in pwd.txt, and in the journal
        self.size = os.path.getsize(self.path)

    def peak(self, call: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_check(self) -> None:
        """Looking at every line takes the memory of few."""
        self.assertLess(self.peak(lambda: self.assertEqual(check(self.path), [])), 4 * self.size)

    def test_backup(self) -> None:
        """So does a copy."""
        there = os.path.join(self.directory, "there")
        os.mkdir(there)
        self.assertLess(self.peak(lambda: backup(self.path, there)), 4 * self.size)

    def test_repair(self) -> None:
        """A repair has the lines in memory that it keeps, and nothing else."""
        with open(self.path, "r+b") as file:
            file.seek(-10, os.SEEK_END)
            file.write(b"?")
        self.assertLess(self.peak(lambda: repair(self.path)), 6 * self.size)


class BesideTests(DamageCase):
    def test_a_kdc_that_goes_on(self) -> None:
        """What is registered while it is looked at is not taken for an old copy put back."""
        disk = self.with_({})
        store = open_on(disk)
        for call in ("open", "pread"):
            for number in range(1, 30):
                left = number

                def before(now: str, call: str = call) -> None:
                    nonlocal left
                    left -= now == call
                    if now == call and left == 0:
                        disk.before = lambda call: None
                        store.apply([Create(active(f"{call}{number}"), token(7))])  # noqa: B023
                        store.fold()

                disk.before = before
                self.assertEqual(check(PATH, files=disk), [], (call, number))


class UnreadableTests(DamageCase):
    def test_a_disk_that_fails_in_the_middle(self) -> None:
        """It is said, and nobody takes what could be read for all that there is."""
        failed = 0
        for number in range(1, 100):
            disk = self.with_({PATH: self.good[PATH].replace(b":1:", b":2:", 1)})
            left = number

            def before(call: str) -> None:
                nonlocal left
                left -= call == "pread"
                if call == "pread" and left <= 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

            disk.before = before
            found = examine(Paths.of(PATH), disk)
            if left > 0:
                break
            self.assertIn("cannot be read", "\n".join(map(str, found.problems)), number)
            contents = self.contents(disk)
            left = number
            self.assertRaises(StoreError, repair, PATH, files=disk)
            for path in (PATH, PATH + ".journal"):
                self.assertEqual(self.contents(disk)[path], contents[path], (number, path))
            failed += 1
        self.assertGreater(failed, 3)

    def test_a_backup_of_what_cannot_be_read(self) -> None:
        """Leaves no file that looks like one."""
        disk = self.with_({})

        def before(call: str) -> None:
            if call == "pread":
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        disk.before = before
        there = os.path.dirname(PATH) + "/there"
        self.assertRaises(StoreError, backup, PATH, there, files=disk)
        self.assertFalse([name for name in disk.names if name.startswith(there)])
