"""An error that nobody foresaw: a person is told, and learns no secret from it."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from kdc import terminal
from kdc.commands import defect, main
from kdc.commands.client.send import things_to_send
from kdc.net.exit_status import Defect
from kdc.terminal import AnswerLost

SECRET = "correct horse battery staple"


class DefectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []
        self.patch(defect, "say", self.said.append)
        self.patch(terminal, "say", self.said.append)

    def told(self, error: Exception, *argv: str) -> str:
        def command(argv: list[str]) -> int:
            raise error

        self.said.clear()
        self.assertEqual(main._guarded("kdcclient", command, list(argv)), 1)
        return "\n".join(self.said)

    def test_told(self) -> None:
        """Which kind, where, and what to do with that; not its text."""
        said = self.told(IndexError(SECRET))
        self.assertIn("kdcclient: a defect of this program: IndexError in ", said)
        self.assertIn("test_defect.py, line ", said)
        self.assertIn("report", said)
        self.assertNotIn(SECRET, said)

    def test_a_path(self) -> None:
        """What the system says of a path is told, with the path; it is no lost answer."""

        def command(argv: list[str]) -> int:
            return len(os.listdir(self.mktemp() + "x" * 300))

        self.assertEqual(main._guarded("kdcclient", command, []), 7)
        self.assertRegex(self.said[0], "kdcclient: .*xxx: File name too long")

    def test_from_the_reactor(self) -> None:
        """The same of one that came out of the reactor, an OSError too: it is no lost answer."""
        try:
            try:
                raise PermissionError(13, SECRET)
            except PermissionError as error:
                raise Defect from error
        except Defect as wrapped:
            said = self.told(wrapped)
        self.assertIn("a defect of this program: PermissionError in ", said)
        self.assertNotIn(SECRET, said)

    def test_a_lost_answer(self) -> None:
        """An answer that nobody takes is no defect, where the reactor had it neither."""
        for number, status in ((errno.ENOSPC, 7), (errno.EPIPE, 141)):
            lost = AnswerLost(number, "gone")

            def command(argv: list[str], lost: AnswerLost = lost) -> int:
                raise Defect from lost

            self.said.clear()
            with open(self.mktemp(), "w") as out, contextlib.redirect_stdout(out):
                self.assertEqual(main._guarded("kdcclient", command, []), status)
                print("once more")
            self.assertEqual(Path(out.name).read_text(), "")
            told = ["kdcclient: cannot write the answer: gone"] if status == 7 else []
            self.assertEqual(self.said, told)

    def test_verbose(self) -> None:
        """How it came there is shown if that is asked for, and no value of it."""
        for argv in (["send", "-v"], ["--verbose", "send"]):
            said = self.told(IndexError(SECRET), *argv)
            self.assertRegex(said, r'(?m)^  File ".*test_defect.py", line \d+, in command$')
            self.assertNotIn(SECRET, said)
        for argv in (["send"], ["send", "--", "-v"]):
            self.assertNotIn("in command", self.told(IndexError(SECRET), *argv))

    def test_no_file(self) -> None:
        """An empty word is no file: as a variable that is not set gives it."""
        for files in ([""], ["a", ""]):
            self.assertRaises(usage.UsageError, things_to_send, files, None, None)
