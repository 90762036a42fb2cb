"""What is typed wrong, and what is said about it; places that cannot be used are known at once."""

from __future__ import annotations

import io
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from kdc.channel.services import DEFAULT_SERVICE
from kdc.client.settings import ClientSettings
from kdc.commands import main as main_module
from kdc.commands.client.forward import ForwardCommand
from kdc.commands.client.pipe import PipeCommand
from kdc.commands.client.send import SendCommand
from kdc.commands.client.tunnel import TunnelCommand
from kdc.commands.options import rate_of, seconds_of
from kdc.errors import ConfigurationError, ExitStatus, LocalIOError
from kdc.transfer.receiving import STDOUT, ReceiveSettings, check_places
from tests.support.processes import ProgramTestCase


class MistypedTests(SynchronousTestCase):
    """Command lines with a mistake in them, up to where they are turned down."""

    def said(self, program: str, line: str) -> str:
        self.patch(os, "environ", {"HOME": "/nonexistent"})
        stderr = io.StringIO()
        self.patch(sys, "stderr", stderr)
        self.patch(sys, "argv", [program, *shlex.split(line)])
        self.patch(os, "_exit", sys.exit)  # kdcclient ends at once
        main = {"kdc": main_module.kdc_main, "kdcclient": main_module.kdcclient_main}[program]
        ended = self.assertRaises(SystemExit, main)
        self.assertEqual(ended.code, ExitStatus.USAGE, line)
        return stderr.getvalue()

    def test_slips(self) -> None:
        """A command or an option that is nearly one is named."""
        for program, line, meant in (
            ("kdcclient", "sned bob f", "Unknown command: sned; did you mean send?"),
            ("kdcclient", "recieve", "Unknown command: recieve; did you mean receive?"),
            ("kdcclient", "send --txt hi bob", "--txt not recognized; did you mean --text?"),
            ("kdcclient", "-m R --otput x", "--otput not recognized; did you mean --output?"),
            ("kdc", "admin lst", "Unknown command: lst; did you mean list?"),
            ("kdc", "-p 1 --enroll open", "--enroll not recognized; did you mean --enrol?"),
        ):
            self.assertIn(meant, self.said(program, line))

    def test_no_guess(self) -> None:
        """What is near to nothing is left alone."""
        for line in ("frobnicate", "send --zzz bob f", "send bob", "whoami --nonsense"):
            self.assertNotIn("did you mean", self.said("kdcclient", line), line)

    def test_where_to_read(self) -> None:
        """The help that is pointed to is that of the command which was meant."""
        for program, line, where in (
            ("kdcclient", "", "kdcclient"),
            ("kdcclient", "sned", "kdcclient"),
            ("kdcclient", "send", "kdcclient send"),
            ("kdcclient", "receive --max-size huge --inbox . -n bob -p 1", "kdcclient receive"),
            ("kdcclient", "completion tcsh", "kdcclient completion"),
            ("kdcclient", "send bob f --wait=soon -n a -p 1", "kdcclient send"),
            ("kdc", "", "kdc"),
            ("kdc", "admin", "kdc admin"),
            ("kdc", "admin show", "kdc admin show"),
            ("kdc", "completion", "kdc completion"),
        ):
            self.assertIn(f"\n  see {where} --help\n", self.said(program, line))

    def test_what_to_send(self) -> None:
        """What is wrong with the thing itself is said before anybody is asked for it."""
        for line, said in (
            ("send bob f.txt --text x", "files or --text, not both"),
            ("send bob - --as ../x", "not a safe file name: ../x"),
            ("send bob --text x --as .x", "not a safe file name: .x"),
            ("send bob f g --as x", "--as is for one thing"),
            ("send bob ''", "one of the files has no name"),
            ("send bob f --links all", "--links is skip or follow, not all"),
            ("send bob f --exclude !", "not a pattern as in .gitignore"),
        ):
            self.assertIn(said, self.said("kdcclient", f"{line} -n alice -p 1"))


class WaitTests(SynchronousTestCase):
    """``--wait``, whose time need not be typed."""

    def wait(self, line: str) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
        options = SendCommand()
        options.parseOptions(line.split())
        return options["wait"], options["receivers"], options["files"]

    def test_with_and_without(self) -> None:
        """What comes behind it is its time if it looks like one, and else what it was."""
        for line, wait, receiver, files in (
            ("bob f", None, "bob", ("f",)),
            ("bob f --wait", "", "bob", ("f",)),
            ("--wait bob f", "", "bob", ("f",)),
            ("-w bob f", "", "bob", ("f",)),
            ("bob -w 10m f", "10m", "bob", ("f",)),
            ("bob f --wait 90s", "90s", "bob", ("f",)),
            ("bob f --wait=2h", "2h", "bob", ("f",)),
            ("-n alice --wait -p 88 bob f", "", "bob", ("f",)),
            ("bob --wait -- 10m", "", "bob", ("10m",)),
            ("bob -- --wait", None, "bob", ("--wait",)),
            ("--as --wait bob f", None, "bob", ("f",)),
            ("-n --wait bob -", None, "bob", ("-",)),
        ):
            self.assertEqual(self.wait(line), (wait, (receiver,), files), line)

    def test_times(self) -> None:
        """Seconds, minutes, hours, days; anything else is no time."""
        times = {"90s": 90, "10m": 600, "2h": 7200, "1d": 86_400, "0s": 0}
        for text, seconds in times.items():
            self.assertEqual(seconds_of(text), seconds)
        for text in ("", "10", "m", "1.5h", "-1s", "10 m", "\u0661s", "1" * 10 + "s"):
            self.assertIsNone(seconds_of(text), text)

    def test_rates(self) -> None:
        """A number of bytes a second; none at all would never be done."""
        self.assertIsNone(rate_of(None))
        self.assertEqual((rate_of("5M"), rate_of("700")), (5 << 20, 700))
        for text in ("0", "0K", "fast", "-1", "", "\u0661M"):
            self.assertRaises(usage.UsageError, rate_of, text)


class UnnamedServiceTests(SynchronousTestCase):
    def test_unnamed(self) -> None:
        """Nothing is the service without a name, wherever a service is named."""
        forward, pipe = ForwardCommand(), PipeCommand()
        forward.parseOptions(["--to", "bob", "", "--listen", "0"])
        pipe.parseOptions(["bob", ""])
        self.assertEqual((forward["service"], pipe["service"]), ("", ""))
        tunnel = TunnelCommand()
        tunnel.parseOptions(["--expose", "=tcp:127.0.0.1:1", "--forward", "bob/=0"])
        self.assertEqual(tunnel["expose"][0].name, DEFAULT_SERVICE)
        self.assertEqual(tunnel["forward"][0].service, DEFAULT_SERVICE)
        self.assertRaises(usage.UsageError, PipeCommand().parseOptions, ["bob"])


class PlacesTests(SynchronousTestCase):
    """Where received things are to go."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.file = self.directory / "file"
        self.file.touch()

    def check(self, **places: Any) -> None:
        client = ClientSettings("bob", "127.0.0.1", 1)
        check_places(ReceiveSettings(client, "tcp:0", **places))

    def test_good(self) -> None:
        """A directory, a file that is there or not yet, a pipe, a command with its words."""
        before = sorted(self.directory.iterdir())
        self.check(inbox=self.directory, hook=("true", "--option"))
        self.check(output=self.file, records=self.directory / "new")
        self.check(output=STDOUT)
        self.assertEqual(sorted(self.directory.iterdir()), before, "looking leaves nothing behind")

    def test_passed_on(self) -> None:
        """A FIFO and a device are written to, and once; a socket or a disk is never replaced."""
        os.mkfifo(self.directory / "fifo")
        for output in (self.directory / "fifo", Path("/dev/null")):
            self.check(output=output, passes_on=True)
            self.assertRaises(ConfigurationError, self.check, output=self.file, records=output)
        with socket.socket(socket.AF_UNIX) as listening:
            here = os.getcwd()
            os.chdir(self.directory)  # such a name must be short
            self.addCleanup(os.chdir, here)
            listening.bind("socket")
        error = self.assertRaises(ConfigurationError, self.check, output=self.directory / "socket")
        self.assertIn("no regular file", str(error))

    def test_not_good(self) -> None:
        """What is missing, or something else, is named."""
        missing, around = self.directory / "missing", self.directory / "around"
        around.symlink_to(around)
        for places, why in (
            ({"inbox": missing}, "missing: No such file or directory"),
            ({"inbox": self.file}, "file: Not a directory"),
            ({"output": missing / "x"}, "missing/x: No such file or directory"),
            ({"output": self.file / "x"}, "file/x: Not a directory"),
            ({"output": self.directory}, "Is a directory"),
            ({"output": self.file, "records": missing / "x"}, "missing/x: No such file"),
            ({"inbox": self.directory / ("x" * 300)}, "File name too long"),
            ({"output": self.directory / ("x" * 300)}, "File name too long"),
            ({"inbox": around / "x"}, "Too many levels of symbolic links"),
        ):
            error = self.assertRaises(LocalIOError, self.check, **places)
            self.assertIn(why, str(error))

    def test_not_ours(self) -> None:
        """A directory that we may not write to."""
        self.patch(os, "access", lambda path, mode: False)
        error = self.assertRaises(LocalIOError, self.check, inbox=self.directory)
        self.assertIn("Permission denied", str(error))

    def test_hook(self) -> None:
        """A command that is not there, or no program."""
        for hook in ("/no/such/program", str(self.file), "no-such-command-anywhere"):
            error = self.assertRaises(
                ConfigurationError, self.check, inbox=self.directory, hook=(hook,)
            )
            self.assertIn(hook, str(error))


class StartTests(ProgramTestCase):
    def test_before_anything_else(self) -> None:
        """No KDC is asked and no passphrase, under twistd neither."""
        who = ("-n", "bob", "-a", "192.0.2.1", "-p", "1", "--inbox", "missing")
        self.assert_brief(self.client("receive", *who), 7, "missing: No such file or directory")
        service = self.twistd("-n", "kdcclient", "receiver", *who)
        self.assert_ends(service, 7, "kdcclient: .*missing: No such file or directory")
