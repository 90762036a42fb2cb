"""``kdc admin nodes``, and waiting until a change is in force everywhere."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any, ClassVar, cast

from twisted.trial.unittest import SynchronousTestCase

from kdc.admin.nodes import rows_of
from kdc.commands.admin.command import AdminCommand
from kdc.commands.admin.nodes import NodesCommand
from kdc.commands.admin.standing import DisableCommand
from kdc.store.nodes import UnreadableNode
from kdc.terminal import wait_shown
from tests.admin.test_nodes import NODE, Of, another

ROWS = list(rows_of([NODE, another(policy="f" * 16)], Of()))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Asked:
    """In the place of the store: what it answers."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers = answers

    def ask(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        return iter(self.answers)


def run(
    kind: type[AdminCommand],
    answers: list[dict[str, Any]],
    *words: str,
    out: io.StringIO,
    as_json: int = 0,
) -> tuple[int, str]:
    """Return exit status and standard error."""
    command = cast(Any, type("Asking", (kind,), {"store": Asked(answers)}))()
    command.parseOptions(words)
    command.parent = {"json": as_json}
    err = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = command.run()
    return status, err.getvalue()


class NodesTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """A line for each; what is wrong is said on standard error, and is the exit status."""
        out = io.StringIO()
        status, said = run(NodesCommand, ROWS[:1], out=out)
        self.assertEqual((status, said), (0, ""))
        self.assertRegex(
            out.getvalue(),
            r"^kdc1\* +0\.2\.0 +7 +0\.3 s .* 0{2}112233445566ff a{16} +kdc1\.example:12345\n$",
        )
        out = io.StringIO()
        status, said = run(NodesCommand, ROWS, out=out)
        self.assertEqual((status, said), (3, "kdc2: has another policy than most\n"))
        self.assertEqual(len(out.getvalue().splitlines()), 2)

    def test_a_terminal_has_headings(self) -> None:
        """A pipe has none."""
        out = Terminal()
        run(NodesCommand, ROWS, out=out)
        self.assertRegex(out.getvalue(), "^NODE +VERSION")

    def test_json(self) -> None:
        """The same, for programs, with what is wrong in each."""
        out = io.StringIO()
        status, _ = run(NodesCommand, ROWS, out=out, as_json=1)
        self.assertEqual(status, 3)
        self.assertEqual([json.loads(line) for line in out.getvalue().splitlines()], ROWS)

    def test_an_unreadable_one(self) -> None:
        """It is shown by what its key is called, harmless whatever that is."""
        bad = UnreadableNode("\x1b[2J\u202e", "it is not JSON")
        out = io.StringIO()
        status, said = run(NodesCommand, list(rows_of([bad], Of())), out=out)
        self.assertEqual(status, 3)
        self.assertIn("cannot be read: it is not JSON", said)
        for text in (out.getvalue(), said):
            self.assertTrue(text.strip("\n").isprintable(), text)


class InForceTests(SynchronousTestCase):
    DONE: ClassVar = {"done": True, "name": "alice"}

    def test_it_is_said(self) -> None:
        """Where others share the store; alone there is nothing to say."""
        out = io.StringIO()
        _, said = run(DisableCommand, [{**self.DONE, "in_force_seconds": 10}], "alice", out=out)
        self.assertEqual(said, "in force everywhere within 10 s\n")
        self.assertEqual(out.getvalue(), "alice: done\n")
        self.assertEqual(run(DisableCommand, [self.DONE], "alice", out=io.StringIO())[1], "")

    def test_nothing_to_wait_for(self) -> None:
        """To wait where nobody else has the store is to be done."""
        out = io.StringIO()
        self.assertEqual(run(DisableCommand, [self.DONE], "alice", "--wait", out=out), (0, ""))

    def test_it_is_waited_for(self) -> None:
        """All of the time; at a terminal it is shown how long yet, in a pipe nothing is."""
        for stream in (Terminal(), io.StringIO()):
            slept: list[float] = []
            with contextlib.redirect_stderr(stream):
                wait_shown(3, "until then", slept.append)
            self.assertEqual(sum(slept), 3)
            self.assertEqual("2 s until then" in stream.getvalue(), stream.isatty())
            self.assertEqual(stream.getvalue() == "", not stream.isatty())

    def test_with_the_word(self) -> None:
        """It ends when that time is over."""
        answer = {**self.DONE, "in_force_seconds": 1}
        _, said = run(DisableCommand, [answer], "alice", "--wait", out=io.StringIO())
        self.assertEqual(said, "in force everywhere\n")
