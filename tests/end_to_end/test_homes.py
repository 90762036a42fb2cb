"""People at home: behind routers that let nothing in, reached through the KDC's relay all the same.

RELAY_TEST_BYTES and RELAY_TEST_CUTS make it as long as one likes.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
from hashlib import file_digest
from pathlib import Path

from tests.support.homes import OPEN, Homes
from tests.support.processes import (
    CLIENT,
    KDC,
    Program,
    ProgramTestCase,
    RunningKDC,
    bytes_below,
)

THROUGH = r"bob: others reach us through the relay at"
RELAY = 60600
SIZE = int(os.environ.get("RELAY_TEST_BYTES", "25165824"))
CUTS = int(os.environ.get("RELAY_TEST_CUTS", "3"))


class HomeTestCase(ProgramTestCase):
    """Three hosts: the KDC's, alice's behind one router, and bob's behind another."""

    let_in = 0  # the port at which the KDC's host, alone, gets through to bob
    relay: tuple[str, ...] = ("--relay", f"tcp:{RELAY}")

    def setUp(self) -> None:
        super().setUp()
        self.homes = Homes()
        self.addCleanup(self.homes.end)
        self.seen_from = {
            "alice": self.homes.add("alice"),
            "bob": self.homes.add("bob", self.let_in),
        }
        for name in self.seen_from:
            self.key(name)
        (self.directory / "inbox").mkdir()
        self.realm = self.start_kdc()

    def start_kdc(self) -> RunningKDC:
        kdc = self.scratch.start(
            *self.homes.inside(OPEN, KDC),
            *("-p", "tcp:12345", "-f", "pwd.txt", "-o", "out.txt", "--enrol", "open", *self.relay),
        )
        realm = RunningKDC(kdc)
        if self.relay:
            kdc.expect(rf"kdc: relay: receiving on \S+ port {RELAY}\n")
        return realm

    def at(self, name: str, *words: str) -> Program:
        """Run ``kdcclient`` at somebody's home."""
        command, *rest = words
        return self.scratch.start(
            *self.homes.inside(name, CLIENT),
            *(command, "-n", name, "-a", self.seen_from[name], "-p", "12345"),
            *("--kdc-fingerprint", self.realm.fingerprint, *self.key(name), *rest),
        )

    def receive(self, how: str) -> Program:
        receiver = self.at("bob", "receive", "--inbox", "inbox")
        receiver.expect(how)
        receiver.expect("receiving on")
        return receiver

    def begin(self, name: str = "large.bin") -> Program:
        """A large file is on its way to bob, so slowly that something can happen to it."""
        self.large = self.directory / name
        with self.large.open("wb") as file:
            for _ in range(0, SIZE, 1 << 20):
                file.write(os.urandom(1 << 20))
        return self.at("alice", "send", "--limit", str(SIZE // 4), "bob", str(self.large))

    def held(self) -> Program:
        """Such a file is on its way, and bob is stopped in the middle of it; return the sender."""
        self.bob = self.receive(THROUGH)
        for number in itertools.count():
            sender = self.begin(f"large{number}.bin")
            if self.hold(SIZE // 4):
                return sender
            # This machine was busy elsewhere for seconds, and now it is there: another one.
            self.assert_ends(sender, 0)
            (self.directory / "inbox" / self.large.name).unlink()
        raise AssertionError("not reached")

    def hold(self, count: int) -> bool:
        """Stop bob when so much has been kept; say whether that was in the middle of it."""
        inbox = self.directory / "inbox"
        self.eventually("more has come", lambda: bytes_below(inbox) >= count)
        self.bob.signal(signal.SIGSTOP)
        if not (inbox / self.large.name).exists():
            return True
        self.bob.signal(signal.SIGCONT)
        return False

    def assert_goes_on(self, sender: Program) -> None:
        """In the end it is there, the beginning from before, and equal."""
        self.assert_ends(sender, 0, "who has it on disk")
        self.assertRegex(
            sender.said, r"trying again in [\s\S]* [1-9]\d* of them were there already"
        )
        self.assert_equal(self.large)

    def assert_equal(self, path: Path) -> None:
        digests = []
        for each in (path, self.directory / "inbox" / path.name):
            with each.open("rb") as file:
                digests.append(file_digest(file, "sha256").digest())
        self.assertEqual(digests[0], digests[1])

    def send_hello(self) -> None:
        path = self.file("hello.txt", b"hello")
        self.assert_ends(self.at("alice", "send", "bob", str(path)), 0, "who has it on disk")
        self.assert_equal(path)


class NothingGetsInTests(HomeTestCase):
    def test_reached(self) -> None:
        """Who asks is told by which way others come, and they come."""
        self.receive(rf"{THROUGH} 10.213.2.1 port {RELAY}, as it cannot reach our port 60000")
        doctor = self.at("bob", "doctor")
        self.assert_ends(doctor, 0)
        self.assertIn(
            f"ok   relay: 10.213.2.1 port {RELAY} answers, and it cannot connect to our port 60000:"
            " others come through it\n",
            doctor.printed,
        )
        # What bob's own way to the relay is called means nothing to alice: the relay's name does.
        self.send_hello()

    def test_cut(self) -> None:
        """Links go down while a file is on its way: it goes on where it was, and is whole."""
        sender = self.held()
        chance, slice_ = random.Random(SIZE), SIZE // (CUTS + 1)
        for number in range(CUTS):
            place = number * slice_ + chance.randrange(slice_ // 3, slice_)
            if number and not self.hold(place):
                break  # a machine that was busy elsewhere for seconds
            name = chance.choice(("alice", "bob"))
            if name == "alice" and chance.randrange(2):
                self.homes.move(name)
            else:
                self.homes.cut(name, RELAY)
            self.bob.signal(signal.SIGCONT)
            sender.expect("trying again in")
        self.assert_goes_on(sender)

    def test_killed(self) -> None:
        """The KDC with its relay is killed and started again in the middle: the same."""
        sender = self.held()
        self.realm.program.kill()
        self.realm = self.start_kdc()
        self.bob.signal(signal.SIGCONT)
        self.assert_goes_on(sender)


class ApartTests(HomeTestCase):
    relay = ()

    def setUp(self) -> None:
        super().setUp()
        self.apart = self.start_relay()

    def start_relay(self) -> Program:
        relay = self.scratch.start(
            *self.homes.inside(OPEN, KDC),
            *("relay", "-a", "127.0.0.1", "-p", "12345", "--listen", f"tcp:{RELAY}"),
            *("--kdc-fingerprint", self.realm.fingerprint, *self.key("relay")),
        )
        relay.expect(rf"relay: receiving on \S+ port {RELAY}\n")
        return relay

    def test_killed(self) -> None:
        """A relay of its own is killed and started again in the middle: the same."""
        sender = self.held()
        self.apart.kill()
        self.start_relay()
        self.bob.signal(signal.SIGCONT)
        self.assert_goes_on(sender)


class OneGetsInTests(HomeTestCase):
    let_in = 60000

    def test_the_relay_does_and_the_sender_does_not(self) -> None:
        """Bob tells his own address, which is good for the KDC's side of the world only."""
        self.receive(r"bob: others reach us directly, or else through the relay")
        self.send_hello()


class NoRelayTests(HomeTestCase):
    relay = ()

    def test_nobody_gets_in(self) -> None:
        """Without a relay it is as it is: bob cannot be reached, and alice is told so."""
        self.at("bob", "receive", "--inbox", "inbox").expect("receiving on")
        path = self.file("hello.txt", b"hello")
        sender = self.at("alice", "send", "bob", str(path))
        self.assert_brief(sender, 5, "bob cannot be reached at 10.213.2.2 port 60000")
