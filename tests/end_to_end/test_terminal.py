"""The origin's three commands, typed at a terminal with their prompts."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import ClassVar

from tests.support.processes import (
    CLIENT,
    KDC,
    Program,
    ProgramTestCase,
    RunningKDC,
    reserved_port,
)

# The binary worst: every byte, and no line break at the end.
CONTENT = bytes(range(256)) * 1500 + os.urandom(100_001)
SAME = r"Is it the same \(yes/no\)\? "


def default_port() -> tuple[str, ...]:
    """Nothing, if port 60000 can be used; otherwise the option for another one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 60_000))
        except OSError:
            return ("--listen", "0")
    return ()


class TerminalTestCase(ProgramTestCase):
    """What people type."""

    BOB: ClassVar[str] = "pass phrase of bob: ünïcode \u26bf"
    ALICE: ClassVar[str] = "correct horse battery staple"

    def setUp(self) -> None:
        super().setUp()
        self.secrets[None] = [self.BOB, self.ALICE]
        self.file("in.txt", CONTENT)

    def origin_kdc(self, port: int) -> RunningKDC:
        """``./kdc -p <kdc_port_no> -o out.txt -f pwd.txt``"""
        argv = (*KDC, "-p", str(port), "-o", "out.txt", "-f", "pwd.txt")
        return RunningKDC(self.scratch.start(*argv, terminal=True))

    def typed(self, kdc: RunningKDC, *argv: str) -> Program:
        return self.scratch.start(*CLIENT, *argv, *kdc.place, terminal=True)

    def origin_receiver(self, kdc: RunningKDC, *more: str) -> Program:
        """``./client -n <reciever_name> -m R -s outenc -o outfile -a 127.0.0.1 -p <kdcport>``"""
        more = more or default_port()
        return self.typed(kdc, *"-n bob -m R -s outenc -o outfile".split(), *more)

    def origin_sender(self, kdc: RunningKDC, *more: str) -> Program:
        """``./client -n <sender_name> -m S -r <reciever_name> -i in.txt -a 127.0.0.1 -p ...``"""
        return self.typed(kdc, *"-n alice -m S -r bob -i in.txt".split(), *more)

    def register_at(self, program: Program, name: str, passphrase: str) -> None:
        """Answer what a new name is asked."""
        program.answer(f"passphrase of {name}: ", passphrase)
        program.answer(f"To register {name} as new, repeat it: ", passphrase)
        program.expect(f"registered {name} with the KDC at 127.0.0.1 port \\d+\n")

    def assert_not_in_process_table(self, *programs: Program) -> None:
        for program in programs:
            for what in ("cmdline", "environ"):
                shown = Path(f"/proc/{program.pid}/{what}").read_bytes()
                self.assertTrue(shown, what)
                for secret in self.secrets[None]:
                    self.assertNotIn(secret.encode(), shown, what)


class OriginCommandsTests(TerminalTestCase):
    """As the README of the program this grew from gives them."""

    def transfer(self, kdc: RunningKDC, *, new: bool) -> None:
        receiver = self.origin_receiver(kdc)
        sender: Program | None = None
        if new:
            shown = receiver.expect(r"Its fingerprint is\n?\s+(sha256:(\s+[0-9a-f]{8}){8})\s")[1]
            self.assertEqual("".join(shown.split()), kdc.fingerprint)
            receiver.answer(SAME, "yes")
            self.register_at(receiver, "bob", self.BOB)
        else:
            receiver.answer("passphrase of bob: ", self.BOB)
        receiver.expect(r"bob: receiving on 127.0.0.1 port \d+\n")
        # Now: it ends by itself when the message has come.
        self.assert_not_in_process_table(receiver, kdc.program)

        sender = self.origin_sender(kdc)
        if new:  # the same person at the same machine: the KDC is known by now
            self.register_at(sender, "alice", self.ALICE)
        else:
            sender.expect("passphrase of alice: ")
            self.assert_not_in_process_table(sender)
            sender.type(self.ALICE + "\n")
        sender.expect(rf"sent in.txt \({len(CONTENT)} bytes\) to bob, who has it on disk\n")
        self.assert_ends(sender, 0)
        received = rf"bob: received in.txt from alice: {len(CONTENT)} bytes in \S+/outfile\n"
        self.assert_ends(receiver, 0, received)
        if not new:
            for program in (sender, receiver):
                self.assertNotIn("regist", program.said)
                self.assertNotIn("fingerprint", program.said)

    def check_files(self) -> None:
        self.assertEqual((self.directory / "outfile").read_bytes(), CONTENT)
        sealed = (self.directory / "outenc").read_bytes()
        self.assertGreater(len(sealed), len(CONTENT))
        self.assertNotIn(CONTENT[:64], sealed)
        for name in ("outfile", "outenc", "pwd.txt", "out.txt"):
            self.assertEqual((self.directory / name).stat().st_mode & 0o077, 0, name)

    def test_two_messages(self) -> None:
        """A new pair registers and sends; after a restart of all three it just sends.

        The receiver ends by itself after its message.  The KDC begins with an
        empty pwd.txt, and Ctrl-C is its proper end.
        """
        self.file("pwd.txt", b"")
        kdc = self.origin_kdc(reserved_port())
        self.transfer(kdc, new=True)
        self.check_files()
        kdc.program.type("\x03")
        self.assert_ends(kdc.program, 0)
        for name in ("outfile", "outenc"):
            (self.directory / name).unlink()

        kdc = self.origin_kdc(kdc.port)
        self.transfer(kdc, new=False)
        self.check_files()
        self.assertEqual(kdc.program.stop(), 0)
        store = (self.directory / "pwd.txt").read_bytes()
        for line in (b"\n:alice:", b"\n:bob:"):
            self.assertEqual(store.count(line), 1, store)
        log = (self.directory / "out.txt").read_text()
        for event, name in (("registered", "bob"), ("registered", "alice"), ("issued", "alice")):
            self.assertRegex(log, rf"Z {event} client={name} address=127\.0\.0\.1")


class PromptTests(TerminalTestCase):
    """What is typed wrong, or not at all."""

    def setUp(self) -> None:
        super().setUp()
        self.known = self.scratch.home / ".config/kdc/known_kdcs"

    def registered(self) -> RunningKDC:
        """A KDC that this user has met, where alice has her passphrase."""
        kdc = self.kdc()
        program = self.client(
            *("register", "-n", "alice", *kdc.place, "--accept-new"),
            *self.passphrase_file("alice", self.ALICE),
        )
        self.assert_ends(program, 0)
        (path,) = (path for path in self.secrets if path is not None)
        path.unlink()
        del self.secrets[path]
        self.assertIn(kdc.fingerprint, self.known.read_text())
        return kdc

    def test_wrong_passphrase(self) -> None:
        """Status 4, one clear line, and nothing is changed: the right one still works."""
        self.secrets[None].append("not her passphrase")
        kdc = self.registered()
        sender = self.origin_sender(kdc)
        sender.answer("passphrase of alice: ", "not her passphrase")
        told = r"\nkdcclient: alice is registered; that is not the passphrase or key of alice\n"
        self.assert_ends(sender, 4, told)
        self.assertNotIn("as new", sender.said)
        receiver = self.typed(kdc, *"-n alice -m R -s outenc -o outfile --listen 0".split())
        receiver.answer("passphrase of alice: ", "not her passphrase")
        self.assert_ends(receiver, 4, told)
        self.assert_nothing_kept("outfile", "outenc")

        receiver = self.typed(kdc, *"-n alice -m R -o outfile --listen 0".split())
        receiver.answer("passphrase of alice: ", self.ALICE)
        receiver.expect("alice: receiving on")

    def test_two_that_differ(self) -> None:
        """A slip of the fingers registers nobody."""
        self.secrets[None].append("korrect horse")
        kdc = self.registered()
        for repeated in ("korrect horse", ""):
            receiver = self.origin_receiver(kdc, "--listen", "0")
            receiver.answer("passphrase of bob: ", self.BOB)
            receiver.answer("To register bob as new, repeat it: ", repeated)
            self.assert_ends(receiver, 4 if repeated else 1)
        kdc.program.stop()
        self.assertNotIn("registered client=bob", (self.directory / "out.txt").read_text())
        self.assertNotIn("bob:", (self.directory / "pwd.txt").read_text())

    def test_two_letters(self) -> None:
        """Too short for a new name, unless that is said; whoever has one goes on with it."""
        # Not looked for in what is left: two letters are somewhere in any file.
        kdc = self.registered()
        receiver = self.origin_receiver(kdc, "--listen", "0")
        receiver.answer("passphrase of bob: ", "p%")
        told = "a new passphrase has at least 8 characters, and this one 2\n.*--short-passphrase"
        self.assert_ends(receiver, 1, told)
        self.assertNotIn("repeat it", receiver.said)
        receiver = self.origin_receiver(kdc, "--listen", "0", "--short-passphrase")
        self.register_at(receiver, "bob", "p%")
        receiver.expect("bob: receiving on")
        receiver.type("\x03")
        receiver = self.origin_receiver(kdc, "--listen", "0")
        receiver.answer("passphrase of bob: ", "p%")
        receiver.expect("bob: receiving on")

    def test_invitations_only(self) -> None:
        """A KDC that does not tell who is registered: one who repeats it is told what is needed."""
        kdc = self.kdc("--enrol", "invite")
        receiver = self.origin_receiver(kdc, "--listen", "0", "--accept-new")
        receiver.answer("passphrase of bob: ", self.BOB)
        receiver.answer("To register bob as new, repeat it: ", self.BOB)
        self.assert_ends(receiver, 4, "does not know bob by this passphrase or key.*invitation")

    def test_not_the_fingerprint(self) -> None:
        """Whoever answers no has told this KDC nothing, and does not know it the next time."""
        kdc = self.kdc()
        for answer in ("no", "", "yess"):
            receiver = self.origin_receiver(kdc, "--listen", "0")
            receiver.answer(SAME, answer)
            self.assert_ends(receiver, 3, "was never met before, and nobody has vouched for it")
            self.assertNotIn("passphrase of", receiver.said)
        self.assertFalse(self.known.exists())

    def test_control_c(self) -> None:
        """Ctrl-C at any question, and while waiting, ends with status 130 and leaves nothing."""
        kdc = self.kdc()
        program = self.origin_receiver(kdc, "--listen", "0")
        program.expect(SAME)
        program.type("\x03")
        self.assert_ends(program, 130)
        program = self.origin_receiver(kdc, "--listen", "0")
        program.answer(SAME, "yes")
        program.expect("passphrase of bob: ")
        program.type("\x03")
        self.assert_ends(program, 130)
        self.assertRegex(program.said, r"passphrase of bob: \s*\n\Z")  # the shell begins a line
        program = self.origin_receiver(kdc, "--listen", "0")
        program.answer("passphrase of bob: ", self.BOB)
        program.expect("repeat it: ")
        program.type("\x03")
        self.assert_ends(program, 130)
        program = self.origin_receiver(kdc, "--listen", "0")
        self.register_at(program, "bob", self.BOB)
        program.expect("receiving on")
        program.type("\x03")
        self.assert_ends(program, 130)
        program = self.origin_receiver(kdc, "--listen", "0")
        program.answer("passphrase of bob: ", self.BOB)
        program.expect("receiving on")
        program.signal(signal.SIGTERM)
        self.assert_ends(program, 143)
        self.assert_nothing_kept("outfile", "outenc")

    def test_control_c_under_twistd(self) -> None:
        """The same where twistd asks, before and after it has begun to run."""
        kdc = self.registered()
        argv = ("-n", "kdcclient", "receiver", "-n", "bob", *kdc.place, "-o", "outfile")
        for known, typed, question in (
            ("unknown", "", SAME),
            (str(self.known), "", "passphrase of bob: "),
            (str(self.known), self.BOB, "To register bob as new, repeat it: "),
        ):
            program = self.twistd(*argv, "--listen", "0", "--known-kdcs", known, terminal=True)
            if typed:
                program.answer("passphrase of bob: ", typed)
            program.expect(question)
            program.type("\x03")
            self.assert_ends(program, 130)

    def test_nothing_typed(self) -> None:
        """An empty passphrase, and the end of input, are refused and not taken for a secret."""
        kdc = self.registered()
        for typed in ("\n", "\x04"):
            sender = self.origin_sender(kdc)
            sender.expect("passphrase of alice: ")
            sender.type(typed)
            self.assert_ends(sender, 1, r"\nkdcclient: .*passphrase")
