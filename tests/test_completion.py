"""What shells and manuals know of the commands is what the command line takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.commands import Options
from kdc.completion import SHELLS, script_for
from kdc.optiontable import CommandTable, table_of
from tests.command_lines import long_options, options_in
from tests.test_packaging import TOP, load

PROGRAM = "kdcclient"
TABLE = table_of(Options)
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

    def test_files(self) -> None:
        """Options whose values are files are known as such."""
        files = {flag.name for _, table in TABLE.walk() for flag in table.flags if flag.is_file}
        for name in ("key-file", "passphrase-file", "kdc-ca", "inbox", "output", "config"):
            self.assertIn(name, files)
        self.assertFalse({"name", "port", "listen", "text", "max-size"} & files)


class BashTests(SynchronousTestCase):
    """The script as bash runs it."""

    def setUp(self) -> None:
        bash = shutil.which("bash")
        if bash is None:
            raise SkipTest("no bash here")
        self.bash = bash
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "kdcclient.bash").write_text(script_for("bash", PROGRAM, TABLE))

    def complete(self, line: str) -> set[str]:
        """What is offered behind ``line``, of which the last word is unfinished."""
        words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
        script = (
            "set -eu; source ./kdcclient.bash\n"
            f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; COMPREPLY=()\n"
            f'_{PROGRAM} || true; printf "%s\\n" "${{COMPREPLY[@]:-}}"'
        )
        done = subprocess.run(
            [self.bash, "--norc", "-c", script],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_commands_and_options(self) -> None:
        """Behind each command its own options are offered, and no other; at first the commands."""
        self.assertGreaterEqual(self.complete(f"{PROGRAM} "), {"send", "receive", "doctor"})
        self.assertEqual(self.complete(f"{PROGRAM} se"), {"send", "sender"})
        for path, table in TABLE.walk():
            expected = {f"--{flag.name}" for flag in table.flags}
            self.assertEqual(self.complete(" ".join((PROGRAM, *path, "--"))), expected, path)

    def test_behind_other_words(self) -> None:
        """Options and arguments in between do not hide which command it is."""
        self.assertEqual(self.complete(f"{PROGRAM} send bob a.txt --wa"), {"--wait"})
        self.assertEqual(self.complete(f"{PROGRAM} receive --once --max"), {"--max-size"})

    def test_files(self) -> None:
        """Files are offered behind options that want one, and where nothing else fits."""
        (self.directory / "alice.key").touch()
        for line in ("receive --key-file al", "send bob al"):
            self.assertEqual(self.complete(f"{PROGRAM} {line}"), {"alice.key"})

    def test_nothing_is_executed(self) -> None:
        """No text of an option is anything to the shell but text."""
        table = CommandTable("", "", (), (("x", "it's $(touch planted) `touch planted`", TABLE),))
        for shell in SHELLS:
            (self.directory / "s").write_text(script_for(shell, "hostile", table))
            if shell == "bash":
                subprocess.run([self.bash, "s"], cwd=self.directory, check=True)
                self.assertFalse((self.directory / "planted").exists())


class OtherShellsTests(SynchronousTestCase):
    """zsh and fish: by their own parsers where they are installed, and by what is in it anyway."""

    def test_everything_is_in_it(self) -> None:
        """Every command and every option, with its text."""
        for shell in ("zsh", "fish"):
            script = script_for(shell, PROGRAM, TABLE)
            for path, table in TABLE.walk():
                for flag in table.flags:
                    wanted = f"--{flag.name}" if shell == "zsh" else f"-l {flag.name}"
                    self.assertIn(wanted, script, path)
                for name, text, _ in table.commands:
                    self.assertIn(name, script)
                    self.assertIn(text.replace("'", "'\\''"), script)

    def test_fish_conditions(self) -> None:
        """In fish an option belongs to the command it stands behind."""
        script = script_for("fish", PROGRAM, TABLE)
        (line,) = [each for each in script.splitlines() if " -l wait " in each]
        self.assertIn("__fish_seen_subcommand_from send", line)
        self.assertNotIn("sender", line)

    def test_syntax(self) -> None:
        """The shells themselves can read it."""
        checked = 0
        for shell, options in (("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])):
            program = shutil.which(shell)
            if program is not None:
                path = Path(self.mktemp())
                path.write_text(script_for(shell, PROGRAM, TABLE))
                subprocess.run([program, *options, str(path)], check=True)
                checked += 1
        if not checked:
            raise SkipTest("none of the shells is here")

    def test_unknown_shell(self) -> None:
        """There are three."""
        self.assertRaises(KeyError, script_for, "tcsh", PROGRAM, TABLE)


class ManTests(SynchronousTestCase):
    """docs/man."""

    def setUp(self) -> None:
        self.maker = load(TOP / "etc" / "make_man_pages.py")

    def test_up_to_date(self) -> None:
        """The pages say what the commands take.  If not: run etc/make_man_pages.py."""
        made = {f"{name}.1": self.maker.page(name) for name in self.maker.PAGES}
        found = {path.name: path.read_text(encoding="utf-8") for path in MAN.iterdir()}
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
        for path in MAN.iterdir():
            done = subprocess.run(
                [groff, "-man", "-Tutf8", "-ww", str(path)], capture_output=True, check=True
            )
            self.assertEqual(done.stderr, b"", path.name)
