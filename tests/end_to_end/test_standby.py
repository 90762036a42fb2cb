"""docs/operators.md: another machine that stands by, as it is described there."""

from __future__ import annotations

import shlex
import shutil
import subprocess

from tests.project.test_docs import blocks_of
from tests.project.test_packaging import TOP
from tests.support.command_lines import words_of
from tests.support.processes import KDC, UNLIMITED, ProgramTestCase, RunningKDC


class StandbyTests(ProgramTestCase):
    def setUp(self) -> None:
        if shutil.which("rsync") is None:
            self.skipTest("not installed: rsync")
        super().setUp()
        text = (TOP / "docs" / "operators.md").read_text(encoding="utf-8")
        section = text.partition("### A machine that stands by\n")[2].partition("\n## ")[0]
        self.copying, self.starting = blocks_of(section)
        self.other = self.directory / "other"
        self.other.mkdir()

    def run_all(self, block: str) -> None:
        """As typed in the KDC's directory; the other machine is a directory, too."""
        block = block.replace("kdc2.example:/var/lib/kdc", str(self.other))
        for words in filter(None, map(words_of, block.splitlines())):
            if words[0] == "kdc":
                self.assert_ends(self.scratch.start(*KDC, *words[1:]), 0)
            else:
                subprocess.run(words, cwd=self.directory, check=True)

    def start_other(self) -> RunningKDC:
        (words,) = map(shlex.split, self.starting.splitlines())
        self.assertEqual(words[:2], ["kdc", "-p"])
        return RunningKDC(
            self.scratch.start(*KDC, "-p", "0", *words[3:], *UNLIMITED, directory=self.other)
        )

    def test_it_takes_over(self) -> None:
        """Whoever was registered at the last copy is known; the identity is the same."""
        first = self.kdc()
        for end in ("key", "tls"):
            shutil.copy(self.directory / f"pwd.txt.{end}", self.other)
        for name in ("alice", "bob"):
            self.register(first, name)
            self.run_all(self.copying)
        self.register(first, "carol")
        first.program.kill()
        other = self.start_other()
        self.assertEqual(other.fingerprint, first.fingerprint)
        for name, status in (("alice", 0), ("bob", 0), ("carol", 4)):
            program = self.client("whoami", "-n", name, *other.options, *self.key(name))
            self.assertEqual(program.wait(), status, str(program))
        self.register(other, "carol")
