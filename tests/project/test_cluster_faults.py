"""What `make cluster-faults` makes of what it finds; that it finds it is for itself to show."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from bench.cluster_faults import FAULTS, row_of, with_rows
from bench.cluster_trial import CHECK, Found
from bench.processes import Failed, run
from tests.hostile.mutants import MUTANTS
from tests.project.test_packaging import TOP

PAGE = "before\n<!-- faults: begin -->\n<!-- faults: end -->\nafter\n"
FIGURES = {
    "registrations": 3,
    "registration_wait": 0.5,
    "registration_gap": 0.25,
    "channels": 4,
    "channel_gap": 0.5,
    "wrong": [],
    "errors": [],
}


class TableTests(SynchronousTestCase):
    def test_rounds_are_added(self) -> None:
        """What was done is summed up, what was waited is the longest; what is wrong is told."""
        found = Found()
        found.add(FIGURES)
        found.add({**FIGURES, "registration_gap": 2.0, "wrong": ["NameTaken: x"], "errors": ["y"]})
        self.assertEqual(found.rounds, 2)
        self.assertEqual((found.registrations, found.channels), (6, 8))
        self.assertEqual((found.registration_gap, found.channel_gap), (2.0, 0.5))
        self.assertEqual((found.wrong, found.errors), (1, 1))
        self.assertEqual(found.bad, ["wrongly refused: NameTaken: x"])

    def test_a_part_is_written(self) -> None:
        """Rows of other faults stay, those measured again are replaced, the rest as it was."""
        first, second = FAULTS[:2]
        one, two = Found(rounds=1), Found(rounds=2)
        page = with_rows(PAGE, [row_of(second, one)], "so.")
        page = with_rows(page, [row_of(first, two), row_of(second, two)], "other.")
        page = with_rows(page, [row_of(first, one)], "again.")
        lines = page.splitlines()
        self.assertEqual((lines[0], lines[-1]), ("before", "after"))
        rows = [line for line in lines if line.startswith(("| the leader",))]
        self.assertEqual([row.split(" | ")[1] for row in rows], ["1", "2"])
        self.assertIn("\nagain.\n", page)
        self.assertNotIn("other.", page)

    def test_a_page_without_a_place(self) -> None:
        """It is said, and not written at the end of something else."""
        self.assertRaises(Failed, with_rows, "nothing\n", [], "so.")

    def test_the_document_has_the_place(self) -> None:
        page = (TOP / "docs" / "cluster.md").read_text(encoding="utf-8")
        self.assertIn(FAULTS[0].must, with_rows(page, [row_of(FAULTS[0], Found())], "so."))

    def test_titles_are_keys(self) -> None:
        """A row is found by what it is about."""
        self.assertEqual(len({fault.title for fault in FAULTS}), len(FAULTS))
        self.assertEqual(len({fault.key for fault in FAULTS}), len(FAULTS))


class CommandTests(SynchronousTestCase):
    def test_no_such_fault(self) -> None:
        """It is told before anything is started."""
        words = ("-m", "bench.cluster_faults", "--only", "earthquake")
        error = self.assertRaises(Failed, run, [sys.executable, *words])
        self.assertIn("leader-killed", str(error))

    def test_without_etcd(self) -> None:
        """It is said what is missing, and nothing is measured."""
        empty = self.mktemp()
        os.mkdir(empty)
        words = (sys.executable, "-m", "bench.cluster_faults", "--short")
        ran = subprocess.run(
            words, cwd=TOP, env={"PATH": empty}, capture_output=True, text=True, check=False
        )
        self.assertEqual((ran.returncode, ran.stdout), (0, ""))
        self.assertIn("Debian: etcd-server", ran.stderr)

    def test_the_check_is_there_to_be_taken_out(self) -> None:
        """The run without the check takes out what is known to be a defence."""
        self.assertEqual(sum(mutant.defence == CHECK for mutant in MUTANTS), 1)
