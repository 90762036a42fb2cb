"""Pid files of twistd that say nothing."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.pid_file import see_to_pid_file

KDC = ("kdc", "-p", "0")


class PidFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "twistd.pid"
        self.proc = self.directory / "proc"

    def process(self, number: int, *words: str) -> None:
        """A process of that number runs, and the pid file names it."""
        (self.proc / str(number)).mkdir(parents=True)
        line = "".join(f"{word}\0" for word in words)
        (self.proc / str(number) / "cmdline").write_bytes(line.encode())
        self.path.write_text(str(number))

    def kept(self) -> bool:
        see_to_pid_file({"pidfile": str(self.path), "nodaemon": False}, self.proc)
        return self.path.exists()

    def test_foreground(self) -> None:
        """In the foreground there is one only if it was asked for."""
        for given, wanted in (("twistd.pid", ""), ("kdc.pid", "kdc.pid"), ("", "")):
            options = {"pidfile": given, "nodaemon": True}
            see_to_pid_file(options, self.proc)
            self.assertEqual(options["pidfile"], wanted)
        options = {"pidfile": "twistd.pid", "nodaemon": False}
        see_to_pid_file(options, self.proc)
        self.assertEqual(options["pidfile"], "twistd.pid")

    def test_others(self) -> None:
        """Its number is another program's by now: the first of a container, a shell, a zombie."""
        lines: tuple[tuple[str, ...], ...] = (
            *(("/sbin/init",), ("sh", "-c", "twistd kdc -p 1"), ()),
            ("python3", "serve.py", "--name", "x", "twistd"),
        )
        for number, words in enumerate(lines, 1):
            self.process(number, *words)
            self.assertFalse(self.kept(), words)

    def test_ourselves(self) -> None:
        """At each start of a container we have the same number, and it is not our own rival."""
        self.process(os.getpid(), "python3", "/usr/bin/twistd", *KDC)
        self.assertFalse(self.kept())

    def test_a_rival(self) -> None:
        """One that may be true is left to twistd."""
        for number, words in enumerate(
            (
                ("/usr/bin/python3", "/opt/kdc/bin/twistd", *KDC),
                ("twistd", *KDC),
                ("python3", "-m", "twisted", *KDC),
            ),
            1,
        ):
            self.process(number, *words)
            self.assertTrue(self.kept(), words)
        for text in ("", "nonsense", "12 13", "999999"):  # no number, or nobody's
            self.path.write_text(text)
            self.assertTrue(self.kept(), text)
