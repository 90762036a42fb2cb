"""What the commands say of themselves; and the other Internet protocol."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SkipTest

from kdc import __version__
from kdc.commands import tap
from kdc.commands.admin.subcommands import AdminOptions
from kdc.commands.client import subcommands as subcommands_module
from kdc.commands.client import tap as tap_module
from kdc.commands.client.receive import ReceiverOptions
from tests.support.processes import CLIENT, KDC, TWISTD, ProgramTestCase


def below(options: Any) -> Iterator[Any]:
    """The options of each sub-command, and of theirs."""
    for name, _, parser, _ in getattr(options, "subCommands", ()):
        inner = parser()
        inner.parent = options
        options.subCommand = name
        yield inner
        yield from below(inner)


class HelpTests(ProgramTestCase):
    """``--help`` and ``--version``."""

    def test_help(self) -> None:
        """Every option and sub-command is in the help of its command, which ends with 0."""
        for command, options in (
            (KDC, tap.Options()),
            ((*KDC, "admin"), AdminOptions()),
            (CLIENT, subcommands_module.Options()),
            ((*TWISTD, "kdc"), tap.Options()),
            ((*TWISTD, "kdcclient"), tap_module.Options()),
            ((*TWISTD, "kdcclient", "receiver"), ReceiverOptions()),
        ):
            program = self.scratch.start(*command, "--help")
            self.assert_ends(program, 0)
            self.assertEqual(program.said, "", str(program))
            self.assert_lists(program.printed, options)

    def test_help_of_subcommands(self) -> None:
        """So it is for the commands below, however deep."""
        count = 0
        for top in (AdminOptions(), subcommands_module.Options(), tap_module.Options()):
            for options in below(top):
                self.assert_lists(str(options), options)
                count += 1
        self.assertGreater(count, 20)

    def assert_lists(self, shown: str, options: Any) -> None:
        for option in options.longOpt:
            self.assertIn(f"--{option}", shown)
        for option in options.shortOpt.replace(":", ""):
            self.assertIn(f"  -{option}, --", shown)
        for name, *_ in getattr(options, "subCommands", ()):
            self.assertRegex(shown, rf"\n +{name} ")

    def test_version(self) -> None:
        """Both programs name their version."""
        for command in (KDC, CLIENT, (*TWISTD, "kdc"), (*TWISTD, "kdcclient")):
            program = self.scratch.start(*command, "--version")
            self.assert_ends(program, 0)
            self.assertEqual(program.printed, f"kdc {__version__}\n", str(program))

    def test_twistd_lists_both(self) -> None:
        """``twistd --help`` shows the two plugins."""
        program = self.scratch.start(*TWISTD, "--help")
        self.assert_ends(program, 0)
        for name in ("kdc", "kdcclient"):
            self.assertRegex(program.printed, rf"\n +{name} +[A-Z]")


class IPv6Tests(ProgramTestCase):
    """Everything over ``::1``."""

    def test_transfer(self) -> None:
        """KDC, receiver and sender use IPv6 if the KDC's address is one."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            raise SkipTest(f"no IPv6 loopback here: {error}") from None
        kdc = self.kdc("-p", r"tcp6:0:interface=\:\:1")
        self.assertEqual(kdc.host, "::1")
        receiver = self.client(
            *("receive", "-n", "bob", *kdc.place, "--accept-new", *self.key("bob")),
            *("-o", "outfile", "--listen", "0"),
        )
        receiver.expect(r"bob: receiving on ::1 port \d+\n")
        known = (self.scratch.home / ".config/kdc/known_kdcs").read_text()
        self.assertEqual(known, f"[::1]:{kdc.port} {kdc.fingerprint}\n")
        path = self.file("in.txt", os.urandom(100_000))
        self.assert_ends(self.send(kdc, "alice", "bob", path), 0)
        self.assertEqual((self.directory / "outfile").read_bytes(), path.read_bytes())
        self.assertEqual(kdc.program.stop(), 0)
        log = (self.directory / "out.txt").read_text()
        self.assertRegex(log, r"Z issued client=alice address=::1 bob\n")
