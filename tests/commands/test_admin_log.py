"""``kdc admin log``: what an operator types and sees, with and without a running KDC."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from pathlib import Path

from kdc.admin.log_lines import json_line, text_line
from kdc.issuing.decisions import Audit
from tests.commands.test_admin import AdminTestCase
from tests.support.processes import KDC, ProgramTestCase

ISSUED = Audit("issued", "alice", "192.0.2.1", "bob")
REFUSED = Audit("refused", "bob", "192.0.2.2", "RATE \x1b[2J\u202e")


class LogTests(AdminTestCase):
    def write(self, *lines: str, name: str = "out.txt") -> Path:
        path = self.directory / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def test_beside_the_database(self) -> None:
        """Without a KDC and without any database it is out.txt there, in either form."""
        self.write(text_line(ISSUED, 0), json_line(REFUSED, 1), text_line(REFUSED, 2))
        printed = self.admin("log")
        self.assertEqual(printed.splitlines()[0], text_line(ISSUED, 0))
        self.assertNotIn("\x1b", printed)
        self.assertEqual(len(printed.splitlines()), 3)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["out.txt"])

    def test_json(self) -> None:
        """The same fields, however they were written."""
        self.write(text_line(ISSUED, 0), json_line(ISSUED, 0))
        first, second = self.json("log")
        self.assertEqual(first, second)
        self.assertEqual(json.dumps(first), json_line(ISSUED, 0))

    def test_which_file(self) -> None:
        """The one that is named, or that of --output; those put aside are read with it."""
        path = self.write(text_line(ISSUED, 1), name="a.log")
        (self.directory / "a.log.1.gz").write_bytes(
            gzip.compress(b"%s\n" % b"x client=a address=b")
        )
        expected = f"x client=a address=b\n{text_line(ISSUED, 1)}\n"
        self.assertEqual(self.admin("log", str(path)), expected)
        self.assertEqual(self.admin("-o", str(path), "log"), expected)
        self.fails(7, "a2.log: there is no such log", "log", str(self.directory / "a2.log"))
        self.fails(7, "/dev/stdout cannot be read again", "-o", "-", "log")
        self.fails(7, "out.txt: there is no such log", "log")

    def test_filters(self) -> None:
        """By client and event, by patterns of events, by an age or a time."""
        now = time.time()
        self.write(
            text_line(ISSUED, now - 7000),
            text_line(REFUSED, now - 700),
            text_line(Audit("admin-reset", "bob", "local", "by uid 0"), now - 70),
        )
        for options, events in (
            (("--since", "2h"), ["issued", "refused", "admin-reset"]),
            (("--since", "10m"), ["admin-reset"]),
            (("--since", "1s"), []),
            (("--since", "2001-02-03"), ["issued", "refused", "admin-reset"]),
            (("--since", time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(now + 60))), []),
            (("--client", "BOB"), ["refused", "admin-reset"]),
            (("--event", "refused"), ["refused"]),
            (("--event", "admin-*", "--event", "issued"), ["issued", "admin-reset"]),
            (("--event", "*", "--client", "alice"), ["issued"]),
        ):
            found = [entry["event"] for entry in self.json("log", *options)]
            self.assertEqual(found, events, options)

    def test_mistakes(self) -> None:
        """What cannot be meant is said, and what there is instead."""
        self.write(text_line(ISSUED, 0))
        for wrong, told in (
            (("--since", "yesterday"), "not a time such as 10m"),
            (("--since", "2026-11-23 05:12"), "not a time"),
            (("--event", "isued"), "there is no event 'isued'; there are started,"),
            (("--client", "a b"), "a b"),
            (("a", "b"), ""),
        ):
            self.fails(1, told, "log", *wrong)

    def test_strange_lines(self) -> None:
        """What is none of the log's is counted on stderr, and does not end it."""
        self.write("what", text_line(ISSUED, 0))
        self.assertEqual(self.admin("log"), text_line(ISSUED, 0) + "\n")
        self.assertIn("out.txt: 1 line is none of the log's", self.said)


class RunningTests(ProgramTestCase):
    def test_follow(self) -> None:
        """It finds the log of the running KDC, and goes on when that begins a new file."""
        kdc = self.kdc("--log-format", "json")
        log = self.scratch.start(*KDC, "admin", "log", "--follow", merged=True)
        log.expect(r" started client=- address=- 0 principals\n")
        (self.directory / "out.txt").rename(self.directory / "out.txt.1")
        kdc.program.signal(signal.SIGHUP)
        log.expect(r" reloaded client=- address=- sha256:")
        self.receiver(kdc, "bob", "--inbox", ".")
        log.expect(r" epoch-begun client=bob address=127\.0\.0\.1 ")
        log.signal(signal.SIGINT)
        self.assertEqual(log.wait(), 128 + signal.SIGINT)
        kdc.program.stop()
        done = self.scratch.start(*KDC, "admin", "log", "--event", "st*", "-o", "out.txt")
        self.assertEqual(done.wait(), 0)
        events = [line.split()[1] for line in done.printed.splitlines()]
        self.assertEqual(events, ["started", "stopped"])

    def test_elsewhere(self) -> None:
        """Where the log is the KDC tells; where it is no file nobody can read it again."""
        os.mkdir(self.directory / "logs")
        kdc = self.kdc("-o", "logs/kdc.log")
        command = (*KDC, "admin", "log")
        self.again_until(lambda: self.scratch.start(*command, merged=False), " started client=- ")
        kdc.program.stop()
        self.kdc("-o", "-", "-f", "other.txt")
        log = self.scratch.start(*KDC, "admin", "-f", "other.txt", "log", merged=True)
        log.expect("/dev/stdout cannot be read again")
        self.assertEqual(log.wait(), 7)
