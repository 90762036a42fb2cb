"""The same as twistd plugins: daemons, one-shots, restarts, sudden death."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from tests.support.processes import Program, ProgramTestCase, RunningKDC, reserved_port


class TwistdTestCase(ProgramTestCase):
    """What the tests of plugins need."""

    def twistd_kdc(self, *options: str) -> RunningKDC:
        argv = ("-n", "--pidfile", "kdc.pid", "kdc", "-f", "pwd.txt", "-o", "out.txt", *options)
        return RunningKDC(self.twistd(*argv))

    def twistd_send(self, kdc: RunningKDC, sender: str, receiver: str, path: Path) -> Program:
        """``twistd kdcclient sender`` with its short flags."""
        argv = ("-n", sender, "-r", receiver, "-i", str(path), *kdc.options, *self.key(sender))
        return self.twistd("kdcclient", "sender", *argv)

    def await_in(self, path: Path, pattern: str) -> re.Match[str]:
        """Wait until a file has ``pattern`` in it."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            if path.exists():
                found.extend(re.finditer(pattern, path.read_text()))
            return bool(found)

        self.eventually(f"{pattern!r} in {path}", look)
        return found[-1]


class DaemonTests(TwistdTestCase):
    """``twistd`` without ``-n``: pid file, log file, and the shell goes on."""

    def test_daemons(self) -> None:
        """KDC and receiver as daemons, then a sender where the receiver's pid file lies."""
        there, here = self.directory / "kdc", self.directory / "bob"
        there.mkdir()
        here.mkdir()
        start = self.twistd("kdc", "--port", "0", "--output", "out.txt", directory=there)
        self.assert_ends(start, 0)
        kdc = self.daemon(there)
        log = self.await_in(there / "twistd.log", r"listening on 127\.0\.0\.1 port (\d+)")
        shown = self.await_in(there / "twistd.log", r"kdc: fingerprint (\S+)")
        place = ("-a", "127.0.0.1", "-p", log[1], "--kdc-fingerprint", shown[1])

        start = self.twistd(
            *("kdcclient", "receiver", "--name", "bob", *place, *self.key("bob")),
            *("--save-encrypted", "outenc", "--output", "outfile", "--listen", "tcp:0"),
            directory=here,
        )
        self.assert_ends(start, 0)
        receiver = self.daemon(here)
        self.await_in(here / "twistd.log", r"bob: receiving on 0\.0\.0\.0 port \d+")

        for number in (1, 2):
            content = os.urandom(300_000)
            path = self.file(f"{number}.bin", content)
            sender = self.twistd(
                *("kdcclient", "sender", "-n", "alice", "-r", "bob", "-i", str(path)),
                *(*place, *self.key("alice")),
                directory=here,
            )
            self.assert_ends(sender, 0, rf"sent {number}\.bin \(300000 bytes\) to bob")
            self.assertEqual((here / "outfile").read_bytes(), content)
            self.assertGreater((here / "outenc").stat().st_size, 300_000)
        self.assertEqual((here / "twistd.pid").read_text(), str(receiver.pid))
        self.assertEqual(
            sorted(path.name for path in here.iterdir()),
            ["outenc", "outfile", "twistd.log", "twistd.pid"],
        )

        for daemon, directory in ((receiver, here), (kdc, there)):
            daemon.stop()
            self.assertFalse((directory / "twistd.pid").exists())
        self.assertIn(" stopped client=- ", (there / "out.txt").read_text())

    def test_daemon_that_asks(self) -> None:
        """The passphrase is asked for before the shell goes on, then the receiver is a daemon.

        A new name would have to be asked again: what to do is in the log.
        """
        kdc = self.shared_kdc()
        name, passphrase = self.name("bob"), "asked before the fork"
        secret = self.passphrase_file(name, passphrase)
        self.assert_ends(self.client("register", "-n", name, *kdc.options, *secret), 0)
        start = self.twistd(
            *("kdcclient", "receiver", "-n", name, *kdc.options, "-o", "outfile", "--listen", "0"),
            terminal=True,
        )
        start.answer(f"passphrase of {name}: ", passphrase)
        self.assert_ends(start, 0)
        daemon = self.daemon(self.directory)
        log = self.directory / "twistd.log"
        self.await_in(log, rf"{name}: receiving on 127\.0\.0\.1 port")
        daemon.stop()

        start = self.twistd(
            *("kdcclient", "receiver", "-n", "new", *kdc.options, "-o", "outfile", "--listen", "0"),
            terminal=True,
        )
        start.answer("passphrase of new: ", passphrase)
        self.assert_ends(start, 0)
        self.await_in(log, "wrong passphrase, or new is not registered yet\n.*kdcclient register")
        self.eventually("no pid file", lambda: not (self.directory / "twistd.pid").exists())

    def test_daemon_that_cannot_start(self) -> None:
        """The shell is told at once, by the exit status too, and no pid file is left."""
        kdc = self.shared_kdc()
        start = self.twistd("kdc", "-p", str(kdc.port))
        self.assert_ends(
            start, 7, r"\Akdc: cannot listen on .*\n  is another program, or another KDC, "
        )
        self.assertNotIn("An error has occurred", start.said)
        log = (self.directory / "twistd.log").read_text()
        self.assertIn("is another program, or another KDC, using that port?", log)
        # Nothing is left that was made for it; the lock is never removed.
        left = sorted(path.name for path in self.directory.iterdir())
        self.assertEqual(left, ["home", "pwd.txt.lock", "twistd.log"])

    def test_a_second_one(self) -> None:
        """Who starts a KDC where one runs is told which, at the terminal."""
        self.assert_ends(self.twistd("kdc", "-p", "0", "-f", "pwd.txt"), 0)
        daemon = self.daemon(self.directory)
        before = sorted(path.name for path in self.directory.iterdir())
        second = self.twistd("--pidfile=", "--logfile", "2.log", "kdc", "-p", "0", "-f", "pwd.txt")
        self.assert_ends(
            second, 7, rf"\Akdc: \S+pwd.txt is in use by process {daemon.pid}\n  one process"
        )
        after = sorted(path.name for path in self.directory.iterdir() if path.name != "2.log")
        self.assertEqual(after, before)
        daemon.stop()

    def test_a_daemon_has_no_stdout(self) -> None:
        """What a daemon cannot do is refused before it is one."""
        start = self.twistd("kdc", "-p", "0", "-f", "pwd.txt", "-o", "-")
        self.assert_ends(start, 1, "a daemon has no standard streams")
        self.assertEqual(list(self.directory.glob("pwd*")), [])


class ForegroundTests(TwistdTestCase):
    """``twistd -n``, as under systemd."""

    def test_in_one_directory(self) -> None:
        """The KDC and a receiver do not mind each other, nor a pid file that is left of one."""
        left = self.file("twistd.pid", b"1")
        kdc = RunningKDC(self.twistd("-n", "kdc", "-p", "0", "-f", "pwd.txt", "-o", "out.txt"))
        receiver = self.twistd(
            *("-n", "kdcclient", "receiver", "-n", "bob", *kdc.options, *self.key("bob")),
            *("--output", "outfile", "--listen", "0"),
        )
        receiver.expect("receiving on")
        self.assertEqual(left.read_text(), "1")

    def test_logged_as_what_it_is(self) -> None:
        """What is said in the ordinary course is no error in the log; the activity log is there."""
        kdc = RunningKDC(self.twistd("-n", "kdc", "-p", "0", "-f", "pwd.txt", "-o", "-"))
        receiver = self.twistd(
            *("-n", "kdcclient", "receiver", "-n", "bob", *kdc.options, *self.key("bob")),
            *("--output", "outfile", "--listen", "0"),
        )
        receiver.expect(r"\[kdcclient#info\] bob: receiving on")
        kdc.program.expect(r"(?m)^\d{4}-\S+Z epoch-begun client=bob ")
        self.assertIn("[kdc#info] kdc: fingerprint ", kdc.program.said)
        for program in (kdc.program, receiver):
            self.assertNotIn("#error]", program.said)

    def test_left_over(self) -> None:
        """A daemon starts though its pid file names a process, which is another program."""
        stranger = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        self.file("twistd.pid", str(stranger.pid).encode())
        self.assert_ends(self.twistd("kdc", "-p", "0", "-f", "pwd.txt", "-o", "out.txt"), 0)
        daemon = self.daemon(self.directory)
        self.assertNotEqual(daemon.pid, stranger.pid)
        daemon.stop()

    def test_restart_of_the_kdc(self) -> None:
        """The receiver serves many, comes back by itself, and ends when it is told to."""
        kdc = self.twistd_kdc("--port", str(reserved_port()))
        receiver = self.twistd(
            *("-n", "kdcclient", "receiver", "-n", "bob", *kdc.options, *self.key("bob")),
            *("-o", "outfile", "--listen", "0"),
        )
        receiver.expect(r"bob: receiving on 127\.0\.0\.1 port \d+\n")
        for sender in ("alice", "carol", "alice"):
            content = os.urandom(1000)
            program = self.twistd_send(kdc, sender, "bob", self.file("in.txt", content))
            self.assert_ends(program, 0)
            receiver.expect(f"bob: received in.txt from {sender}: 1000 bytes")
            self.assertEqual((self.directory / "outfile").read_bytes(), content)

        # Told by a signal, twistd ends by that signal, once all is in order.
        self.assertEqual(kdc.program.stop(), -signal.SIGTERM)
        receiver.expect(r"bob: the connection to the KDC at .* was lost; trying again in \d")
        again = self.twistd_kdc("-p", str(kdc.port))
        self.assertEqual(again.fingerprint, kdc.fingerprint)
        receiver.expect(r"bob: receiving on 127\.0\.0\.1 port \d+\n")
        content = os.urandom(1000)
        program = self.twistd_send(again, "alice", "bob", self.file("in.txt", content))
        self.assert_ends(program, 0)
        self.assertNotIn("registered", program.said)
        self.assertEqual((self.directory / "outfile").read_bytes(), content)
        self.assertEqual(receiver.stop(), -signal.SIGTERM)

    def test_killed_after_registration(self) -> None:
        """Who was told "registered" still is after kill -9; with another key he is refused."""
        kdc = self.twistd_kdc("-p", "0")
        for name in ("alice", "bob", "carol"):
            program = self.client("register", "-n", name, *kdc.options, *self.key(name))
            program.expect(f"registered {name} with the KDC at")
            kdc.program.kill()
            (self.directory / "kdc.pid").unlink()
            kdc = self.twistd_kdc("-p", "0")
            self.assert_ends(program, 0)
        for name in ("alice", "bob", "carol"):
            receiver = self.receiver(kdc, name, "-o", "outfile")
            self.assertNotIn("registered", receiver.said)
            receiver.kill()
        stranger = self.send(kdc, "bob", "alice", self.key("x")[1], *self.key("stranger"))
        self.assert_brief(stranger, 4, "bob is registered; that is not the passphrase or key of")

    def test_statuses(self) -> None:
        """One-shots and services end with the status that their error has."""
        kdc = self.shared_kdc()
        alice, bob = self.name("alice"), self.name("bob")
        path = self.file("in.txt", b"x")
        nobody = self.twistd_send(kdc, alice, bob, path)
        missing = self.twistd_send(kdc, alice, bob, self.directory / "missing")
        place = ("-n", bob, *kdc.options, *self.key(bob))
        taken = self.twistd(
            *("-n", "--pidfile=", "kdcclient", "receiver", *place),
            *("-o", "outfile", "--listen", str(kdc.port)),
        )
        kdc_taken = self.twistd("-n", "--pidfile=", "kdc", "-p", str(kdc.port))
        nowhere = self.twistd("-n", "--pidfile=", "kdcclient", "receiver", *place)
        what = self.twistd("-n", "--pidfile=", "kdcclient")
        bogus = self.twistd("-n", "--pidfile=", "kdc", "-p", "0", "--enrol", "perhaps")
        for program, status, pattern in (
            (nobody, 5, "the KDC knows nobody of that name"),
            (missing, 7, "missing: No such file or directory"),
            (taken, 7, "cannot listen on .*: Address already in use"),
            (kdc_taken, 7, "cannot listen on .*: Address already in use"),
            (nowhere, 1, "say where received things go"),
            (what, 1, "what: receiver, sender"),
            (bogus, 1, "enrol is open, invite or closed"),
        ):
            self.assert_ends(program, status, pattern)
