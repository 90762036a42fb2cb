"""Standard streams that are closed, full or nobody's, of real commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import CLIENT, KDC, TOP


class StreamTests(SynchronousTestCase):
    def shell(self, line: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``line`` in a shell, with ``words`` as its arguments."""
        return subprocess.run(
            ["/bin/sh", "-c", line, "sh", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=TOP,
        )

    def test_no_stdout(self) -> None:
        """An answer that could not be written is an error, whatever it was written to."""
        for to in (">&-", ">/dev/full"):
            done = self.shell(f'"$@" {to}', *CLIENT, "completion", "bash")
            self.assertEqual(done.returncode, 7, (to, done.stderr))
            self.assertRegex(done.stderr, r"\Akdcclient: cannot write the answer: .*\n\Z")

    def test_no_stderr(self) -> None:
        """What is said to nobody does not go elsewhere, and keeps nothing from being done."""
        done = self.shell('"$@" 2>&-', *CLIENT, "keygen", str(Path(self.mktemp()).absolute()))
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_none_at_all(self) -> None:
        """With all three closed no file takes the place of one."""
        path = Path(self.mktemp()).absolute()
        done = self.shell('"$@" <&- >&- 2>&-', *CLIENT, "keygen", str(path))
        self.assertEqual(done.returncode, 0)
        self.assertRegex(path.read_text(), r"\Akdc-key:1:\S+\n\Z")

    def test_enough_seen(self) -> None:
        """A pipe that is closed ends the command in silence, as it does others."""
        done = self.shell('("$@"; echo $? >&2) | true', *CLIENT, "completion", "bash")
        self.assertIn(done.stderr, ("141\n", "0\n"))

    def test_help(self) -> None:
        """-h, help and help COMMAND are what --help is; python -m kdc is kdc."""
        module = (sys.executable, "-m", "kdc")
        for one, other in (
            ((*CLIENT, "-h"), (*CLIENT, "--help")),
            ((*CLIENT, "help"), (*CLIENT, "--help")),
            ((*CLIENT, "help", "send"), (*CLIENT, "send", "--help")),
            ((*KDC, "admin", "help", "list"), (*KDC, "admin", "list", "--help")),
            ((*KDC, "help", "admin", "list"), (*KDC, "admin", "list", "-h")),
            ((*KDC, "help", "help"), (*KDC, "-h")),
            ((*module, "help"), (*KDC, "--help")),
        ):
            asked, expected = self.shell('"$@"', *one), self.shell('"$@"', *other)
            self.assertEqual((asked.returncode, asked.stderr), (0, ""), one)
            self.assertEqual(asked.stdout, expected.stdout, one)
            self.assertIn("Usage: ", asked.stdout)
        for words in (
            (*KDC, "help", "nonsense"),
            (*KDC, "nonsense"),
            (*CLIENT, "help", "nonsense"),
        ):
            done = self.shell('"$@"', *words)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("Unknown command: nonsense", done.stderr)
