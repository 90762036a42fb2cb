"""docs/operators.md: its commands do what it says."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.commands import main as main_module
from kdc.commands.admin.command import AdminCommand
from kdc.commands.admin.subcommands import AdminOptions
from kdc.limits import Limits
from tests.project.test_docs import blocks_of
from tests.support.command_lines import OURS, logical_lines, parse, words_of
from tests.support.processes import TOP, ProgramTestCase

PAGE = TOP / "docs" / "operators.md"
STOPPED = "### While the KDC is stopped"
FILE_NAMES = re.compile(r"^\| `(pwd\.txt[a-z.]*)` \|", re.MULTILINE)


def lines_of(text: str) -> list[str]:
    return [line for block in blocks_of(text) for line in logical_lines(block) if line.strip()]


def status_of(line: str) -> int:
    """The exit status that the page promises."""
    found = re.search(r"# status (\d+)$", line)
    return int(found[1]) if found else 0


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = PAGE.read_text(encoding="utf-8")

    def test_commands_parse(self) -> None:
        """Each command line is one that its program takes."""
        for line in lines_of(self.text):
            words = words_of(line)
            if words[0] in OURS:
                parse(words)

    def test_every_command(self) -> None:
        """There is an example of every command of the tool."""
        shown = {words_of(line)[2] for line in lines_of(self.text) if "admin" in line}
        shown.discard("--json")
        table: list[Any] = AdminOptions.subCommands
        self.assertEqual(shown, {name for name, *_ in table})
        for _, _, parser, _ in table:
            self.assertIsInstance(parser(), AdminCommand)

    def test_limits(self) -> None:
        """Every limit is explained."""
        table = self.text.partition("## 9. Limits")[2].partition("\n\nAn IPv6")[0]
        named = set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"(?m)^\| (`.*?) \|", table))))
        fields = {field.name.replace("_", "-") for field in Limits.__attrs_attrs__}
        self.assertEqual(named, fields)


class ExampleTests(ProgramTestCase):
    """The examples, in their order, in a directory of their own."""

    def test_examples(self) -> None:
        """Beside a running KDC, then without it; the files are those that the page lists."""
        text = PAGE.read_text(encoding="utf-8")
        running, stopped, rest = text.partition(STOPPED)
        before = Path.cwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, before)
        kdc = self.kdc(
            *("--enrol", "invite", "--directory", "0", "--relay", "0"),
            *("--kerberos", "udp:0:interface=127.0.0.1"),
        )
        Path("textbook.txt").write_text(":dave:10.4.5.11:35678:QUJD=:\n")
        for line in lines_of(running):
            if line.startswith("kdcclient init"):
                self.assert_ends(self.client(*words_of(line)[1:]), 0)
            else:
                self.run_line(line)
        listed = {path.name for path in self.directory.glob("pwd.txt*")}
        kdc.program.stop()
        for line in lines_of(stopped + rest):
            self.run_line(line)
        listed |= {path.name for path in self.directory.glob("pwd.txt*")}
        self.assertEqual(set(FILE_NAMES.findall(text)) - {"pwd.txt.quarantine"}, listed)

    def run_line(self, line: str) -> None:
        words = words_of(line)
        if words[0] == "mkdir":
            Path(words[1]).mkdir()
        if words[:2] != ["kdc", "admin"]:
            return
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main_module._guarded("kdc admin", main_module._admin, words[2:])
        self.assertEqual(status, status_of(line), f"{line}\n{err.getvalue()}")
        if words[2] == "invite":
            self.keep(f"{words[3]}.invitation", out.getvalue())
        if words[2:] == ["dump"]:
            self.keep("principals.dump", out.getvalue())

    def keep(self, name: str, text: str) -> None:
        Path(name).touch(mode=0o600)
        Path(name).write_text(text)
