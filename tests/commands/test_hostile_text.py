"""What others have chosen is shown so that it commands no terminal and is not taken for ours."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc import terminal
from kdc.commands.admin.subcommands import AdminOptions
from kdc.commands.client.options import AskingOptions
from kdc.errors import ConfigurationError, LocalIOError, local_error
from kdc.hostile_text import harmless, shown
from kdc.transfer import consent
from kdc.transfer.messages import Offer
from kdc.transfer.survey import Unsendable, lines_of, survey, things_of
from tests.support.core import PROPERTY

FORGERIES = (
    "x (1 B)                                        Accept? [y\u2044N] n",
    "x (1 B)\nAccept? [y/N] n",
    "\x1b[2J\x1b[Hroot@kdc:~#",
    "\x9b2J",
    "a\u202egpj.exe",
    "a\u2066b\u2069",
    "invoice\u00a0\u200b\u2028x",
    "\uff08y\uff0fN\uff09",
    "\u201d, and all is well \u201c",
    'a" and "b',
    "p\u0430ypal.txt",
    "\u3164" * 40,
    "a" + "\u0301" * 100,
    "\udc80\udcff",
    "\u01c3\u02ba",
)
# What a terminal obeys, what cannot be seen, and what turns the direction.
_FORBIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


SAID = tuple(text.encode("utf-8", "backslashreplace").decode() for text in FORGERIES)


class HostileTextTestCase(SynchronousTestCase):
    def check(self, line: str) -> None:
        for char in line:
            category = unicodedata.category(char)
            self.assertNotIn(category, _FORBIDDEN, ascii(line))
            self.assertTrue(char == " " or category != "Zs", ascii(line))


class HostileTextTests(HostileTextTestCase):
    """The two functions."""

    @PROPERTY
    @given(st.text(), st.integers(8, 100))
    def test_anything(self, text: str, columns: int) -> None:
        """Any text is one line of what may be shown, not wider than it may be."""
        line = shown(text, columns)
        self.check(line)
        width = sum(
            0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
            for c in line
        )
        self.assertLessEqual(width, columns, ascii(line))
        self.check(harmless(text))
        self.assertEqual(harmless(harmless(text)), harmless(text))

    @PROPERTY
    @given(st.text())
    def test_its_end_can_be_seen(self, text: str) -> None:
        """It is one plain word, or it stands in quotes that it cannot close itself."""
        line = shown(text, 10_000)
        if line[:1] != '"':
            self.assertRegex(line, r"\A[A-Za-z0-9_./+@%=:,~-]+\Z")
            return
        self.assertRegex(line, r'\A"([^"\\]|\\.)*"\Z')
        alike = [c for c in line if not c.isascii() and '"' in unicodedata.normalize("NFKC", c)]
        self.assertEqual(alike, [])

    def test_forgeries(self) -> None:
        """None of these keeps what it needs to deceive; what people use stays readable."""
        for text in FORGERIES:
            line = shown(text, 1000)
            self.check(line)
            self.assertTrue(line.startswith('"'), ascii(line))
            self.assertNotRegex(line[1:-1], "[\u2044\uff0f\u201c\u201d\u0430\u3164\u01c3\u02ba]")
        for text, line in (
            ("report.pdf", "report.pdf"),
            ("my report.pdf", '"my report.pdf"'),
            ("r\u00e9sum\u00e9.pdf", '"r\u00e9sum\u00e9.pdf"'),
            (
                "\u041e\u0442\u0447\u0451\u0442 2024.pdf",
                '"\u041e\u0442\u0447\u0451\u0442 2024.pdf"',
            ),
            ("\u6f22\u5b57", '"\u6f22\u5b57"'),
            ("\U0001f4f7.jpg", '"\U0001f4f7.jpg"'),
        ):
            self.assertEqual(shown(text), line)

    def test_the_end_of_a_name_stays(self) -> None:
        """What is too long loses its middle: the end says what kind of thing it is."""
        self.assertEqual(shown("a" * 300 + ".exe", 20), "aaaaaaaaa...aaaa.exe")


class PlacesTests(HostileTextTestCase):
    """Every place where it is shown."""

    def test_the_question(self) -> None:
        """A name stays on its line, however wide the terminal; what we ask comes last, alone."""
        for name in FORGERIES:
            for columns in (50, 80, 200):
                offer = object.__new__(Offer)
                for field, value in (("names", (name,) * 7), ("more", 3), ("text", False)):
                    object.__setattr__(offer, field, value)
                object.__setattr__(offer, "items", 70)
                object.__setattr__(offer, "size", 10**9)
                question = consent._question("mallory", offer, columns)
                *told, asked = question.split("\n")
                self.assertEqual(asked, "Accept? [y/N] ")
                self.assertEqual(len(told), 1 if columns == 200 else 2)
                for line in told:
                    self.check(line)
                    self.assertNotIn("\u2044", line)
                    self.assertLess(len(line), columns, line)
                self.assertTrue(told[-1].endswith(" (70 files and directories, 953.7 MiB)"), told)

    def test_nobody_to_ask(self) -> None:
        """Without a terminal what is offered is refused, and the sender hears why."""
        script = (
            "from kdc.transfer.consent import _ask\n"
            "from kdc.errors import RefusedByPolicy\n"
            "try: _ask(lambda columns: 'Accept? ', lambda: False)\n"
            "except RefusedByPolicy as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.stdout, "nobody is there to be asked\n", done.stderr)

    def test_what_is_said(self) -> None:
        """Lines on standard error and answers on standard output obey nothing but our breaks."""
        for text in SAID:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                terminal.say(f"one: {text}")
                terminal.answer(f"two: {text}")
                terminal.complain("three", ConfigurationError(text, hint=text.replace("\n", " ")))
            for line in (out.getvalue() + err.getvalue()).splitlines():
                self.check(line)
            # An error is one line, and its hint another: no text makes a third one.
            self.assertEqual(err.getvalue().split("three: ")[1].count("\n"), 2)

    def test_local_names(self) -> None:
        """Our own errors do not let a local name command our terminal, be it never sent."""
        for name in FORGERIES:
            for path in (Path(name), Path("/nowhere", name)):
                self.check(str(local_error(path, OSError(2, "no"))))
                error = self.assertRaises(LocalIOError, survey, things_of([path]))
                self.check(str(error))
        top = Path(self.mktemp()).absolute()
        top.mkdir()
        (top / "a\x1b[2Jb").symlink_to("/etc/passwd")
        self.assertEqual([ascii(s) for s in survey(things_of([top])).skipped if "\x1b" in s], [])
        (top / "c\x1b[2Jd").write_bytes(b"")
        surveyed = survey(things_of([top]))
        self.check(str(Unsendable(surveyed.problems)))
        (line,) = lines_of("cannot be sent", surveyed.problems)
        self.check(line)

    def test_answers_of_others(self) -> None:
        """``kdc admin list`` and ``show``, and what a client prints, show what others have sent."""
        for text in SAID:
            answer: dict[str, Any] = {
                "name": text,
                "status": text,
                "address": text,
                "port": 1,
                "changed": 1,
            }
            for word in ("list", "show"):
                options: Any = AdminOptions()
                options.parseOptions([word, *(["bob"] if word == "show" else [])])
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    options.subOptions.show(answer, options.subOptions.line(answer))
                lines = out.getvalue().splitlines()
                self.assertEqual(len(lines), 1 if word == "list" else len(answer))
                for line in lines:
                    self.check(line)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                AskingOptions().print({"kdc": text})
            self.assertEqual(out.getvalue().count("\n"), 1)
            self.check(out.getvalue().rstrip("\n"))

    def test_one_way_out(self) -> None:
        """Nothing under kdc/ writes to the person but through `kdc.terminal`."""
        top = Path(terminal.__file__).parent
        allowed = {"terminal.py", "commands/completion.py"}
        for path in top.rglob("*.py"):
            if str(path.relative_to(top)) in allowed:
                continue
            for line in path.read_text().splitlines():
                found = re.match(r"\s*print\((.*)", line)
                argument = "" if found is None else found[1]
                ours = argument.startswith(("json.dumps", 'f"kdc {__version__}', 'f"{name}={field'))
                self.assertTrue(found is None or ours, f"{path}: {line}")
