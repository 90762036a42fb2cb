"""``kdc admin top``: what the running KDC does, in a terminal and in a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import termios
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.admin.top_screen import screen
from kdc.commands.full_screen import FullScreen
from tests.commands.test_admin import AdminTestCase
from tests.support.processes import KDC, Program, ProgramTestCase

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202ex\n\r\x9b"
LINE = ["2026-11-23T05:12:15Z", "refused", "", "192.0.2.1", f"MALFORMED {HOSTILE}"]


def answer(**more: Any) -> dict[str, Any]:
    """As the KDC gives it."""
    return {
        "realm": "LOCAL",
        "milliseconds": 5000,
        "keys": 30,
        "facts": {
            "Now": [["keys issued", "30"], ["connections", "5, 1 of them unproved"]],
            "Certificate": [["fingerprint", "sha256:" + "1a" * 32]],
            "Limits": [[f"limit {number}", "5"] for number in range(20)],
        },
        "troubles": {},
        "receiving": 300,
        "receivers": [[f"host-{number}", "10.0.0.1 port 60000", 90] for number in range(200)],
        "refusals": {"RATE": 7},
        "lines": [LINE] * 100,
        **more,
    }


class ScreenTests(SynchronousTestCase):
    def test_everything(self) -> None:
        """Where there is room, all that was told."""
        lines = screen(answer(), None, 0, 10**9)
        self.assertEqual(lines[:2], ["KDC of LOCAL: 300 receiving", "Everything is well."])
        for line in (
            *("keys issued: 30", "limit 19: 5", "rate: 7", "-- Receiving: 200 of 300"),
            "host-199".ljust(32) + "     1 min  10.0.0.1 port 60000",
        ):
            self.assertIn(line, lines)
        self.assertEqual(len([line for line in lines if "MALFORMED" in line]), 100)
        self.assertTrue(all(line.isprintable() for line in lines))

    def test_sizes(self) -> None:
        """No more lines than there are rows, whatever they are; facts stand side by side."""
        for columns in (1, 20, 80, 300):
            for rows in (0, 1, 2, 3, 5, 10, 24, 50, 1000):
                lines = screen(answer(), answer(), columns, rows)
                self.assertLessEqual(len(lines), rows)
                if rows >= 24:
                    self.assertTrue(any("-- Receiving" in line for line in lines))
                    self.assertTrue(any("MALFORMED" in line for line in lines), (columns, rows))
        wide = screen(answer(), None, 120, 1000)
        self.assertIn("keys issued: 30".ljust(38) + "connections: 5, 1 of them unproved", wide)

    def test_rate(self) -> None:
        """Keys a second since the last look; none if it is another KDC since."""
        before = answer(milliseconds=3000, keys=25)
        self.assertIn("2.5 keys a second", screen(answer(), before, 80, 24)[0])
        for other in (answer(keys=31), answer(milliseconds=6000)):
            self.assertNotIn("second", screen(answer(), other, 80, 24)[0])

    def test_trouble(self) -> None:
        """What is wrong stands at the top."""
        lines = screen(answer(troubles={"store": "the disk is full"}), None, 80, 24)
        self.assertEqual(lines[1], "TROUBLE with the store: the disk is full")
        self.assertNotIn("Everything is well.", lines)


class DrawingTests(SynchronousTestCase):
    def draw(self, lines: list[str], columns: int, rows: int) -> str:
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        modes = termios.tcgetattr(theirs)
        modes[1] &= ~termios.OPOST
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        screen = FullScreen(theirs, None)
        self.assertEqual(screen.size, (columns, rows))
        screen.draw(lines)
        return os.read(ours, 100_000).decode()

    def test_fits(self) -> None:
        """Nothing is wider or higher than the window; wide letters count twice."""
        drawn = self.draw(["x" * 100, "\u6f22" * 50, "short", *["more"] * 50], 21, 10)
        lines = drawn.removeprefix("\x1b[H").removesuffix("\x1b[J").split("\x1b[K\r\n")
        self.assertEqual(lines[:3], ["x" * 21, "\u6f22" * 10, "short"])
        self.assertEqual(len(lines), 10)

    def test_inert(self) -> None:
        """A hostile text moves nothing: the only commands are ours."""
        drawn = self.draw(screen(answer(receivers=[[HOSTILE, HOSTILE, 1]]), None, 80, 40), 80, 40)
        for ours in ("\x1b[H", "\x1b[K", "\x1b[J"):
            drawn = drawn.replace(ours, "")
        self.assertTrue(drawn.replace("\r\n", "").isprintable(), drawn)
        self.assertNotIn("\u202e", drawn)


class WithoutKDCTests(AdminTestCase):
    def test_none_runs(self) -> None:
        self.fails(7, "no KDC runs on .*pwd.txt", "top")
        self.fails(1, "--seconds", "top", "--seconds", "0")


class TerminalTests(ProgramTestCase):
    def top(self, *options: str, **how: Any) -> Program:
        return self.scratch.start(*KDC, "admin", "top", *options, **how)

    def modes(self, top: Program) -> list[Any]:
        return termios.tcgetattr(top._fd)

    def test_follows(self) -> None:
        """It keeps up with what happens, says when the KDC is gone, and when one is back."""
        kdc = self.kdc()
        top = self.top(terminal=True)
        before = self.modes(top)
        top.expect(r"\x1b\[\?1049h")
        top.expect("KDC of LOCAL: 0 receiving")
        self.receiver(kdc, "bob", "--inbox", ".")
        top.expect("KDC of LOCAL: 1 receiving")
        top.expect(r"bob +\d+ s  127\.0\.0\.1 port \d+")
        top.expect(" epoch-begun bob ")
        kdc.program.stop()
        top.expect(r"GONE at \d\d:\d\d:\d\dZ, this was before")
        self.kdc()
        top.expect("KDC of LOCAL: 0 receiving")
        self.assertNotEqual(self.modes(top)[3] & termios.ECHO, before[3] & termios.ECHO)
        os.write(top._fd, b"q")
        self.assertEqual(top.wait(), 0)
        top.expect(r"\x1b\[\?1049l")
        self.assertEqual(self.modes(top), before)

    def test_signals(self) -> None:
        """Ctrl-C and SIGTERM end it, and the terminal is as it was."""
        self.kdc()
        for number in (signal.SIGINT, signal.SIGTERM):
            top = self.top("--seconds", "3600", terminal=True)
            before = self.modes(top)
            top.expect("KDC of LOCAL")
            if number == signal.SIGINT:
                os.write(top._fd, b"\x03")
            else:
                top.signal(number)
            self.assertEqual(top.wait(), 128 + number)
            top.expect(r"\x1b\[\?1049l")
            self.assertEqual(self.modes(top), before)

    def test_in_a_pipe(self) -> None:
        """Printed once, as plain text or as JSON."""
        self.kdc()
        top = self.again_until(self.top, " started - - 0 principals\n")
        self.assertIn("KDC of LOCAL: 0 receiving\nEverything is well.\n", top.printed)
        self.assertNotIn("\x1b", top.printed)
        top = self.top("--json")
        self.assertEqual(top.wait(), 0)
        self.assertEqual(json.loads(top.printed)["realm"], "LOCAL")
