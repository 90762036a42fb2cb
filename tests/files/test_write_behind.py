"""A long file goes to the disk while it is written."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import TestCase

from kdc.files.write_behind import WriteBehind, forget

_MIB = 1 << 20


class WriteBehindTests(TestCase):
    def setUp(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def write(self, sizes: range, at: int = 0) -> None:
        behind = WriteBehind(at, forget=lambda _, start, count: self.asked.append((start, count)))
        for size in sizes:
            behind.wrote(0, size)

    def test_what_is_short_is_left_to_the_system(self) -> None:
        self.write(range(_MIB, 8 * _MIB, _MIB))
        self.assertEqual(self.asked, [])

    def test_every_part_of_what_is_long_is_asked_for(self) -> None:
        self.write(range(0, 200 * _MIB + 1, 3 * _MIB))
        reached = 0
        for start, count in self.asked:
            self.assertLessEqual(start, reached)
            reached = start + count
        self.assertGreater(reached, 200 * _MIB - 16 * _MIB)

    def test_the_beginning_of_what_is_very_long_is_not_gone_through_each_time(self) -> None:
        self.write(range(0, 4096 * _MIB, 64 * 1024))
        self.assertEqual(len(self.asked), 511)
        self.assertEqual({count for _, count in self.asked[4:]}, {40 * _MIB})

    def test_what_was_there_already_counts_from_where_it_is_gone_on_with(self) -> None:
        self.write(range(100 * _MIB, 109 * _MIB, _MIB), 100 * _MIB)
        self.assertEqual(self.asked, [(68 * _MIB, 40 * _MIB)])

    def test_what_it_is_written_to_stays_what_it_was(self) -> None:
        path = Path(self.mktemp())
        content = os.urandom(_MIB)
        with path.open("wb", buffering=0) as file:
            file.write(content)
            forget(file.fileno(), 0, len(content))
        self.assertEqual(path.read_bytes(), content)

    def test_a_file_that_cannot_be_forgotten_is_no_error(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        forget(writing, 0, 1)
