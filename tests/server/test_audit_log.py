"""The activity log: what stands in it, that it is bounded, and that it never stops the service."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from kdc.admin.log_lines import LogFormat
from kdc.issuing.decisions import Audit
from kdc.server.audit_log import AuditLog, is_standard_stream

LINE = Audit("issued", "alice", "192.0.2.1", "bob")
REFUSED = Audit("refused", "", "198.51.100.1", "MALFORMED", unproven=True)


class AuditLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.clock = Clock()
        self.time = 1_700_000_000.0
        self.log = AuditLog(self.path, clock=self.clock, run=self.run_now, now=lambda: self.time)
        self.log.open()
        self.addCleanup(self.log.close)
        self.batches = 0

    def run_now(self, call: Any, *args: Any) -> Deferred[Any]:
        self.batches += 1
        return maybeDeferred(call, *args)

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def printed(self, path: str, environ: Mapping[str, str], fd: int) -> str:
        """What two lines come to on descriptor ``fd``, which a file stands for."""
        with self.path.open("wb") as file:
            before = os.dup(fd)
            os.dup2(file.fileno(), fd)
            try:
                log = AuditLog(
                    Path(path),
                    clock=self.clock,
                    run=self.run_now,
                    now=lambda: self.time,
                    environ=environ,
                )
                log.open()
                log.reopen()
                log.add(LINE)
                log.add(Audit("stopped", "", ""))
                self.successResultOf(Deferred.fromCoroutine(log.flush()))
                log.close()
            finally:
                os.dup2(before, fd)
                os.close(before)
        return self.path.read_text()

    def test_standard_streams(self) -> None:
        """What was opened for us is written to as it is, and is no file to be made."""
        spare = os.open(os.devnull, os.O_WRONLY)
        self.addCleanup(os.close, spare)
        for path, fd in (("/dev/stdout", 1), ("/dev/stderr", 2), (f"/dev/fd/{spare}", spare)):
            self.assertTrue(is_standard_stream(Path(path)))
            self.assertRegex(
                self.printed(path, {}, fd), r"\A2023-\S+Z issued .*\n2023-\S+Z stopped "
            )
        self.assertFalse(is_standard_stream(self.path))

    def test_journal(self) -> None:
        """systemd's journal, of which it tells the number, notes the time itself."""
        status = self.path.stat()
        mine = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        other = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}
        self.assertRegex(
            self.printed("/dev/stdout", mine, 1), r"\Aissued client=.*\nstopped client="
        )
        self.assertRegex(self.printed("/dev/stdout", other, 1), r"\A2023-\S+Z issued ")

    def test_json(self) -> None:
        """An object a line, with its time even where text has none; as text again when told so."""
        status = self.path.stat()
        mine = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        log = AuditLog(
            self.path,
            clock=self.clock,
            run=self.run_now,
            now=lambda: self.time,
            environ=mine,
            log_format=LogFormat.JSON,
        )
        log.open()
        self.addCleanup(log.close)
        log.add(LINE)
        self.clock.advance(0.2)
        log.log_format = LogFormat.TEXT
        log.add(LINE)
        self.clock.advance(0.2)
        first, second = self.lines()
        self.assertEqual(json.loads(first)["time"], "2023-11-14T22:13:20.000Z")
        self.assertEqual(json.loads(first)["receiver"], "bob")
        self.assertEqual(second, "issued client=alice address=192.0.2.1 bob")

    def test_cut_line(self) -> None:
        """A line that was cut short stays one: what comes after it begins a line of its own."""
        write = os.write

        def fills(fd: int, data: bytes) -> int:
            if data[:1] == b"#":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.patch(os, "write", lambda fd, data: fills(fd, b"#"))
            return write(fd, data[:30])

        with capturedLogs():
            self.patch(os, "write", fills)
            self.log.add(LINE)
            self.clock.advance(0.2)
            self.patch(os, "write", write)
            self.log.add(LINE)
            self.clock.advance(0.2)
        self.assertEqual([len(line) for line in self.lines()], [30, 66])
        with self.path.open("ab") as file:
            file.write(b"2023-11-14T22")
        again = AuditLog(self.path, clock=self.clock, run=self.run_now, now=lambda: self.time)
        again.open()
        self.addCleanup(again.close)
        for _ in range(2):
            again.add(LINE)
            self.clock.advance(0.2)
        self.assertEqual([len(line) for line in self.lines()], [30, 66, 13, 66, 66])

    def test_batches(self) -> None:
        """Lines are written a moment later, together, in order."""
        for name in ("a", "b", "c"):
            self.log.add(Audit("authenticated", name, "192.0.2.1"))
        self.assertEqual(self.lines(), [])
        self.clock.advance(0.2)
        self.assertEqual(
            [line.split()[2] for line in self.lines()], ["client=a", "client=b", "client=c"]
        )
        self.assertEqual(self.batches, 1)
        self.log.add(LINE)
        self.clock.advance(0.2)
        self.assertEqual(len(self.lines()), 4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_the_end(self) -> None:
        """What was added last is written when the service stops."""
        self.log.add(LINE)
        self.successResultOf(Deferred.fromCoroutine(self.log.flush()))
        self.assertEqual(len(self.lines()), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.lines()), 1)

    def test_private(self) -> None:
        """Only its owner can read it, and an old one goes on."""
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.path.write_text("before\n")
        again = AuditLog(self.path, clock=self.clock, run=self.run_now)
        again.open()
        self.addCleanup(again.close)
        again.add(LINE)
        self.clock.advance(0.2)
        self.assertEqual(self.lines()[0], "before")
        self.assertEqual(len(self.lines()), 2)

    def test_no_link(self) -> None:
        """A symbolic link in its place is not followed."""
        link = Path(self.mktemp())
        link.symlink_to(self.path)
        log = AuditLog(link, clock=self.clock, run=self.run_now)
        error = self.assertRaises(OSError, log.open)
        self.assertEqual(error.errno, errno.ELOOP)

    def test_no_fifo(self) -> None:
        """What is no regular file is refused at once, at the start and at a re-opening."""
        fifo = Path(self.mktemp())
        os.mkfifo(fifo)
        log = AuditLog(fifo, clock=self.clock, run=self.run_now)
        self.assertEqual(self.assertRaises(OSError, log.open).errno, errno.ENXIO)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertEqual(self.assertRaises(OSError, log.open).errno, errno.ENXIO)
        self.path.unlink()
        os.mkfifo(self.path)
        self.assertEqual(self.assertRaises(OSError, self.log.reopen).errno, errno.ENXIO)

    def test_floods(self) -> None:
        """Lines that anybody can cause are limited, and their number is told."""
        for _ in range(1000):
            self.log.add(REFUSED)
        for _ in range(1000):
            self.log.add(LINE)
        self.clock.advance(0.2)
        events = [line.split()[1] for line in self.lines()]
        self.assertEqual(events.count("refused"), 200)
        self.assertEqual(events.count("issued"), 1000)
        self.assertIn("800 lines", self.lines()[-1])
        self.clock.advance(10)
        for _ in range(1000):
            self.log.add(REFUSED)
        self.clock.advance(0.2)
        self.assertEqual(len([line for line in self.lines() if " refused " in line]), 302)

    def test_one_principal(self) -> None:
        """Nor does one who has proved who he is fill the disk; others are not silenced by him."""
        noisy = [
            Audit("refused", "mallory", "198.51.100.1", "RATE bob"),
            Audit("epoch-begun", "mallory", "198.51.100.1", "198.51.100.1 1"),
            Audit("superseded", "mallory", "198.51.100.1"),
            Audit("epoch-ended", "mallory", "198.51.100.1", "disconnected"),
            Audit("authenticated", "mallory", "198.51.100.1"),
        ]
        for _ in range(1000):
            for line in noisy:
                self.log.add(line)
        self.log.add(Audit("refused", "alice", "192.0.2.1", "NOT_RECEIVING bob"))
        self.log.add(REFUSED)
        self.log.add(Audit("changed", "mallory", "198.51.100.1"))
        self.clock.advance(0.2)
        self.assertEqual(len([line for line in self.lines() if "=mallory" in line]), 501)
        self.assertIn("4500 lines", self.lines()[-1])
        for part in ("client=alice", "MALFORMED", "changed client=mallory"):
            self.assertEqual(len([line for line in self.lines() if part in line]), 1, part)

    def test_the_wall_clock_steps_back(self) -> None:
        """A step of the wall clock does not silence the log."""
        for _ in range(300):
            self.log.add(REFUSED)
        self.clock.advance(1)
        self.time -= 100_000_000
        self.clock.advance(60)
        before = len(self.lines())
        for _ in range(100):
            self.log.add(REFUSED)
        self.clock.advance(1)
        self.assertEqual(len(self.lines()), before + 100)

    def test_a_disk_that_hangs(self) -> None:
        """While nothing can be written, memory stays bounded."""
        self.clock = Clock()
        never: Deferred[Any] = Deferred()
        log = AuditLog(self.path, clock=self.clock, run=lambda *_: never, now=lambda: 0.0)
        log.add(LINE)
        self.clock.advance(1)
        for _ in range(200_100):
            log.add(LINE)
        self.clock.advance(1)
        for _ in range(100):
            log.add(LINE)
        self.assertEqual(len(log._waiting), 200_000)

    def test_a_slow_disk(self) -> None:
        """What is added while the disk is busy is written after that, in order."""
        writes: list[tuple[Deferred[Any], Any]] = []

        def run(call: Any, *args: Any) -> Deferred[Any]:
            writes.append((Deferred(), lambda: call(*args)))
            return writes[-1][0]

        log = AuditLog(self.path, clock=self.clock, run=run, now=lambda: 0.0)
        log.open()
        self.addCleanup(log.close)
        for number in range(3):
            log.add(Audit("issued", f"c{number}", ""))
            self.clock.advance(10)
        self.assertEqual(len(writes), 1)
        for _ in range(2):
            done, work = writes.pop()
            done.callback(work())
            self.clock.advance(0.2)
        self.assertEqual(writes, [])
        self.assertEqual(
            [line.split()[2] for line in self.lines()], [f"client=c{n}" for n in range(3)]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full_disk(self) -> None:
        """A full disk is told once, and when there is room again the log goes on."""
        write = os.write

        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with capturedLogs() as captured:
            self.patch(os, "write", full)
            for _ in range(3):
                self.log.add(LINE)
                self.clock.advance(0.2)
            self.patch(os, "write", write)
            self.log.add(LINE)
            self.clock.advance(0.2)
        told = [event for event in captured if "cannot write" in event["log_format"]]
        self.assertEqual(len(told), 1)
        self.assertEqual(len(self.lines()), 1)

    def test_short_writes(self) -> None:
        """The system may take less than it was given: the rest follows."""
        write = os.write
        self.patch(os, "write", lambda fd, data: write(fd, data[:7]))
        self.log.add(LINE)
        self.clock.advance(0.2)
        self.assertTrue(self.lines()[0].endswith("bob"))

    def test_reopen(self) -> None:
        """After the file was moved away, a new one begins; the old one is whole."""
        self.log.add(LINE)
        self.clock.advance(0.2)
        moved = self.path.rename(self.path.with_suffix(".1"))
        self.log.reopen()
        self.log.add(Audit("authenticated", "bob", ""))
        self.clock.advance(0.2)
        self.assertIn("issued", moved.read_text())
        self.assertEqual(len(self.lines()), 1)
        self.assertIn("authenticated", self.lines()[0])

    def test_none(self) -> None:
        """Without a path nothing is written, and nothing piles up."""
        log = AuditLog(None, clock=self.clock, run=self.run_now)
        log.open()
        log.add(LINE)
        self.clock.advance(0.2)
        self.assertEqual(log._waiting, [])
        log.close()
