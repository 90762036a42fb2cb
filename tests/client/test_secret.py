"""Where a principal's secret comes from, and that it goes nowhere else."""

from __future__ import annotations

import base64
import contextlib
import getpass
import operator
import os
import pty
import resource
import select
import signal
import stat
import termios
import threading
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc import terminal
from kdc.client import secret
from kdc.client.secret import SecretSource, write_key_file
from kdc.errors import ConfigurationError, KDCError, LocalIOError
from kdc.files.private import read_private
from kdc.protocol.crypto import Digest, digest_of_passphrase, long_term_keys

PASSPHRASE = "correct horse battery staple"


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        # What Argon2id does is tested elsewhere; here it takes no time.
        self.derived: list[bytes] = []
        self.patch(secret, "digest_of_passphrase", self.derive)

    def derive(self, passphrase: bytes, realm: str, name: str) -> Digest:
        self.derived.append(passphrase)
        return Digest(passphrase.ljust(32, b"\0")[:32])

    def file(self, content: bytes, mode: int = 0o600) -> Path:
        self.path.write_bytes(content)
        self.path.chmod(mode)
        return self.path

    def refused(self, source: SecretSource, expected: type[KDCError] = ConfigurationError) -> str:
        """The text of the error; it never quotes the secret."""
        error = self.assertRaises(expected, source.keys, "LOCAL", "alice")
        text = f"{error} {error.hint} {error!r} {error.kind} {error.facts}"
        self.assertNotIn("horse", text)
        return text

    def test_passphrase_file(self) -> None:
        """One line break at the end is the editor's; everything else is the passphrase."""
        for content in (b"%s", b"%s\n", b"%s\r\n"):
            path = self.file(content % PASSPHRASE.encode())
            SecretSource(passphrase_file=path).keys("LOCAL", "alice")
        SecretSource(passphrase_file=self.file(b"  spaces \n")).keys("LOCAL", "alice")
        self.assertEqual(self.derived, [PASSPHRASE.encode()] * 3 + [b"  spaces "])

    def test_real_derivation(self) -> None:
        """The keys are those of the passphrase, the realm and the name."""
        self.patch(secret, "digest_of_passphrase", digest_of_passphrase)
        path = self.file(PASSPHRASE.encode())
        keys = SecretSource(passphrase_file=path).keys("LOCAL", "alice")
        digest = digest_of_passphrase(PASSPHRASE.encode(), "LOCAL", "alice")
        self.assertEqual(keys.verify_key, long_term_keys(digest, "LOCAL", "alice").verify_key)

    def test_descriptor(self) -> None:
        """A passphrase from a descriptor is read to its end, and the descriptor closed."""
        reading, writing = os.pipe()
        os.write(writing, PASSPHRASE.encode() + b"\n")
        os.close(writing)
        SecretSource(passphrase_fd=reading).keys("LOCAL", "alice")
        self.assertEqual(self.derived, [PASSPHRASE.encode()])
        self.assertRaises(OSError, os.fstat, reading)
        self.assertIn(str(reading), self.refused(SecretSource(passphrase_fd=reading)))

    def test_not_a_passphrase(self) -> None:
        """Nothing, too much, control characters and what is not UTF-8 are refused."""
        for content in (b"", b"\n", b"horse\tbattery", b"horse\nbattery\n", b"horse\xff"):
            self.assertIn(str(self.path), self.refused(SecretSource(self.file(content))))
        self.refused(SecretSource(self.file(b"horse" * 205)))
        self.assertIn("too long", self.refused(SecretSource(self.file(b"horse" * 1000))))

    def test_readable_by_others(self) -> None:
        """A secret that anybody but its owner can read is refused, with what to do."""
        for mode in (0o640, 0o604, 0o660, 0o601, 0o644, 0o777):
            path = self.file(PASSPHRASE.encode(), mode)
            text = self.refused(SecretSource(passphrase_file=path))
            self.assertIn(f"chmod 600 {path}", text)
            self.assertIn("chmod", self.refused(SecretSource(key_file=path)))
        self.assertEqual(read_private(self.file(b"x", 0o400)), b"x")

    def test_missing(self) -> None:
        """A file that is not there, or is a directory, is named."""
        missing = Path(self.mktemp())
        self.assertIn(str(missing), self.refused(SecretSource(missing), LocalIOError))
        missing.mkdir(mode=0o700)
        self.assertIn(str(missing), self.refused(SecretSource(missing), LocalIOError))

    def test_systemd_credentials(self) -> None:
        """A credential of the service may be readable by its group, and no further."""
        path = self.file(b"x", 0o440)
        self.patch(os, "environ", {**os.environ, "CREDENTIALS_DIRECTORY": str(path.parent)})
        self.assertEqual(read_private(path), b"x")
        path.chmod(0o444)
        self.assertRaises(ConfigurationError, read_private, path)

    def test_key_file(self) -> None:
        """A key file is new, random, its owner's alone, and is not overwritten."""
        write_key_file(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        first = SecretSource(key_file=self.path).keys("LOCAL", "alice")
        self.assertEqual(self.derived, [])
        again = SecretSource(key_file=self.path).keys("LOCAL", "alice")
        self.assertEqual(first.verify_key, again.verify_key)
        self.assertRaises(LocalIOError, write_key_file, self.path)
        other = Path(self.mktemp())
        write_key_file(other)
        self.assertNotEqual(other.read_bytes(), self.path.read_bytes())

    def test_key_file_is_durable(self) -> None:
        """File and name survive a power cut: a name registered with a lost key is lost, too."""
        synced: list[str] = []
        sync = os.fsync

        def fsync(fd: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))
            sync(fd)

        self.patch(os, "fsync", fsync)
        write_key_file(self.path)
        written, directory = synced
        self.assertEqual(Path(written).parent, self.path.parent.absolute())
        self.assertEqual(directory, str(self.path.parent.absolute()))

    def test_killed_in_the_middle(self) -> None:
        """Whoever is killed before the key is on the disk leaves no file that is not a key."""

        class Killed(BaseException):
            pass

        def fsync(fd: int) -> None:
            self.assertFalse(self.path.exists())
            raise Killed

        with contextlib.suppress(Killed):
            self.patch(os, "fsync", fsync)
            write_key_file(self.path)
        self.assertFalse(self.path.exists())

    def test_no_room_for_a_key_file(self) -> None:
        """Where it cannot be written nothing is left, and there is room for another try."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            self.assertRaises(LocalIOError, write_key_file, self.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.assertFalse(self.path.exists())
        self.assertEqual(list(self.path.parent.glob(".kdc-*")), [])
        write_key_file(self.path)

    def test_no_link(self) -> None:
        """A key file is not written through a symbolic link."""
        self.path.symlink_to("nowhere")
        self.assertRaises(LocalIOError, write_key_file, self.path)
        self.assertFalse((self.path.parent / "nowhere").exists())

    def test_not_a_key_file(self) -> None:
        """What is not exactly a key file is refused."""
        key = base64.b64encode(bytes(32))
        for content in (
            b"",
            PASSPHRASE.encode(),
            b"kdc-key:1:",
            b"kdc-key:2:" + key,
            b"kdc-key:1:" + key[:-4],
            b"kdc-key:1:" + base64.b64encode(bytes(33)),
            b"kdc-key:1:" + key + b"!",
        ):
            self.assertIn("NOT_A_KEY_FILE", self.refused(SecretSource(key_file=self.file(content))))

    def test_asking(self) -> None:
        """Without any of them a person is asked, and the prompt says for whom."""
        asked: list[str] = []
        self.patch(terminal, "has_terminal", lambda: True)

        def ask(prompt: str) -> str:
            asked.append(prompt)
            return PASSPHRASE

        self.patch(getpass, "getpass", ask)
        self.assertTrue(SecretSource().asks)
        SecretSource().keys("LOCAL", "alice")
        SecretSource().keys("LOCAL", "alice", "once more: ")
        self.assertEqual(asked, ["passphrase of alice: ", "once more: "])
        self.assertEqual(self.derived, [PASSPHRASE.encode()] * 2)

    def test_typed_again(self) -> None:
        """A new passphrase is typed twice; a person is told if it would soon be guessed."""
        typed = ["password", "password", "Password", PASSPHRASE, PASSPHRASE]
        self.patch(secret, "ask", lambda *_, **__: typed.pop(0))
        told: list[str] = []
        self.patch(secret, "say", told.append)
        keys = SecretSource().keys("LOCAL", "alice")
        self.assertTrue(SecretSource().repeated(keys))
        self.assertRegex(told.pop(), "^that passphrase is found after some [0-9,]+ guesses: ")
        self.assertFalse(SecretSource().repeated(keys))
        self.assertTrue(SecretSource().repeated(SecretSource().keys("LOCAL", "alice")))
        self.assertEqual(told, [])

    def test_short(self) -> None:
        """As a new one it is too short, in letters and not in bytes; unless fewer are asked for."""
        for text, told in (("p%q", "this one 3"), ("\u26bf" * 7, "this one 7"), ("\u26bf" * 8, "")):
            path = self.file(text.encode())
            weakness = SecretSource(passphrase_file=path).secret("LOCAL", "alice").weakness
            self.assertEqual(bool(weakness), bool(told))
            self.assertTrue(weakness.endswith(told), weakness)
        short = SecretSource(passphrase_file=self.file(b"p"), least_letters=1)
        self.assertEqual(short.secret("LOCAL", "alice").weakness, "")

    def test_nobody_to_ask(self) -> None:
        """Without a terminal the error says what is missing."""
        self.patch(terminal, "has_terminal", lambda: False)
        self.assertIn("PASSPHRASE_UNKNOWN", self.refused(SecretSource()))

    def test_what_follows_is_dropped(self) -> None:
        """Lines behind what was asked for are no commands for the shell, nor is half a line."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        typed = {b"one": b"junk\nthe secret\n", b"two": b"first \nsecond\nhalf a line"}

        def type_when_asked(prompt: bytes) -> None:
            shown = b""
            while prompt not in shown:
                shown += os.read(ours, 100)
            os.write(ours, typed[prompt])

        for prompt, enough in ((b"one", "junk\n"), (b"two", "first \nsecond\n")):
            typist = threading.Thread(target=type_when_asked, args=(prompt,))
            typist.start()
            found = terminal.ask_pasted(
                prompt.decode(), "x", partial(operator.ne, enough), tty=os.ttyname(theirs)
            )
            typist.join()
            self.assertEqual(found, enough)
            self.assertEqual(select.select([theirs], [], [], 0)[0], [])
            self.assertTrue(termios.tcgetattr(theirs)[3] & termios.ECHO)
            self.assertTrue(termios.tcgetattr(theirs)[3] & termios.ICANON)

    def test_nothing_typed(self) -> None:
        """An end of input instead of a passphrase is an error, not a traceback."""

        def ended(prompt: str) -> str:
            raise EOFError

        self.patch(terminal, "has_terminal", lambda: True)
        self.patch(getpass, "getpass", ended)
        self.assertIn("no passphrase", self.refused(SecretSource()))

    def test_typed_in_another_encoding(self) -> None:
        """What is typed and is no text is an error that does not quote it, not a traceback."""

        def typed(prompt: str) -> str:
            return b"horse\xe9".decode()

        self.patch(terminal, "has_terminal", lambda: True)
        self.patch(getpass, "getpass", typed)
        self.assertIn("UTF-8", self.refused(SecretSource()))

    def test_interrupted(self) -> None:
        """Ctrl-C and SIGTERM at the question end the program with 130 and 143."""
        self.patch(terminal, "has_terminal", lambda: True)
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)

            def interrupted(prompt: str, number: int = number) -> str:
                signal.raise_signal(number)
                return PASSPHRASE

            self.patch(getpass, "getpass", interrupted)
            error = self.assertRaises(SystemExit, SecretSource().keys, "LOCAL", "alice")
            self.assertEqual(error.code, 128 + number)
            self.assertIs(signal.getsignal(number), before)
