"""docs/recorders/demo_cluster.py, which CI runs whole as `make demo-cluster`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.support.etcd_server import installed
from tests.support.processes import TOP, Program, ProgramTestCase

DEMO = TOP / "docs" / "recorders" / "demo_cluster.py"


class DemoTests(ProgramTestCase):
    def start(self, **environment: str) -> Program:
        return self.scratch.start(
            sys.executable,
            str(DEMO),
            environment={"TMPDIR": str(self.temporary), **environment},
            merged=True,
        )

    def setUp(self) -> None:
        super().setUp()
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir()

    def at_work(self) -> list[str]:
        """The processes that work in its directory, even if that is gone."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                where = os.readlink(process / "cwd")
            except OSError:
                continue  # it has ended, or is somebody else's
            if where.startswith(str(self.temporary)):
                found.append(process.name)
        return found

    def test_interrupted(self) -> None:
        """Ctrl-C, or being asked to end, leaves neither a process nor a file behind."""
        if installed() is None:
            self.skipTest("not installed: etcd (Debian: etcd-server)")
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 1)):
            program = self.start()
            program.expect("kdc1 . kdc: 0 principals in etcd")
            self.assertGreater(len(self.at_work()), 3)
            program.signal(number)
            self.assert_ends(program, status)
            self.assertEqual(self.at_work(), [])
            self.assertEqual(list(self.temporary.iterdir()), [])

    def test_without_etcd(self) -> None:
        """It says what is missing, and is no success."""
        self.assert_brief(self.start(PATH="/nonexistent"), 1, "etcd is missing .*etcd-server")
