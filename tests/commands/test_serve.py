"""A KDC in the background that does not become ready: which status its starter ends with."""

from __future__ import annotations

import sys

from tests.support.processes import ProgramTestCase

CHILD = """
import os, signal, sys
from pathlib import Path
from kdc.commands.serve import start_in_background

def run(started):
    {what}

sys.exit(start_in_background(run, Path("log")))
"""


class StartTests(ProgramTestCase):
    def start(self, what: str) -> tuple[int, str]:
        program = self.scratch.start(sys.executable, "-c", CHILD.format(what=what))
        return program.wait(), program.said

    def test_ready(self) -> None:
        """Once it is ready, that is a success, however it ends later."""
        self.assertEqual(self.start("started(); return 7")[0], 0)

    def test_status(self) -> None:
        """Its own status is handed on; one that ended well without being ready is none."""
        self.assertEqual(self.start("return 7")[0], 7)
        self.assertEqual(self.start("return 0")[0], 1)

    def test_killed(self) -> None:
        """A signal is none of our statuses, which begin at 1: it is told as a shell tells it."""
        status, said = self.start("os.kill(os.getpid(), signal.SIGKILL)")
        self.assertEqual(status, 128 + 9)
        self.assertIn("ended by signal 9", said)
