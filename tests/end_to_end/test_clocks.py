"""Clocks that are wrong by years, and certificates that look expired."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys

from twisted.trial.unittest import SkipTest

from kdc.server.certificate import make_certificate
from tests.support.processes import CLIENT, KDC, ProgramTestCase, RunningKDC


class ClockTests(ProgramTestCase):
    """KDC, receiver and sender on machines that do not agree on the year."""

    def transfer(self, kdc: tuple[str, ...], bob: tuple[str, ...], alice: tuple[str, ...]) -> str:
        """A transfer of programs that are run so; return the KDC's log."""
        running = RunningKDC(self.scratch.start(*kdc, "-p", "0", "-o", "out.txt"))
        receiver = self.scratch.start(
            *(*bob, "-n", "bob", "-m", "R", "-o", "outfile", "--listen", "0"),
            *(*running.place, "--accept-new", *self.key("bob")),
        )
        receiver.expect("bob: receiving on")
        path = self.file("in.txt", os.urandom(100_000))
        sender = self.scratch.start(
            *(*alice, "-n", "alice", "-m", "S", "-r", "bob", "-i", str(path)),
            *(*running.options, *self.key("alice")),
        )
        self.assert_ends(sender, 0, "who has it on disk")
        self.assert_ends(receiver, 0)
        self.assertEqual((self.directory / "outfile").read_bytes(), path.read_bytes())
        self.assertEqual(running.program.stop(), 0)
        return (self.directory / "out.txt").read_text()

    def assert_written(self, log: str, years: int) -> None:
        """The program that wrote ``log`` had its clock so many years ahead."""
        written = dt.datetime.fromisoformat(log.splitlines()[-1].split()[0])
        days = (written - dt.datetime.now(dt.UTC)).days
        self.assertLess(abs(days / 365.25 - years), 0.1, log)

    def test_decades_apart(self) -> None:
        """Ten years behind, now, and forty years ahead, when the KDC's certificate is long over."""

        def at(years: int, program: str) -> tuple[str, ...]:
            return (sys.executable, "-m", "tests.support.other_clock", str(years), program)

        for kdc, bob, alice in ((0, -10, 40), (-10, 10, 0), (40, 0, -10)):
            log = self.transfer(at(kdc, "kdc"), at(bob, "kdcclient"), at(alice, "kdcclient"))
            self.assert_written(log, kdc)

    def test_faked_by_the_system(self) -> None:
        """The same with the C library's clocks shifted, which OpenSSL sees, too."""
        faketime = shutil.which("faketime")
        if faketime is None:
            raise SkipTest("faketime is not installed")

        # Its wrapper stays in front of the program and would take our signals: only its library.
        found = subprocess.run(
            [faketime, "-f", "+0", "env"], stdout=subprocess.PIPE, text=True, check=True
        )
        (library,) = (n for n in found.stdout.splitlines() if n.startswith("LD_PRELOAD="))

        def at(years: int, program: tuple[str, ...]) -> tuple[str, ...]:
            return ("env", library, f"FAKETIME={years:+}y", *program)

        log = self.transfer(at(10, KDC), at(-10, CLIENT), at(0, CLIENT))
        self.assert_written(log, 10)

    def test_expired_certificate(self) -> None:
        """Dates do not count where the key is pinned; where a CA vouches, they do."""
        for ago, ca_status in ((40, 3), (0, 0)):
            now = dt.datetime.now(dt.UTC) - dt.timedelta(days=365 * ago)
            key, certificate = make_certificate(["127.0.0.1"], now)
            self.file("key.pem", key).chmod(0o600)
            self.file("certificate.pem", certificate)
            kdc = self.kdc("--tls-key", "key.pem", "--tls-certificate", "certificate.pem")
            self.one_transfer(kdc)
            name = self.name("alice")
            program = self.client(
                *("register", "-n", name, *self.key(name), *kdc.place),
                *("--kdc-ca", str(self.directory / "certificate.pem")),
            )
            told = "does not verify\n.*--kdc-ca" if ca_status else "registered"
            self.assert_brief(program, ca_status, told)
            self.assertEqual(kdc.program.stop(), 0)
