"""Secrets are in no core file, and a KDC is not full after a thousand clients."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.process_limits import set_limits
from tests.support.processes import Program, ProgramTestCase, RunningKDC


class LimitTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """A sandbox that does not allow it keeps nobody from starting."""

        tried = []

        def refused(limit: int, _: Any) -> None:
            tried.append(limit)
            raise PermissionError

        self.patch(resource, "setrlimit", refused)
        set_limits()
        self.assertEqual(tried, [resource.RLIMIT_CORE, resource.RLIMIT_NOFILE])


class DescriptorTests(ProgramTestCase):
    def test_as_many_as_there_may_be(self) -> None:
        """A KDC that was started by hand takes as many clients as the system lets it."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        limits = Path(f"/proc/{self.kdc().program.pid}/limits").read_text()
        self.assertRegex(limits, rf"Max open files +{before[1]} +{before[1]} ")


class CoreFileTests(ProgramTestCase):
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
