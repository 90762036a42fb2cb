"""What goes wrong in ordinary life: each with its message and exit status, and nothing lost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tests.support.processes import KDC, Program, ProgramTestCase, RunningKDC, reserved_port
from tests.support.proxies import OtherService


class RefusalTestCase(ProgramTestCase):
    """Programs that fail, side by side."""

    def check(self, *cases: tuple[Program, int, str]) -> None:
        """Each ends with its status, and says so in its words, briefly."""
        for program, status, pattern in cases:
            self.assert_brief(program, status, pattern)
        self.assert_nothing_kept("outfile", "outenc")

    def receive(self, kdc: RunningKDC, name: str, *options: str) -> Program:
        """A receiver that is not expected to come far."""
        return self.client(
            *("-n", name, "-m", "R", "-o", "outfile", "-s", "outenc", "--listen", "0"),
            *(*kdc.place, *options),
        )


class PeopleTests(RefusalTestCase):
    """Secrets and names."""

    def test_wrong_secret(self) -> None:
        """A wrong passphrase or key: status 4 for either role, and nothing is written."""
        kdc, name, path = self.shared_kdc(), self.name("alice"), self.file("in.txt", b"text")
        right = self.passphrase_file(name, "the right passphrase")
        wrong = self.passphrase_file("wrong", "the wrong passphrase")
        self.assert_ends(self.client("register", "-n", name, *kdc.options, *right), 0)
        told = rf"^kdcclient: {name} is registered; that is not the passphrase or key of {name}"
        pin = ("--kdc-fingerprint", kdc.fingerprint)
        self.check(
            (self.send(kdc, name, "bob", path, *wrong), 4, told),
            (self.receive(kdc, name, *pin, *wrong), 4, told),
            (self.receive(kdc, name, *pin, *self.key("other")), 4, told),
            (
                self.receive(kdc, name, *pin, *right, "--realm", "ELSEWHERE"),
                4,
                f"not know {name} by this",
            ),
            (self.client("register", "-n", name, *kdc.options, *wrong), 4, told),
        )
        self.receive(kdc, name, *pin, *right).expect(f"{name}: receiving on")

    def test_secret_files(self) -> None:
        """A secret that others can read is refused, and what is no secret too; never a guess."""
        kdc, name = self.shared_kdc(), self.name("alice")
        _, readable = self.passphrase_file("readable", "everybody can read this")
        Path(readable).chmod(0o644)
        _, empty = self.passphrase_file("empty", "x")
        Path(empty).write_bytes(b"\n")
        del self.secrets[Path(empty)]
        long, odd = self.passphrase_file("long", "x" * 5000), self.directory / "odd"
        odd.touch(mode=0o600)
        odd.write_bytes(b"\xff\xfe")
        exposed = Path(self.key("exposed")[1])
        exposed.chmod(0o640)
        key = self.key(name)
        pin = ("--kdc-fingerprint", kdc.fingerprint)

        def receive(*options: str) -> Program:
            return self.receive(kdc, name, *pin, *options)

        self.check(
            (receive("--passphrase-file", readable), 1, "can be read by others.*\n.*chmod 600"),
            (receive("--key-file", str(exposed)), 1, "can be read by others.*\n.*chmod 600"),
            (receive("--passphrase-file", empty), 1, "a passphrase has 1 to 1024 bytes"),
            (receive(*long), 1, "is too long: more than 4096 bytes"),
            (receive("--passphrase-file", str(odd)), 1, "is not UTF-8"),
            (receive("--key-file", str(odd)), 1, "is not a key file\n.*kdcclient keygen"),
            (receive("--passphrase-file", "missing"), 7, "missing: No such file"),
            (
                receive(*key, "--passphrase-file", empty),
                1,
                "passphrase-file and key-file",
            ),
            (receive("--passphrase-fd", "77"), 1, "descriptor 77: Bad file descriptor"),
            (receive(), 1, "no terminal to ask for the passphrase on\n.*--passphrase-file"),
        )
        self.one_transfer(kdc)

    def test_secret_from_a_descriptor(self) -> None:
        """A passphrase that a parent process passes on a pipe is the same passphrase."""
        kdc, name = self.shared_kdc(), self.name("alice")
        by_file = self.passphrase_file(name, "passed on")
        self.assert_ends(self.client("register", "-n", name, *kdc.options, *by_file), 0)
        ours, theirs = os.pipe()
        os.write(theirs, b"passed on\n")
        os.close(theirs)
        receiver = self.client(
            *("-n", name, "-m", "R", "-o", "outfile", "--listen", "0", *kdc.options),
            *("--passphrase-fd", str(ours)),
            pass_fds=(ours,),
        )
        os.close(ours)
        receiver.expect(f"{name}: receiving on")

    def test_peers(self) -> None:
        """Nobody of that name, not receiving, gone, ourselves, or not for us: which, and 5 or 8."""
        kdc, path = self.shared_kdc(), self.file("in.txt", b"text")
        alice, bob, gone, nobody, picky = map(self.name, ("alice", "bob", "gone", "no", "picky"))
        for name in (alice, bob):
            self.register(kdc, name)
        receiver = self.receiver(kdc, gone, "-o", "outfile")
        receiver.kill()
        self.receiver(kdc, picky, "-o", "outfile", "--allow", bob)
        self.check(
            (self.send(kdc, alice, bob, path), 5, f"{bob}: the peer is registered, but not rec"),
            (self.send(kdc, alice, gone, path), 5, f"{gone}: the peer is registered, but not rec"),
            (self.send(kdc, alice, nobody, path), 5, f"{nobody}: the KDC knows nobody of that"),
            (self.send(kdc, alice, alice, path), 8, "nobody may ask for a key to himself"),
            (
                self.send(kdc, alice, picky, path),
                5,
                f"{picky}: the peer closed the connection without an answer; it may be busy: try",
            ),
        )
        self.one_transfer(kdc)

    def test_supplanted(self) -> None:
        """Whoever begins to receive under a name ends the receiver that did: status 8."""
        kdc, name = self.shared_kdc(), self.name("bob")
        first = self.receiver(kdc, name, "-o", "outfile")
        self.receiver(kdc, name, "-o", "outfile")
        self.assert_ends(first, 8, f"somebody began to receive as {name} elsewhere")


class IdentityTests(RefusalTestCase):
    """Which KDC is it?"""

    def test_wrong_identity(self) -> None:
        """Another fingerprint than the pinned one: status 3, and who vouched for it, by line."""
        kdc, path = self.shared_kdc(), self.file("in.txt", b"text")
        other = "sha256:" + "0" * 64
        known = self.directory / "known_kdcs"
        entry = f"127.0.0.1:{kdc.port}"
        known.write_text(f"# met before\n\n{entry} {other}\n{entry} {kdc.fingerprint}\n")
        broken = self.file("broken", f"# fine\n{entry}\n".encode())
        alice = self.name("alice")

        def send(*options: str) -> Program:
            argv = ("-n", alice, "-m", "S", "-r", "bob", "-i", str(path), *self.key(alice))
            return self.client(*argv, *kdc.place, *options)

        shows = f"it shows {kdc.fingerprint}, expected {other}"
        self.check(
            (send("--known-kdcs", str(known)), 3, f"pinned by {known} line 3: {shows}"),
            (
                send("--kdc-fingerprint", other),
                3,
                f"the fingerprint that was given: {shows}",
            ),
            (send("--kdc-fingerprint", "sha256:12"), 1, "not a fingerprint: sha256:12"),
            (send("--known-kdcs", str(broken)), 1, f"{broken} line 2: not HOST:PORT FINGERPRINT"),
            (send("--kdc-ca", str(broken)), 1, f"no CA certificates in {broken}"),
            (send("--kdc-ca", "system"), 3, "the certificate of the KDC at .* does not verify"),
        )
        self.assertNotIn(alice, self.shared_log())

    def test_first_contact_without_a_terminal(self) -> None:
        """Nobody to ask: status 3, and the line to add; with that line it works."""
        kdc, name = self.shared_kdc(), self.name("bob")
        stranger = self.receive(kdc, name, *self.key(name))
        line = rf"\n  (127\.0\.0\.1:{kdc.port} {kdc.fingerprint})\n"
        self.assert_ends(stranger, 3, "was never met before, and nobody has vouched", line)
        known = self.scratch.home / ".config/kdc/known_kdcs"
        self.assertIn(f"add this line to {known}:", stranger.said)
        self.assertFalse(known.exists())
        known.parent.mkdir(parents=True)
        known.write_text(f"127.0.0.1:{kdc.port} {kdc.fingerprint}\n")
        self.receive(kdc, name, *self.key(name)).expect(f"{name}: receiving on")

    def test_no_kdc_there(self) -> None:
        """Nothing listens, something else does, or nothing answers properly: status 3."""
        kdc, path, alice = self.shared_kdc(), self.file("in.txt", b"text"), self.name("alice")
        receiver = self.receiver(kdc, self.name("bob"), "-o", "outfile")
        with OtherService(b"HTTP/1.1 400 Bad Request\r\n\r\n") as http:
            cases = []
            for port, what in (
                (reserved_port(), "no KDC answers at .*: Connection refused"),
                (self.port_of(receiver), "does not speak|closed the connection"),
                (http.port, r"does not speak this protocol \(TLS 1.3, kdp/1\)"),
            ):
                argv = ("-n", alice, "-m", "S", "-r", "bob", "-i", str(path), "-p", str(port))
                pinned = self.client(*argv, *self.key(alice), "--kdc-fingerprint", kdc.fingerprint)
                new = self.client(*argv, *self.key(alice), "--accept-new")
                cases += [(pinned, 3, what), (new, 3, "no KDC answers at|does not speak this")]
            self.check(*cases)
        self.assertFalse((self.scratch.home / ".config/kdc/known_kdcs").exists())
        self.one_transfer(kdc)

    def port_of(self, receiver: Program) -> int:
        return int(receiver.said.rpartition(" port ")[2])

    def shared_log(self) -> str:
        (log,) = (Path(f"/proc/{self.shared_kdc().program.pid}/cwd").resolve()).glob("out.txt")
        return log.read_text()


class LocalTests(RefusalTestCase):
    """Ports and files."""

    def test_port_in_use(self) -> None:
        """Status 7 for a KDC and for a receiver; the one that has the port is not disturbed."""
        kdc, name = self.shared_kdc(), self.name("bob")
        again = self.scratch.start(*self.kdc_argv("-p", str(kdc.port)))
        receiver = self.client(
            *("-n", name, "-m", "R", "-o", "outfile", "--listen", str(kdc.port)),
            *(*kdc.options, *self.key(name)),
        )
        self.check(
            (again, 7, "cannot listen on .*: Address already in use\n.*another KDC, using"),
            (receiver, 7, "cannot listen on .*: Address already in use\n.*--listen"),
        )
        self.one_transfer(kdc)

    def test_one_kdc_for_one_store(self) -> None:
        """A second KDC on the same pwd.txt is refused; the first goes on."""
        kdc = self.kdc()
        again = self.scratch.start(*self.kdc_argv("-p", "0"))
        self.assert_ends(again, 7, r"kdc: .*pwd\.txt")
        self.one_transfer(kdc)

    def test_input(self) -> None:
        """What cannot be read is not sent: status 7, and the receiver waits on."""
        kdc, name, bob = self.shared_kdc(), self.name("alice"), self.name("bob")
        receiver = self.receiver(kdc, bob, "-o", "outfile")
        (self.directory / "directory").mkdir()
        cases = [
            (self.send(kdc, name, bob, "missing.txt"), 7, r"missing\.txt: No such file"),
            (self.send(kdc, name, bob, "directory"), 7, "directory: Is a directory"),
            (self.send(kdc, name, bob, "in.txt/in.txt"), 7, "No such file or directory"),
        ]
        if os.geteuid():  # root may read anything
            self.file("private", b"").chmod(0)
            cases.append((self.send(kdc, name, bob, "private"), 7, "private: Permission denied"))
        self.check(*cases)
        path = self.file("in.txt", b"text")
        self.assert_ends(self.send(kdc, name, bob, path), 0)
        receiver.expect("received in.txt")
        self.assertEqual((self.directory / "outfile").read_bytes(), b"text")

    def test_output(self) -> None:
        """What cannot be stored: status 8 for the sender, 7 for the receiver, nothing left."""
        kdc, name = self.shared_kdc(), self.name("alice")
        path = self.file("in.txt", os.urandom(3_000_000))
        gone, directory = self.directory / "no", self.directory / "directory"
        gone.mkdir()
        self.register(kdc, name)
        # What is known at the start is refused then: these happen later.
        ask, full = "\n.*its own log says why", ', saying "no room: File too large"'
        for output, limit, why, told, meanwhile in (
            ("no/outfile", None, "outfile: No such file or directory", ask, gone.rmdir),
            ("directory", None, "directory: Is a directory", ask, directory.mkdir),
            ("outfile", 1_000_000, "(outfile|outenc): File too large", full, lambda: None),
        ):
            bob = self.name("bob")
            receiver = self.receiver(
                kdc, bob, "-o", output, "-s", "outenc", "--once", file_limit=limit
            )
            meanwhile()
            sender = self.send(kdc, name, bob, path)
            self.assert_brief(sender, 8, f"{bob} could not store it{told}")
            self.assert_ends(
                receiver,
                7,
                f"{bob}: nothing was kept of what {name} sent\n",
                rf"\nkdcclient: .*{why}",
            )
            self.assertEqual(len(re.findall(why, receiver.said)), 1, receiver.said)
            self.assert_nothing_kept("outfile", "outenc")
        self.assertEqual(list(directory.iterdir()), [])

    def test_receiver_goes_on(self) -> None:
        """A receiver of many survives what it cannot store, and stores the next."""
        kdc, name, bob = self.shared_kdc(), self.name("alice"), self.name("bob")
        inbox = self.directory / "inbox"
        inbox.mkdir()
        receiver = self.receiver(kdc, bob, "--inbox", "inbox")
        inbox.rmdir()
        path = self.file("in.txt", b"text")
        self.assert_ends(self.send(kdc, name, bob, path), 8)
        receiver.expect(f"nothing was kept of what {name} sent")
        (self.directory / "inbox").mkdir()
        for stored in ("in.txt", "in (1).txt"):
            self.assert_ends(self.send(kdc, name, bob, path), 0)
            receiver.expect(rf"received in.txt from {name}: 4 bytes in .*/{re.escape(stored)}\"?\n")
            self.assertEqual((self.directory / "inbox" / stored).read_bytes(), b"text")
        self.assertIs(receiver.process.poll(), None)

    def kdc_argv(self, *options: str) -> Iterable[str]:
        return (*KDC, *options, "-f", "pwd.txt", "-o", "out.txt")


class UsageTests(RefusalTestCase):
    """What makes no sense is refused before anything is done: status 1."""

    def test_client(self) -> None:
        """Each mistake is named."""
        bob = ("-n", "bob", "-p", "1", "--key-file", "missing")
        receive = (*bob, "-m", "R", "-o", "outfile")
        send = (*bob, "-m", "S")
        self.check(
            *(
                (self.client(*argv), 1, f"^kdcclient: .*{pattern}")
                for argv, pattern in (
                    ((), "what"),
                    (bob, "-m R, -m S, or a command"),
                    ((*bob, "-m", "X"), "-m R, -m S, or a command"),
                    (("-m", "R", "-o", "outfile", "-p", "1"), "our name is not known"),
                    (("-m", "R", "-o", "outfile", "-n", "bob"), "the KDC's port is not known"),
                    ((*receive, "-p", "65536"), "a port is a .*number from 1 to 65535"),
                    ((*receive, "-n", "b o b"), "not a principal's name: .b o b."),
                    ((*receive, "--realm", "a b"), "not a realm: .a b."),
                    ((*receive, "--inbox", "x"), "--output FILE or --inbox DIR"),
                    ((*bob, "-m", "R"), "--output FILE or --inbox DIR"),
                    ((*receive, "--nonsense"), "option --nonsense not recognized"),
                    ((*receive, "surplus"), "surplus"),
                    ((*send, "-r", "alice"), "--receiver NAME --input FILE"),
                    ((*send, "-i", "in.txt"), "--receiver NAME --input FILE"),
                    ((*send, "-r", "../x", "-i", "in.txt"), r"not a principal's name: \.\./x"),
                    (("nonsense",), "nonsense"),
                )
            )
        )

    def test_kdc(self) -> None:
        """The server's, too."""
        self.file("tls.pem", b"no key").chmod(0o644)
        tls = ("--tls-key", "tls.pem", "--tls-certificate", "tls.pem")
        for argv, status, pattern in (
            ((), 1, "no port"),
            (("-p", "port"), 1, "a port is a .*number from 0 to 65535"),
            (("-p", "nonsense:1"), 1, "not an endpoint"),
            (("-p", "0", "--enrol", "perhaps"), 1, "is open, invite or closed"),
            (("-p", "0", "--lifetime", "1"), 1, "lifetime is a .*number from 10 to 3600"),
            (("-p", "0", "--limit", "x=1"), 1, "no limit is called 'x'"),
            (("-p", "0", "--realm", "a b"), 1, "not a realm"),
            (("-p", "0", *tls[:2]), 1, "go together"),
            (("-p", "0", *tls), 1, "can be read by others"),
            (("-p", "0", "-f", "no/pwd.txt"), 7, "No such file or directory"),
            (("-p", "0", "-o", "no/out.txt"), 7, "No such file or directory"),
        ):
            self.assert_brief(self.scratch.start(*KDC, *argv), status, f"^kdc: .*{pattern}")
