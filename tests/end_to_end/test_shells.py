"""Completion as the shells themselves do it, when people press a key: bash, zsh and fish."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from kdc.commands.client.subcommands import Options
from kdc.commands.completion import script_for
from kdc.commands.main import kdc_table
from kdc.commands.option_table import CommandTable, Flag, table_of
from tests.support.processes import KDC, Program, ProgramTestCase

PROGRAM = "kdcclient"
TABLE = table_of(Options)
# Enough room for every option with its text on a line of its own.
ROOM = "cols 240 rows 200"
PROMPT = "ready: "


def options_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


class ShellTestCase(ProgramTestCase):
    """A shell that has been told of our completion as people tell it."""

    shell: ClassVar[str]

    def setUp(self) -> None:
        super().setUp()
        program = shutil.which(self.shell)
        if program is None:
            raise SkipTest(f"{self.shell} is not here")
        self.program = program
        self.file(f"{PROGRAM}.{self.shell}", script_for(self.shell, PROGRAM, TABLE).encode())
        for name in ("a.key", "b.txt", "two words.txt"):
            self.file(name, b"")
        (self.directory / "boxes").mkdir()
        # As `kdcclient who` leaves it; but names that nobody could have do no harm either.
        peers = self.scratch.home / ".cache" / "kdc" / "peers"
        peers.parent.mkdir(parents=True)
        peers.write_text("bert\ncaroline\n$(touch planted)\n")

    def offered(self, line: str) -> str:
        """What the shell shows when the key for it is pressed behind ``line``."""
        raise NotImplementedError

    def learn(self, path: Path) -> None:
        """Have the shell read another script."""
        raise NotImplementedError

    def assert_offers(self, line: str, expected: Iterable[str]) -> None:
        self.assertEqual(options_of(self.offered(line)), set(expected), line)


class CompletionMixin:
    """What holds in each of them."""

    def test_options_of_each_command(self: ShellTestCase) -> None:  # type: ignore[misc]
        """Behind each command its own options are offered, and no other."""
        for path, table in TABLE.walk():
            expected = {f"--{flag.name}" for flag in table.flags}
            self.assert_offers(" ".join((PROGRAM, *path, "--")), expected)

    def test_commands(self: ShellTestCase) -> None:  # type: ignore[misc]
        """At first the commands are offered."""
        shown = self.offered(f"{PROGRAM} ").split()
        for name, _, _ in TABLE.commands:
            self.assertIn(name, shown)

    def test_the_other_program(self: ShellTestCase) -> None:  # type: ignore[misc]
        """The same for the operator's, whose commands are two words deep; made by itself."""
        made = self.scratch.start(*KDC, "completion", self.shell)
        self.assert_ends(made, 0)
        self.learn(self.file(f"kdc.{self.shell}", made.printed.encode()))
        for path, table in kdc_table().walk():
            expected = {f"--{flag.name}" for flag in table.flags}
            self.assert_offers(" ".join(("kdc", *path, "--")), expected)
        self.assert_offers("kdc admin -f pwd.txt invite bob --ho", {"--hours"})
        self.assertIn("invite", self.offered("kdc admin in").split())

    def test_in_between(self: ShellTestCase) -> None:  # type: ignore[misc]
        """Arguments and other options do not hide which command it is."""
        self.assert_offers(f"{PROGRAM} send bob b.txt --w", {"--wait"})
        self.assert_offers(f"{PROGRAM} receive --once --inbox boxes --max", {"--max-size"})

    def test_files(self: ShellTestCase) -> None:  # type: ignore[misc]
        """Files are offered where one is wanted."""
        for line in ("send bob b", "send --key-file a", "receive --inbox bo"):
            expected = {"b": "b.txt", "a": "a.key", "bo": "boxes"}[line.split()[-1]]
            self.assertIn(expected, self.offered(f"{PROGRAM} {line}"), line)

    def test_names_with_blanks(self: ShellTestCase) -> None:  # type: ignore[misc]
        """A name with a blank is one word, quoted as the shell wants it."""
        for line in ("send bob tw", "send --key-file tw"):
            self.assertRegex(self.offered(f"{PROGRAM} {line}"), r"two(\\ | )words\.txt", line)

    def test_directories(self: ShellTestCase) -> None:  # type: ignore[misc]
        """Where a directory is wanted no file is offered."""
        shown = self.offered(f"{PROGRAM} receive --inbox ")
        self.assertIn("boxes", shown)
        self.assertNotIn("b.txt", shown)

    def test_peers(self: ShellTestCase) -> None:  # type: ignore[misc]
        """Names that the directory has told are offered where one is wanted."""
        for line in ("send car", "who bob car", "pipe car", "forward --to car"):
            self.assertIn("caroline", self.offered(f"{PROGRAM} {line}"), line)
        if self.shell != "fish":  # which does not count the words that stand before
            self.assertNotIn("caroline", self.offered(f"{PROGRAM} send --wait bob car"))
        self.offered(f"{PROGRAM} send ")
        self.assertFalse((self.directory / "planted").exists())

    def test_words_of_a_command(self: ShellTestCase) -> None:  # type: ignore[misc]
        """A command or an option that takes one of some words offers these."""
        shown = self.offered(f"{PROGRAM} completion ").split()
        self.assertLessEqual({"bash", "zsh", "fish"}, set(shown))
        shown = self.offered(f"{PROGRAM} send --links ").split()
        self.assertLessEqual({"skip", "follow"}, set(shown))

    def test_nothing_is_executed(self: ShellTestCase) -> None:  # type: ignore[misc]
        """No text of an option or a command is anything to the shell but text."""
        text = "it's $(touch planted) `touch planted` {a,b} [c] :d: \\e"
        flags = (
            Flag("some-file", "", text, True, "file", False),
            Flag("other", "o", text, False, "", False),
        )
        below = CommandTable("", "", flags)
        table = CommandTable("", text, flags, (("one", text, below), ("two", text, below)))
        script = script_for(self.shell, "hostile", table)
        self.learn(self.file(f"hostile.{self.shell}", script.encode()))
        for line in ("hostile --", "hostile one --"):
            self.assert_offers(line, {"--some-file", "--other"})
        shown = self.offered("hostile ").split()
        self.assertLessEqual({"one", "two"}, set(shown))
        self.assertFalse((self.directory / "planted").exists())


class TypingTestCase(ShellTestCase):
    """A shell at a terminal."""

    def begin(self, argv: tuple[str, ...], *setup: str) -> None:
        self.terminal: Program = self.scratch.start(
            *argv, terminal=True, environment={"TERM": "xterm", "HISTFILE": ""}
        )
        for line in (*setup, f"PS1='{PROMPT[0]}''{PROMPT[1:]}'"):
            self.terminal.type(line + "\n")
        self._until_prompt()

    def offered(self, line: str) -> str:
        self.terminal.type(f"{line}\t")
        # The line is given up; the next says when all of it has been dealt with.
        self.terminal.type("\x15echo DO''NE\n")
        shown = self.terminal.expect(r"(?s).*?DONE")[0]
        self._until_prompt()
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        # What was typed is shown, too; a word that is completed stands behind the others.
        before = line.rpartition(" ")[0]
        self.assertIn(before, shown)
        return shown.replace(before, "")

    def learn(self, path: Path) -> None:
        self.terminal.type(f"source ./{path.name}\n")
        self._until_prompt()

    def _until_prompt(self) -> None:
        """From then on it is the shell that takes each key, not the terminal."""
        self.terminal.expect(PROMPT)


class BashTests(TypingTestCase, CompletionMixin):
    """bash."""

    shell = "bash"

    def setUp(self) -> None:
        super().setUp()
        self.begin(
            (self.program, "--norc", "--noprofile", "-i"),
            f"stty {ROOM}; bind 'set page-completions off' 'set show-all-if-ambiguous on'",
            "bind 'set completion-query-items 0' 'set enable-bracketed-paste off'",
            "source ./kdcclient.bash",
        )


# Everything is to be shown, at once, whether more has been typed or not.
DISPLAY = "LISTMAX=0 BAUD=0"


class ZshTests(TypingTestCase, CompletionMixin):
    """zsh, sourced."""

    shell = "zsh"

    def setUp(self) -> None:
        super().setUp()
        self.begin(
            (self.program, "-f", "-i"),
            f"stty {ROOM}; autoload -Uz compinit; compinit -u -D; {DISPLAY}",
            "source ./kdcclient.zsh",
        )


class ZshFunctionTests(TypingTestCase, CompletionMixin):
    """zsh, from a directory of completions, as distributions install them."""

    shell = "zsh"

    def setUp(self) -> None:
        super().setUp()
        (self.directory / "functions").mkdir()
        (self.directory / "kdcclient.zsh").rename(self.directory / "functions" / "_kdcclient")
        self.begin(
            (self.program, "-f", "-i"),
            f"stty {ROOM}; fpath=($PWD/functions $fpath); {DISPLAY}",
            "autoload -Uz compinit; compinit -u -D",
        )


class FishTests(ShellTestCase, CompletionMixin):
    """fish, which can be asked for what it would offer."""

    shell = "fish"

    def setUp(self) -> None:
        super().setUp()
        self.scripts = ["kdcclient.fish"]

    def learn(self, path: Path) -> None:
        self.scripts.append(path.name)

    def offered(self, line: str) -> str:
        sources = "; ".join(f"source {script}" for script in self.scripts)
        program = self.scratch.start(
            *(self.program, "--no-config", "-c", f'{sources}; complete -C "$argv[1]"'), line
        )
        self.assert_ends(program, 0)
        self.assertEqual(program.said, "")
        # The text behind a tab is the description.
        return "\n".join(each.partition("\t")[0] for each in program.printed.splitlines())
