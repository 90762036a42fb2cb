"""What shells and manuals know of the commands is what the command line takes."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.commands.client.subcommands import Options
from kdc.commands.completion import SHELLS, script_for
from kdc.commands.main import kdc_table
from kdc.commands.option_table import table_of
from tests.project.test_packaging import TOP, load
from tests.support.command_lines import long_options, options_in

PROGRAM = "kdcclient"
TABLE = table_of(Options)
PROGRAMS = {PROGRAM: TABLE, "kdc": kdc_table()}
MAN = TOP / "docs" / "man"


class OptionTableTests(SynchronousTestCase):
    """The table from which all of it is made."""

    def test_complete(self) -> None:
        """Every option of every command is in it, with a text, and no other."""
        found = {f"--{flag.name}" for _, table in TABLE.walk() for flag in table.flags}
        self.assertLessEqual(found, long_options())
        for path, table in TABLE.walk():
            options: Any = Options()
            for word in path:
                options = {name: sub for name, _, sub, _ in options.subCommands}[word]()
            names = {name.rstrip("=") for name in options.longOpt}
            self.assertEqual({flag.name for flag in table.flags}, names, path)
            for flag in table.flags:
                self.assertTrue(flag.text, flag)
                self.assertEqual(flag.takes_value, f"{flag.name}=" in options.longOpt, flag)
                if flag.short:
                    self.assertIn(flag.short, options.shortOpt)

    def test_values(self) -> None:
        """What an option's value is, each option has said; all that end in -file are files."""
        for top in PROGRAMS.values():
            for flag in (flag for _, table in top.walk() for flag in table.flags):
                if " " not in flag.value:  # otherwise it is one of these words
                    self.assertIn(flag.value, ("", "file", "directory", "peer"), flag)
                if flag.name.endswith("-file"):
                    self.assertEqual(flag.value, "file", flag)
                if flag.value:
                    self.assertTrue(flag.takes_value, flag)
        values = {flag.name: flag.value for _, table in TABLE.walk() for flag in table.flags}
        for name, value in (
            ("kdc-ca", "file"),
            ("config", "file"),
            ("inbox", "directory"),
            ("to", "peer"),
            ("links", "skip follow"),
            ("exclude-from", "file"),
            ("exclude", ""),
            ("name", ""),
            ("max-size", ""),
        ):
            self.assertEqual(values[name], value, name)

    def test_repeated(self) -> None:
        """An option whose text says that it may be repeated is known as such, and no other."""
        for program, top in PROGRAMS.items():
            for path, table in top.walk():
                for flag in table.flags:
                    said = "may be repeated" in flag.text
                    self.assertEqual(flag.repeated, said, (program, path, flag.name))


class ScriptTests(SynchronousTestCase):
    """What is in the scripts; tests.end_to_end.test_shells has the shells use them."""

    def test_everything_is_in_it(self) -> None:
        """Every command and every option, with its text."""
        for shell, (program, top) in itertools.product(SHELLS, PROGRAMS.items()):
            script = script_for(shell, program, top)
            for path, table in top.walk():
                for flag in table.flags:
                    wanted = f"-l {flag.name} " if shell == "fish" else f"--{flag.name}"
                    self.assertIn(wanted, script, path)
                for name, text, _ in table.commands:
                    self.assertIn(name, script)
                    if shell != "bash":  # which shows no texts
                        self.assertIn(text.replace("'", "'\\''"), script)

    def test_fish_conditions(self) -> None:
        """In fish an option belongs to the command it stands behind."""
        script = script_for("fish", PROGRAM, TABLE)
        (line,) = [each for each in script.splitlines() if " -l wait " in each]
        self.assertIn("__fish_seen_subcommand_from send", line)
        self.assertNotIn("sender", line)

    def test_unknown_shell(self) -> None:
        """There are three."""
        self.assertRaises(KeyError, script_for, "tcsh", PROGRAM, TABLE)


class ManTests(SynchronousTestCase):
    """docs/man."""

    def setUp(self) -> None:
        self.maker = load(TOP / "docs" / "man" / "make_man_pages.py")

    def test_up_to_date(self) -> None:
        """The pages say what the commands take.  If not: run docs/man/make_man_pages.py."""
        made = {f"{name}.1": self.maker.page(name) for name in self.maker.PAGES}
        found = {path.name: path.read_text(encoding="utf-8") for path in MAN.glob("*.1")}
        self.assertEqual(sorted(made), sorted(found))
        for name, text in made.items():
            self.assertEqual(text.splitlines(), found[name].splitlines(), name)

    def test_everything_is_in_it(self) -> None:
        """Every command and every option of kdcclient."""
        text = (MAN / "kdcclient.1").read_text(encoding="utf-8")
        text = re.sub(r"\\f[BIR]", "", text).replace("\\-", "-")
        for path, table in TABLE.walk():
            self.assertLessEqual({f"--{flag.name}" for flag in table.flags}, options_in(text))
            if path:
                self.assertRegex(text, rf"(?m)^\.SS {re.escape(' '.join(path))}$")

    def test_roff(self) -> None:
        """Nothing that an option's text says is a command of the formatter."""
        self.assertEqual(self.maker.roff(".SH x"), "\\&.SH x")
        self.assertEqual(self.maker.roff("a\\b -c"), "a\\eb \\-c")
        groff = shutil.which("groff")
        if groff is None:
            raise SkipTest("no groff here")
        for path in MAN.glob("*.1"):
            done = subprocess.run(
                [groff, "-man", "-Tutf8", "-ww", str(path)], capture_output=True, check=True
            )
            self.assertEqual(done.stderr, b"", path.name)
