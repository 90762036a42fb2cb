"""``kdc quick``: from nothing to a file on the disk, and what keeps others out of it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import stat
import time
from pathlib import Path

from kdc.commands.quick import DEFAULT_PORT, default_store
from kdc.errors import ConfigurationError
from tests.support.processes import KDC, PATIENCE_SECONDS, Program, ProgramTestCase


class QuickTests(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.names = self.scratch.home / ".config" / "kdc" / "names"
        self.state = self.scratch.home / ".local" / "state" / "kdc"
        # It is nobody's child, and outlives whoever started it.
        self.addCleanup(lambda: self.quick("--stop").wait())

    def quick(self, *words: str) -> Program:
        return self.scratch.start(*KDC, "quick", *words)

    def done(self, *words: str) -> Program:
        program = self.quick(*words)
        self.assert_ends(program, 0)
        return program

    def port(self, program: Program) -> str:
        """Where it says that it runs; it has ended."""
        said = r"kdc: running at 127\.0\.0\.1 port (\d+) until kdc quick --stop"
        (port,) = re.findall(said, program.said)
        return str(port)

    def test_first_minute(self) -> None:
        """Three commands and no question, then one command for each further file.

        No command names an address, a port or a fingerprint; only the tests' own
        free ports do.
        """
        self.done("-p", "0", "alice", "bob")
        receiver = self.client(
            "receive", "-n", "bob", "--inbox", ".", "--yes", "--listen", "0", terminal=True
        )
        receiver.expect("bob: receiving on")
        for name in ("report.pdf", "photo.jpg"):
            (self.scratch.home / name).write_bytes(content := os.urandom(70_000))
            sending = self.client("send", "-n", "alice", "bob", name, directory=self.scratch.home)
            self.assert_ends(sending, 0, "who has it on disk")
            receiver.expect(f"received {name} from alice")
            self.assertEqual((self.directory / name).read_bytes(), content)
        self.assertNotIn("?", receiver.said)
        # It has left the terminal, and is gone when that is said.
        self.assert_ends(self.quick("--stop"), 0, "kdc: stopped")
        self.assert_ends(self.quick("--stop"), 0, "kdc: none runs with ")
        self.assert_ends(self.client("whoami", "-n", "bob"), 3, "no KDC answers")

    def test_more_names(self) -> None:
        """One that runs is used as it is, names that are there are no error, all keys stay."""
        port = self.port(self.done("-p", "0", "alice"))
        key = (self.names / "alice.key").read_bytes()
        # Its port is what it is; a port that is given again is not looked at.
        again = self.done("-p", "0", "alice", "carol")
        self.assertEqual(self.port(again), port)
        self.assertEqual((self.names / "alice.key").read_bytes(), key)
        for name in ("alice", "carol"):
            self.assert_ends(self.client("whoami", "-n", name), 0)

    def test_interrupted(self) -> None:
        """What was cut short between the key, the KDC and the configuration is completed."""
        self.done("-p", "0", "alice")
        (self.names / "alice.toml").unlink()
        self.done("alice")
        self.assert_ends(self.client("whoami", "-n", "alice"), 0)
        # A key that the KDC does not know yet is as good as a new one.
        self.assert_ends(self.client("keygen", str(self.names / "bob.key")), 0)
        self.done("bob")
        self.assert_ends(self.client("whoami", "-n", "bob"), 0)

    def test_private(self) -> None:
        """Its files are the owner's alone, and so is what listens: nobody else can come in."""
        self.done("-p", "0", "alice")
        for directory in (self.names, self.state):
            self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700, directory)
            for path in directory.iterdir():
                with contextlib.suppress(FileNotFoundError):  # as it was being replaced
                    self.assertEqual(path.stat().st_mode & 0o077, 0, path)
        kdc = self.names.joinpath("alice.toml").read_text()
        port = next(line for line in kdc.splitlines() if line.startswith("port"))
        place = ("-a", "127.0.0.1", "-p", port.split()[-1], "--accept-new")
        stranger = self.client("register", "-n", "mallory", *place, *self.key("mallory"))
        self.assert_ends(stranger, 4, "without a valid invitation")

    def test_somebody_elses(self) -> None:
        """A configuration of another KDC and a name that has another key stay as they are."""
        self.names.mkdir(parents=True)
        config = self.names / "bob.toml"
        config.write_text('name = "bob"\naddress = "kdc.example.org"\nport = 12345\n')
        before = config.read_bytes()
        self.assert_ends(self.quick("-p", "0", "bob"), 1, "bob.toml says something else", "--force")
        self.assertEqual(config.read_bytes(), before)
        self.assertFalse((self.names / "bob.key").exists())
        self.done("--force", "bob")
        self.assert_ends(self.client("whoami", "-n", "bob"), 0)
        config.write_text("this is no TOML")
        self.done("--force", "bob")
        self.assert_ends(self.client("whoami", "-n", "bob"), 0)
        (self.names / "bob.key").unlink()
        self.assert_ends(self.quick("bob"), 8, "bob is there already")

    def test_shadowed(self) -> None:
        """A name that the user's own file has at another KDC cannot be used at once, and is not."""
        own = self.names.parent / "client.toml"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text('name = "bob"\naddress = "kdc.example.org"\nport = 12345\n')
        own.chmod(0o600)
        self.assert_ends(
            self.quick("-p", "0", "bob"), 1, "client.toml says that bob", "another KDC"
        )
        self.assertFalse((self.names / "bob.toml").exists())
        self.done("carol")

    def test_another_secret(self) -> None:
        """Who changes the secret is told in which file the old one is still named."""
        self.done("-p", "0", "bob")
        new = self.directory / "new.key"
        self.assert_ends(self.client("keygen", str(new)), 0)
        program = self.client("passwd", "-n", "bob", "--new-key-file", str(new))
        self.assert_ends(program, 0, f"{self.names / 'bob.toml'} still names")

    def test_at_the_same_time(self) -> None:
        """Several at once, as of a script each: one starts it, the others find it."""
        names = ("alice", "bob", "carol")
        programs = [self.quick("-p", "0", name) for name in names]
        for program in programs:
            self.assert_ends(program, 0)
        for name in names:
            self.assert_ends(self.client("whoami", "-n", name), 0)

    def test_notes(self) -> None:
        """What the store has noticed is said, and not only to who starts it in the foreground."""
        self.done("-p", "0", "alice")
        self.done("--stop")
        (self.state / "pwd.txt.generation").unlink()
        self.assert_ends(self.quick("-p", "0"), 0, "an old backup would not have been noticed")

    def test_port_taken(self) -> None:
        """The usual port is somebody else's: another one, which it keeps and all names know of."""
        first = self.started_beside_another(DEFAULT_PORT, "alice")
        port = self.port(first)
        self.assertIn(f"port {DEFAULT_PORT} is in use: taking another one", first.said)
        self.assertNotEqual(port, str(DEFAULT_PORT))
        self.assert_ends(self.client("whoami", "-n", "alice"), 0)
        self.done("--stop")
        (self.names / "carol.toml").write_text("this is no TOML")
        (self.names / "dave.toml").write_text(f'name = "dave"\nport = {port}\n')
        second = self.port(self.started_beside_another(int(port), "bob"))
        self.assertNotEqual(second, port)
        self.done("--stop")
        self.assertEqual(self.port(self.done()), second)
        for name in ("alice", "bob"):
            self.assert_ends(self.client("whoami", "-n", name), 0)
        # What is not its own it leaves alone.
        self.assertEqual((self.names / "carol.toml").read_text(), "this is no TOML")
        self.assertIn(f"port = {port}", (self.names / "dave.toml").read_text())

    def started_beside_another(self, port: int, name: str) -> Program:
        """Start it while something else has ``port``."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):  # somebody on this machine has it already
                    other.bind(("127.0.0.1", port))
                    other.listen()
                program = self.done(name)
            # Unless that somebody had gone by then, such as another test.
            if self.port(program) != str(port) or time.monotonic() > deadline:
                return program
            self.done("--stop")

    def test_port_forgotten(self) -> None:
        """What is no port in the file where it is kept does no harm."""
        self.state.mkdir(parents=True)
        self.state.chmod(0o700)
        for junk in (b"", b"x" * 100, b"70000", b"\xff"):
            (self.state / "quick.port").write_bytes(junk)
            self.done("alice")
            self.done("--stop")

    def test_cannot_start(self) -> None:
        """Why it cannot is said, with the status of the KDC itself, and nothing runs then."""
        kdc = self.kdc()
        program = self.quick("-p", str(kdc.port), "alice")
        self.assert_ends(program, 7, "[Aa]ddress already in use")
        self.assertFalse((self.names / "alice.toml").exists())
        self.assert_ends(self.quick("--stop"), 0, "none runs")
        self.file("log", b"")
        (self.state / "kdc.log").unlink(missing_ok=True)
        (self.state / "kdc.log").symlink_to(self.directory / "log")
        program = self.quick("-p", "0", "alice")
        self.assert_ends(program, 7, "kdc.log: Too many levels of symbolic links")
        self.assert_ends(self.quick("--stop"), 0, "none runs")
        self.assert_ends(self.quick("-p", "x"), 1, "a port is a number", "see kdc quick --help")
        self.assert_ends(self.quick("Al ice"), 1)

    def test_killed(self) -> None:
        """After kill -9 the next start has everybody, and takes the same place."""
        port = self.port(self.done("-p", "0", "alice"))
        lock = (self.state / "pwd.txt.lock").read_text()
        process = os.pidfd_open(int(lock.split()[0]))
        os.kill(int(lock.split()[0]), 9)
        self.wait_for_end(process)
        self.done("-p", port, "alice")
        self.assert_ends(self.client("whoami", "-n", "alice"), 0)

    def wait_for_end(self, process: int) -> None:
        self.assertTrue(select.select([process], [], [], PATIENCE_SECONDS)[0])
        os.close(process)


class DefaultStoreTests(ProgramTestCase):
    def test_where(self) -> None:
        """In the state directory that the user has named, or the usual one."""
        self.patch(os, "environ", {"HOME": "/home/ann"})
        self.assertEqual(default_store(), Path("/home/ann/.local/state/kdc/pwd.txt"))
        self.patch(os, "environ", {"XDG_STATE_HOME": "/var/state"})
        self.assertEqual(default_store(), Path("/var/state/kdc/pwd.txt"))

    def test_nowhere(self) -> None:
        """Without a home it says what to do."""

        def none(path: Path) -> Path:
            raise RuntimeError

        self.patch(Path, "expanduser", none)
        self.patch(os, "environ", {})
        error = self.assertRaises(ConfigurationError, default_store)
        self.assertIn("--file", error.hint)
