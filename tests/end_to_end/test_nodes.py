"""Several KDCs of one realm, each a process with a copy of one store; some die, hang, or lie."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from typing import Any

from tests.support.processes import (
    KDC,
    UNLIMITED,
    Program,
    ProgramTestCase,
    RunningKDC,
    reserved_port,
)
from tests.support.proxies import OtherService

HERE = "127.0.0.1"


class SeveralKDCTests(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.kdcs: list[RunningKDC] = []

    def realm(self, count: int, *names: str, also: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Start so many KDCs that know ``names``; return the options that a client needs.

        ``also``: what is on each one's command line besides.
        """
        first = self.kdc()
        for name in names:
            self.register(first, name)
        self.assertEqual(first.program.stop(), 0)
        for number in range(count):
            directory = self.directory / f"kdc{number}"
            directory.mkdir()
            for path in self.directory.glob("pwd.txt*"):
                if not path.name.endswith(".lock"):
                    shutil.copy(path, directory)
            self.kdcs.append(self.start(number, also=also))
        return (*self.places, "--kdc-fingerprint", first.fingerprint)

    def start(
        self, number: int, *, port: int = 0, file: str = "pwd.txt", also: tuple[str, ...] = ()
    ) -> RunningKDC:
        return RunningKDC(
            self.scratch.start(
                *(*KDC, "-p", str(port or reserved_port()), "-f", file),
                *("-o", "out.txt", *UNLIMITED, *also),
                directory=self.directory / f"kdc{number}",
            )
        )

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(word for kdc in self.kdcs for word in ("-a", f"{kdc.host}:{kdc.port}"))

    def receive(self, options: tuple[str, ...], name: str, *more: str) -> Program:
        return self.client(
            *("receive", "-n", name, *options, *self.key(name), "--listen", "0", *more)
        )

    def deliver(self, options: tuple[str, ...], sender: str, receiver: str, **how: Any) -> Program:
        text = os.urandom(8).hex()
        program = self.client(
            *("send", "-n", sender, *options, *self.key(sender), receiver, "--text", text), **how
        )
        self.assert_ends(program, 0, "who has it on disk")
        return program

    def issued(self, number: int) -> int:
        log = self.directory / f"kdc{number}" / "out.txt"
        return sum(line.split()[1] == "issued" for line in log.read_text().splitlines())

    def test_goes_on(self) -> None:
        """A receiver is at all three; whichever die, senders find it by those that are left."""
        options = self.realm(3, "alice", "bob")
        bob = self.receive(options, "bob", "--inbox", ".", "--yes")
        bob.expect(r"bob: receiving on \S+ port \d+ \(3 of 3 KDCs\)\n")
        for number, left in ((0, 2), (1, 1)):
            self.kdcs[number].program.kill()
            bob.expect(r"bob: .*trying again in")
            bob.expect(rf"bob: receiving on \S+ port \d+ \({left} of 3 KDCs\)\n")
            for _ in range(3):
                program = self.deliver(options, "alice", "bob")
                self.assertEqual(len(program.said.splitlines()), 1, program.said)
        self.eventually("the last has issued the last", lambda: self.issued(2) >= 3)
        self.kdcs[0] = self.start(0, port=self.kdcs[0].port)
        bob.expect(r"bob: receiving on \S+ port \d+ \(2 of 3 KDCs\)\n")
        self.assertEqual(bob.stop(), 143)

    def test_hung(self) -> None:
        """One that is stopped, and neither refuses nor answers, holds nobody up for good."""
        options = self.realm(2, "alice", "bob")
        bob = self.receive(options, "bob", "--inbox", ".", "--yes")
        bob.expect(r"\(2 of 2 KDCs\)\n")
        self.kdcs[0].program.signal(signal.SIGSTOP)
        try:
            for _ in range(4):  # by lot some begin at that one
                self.deliver(options, "alice", "bob")
            self.eventually("the other has issued all", lambda: self.issued(1) == 4)
        finally:
            self.kdcs[0].program.signal(signal.SIGCONT)
        self.assertEqual(bob.stop(), 143)

    def test_no_use(self) -> None:
        """Addresses where nobody answers, or says nothing, or what is no KDC's, and one KDC."""
        options = self.realm(1, "alice", "bob")
        with socket.create_server((HERE, 0)) as silent, OtherService(b"SSH-2.0-x\r\n") as other:
            ports = (reserved_port(), silent.getsockname()[1], other.port)
            options += tuple(word for port in ports for word in ("-a", f"{HERE}:{port}"))
            bob = self.receive(options, "bob", "--inbox", ".", "--yes")
            bob.expect(r"\(1 of 4 KDCs\)\n")
            for _ in range(4):  # by lot most begin elsewhere
                program = self.deliver(options, "alice", "bob")
                self.assertEqual(len(program.said.splitlines()), 1, program.said)
            newcomer = self.client("register", "-n", "carol", *options, *self.key("carol"))
            self.assert_ends(newcomer, 0, "registered carol")
        self.assertEqual(bob.stop(), 143)

    def test_relay(self) -> None:
        """Each KDC has its own relay; when one goes, with its relay, others come by the other."""
        options = self.realm(2, "alice", "bob", also=("--relay", "0"))
        options += ("--reach", "relay")
        bob = self.receive(options, "bob", "--inbox", ".", "--yes")
        bob.expect(r"others reach us through the relay at")
        bob.expect(r"\(2 of 2 KDCs\)\n")
        self.deliver(options, "alice", "bob")
        for number in (0, 1):
            self.kdcs[number].program.kill()
            bob.expect(r"bob: .*trying again in")
            for _ in range(2):
                self.deliver(options, "alice", "bob")
            port = self.kdcs[number].port
            self.kdcs[number] = self.start(number, port=port, also=("--relay", "0"))
            bob.expect(r"\(2 of 2 KDCs\)\n")
        self.assertEqual(bob.stop(), 143)

    def test_sticks(self) -> None:
        """Who sends much in one process stays with one KDC."""
        options = self.realm(3, "alice", "bob", "carol", "dave")
        names = ("bob", "carol", "dave")
        receivers = [self.receive(options, name, "-o", f"{name}.out", "--yes") for name in names]
        for receiver in receivers:
            receiver.expect(r"\(3 of 3 KDCs\)\n")
        self.deliver(options, "alice", ",".join(names))
        self.eventually(
            "one has issued all", lambda: sorted(map(self.issued, range(3))) == [0, 0, 3]
        )
        for receiver in receivers:
            self.assertEqual(receiver.stop(), 143)

    def test_another_key(self) -> None:
        """One that is not the realm's gets nothing to see, and nobody is kept from the others."""
        options = self.realm(2, "alice", "bob")
        port = self.kdcs[0].port
        self.assertEqual(self.kdcs[0].program.stop(), 0)
        impostor = self.start(0, port=port, file="other.txt")
        self.assertNotEqual(impostor.fingerprint, self.kdcs[1].fingerprint)
        bob = self.receive(options, "bob", "--inbox", ".", "--yes")
        bob.expect(r"bob: receiving on \S+ port \d+ \(1 of 2 KDCs\)\n")
        for _ in range(3):
            self.deliver(options, "alice", "bob")
        log = (self.directory / "kdc0" / "out.txt").read_text()
        for name in ("alice", "bob"):
            self.assertNotIn(name, log.partition(" stopped ")[2])
        self.assertEqual(bob.stop(), 143)

    def test_taken_over(self) -> None:
        """Who begins to receive elsewhere ends it everywhere, with status 8."""
        options = self.realm(2, "alice", "bob")
        bob = self.receive(options, "bob", "--inbox", ".", "--yes")
        bob.expect(r"\(2 of 2 KDCs\)\n")
        # At the second only: that is enough.
        second = self.kdcs[1].options
        other = self.client(
            *("receive", "-n", "bob", *second, *self.key("bob"), "--listen", "0"),
            *("-o", "out.bin", "--yes"),
        )
        self.assert_ends(bob, 8, "somebody began to receive as bob elsewhere")
        other.expect(r"bob: receiving on \S+ port \d+\n")
        self.deliver(second, "alice", "bob")
        self.assertEqual(other.stop(), 143)

    def test_all_look(self) -> None:
        """`doctor` looks at each, `whoami` and `who` say which has answered."""
        options = self.realm(2, "alice", "bob")
        where = [f"{kdc.host} port {kdc.port}" for kdc in self.kdcs]
        doctor = self.client("doctor", "-n", "alice", *options, *self.key("alice"))
        self.assertEqual(doctor.wait(), 0, str(doctor))
        for place in where:
            for what in ("name of the KDC", "port of the KDC", "identity of the KDC"):
                self.assertRegex(doctor.printed, rf"ok   {what} at {place}: ")
            self.assertRegex(doctor.printed, rf"ok   our registration at {place}: version 1 ")
            self.assertRegex(doctor.printed, rf"ok   our receiver at {place}: ")
        self.kdcs[0].program.kill()
        doctor = self.client("doctor", "-n", "alice", *options, *self.key("alice"))
        self.assertEqual(doctor.wait(), 3, str(doctor))
        self.assertRegex(doctor.printed, rf"FAIL port of the KDC at {where[0]}: nothing answers")
        self.assertRegex(doctor.printed, rf"ok   our registration at {where[1]}: ")
        self.assertNotRegex(doctor.printed, rf"our registration at {where[0]}")
        whoami = self.client("whoami", "-n", "alice", *options, *self.key("alice"))
        self.assertEqual(whoami.wait(), 0, str(whoami))
        self.assertIn(f"kdc: {where[1]}\n", whoami.printed)
        who = self.client("who", "-n", "alice", *options, *self.key("alice"), "bob")
        self.assert_ends(who, 0, f"as {where[1]} says")
        self.assertEqual(who.printed, "bob: registered\n")

    def test_none(self) -> None:
        """With none there it is told of each, and the status is that of one that is away."""
        options = self.realm(2, "alice")
        for kdc in self.kdcs:
            kdc.program.kill()
        program = self.client(
            *("send", "-n", "alice", *options, *self.key("alice"), "bob", "--text", "x")
        )
        self.assert_brief(program, 3, *(f"port {kdc.port}" for kdc in self.kdcs))
