"""How far a transfer has got: on a terminal, and nowhere else."""

from __future__ import annotations

import io
import os

from twisted.trial.unittest import SynchronousTestCase

from kdc.terminal import amount
from kdc.transfer.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = 100.0
        self.terminal = Terminal()

    def progress(
        self, total: int | None, stream: io.StringIO | None = None, columns: int = 100
    ) -> Progress:
        stream = self.terminal if stream is None else stream
        progress = Progress("to bob:", total, stream, lambda: self.time, lambda stream: columns)
        progress.update(0)
        return progress

    def last(self) -> str:
        return self.terminal.getvalue().rpartition("\x1b[K")[2]

    def test_amount(self) -> None:
        """Bytes as people read them."""
        for count, text in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (5 << 40, "5.0 TiB"),
            (5 << 50, "5120.0 TiB"),
        ):
            self.assertEqual(amount(count), text)

    def test_line(self) -> None:
        """What, how far, how fast, how long still; one line, drawn over."""
        progress = self.progress(100 << 20)
        self.time += 10
        progress.update(50 << 20)
        for text in ("to bob:", " 50%", "[############            ]", "50.0 MiB of 100.0 MiB"):
            self.assertIn(text, self.last())
        self.assertIn("5.0 MiB/s", self.last())
        self.assertIn("0:10 left", self.last())
        self.assertNotIn("\n", self.terminal.getvalue())
        progress.close()
        self.assertTrue(self.terminal.getvalue().endswith("\r\x1b[K"))

    def test_not_too_often(self) -> None:
        """The line is drawn five times a second at most."""
        progress = self.progress(3000)
        for done in range(3000):
            self.time += 0.001
            progress.update(done)
        self.assertIn(self.terminal.getvalue().count("\r"), range(8, 12))

    def test_short(self) -> None:
        """What is over within a second draws nothing."""
        progress = self.progress(10)
        self.time += 0.9
        progress.update(10)
        progress.close()
        self.assertEqual(self.terminal.getvalue(), "")

    def test_odd_totals(self) -> None:
        """Unknown, zero, exceeded, and no time passed: a line all the same."""
        for total, done in ((None, 5), (0, 0), (10, 20), (10, 0)):
            progress = self.progress(total)
            self.time += 1
            progress.update(done)
            self.assertIn("to bob:", self.last())

    def test_pipe(self) -> None:
        """In a pipe there is silence."""
        pipe = io.StringIO()
        progress = self.progress(1000, pipe)
        self.time += 10
        progress.update(500)
        progress.close()
        self.assertEqual(pipe.getvalue(), "")

    def test_fits(self) -> None:
        """Whatever the terminal's width, it is one line of it, which says what fits."""
        for name in ("", "report.pdf", "d/" + "x" * 200, "\u202e" * 50):
            for total in (100 << 20, None):
                for columns in range(1, 140):
                    progress = self.progress(total, columns=columns)
                    self.time += 10
                    progress.update(50 << 20, name)
                    self.assertLess(len(self.last()), columns)
                    self.assertTrue(self.last().isprintable())
        progress = self.progress(100 << 20, columns=50)
        self.time += 10
        progress.update(50 << 20, "report.pdf")
        self.assertEqual(self.last(), "to bob: report.pdf  50%  5.0 MiB/s  0:10 left")
        progress = self.progress(100 << 20, columns=80)
        self.time += 10
        progress.update(50 << 20, "report.pdf")
        self.assertIn("report.pdf  50% 50.0 MiB of 100.0 MiB", self.last())

    def test_waiting(self) -> None:
        """What is waited for shows at once, and is gone before anything else is said."""
        progress = self.progress(1000)
        progress.wait("waiting for bob to accept")
        self.assertEqual(self.last(), "waiting for bob to accept")
        progress.close()
        self.assertEqual(self.last(), "")

    def test_how_fast(self) -> None:
        """Neither the time until somebody said yes counts, nor what was there before."""
        progress = Progress("to bob:", 100 << 20, self.terminal, lambda: self.time, lambda _: 100)
        progress.wait("waiting for bob to accept")
        self.time += 1000
        progress.update(50 << 20)
        self.time += 10
        progress.update(60 << 20)
        self.assertIn("60.0 MiB of 100.0 MiB  1.0 MiB/s  0:40 left", self.last())
        # After a cut it begins with less.
        progress.update(55 << 20)
        self.time += 10
        progress.update(40 << 20)
        self.assertIn("0 B/s", self.last())

    def test_dumb(self) -> None:
        """A terminal that erases nothing, or is gone, gets nothing."""
        self.patch(os, "environ", {"TERM": "dumb"})
        progress = self.progress(1000)
        progress.wait("waiting")
        self.time += 10
        progress.update(500)
        self.assertEqual(self.terminal.getvalue(), "")
        self.patch(os, "environ", {"TERM": "xterm"})
        progress = self.progress(1000)
        self.terminal.close()
        self.time += 10
        progress.update(500)
        progress.close()
