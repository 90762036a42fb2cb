"""The name of a second thing of one name."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.files.numbering import MAX_NAME_BYTES, numbered
from tests.support.core import PROPERTY

names = st.binary(min_size=1, max_size=MAX_NAME_BYTES).map(os.fsdecode)


class NumberedTests(SynchronousTestCase):
    def test_before_the_suffix(self) -> None:
        """What a program knows the file by stays at its end."""
        for name, expected in (
            ("report.pdf", "report (3).pdf"),
            ("backup.tar.gz", "backup (3).tar.gz"),
            ("README", "README (3)"),
            (".profile", ".profile (3)"),
            ("a.", "a. (3)"),
            ("no suffix. Really", "no suffix. Really (3)"),
            ("x" * 255, "x" * 251 + " (3)"),
            ("x" * 251 + ".pdf", "x" * 247 + " (3).pdf"),
            ("名" * 85, "名" * 83 + " (3)"),
            ("名" * 83 + ".pdf", "名" * 82 + " (3).pdf"),
        ):
            self.assertEqual(numbered(name, 3), expected)

    def test_directories(self) -> None:
        """A directory has no suffix; and the first of a name is the name."""
        self.assertEqual(numbered("photos.2026", 1, directory=True), "photos.2026 (1)")
        self.assertEqual(numbered("report.pdf", 0), "report.pdf")

    @PROPERTY
    @given(names, st.booleans(), st.integers(1, 10_000), st.integers(1, 10_000))
    def test_any_name(self, name: str, directory: bool, one: int, other: int) -> None:
        """It always fits, is never the same for two numbers, and its letters stay whole."""
        made = numbered(name, one, directory=directory)
        self.assertLessEqual(len(os.fsencode(made)), MAX_NAME_BYTES)
        self.assertEqual(made == numbered(name, other, directory=directory), one == other)
        self.assertNotIn("/", made.replace(name, ""))
        if not any("\ud800" <= letter <= "\udfff" for letter in name):
            made.encode()
