"""The files of a running KDC in somebody else's hands: it ends, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.processes import KDC, UNLIMITED, Program, ProgramTestCase, RunningKDC

_LOST = r"kdc: the store is not ours any more: \S+ was removed, replaced or changed by somebody"


class TakenOverTests(ProgramTestCase):
    def registering(self, kdc: RunningKDC, name: str) -> Program:
        return self.client("register", "-n", name, *kdc.options, *self.key(name))

    def listed(self) -> set[str]:
        """Who is registered, as the files say with no KDC running."""
        program = self.scratch.start(*KDC, "admin", "list")
        self.assert_ends(program, 0)
        return {line.split()[0] for line in program.printed.splitlines()}

    def test_second_kdc_without_the_lock(self) -> None:
        """Its lock removed, a KDC acknowledges nothing more; what the next one does is kept."""
        first = self.kdc()
        self.register(first, "alice")
        (self.directory / "pwd.txt.lock").unlink()
        second = self.kdc()
        at_first = {name: self.registering(first, name) for name in ("bob", "carol")}
        for name in ("dave", "erin"):
            self.register(second, name)
        for program in at_first.values():
            self.assertNotIn(program.wait(), (0, 1), str(program))
            self.assertNotIn("registered", program.said)
        self.assert_brief_end(first.program)
        self.assertIn(" store-lost ", (self.directory / "out.txt").read_text())
        self.one_transfer(second)
        self.assertEqual(second.program.stop(), 0)
        self.assertLessEqual({"alice", "dave", "erin"}, self.listed())
        self.assertFalse({"bob", "carol"} & self.listed())
        check = self.scratch.start(*KDC, "admin", "check")
        self.assert_ends(check, 0)

    def assert_brief_end(self, program: Program) -> None:
        self.assert_ends(program, 7, _LOST, "\n  nothing more was written; see who else has it")
        said = program.said.partition("principals in ")[2]
        self.assertLess(len(said.splitlines()), 6, program.said)

    def test_files_put_there_by_hand(self) -> None:
        """It ends by itself, though nobody asks it for anything, and overwrites none of them."""
        kdcs = {}
        for end in ("", ".journal", ".key", ".generation", ".lock"):
            directory = self.directory / f"without{end}"
            directory.mkdir()
            program = self.scratch.start(
                *(*KDC, "-p", "0", "-f", "pwd.txt", "-o", "out.txt", *UNLIMITED),
                directory=directory,
            )
            kdcs[directory / f"pwd.txt{end}"] = RunningKDC(program)
        for path, kdc in kdcs.items():
            older = path.with_name("older")
            self.register(kdc, "alice")
            shutil.copyfile(path, older)
            self.register(kdc, "bob")
            os.replace(older, path)
        put_there = {path: path.read_bytes() for path in kdcs}
        for path, kdc in kdcs.items():
            self.assert_brief_end(kdc.program)
            self.assertIn(f"{path.name} was", kdc.program.said)
            self.assertEqual(path.read_bytes(), put_there[path])

    def test_under_twistd(self) -> None:
        """twistd ends with the same status, without its pid file; a daemon logs the reason."""
        foreground = self.twistd("-n", "--pidfile", "kdc.pid", "kdc", "-p", "0", "-o", "out.txt")
        RunningKDC(foreground)
        (self.directory / "pwd.txt.lock").unlink()
        self.assert_ends(foreground, 7, _LOST)
        self.assertFalse((self.directory / "kdc.pid").exists())
        there = self.directory / "daemon"
        there.mkdir()
        self.assert_ends(self.twistd("kdc", "-p", "0", "-o", "out.txt", directory=there), 0)
        daemon = self.daemon(there)
        self.eventually("it listens", lambda: "principals in" in self.text(there / "twistd.log"))
        (there / "pwd.txt.key").unlink()
        daemon.wait()
        self.assertRegex(self.text(there / "twistd.log"), _LOST)

    def text(self, path: Path) -> str:
        return path.read_text() if path.exists() else ""
