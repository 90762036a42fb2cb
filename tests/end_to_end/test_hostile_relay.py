"""A relay that does its worst, between real programs: what they show, and how they end."""

from __future__ import annotations

import os

from tests.support.hostile_relay import PROGRAM, Deed
from tests.support.processes import Program, ProgramTestCase

SIZE = 600_000
# Among the records of the content, on their way to the receiver.
MIDDLE, RECORD = 300_000, 65_536


class HostileRelayTests(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.name("alice"), self.name("bob")
        self.realm = self.kdc()

    def relay(self, deed: Deed) -> Program:
        relay = self.scratch.start(
            *PROGRAM,
            *deed.words,
            *("--listen", "tcp:0:interface=127.0.0.1"),
            *(*self.realm.options, *self.key("relay")),
        )
        relay.expect(r"receiving on 127.0.0.1 port \d+\n")
        return relay

    def options(self, name: str) -> tuple[str, ...]:
        return ("-n", name, *self.realm.options, *self.key(name), "--reach", "relay")

    def receiver(self, *options: str) -> Program:  # type: ignore[override]
        receiver = self.client(*options, "--listen", "0", *self.options(self.bob))
        receiver.expect("others reach us through the relay")
        receiver.expect("receiving on")
        return receiver

    def test_once(self) -> None:
        """Who tries but once: both ends say that it failed, and there is no file."""
        path = self.file("large.bin", os.urandom(SIZE))
        for what in ("flip", "drop", "repeat", "insert", "reorder", "cut", "reset"):
            relay = self.relay(Deed(what, True, MIDDLE, RECORD))
            receiver = self.receiver("-m", "R", "-o", "received.bin")
            sender = self.client(
                *("-m", "S", "-r", self.bob, "-i", str(path), *self.options(self.alice))
            )
            self.assert_ends(sender, 6)
            self.assert_ends(receiver, 6, "nothing was kept of what")
            self.assert_nothing_kept("received.bin")
            relay.stop()

    def test_again(self) -> None:
        """Who tries again, as ``send`` does, gets it there once he is let."""
        for what in ("flip", "splice", "reorder", "cut", "reset", "delay"):
            content = os.urandom(SIZE)
            relay = self.relay(Deed(what, True, MIDDLE, RECORD, skip=1, times=2))
            inbox = self.directory / what
            inbox.mkdir()
            receiver = self.receiver("receive", "--inbox", str(inbox))
            for name in ("before.bin", "large.bin"):
                path = self.file(name, content if name == "large.bin" else os.urandom(SIZE))
                sender = self.client("send", self.bob, str(path), *self.options(self.alice))
                self.assert_ends(sender, 0, "who has it on disk")
            self.assertEqual("trying again" in sender.said, what != "delay", what)
            self.assertEqual((inbox / "large.bin").read_bytes(), content)
            self.assertEqual(
                {path.name for path in inbox.iterdir()} - {".kdc-partial"},
                {"before.bin", "large.bin"},
            )
            receiver.stop()
            relay.stop()
