"""Secrets are in no core file: a program of ours that crashes leaves none."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.corefiles import no_core_file
from tests.processes import Program, ProgramTestCase, RunningKDC


class LimitTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """A sandbox that does not allow it keeps nobody from starting."""

        def refused(*_: Any) -> None:
            raise PermissionError

        self.patch(resource, "setrlimit", refused)
        no_core_file()


class ProgramTests(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        before = resource.getrlimit(resource.RLIMIT_CORE)
        if before[1] == 0:
            self.skipTest("core files are forbidden here in any case")
        # What an administrator who looks for some other program's crash has set.
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, before)
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))

    def assert_none(self, program: Program) -> None:
        limits = Path(f"/proc/{program.pid}/limits").read_text()
        found = re.search(r"Max core file size +(\S+)", limits)
        assert found is not None
        self.assertEqual(found[1], "0", str(program))

    def test_console_commands(self) -> None:
        """``kdc`` and ``kdcclient``."""
        kdc = self.kdc()
        self.assert_none(kdc.program)
        self.assert_none(self.receiver(kdc, "bob", "-o", "outfile"))

    def test_plugins(self) -> None:
        """The same under twistd."""
        kdc = RunningKDC(self.twistd("-n", "--pidfile=", "kdc", "-p", "0", "-f", "pwd.txt"))
        self.assert_none(kdc.program)
        receiver = self.twistd(
            *("-n", "--pidfile=", "kdcclient", "receiver", "-n", "bob", *kdc.options),
            *(*self.key("bob"), "-o", "outfile", "--listen", "0"),
        )
        receiver.expect("bob: receiving on")
        self.assert_none(receiver)
