"""Sending things, as people do: real programs, real files."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from kdc.client.secret import write_key_file
from tests.support.processes import CLIENT, Program, ProgramTestCase, RunningKDC, bytes_below
from tests.support.proxies import OTHER_LOOPBACK, Cut, Proxy, require_other_loopback

_LARGE = 300 << 20
# Runs a command, and prints how much memory it had at most, in KiB.
_PEAK = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


class SendTestCase(ProgramTestCase):
    """Alice sends to bob, by the everyday commands."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.name("alice"), self.name("bob")
        self.inbox = self.directory / "inbox"
        self.inbox.mkdir()
        self.realm = self.shared_kdc()

    def options(self, name: str) -> tuple[str, ...]:
        return ("-n", name, *self.realm.options, *self.key(name))

    def receive(self, *options: str, name: str = "", **how: object) -> Program:
        return self.receiver(self.realm, name or self.bob, *options, **how)

    def send_to(self, receivers: str, *what: str) -> Program:
        return self.client("send", receivers, *what, *self.options(self.alice))

    def arrived(self) -> dict[str, bytes]:
        """What is to be seen, as soon as nothing else is left of how it came."""
        self.eventually(
            "the receiver knows that the sender knows",
            lambda: not (self.inbox / ".kdc-partial").exists(),
        )
        return {
            str(path.relative_to(self.inbox)): path.read_bytes()
            for path in self.inbox.rglob("*")
            if path.is_file()
        }


class ThingsTests(SendTestCase):
    """Whatever there is to send."""

    def test_things(self) -> None:
        """Files, a directory, standard input and a text arrive, each under its name."""
        receiver = self.receive("--inbox", "inbox")
        (self.directory / "photos/2026").mkdir(parents=True)
        self.file("photos/2026/a.jpg", b"jpeg" * 50_000)
        self.file("photos/.order", b"a")
        (self.directory / "photos/link").symlink_to("/etc/passwd")
        one, two = str(self.file("one.txt", b"1")), str(self.file("two.txt", b"22"))
        sender = self.send_to(self.bob, one, two, "photos")
        self.assert_ends(
            sender,
            0,
            r"left out: photos/link \(a symbolic link\)\n",
            rf"sent one.txt, two.txt, photos \(200004 bytes\) to {self.bob}, who has it on disk",
        )
        receiver.expect(rf"received photos from {self.alice}: 200001 bytes and 2 files in \S+")
        piped = self.scratch.start(
            *("/bin/sh", "-c", 'printf "from a pipe" | "$@"', "sh", *CLIENT, "send", self.bob),
            *("-", "--as", "piped.txt", *self.options(self.alice)),
        )
        self.assert_ends(piped, 0, r"sent piped.txt \(11 bytes\)")
        hostile = "hello\x1b[2J\nbob"
        self.assert_ends(self.send_to(self.bob, "--text", hostile), 0, "sent message.txt")
        receiver.expect(rf"{self.alice} says: hello\\x1b\[2J\n")
        receiver.expect(rf"{self.alice} says: bob\n")
        self.assertEqual(
            self.arrived(),
            {
                "one.txt": b"1",
                "two.txt": b"22",
                "photos/2026/a.jpg": b"jpeg" * 50_000,
                "photos/.order": b"a",
                "piped.txt": b"from a pipe",
                "message.txt": hostile.encode(),
            },
        )
        self.assertNotIn("\x1b", receiver.said)

    def test_memory(self) -> None:
        """A large file takes no more memory than a small one, at either end."""
        receiver = self.receive("--inbox", "inbox")
        large = self.directory / "large"
        with large.open("wb") as file:
            file.truncate(_LARGE)
        sender = self.scratch.start(
            *(sys.executable, "-c", _PEAK, *CLIENT, "send", self.bob, str(large)),
            *self.options(self.alice),
        )
        self.assert_ends(sender, 0, rf"sent large \({_LARGE} bytes\)")
        status = Path(f"/proc/{receiver.pid}/status").read_text()
        peaks = {
            "sender": int(sender.printed),
            "receiver": int(status.partition("VmHWM:")[2].split()[0]),
        }
        for end, kib in peaks.items():
            self.assertLess(kib << 10, _LARGE // 3, end)
        self.assertEqual((self.inbox / "large").stat().st_size, _LARGE)

    def test_deep_trees(self) -> None:
        """Directories as deep as they may be cost the receiver no descriptors for their depth."""
        command = ("receive", "-n", self.bob, *self.realm.options, *self.key(self.bob))
        receiver = self.scratch.start(
            *("/bin/sh", "-c", 'ulimit -n 80; exec "$@"', "sh", *CLIENT, *command),
            *("--listen", "0", "--inbox", "inbox"),
        )
        receiver.expect("receiving on")
        below = "/".join(["d"] * 62)
        for top in "abc":
            (self.directory / top / below).mkdir(parents=True)
            (self.directory / top / below / "x").write_bytes(top.encode())
        for sender in [self.send_to(self.bob, top) for top in "abc"]:
            self.assert_ends(sender, 0)
        self.assertEqual(self.arrived(), {f"{top}/{below}/x": top.encode() for top in "abc"})

    def test_to_several(self) -> None:
        """Each is told of, and the status is that of the worst."""
        carol, nobody = self.name("carol"), self.name("nobody")
        inboxes = {}
        for name in (self.bob, carol):
            inboxes[name] = self.directory / f"of-{name}"
            inboxes[name].mkdir()
            self.receive("--inbox", str(inboxes[name]), name=name)
        path = str(self.file("a.bin", os.urandom(300_000)))
        self.assert_ends(self.send_to(f"{self.bob},{carol}", path), 0, self.bob, carol)
        sender = self.send_to(f"{self.bob},{nobody},{carol}", path)
        self.assert_ends(
            sender,
            5,
            f"to {nobody}: .*knows nobody",
            f"to {self.bob}, who has it",
            f"to {carol}, who has it",
        )
        for inbox in inboxes.values():
            self.assertEqual(sorted(os.listdir(inbox)), ["a (1).bin", "a.bin"])

    def test_standard_output(self) -> None:
        """``-o -`` gives what was sent to the next program, and nothing else."""
        receiver = self.receive("-o", "-")
        content = bytes(range(128)) * 1000
        self.assert_ends(self.send_to(self.bob, str(self.file("a", content))), 0)
        self.assert_ends(receiver, 0, "bytes in standard output")
        self.assertEqual(receiver.printed.encode(), content)

    def test_usage(self) -> None:
        """What makes no sense is refused before anything is done."""
        here = str(self.file("a", b""))
        for what, pattern in (
            ((), "say what to send to whom"),
            ((here, "--text", "x"), "files or --text, not both"),
            (("-", "-"), "only one standard input"),
            ((here, here, "--as", "x"), "--as is for one thing"),
            (("--text", "x", "--as", "../x"), "not a safe file name"),
        ):
            self.assert_brief(self.send_to(self.bob, *what), 1, pattern)
        for option, pattern in (
            (("--max-size", "x"), "not a size"),
            (("--hook", "'"), "--hook"),
            (("--hook", ""), "names no command"),
        ):
            receiver = self.client("receive", "--inbox", ".", *option, *self.options(self.bob))
            self.assert_brief(receiver, 1, pattern)


class RulesTests(SendTestCase):
    """What is taken, and from whom."""

    def test_rules(self) -> None:
        """Who may send, and how much; the reason reaches the sender, and the receiver goes on."""
        receiver = self.receive(
            "--inbox", "inbox", "--accept-from", self.alice, "--max-size", "100K"
        )
        small, large = self.file("small", bytes(1000)), self.file("large", bytes(200_000))
        self.assert_brief(
            self.send_to(self.bob, str(large)),
            8,
            "does not accept so much, saying .at most 102400 bytes",
        )
        stranger = self.client("send", self.bob, str(small), *self.options(self.name("mallory")))
        self.assert_ends(stranger, 8, "did not accept it, saying .it takes nothing from you.")
        self.assert_ends(self.send_to(self.bob, str(small)), 0)
        self.assertEqual(self.arrived(), {"small": bytes(1000)})
        self.assertIs(receiver.process.poll(), None)

    def test_force(self) -> None:
        """Nothing is replaced unless ``--force`` says so."""
        path = str(self.file("a", b"new"))
        (self.inbox / "a").write_bytes(b"old")
        for options, expected in (
            ((), {"a": b"old", "a (1)": b"new"}),
            (("--force",), {"a": b"new", "a (1)": b"new"}),
        ):
            receiver = self.receive("--inbox", "inbox", "--once", *options)
            self.assert_ends(self.send_to(self.bob, path), 0)
            self.assert_ends(receiver, 0)
            self.assertEqual(self.arrived(), expected)

    def test_hook(self) -> None:
        """A command is run for each thing, with its facts and nothing else; it may fail."""
        script = self.file(
            "hook.sh",
            b'#!/bin/sh\nenv | grep -v "^\\(PWD\\|SHLVL\\|_\\)=" | sort >> hook.out\n'
            b'[ "$KDC_NAME" != "b; rm -rf x" ] || { echo no such luck; exit 3; }\n',
        )
        script.chmod(0o700)
        receiver = self.receive("--inbox", "inbox", "--once", "--hook", f"{script} --quietly")
        paths = [str(self.file(name, b"12")) for name in ("a", "b; rm -rf x", "c")]
        self.assert_ends(self.send_to(self.bob, *paths), 0)
        self.assert_ends(receiver, 0, "the hook .* failed with status 3: no such luck")
        text = (self.directory / "hook.out").read_text()
        names = {line.partition("=")[0] for line in text.splitlines()}
        facts = ("KDC_SENDER", "KDC_NAME", "KDC_KIND", "KDC_PATH", "KDC_SIZE")
        self.assertEqual(names, {*facts, "PATH"})
        for name in ("a", "b; rm -rf x", "c"):
            self.assertIn(f"KDC_NAME={name}\nKDC_PATH={self.inbox / name}\n", text)
        self.assertIn(f"KDC_SENDER={self.alice}\nKDC_SIZE=2\n", text)

    def test_names_that_forge(self) -> None:
        """A name neither answers the question nor commands a terminal, at either end."""
        forged = "x (1 B)" + 60 * " " + "Accept? [y\u2044N] n"
        receiver = self.receive("--inbox", "inbox", terminal=True)
        sender = self.send_to(self.bob, str(self.file(forged, b"1")))
        receiver.answer(
            rf"{self.alice} wants to send \"x \(1 B\) [^\r\n]*\" \(1 B\)\r?\nAccept\? \[y/N\] ", "y"
        )
        self.assert_ends(sender, 0, r'sent "x \(1 B\) .*\.\.\..*\\u2044N\] n" \(1 byte\)')
        self.assertEqual(self.arrived(), {forged: b"1"})
        self.assertNotIn("\u2044", receiver.said)
        wrong = self.send_to(self.bob, str(self.file("b\x1b[2Jb", b"")))
        self.assert_ends(wrong, 7, r"b\\x1b\[2Jb")
        self.assertNotIn("\x1b", wrong.said)

    def test_a_person_decides(self) -> None:
        """At a terminal it asks, showing what and from whom; no answer stores nothing."""
        receiver = self.receive("--inbox", "inbox", terminal=True)
        path = str(self.file("report.pdf", bytes(5000)))
        question = rf"{self.alice} wants to send report.pdf \(4.9 KiB\)\r?\nAccept\? \[y/N\] "
        receiver.type("y\n")  # before there is a question it answers none
        for answer in ("n", "", "yess"):
            sender = self.send_to(self.bob, path)
            receiver.answer(question, answer)
            self.assert_ends(sender, 8, "did not accept it, saying .somebody there said no.")
        sender = self.send_to(self.bob, path)
        receiver.expect(question)
        receiver.type("\x04")  # no answer either; and what is said next stands on its own line
        self.assert_ends(sender, 8, "did not accept it")
        receiver.expect(rf"\n{self.bob}: nothing was kept")
        sender = self.send_to(self.bob, path)
        receiver.expect(question)
        sender.kill()
        receiver.expect(r"\(the sender has gone\)\r?\n.*nothing was kept of what")
        self.assertRegex(receiver.said, r"\[y/N\] \r?\n\(the sender has gone\)\r?\n")
        sender = self.send_to(self.bob, path)
        receiver.answer(question, "y")
        self.assert_ends(sender, 0)
        self.assertEqual(self.arrived(), {"report.pdf": bytes(5000)})
        sender = self.send_to(self.bob, path)
        receiver.expect(question)
        receiver.type("\x03")
        self.assert_ends(receiver, 130)

    def test_what_changes_meanwhile(self) -> None:
        """While a person thinks the directory changes: what still is arrives, the rest is told."""
        (self.directory / "d").mkdir()
        for name in ("log", "gone", "same"):
            self.file(f"d/{name}", b"12345")
        receiver = self.receive("--inbox", "inbox", terminal=True)
        sender = self.send_to(self.bob, str(self.directory / "d"))
        receiver.expect(r"wants to send d\s+\(4 files and directories, 15 B\)\s+Accept\? \[y/N\] ")
        self.file("d/log", b"12345 and more")
        self.file("d/new", b"1")
        (self.directory / "d/gone").unlink()
        receiver.type("y\n")
        self.assert_ends(
            *(sender, 9, "who has it on disk", "not sent as it was: d/gone: it is gone"),
            "not sent as it was: d/log: it has become longer; its first 5 bytes were sent",
            "not sent as it was: d/new: it came while",
        )
        receiver.expect(f"{self.alice} did not send d/gone: it is gone there")
        self.assertEqual(self.arrived(), {"d/log": b"12345", "d/same": b"12345"})

    def test_all_that_cannot_be_sent(self) -> None:
        """Each is named with its reason, and nothing is sent."""
        (self.directory / "d").mkdir()
        for name in ("ok", "Icon\r", "a\tb", "x" * 255):
            self.file(f"d/{name}", b"1")
        receiver = self.receive("--inbox", "inbox")
        sender = self.send_to(self.bob, str(self.directory / "d"), "missing")
        self.assert_ends(
            *(sender, 7, r'cannot be sent: "d/Icon.*U\+000D', r'cannot be sent: "d/a.*U\+0009'),
            *(r"cannot be sent: \S*/missing: No such file", "nothing was sent"),
        )
        self.assertEqual(self.arrived(), {})
        self.assertIs(receiver.process.poll(), None)

    def test_the_rest(self) -> None:
        """What cannot be sent is left out, if that is wished for or a person says yes to it."""
        (self.directory / "d").mkdir()
        for name in ("ok", "Icon\r"):
            self.file(f"d/{name}", b"1")
        self.receive("--inbox", "inbox")
        path = str(self.directory / "d")
        left_out = r'left out: "d/Icon\\r": it has U\+000D in it'
        self.assert_ends(self.send_to(self.bob, path, "--skip"), 9, "who has it on disk", left_out)
        self.assert_ends(self.send_to(self.bob, path), 7, "left out with --skip")
        for answer, status, said in (
            ("n", 7, "nothing was sent"),
            ("", 7, "nothing was sent"),
            ("y", 9, left_out),
        ):
            what = ("send", self.bob, path, *self.options(self.alice))
            sender = self.client(*what, terminal=True)
            sender.answer(r"Send the rest\? \[y/N\] ", answer)
            self.assert_ends(sender, status, said)
        self.assertEqual(self.arrived(), {"d/ok": b"1", "d (1)/ok": b"1"})

    def test_rules_do_not_ask(self) -> None:
        """Where there is a rule nobody is asked, at a terminal either."""
        receiver = self.receive("--inbox", "inbox", "--once", "--yes", terminal=True)
        self.assert_ends(self.send_to(self.bob, str(self.file("a", b"1"))), 0)
        self.assert_ends(receiver, 0)
        self.assertNotIn("Accept?", receiver.said)


class TroubleTests(SendTestCase):
    """Receivers that are not there, or go away."""

    def well_begun(self, attempt: int = 1) -> None:
        """Return when enough of the large file has come that it is kept, or all of it."""

        def enough() -> bool:
            parts = self.inbox.glob(f".kdc-partial/*/{attempt}")
            return sum(map(bytes_below, parts)) > (4 << 20) * attempt

        whole = self.inbox / "large"
        self.eventually("something has arrived", lambda: enough() or whole.exists())

    def stopped(self, receiver: Program, path: str) -> Program:
        """Stop the receiver when a part of the file has come to it; return the sender."""
        while True:
            sender = self.send_to(self.bob, path)
            self.well_begun()
            receiver.signal(signal.SIGSTOP)
            if not (self.inbox / "large").exists():
                return sender
            # This machine was busy elsewhere meanwhile, and all of it is there: once more.
            receiver.signal(signal.SIGCONT)
            self.assert_ends(sender, 0)
            self.arrived()
            (self.inbox / "large").unlink()

    def test_wait(self) -> None:
        """``--wait`` sends when the receiver has begun; without it there is an answer at once."""
        self.register(self.realm, self.bob)
        path = str(self.file("a", b"1"))
        self.assert_brief(self.send_to(self.bob, path), 5, "registered, but not receiving now")
        waited = self.send_to(self.bob, path, "--wait", "1s")
        self.assert_ends(waited, 5, "waiting\n", "registered, but not receiving now")
        sender = self.send_to(self.bob, path, "--wait")
        sender.expect(f"{self.bob} is not receiving yet; waiting")
        self.receive("--inbox", "inbox")
        self.assert_ends(sender, 0)
        self.assertEqual(self.arrived(), {"a": b"1"})
        mistyped = self.send_to(self.name("nobody"), path, "--wait")
        self.assert_brief(mistyped, 5, "knows nobody of that name")

    def test_killed_receiver(self) -> None:
        """A receiver that dies and comes back gets the rest from the same command."""
        content = os.urandom(1 << 20) * 64
        path = str(self.file("large", content))
        receiver = self.receive("--inbox", "inbox")
        sender = self.stopped(receiver, path)
        receiver.kill()
        self.assertFalse((self.inbox / "large").exists())
        again = self.receive("--inbox", "inbox")
        self.assert_ends(sender, 0, "was cut.*; trying again in", "of them were there already")
        again.expect("received large")
        self.assertTrue(self.arrived() == {"large": content})
        self.assertEqual(os.listdir(self.inbox), ["large"])

    def test_killed_sender(self) -> None:
        """A sender that dies can be started again and goes on; a signal leaves things as well."""
        content = os.urandom(1 << 20) * 64
        path = str(self.file("large", content))
        receiver = self.receive("--inbox", "inbox", "--once")
        for attempt, number in ((1, signal.SIGKILL), (2, signal.SIGTERM)):
            # So slowly that there is time for it.
            sender = self.send_to(self.bob, path, "--limit", "8M")
            self.well_begun(attempt)
            sender.signal(number)
            sender.wait()
            receiver.expect("was cut off|nothing was kept|received")
            self.assertFalse((self.inbox / "large").exists())
        self.assert_ends(self.send_to(self.bob, path), 0)
        self.assert_ends(receiver, 0)
        self.assertTrue(self.arrived() == {"large": content})


class UnconfirmedTests(SendTestCase):
    """A connection that breaks between the end and its acknowledgement."""

    def test_once(self) -> None:
        """The same command tries again; the file is there once, and its hook was run once."""
        hook = self.file("hook.sh", b'#!/bin/sh\necho "$KDC_NAME" >> hook.out\n')
        hook.chmod(0o700)
        require_other_loopback()
        receiver = self.receive(
            *("--inbox", "inbox", "--hook", str(hook), "--advertise", OTHER_LOOPBACK)
        )
        port = int(receiver.said.rpartition(" port ")[2])
        content = os.urandom(500_000)
        path = str(self.file("a.bin", content))

        def send(cut: Cut, command: str = "send") -> tuple[Program, Proxy]:
            what = (self.bob, path) if command == "send" else ("-r", self.bob, "-i", path)
            proxy = Proxy(("127.0.0.1", port), cut, at=(OTHER_LOOPBACK, port))
            with proxy:
                sender = self.client(command, *what, *self.options(self.alice))
                sender.wait()
            return sender, proxy

        sender, proxy = send(Cut())
        self.assert_ends(sender, 0)
        _, down = proxy.passed
        (self.inbox / "a.bin").unlink()
        in_the_acknowledgement = Cut(down=down - 60, times=1)
        sender, proxy = send(in_the_acknowledgement)
        self.assert_ends(
            sender,
            0,
            "cut before it confirmed.*; trying again",
            "500000 of them were there",
        )
        self.assertEqual(proxy.connections, 2)
        self.assertLess(proxy.passed[0], 2000)
        receiver.expect(f"{self.alice} had not heard that a.bin has arrived, and knows it now")
        self.assertEqual(self.arrived(), {"a.bin": content})
        # One that does not try again says what to do, and doing that is all that is to be done.
        sender, _ = send(in_the_acknowledgement, "sender")
        self.assert_brief(sender, 6, "stored all of it or nothing; send it again")
        sender, _ = send(Cut(), "sender")
        self.assert_ends(sender, 0)
        self.assertEqual(sorted(self.arrived()), ["a (1).bin", "a.bin"])
        self.assertEqual((self.directory / "hook.out").read_text(), "a.bin\n" * 3)
        self.assertEqual(sorted(os.listdir(self.inbox)), ["a (1).bin", "a.bin"])


class ChangedSecretTests(SendTestCase):
    """A running receiver whose secret is changed meanwhile."""

    def changed(self, kdc: RunningKDC, *, in_its_file: bool) -> Program:
        """Bob's secret is changed by a command, and the new one put where the old one was."""
        key = Path(self.key(self.bob)[1])
        receiver = self.receiver(kdc, self.bob, "--inbox", "inbox")
        old, new = key, self.directory / "new.key"
        if in_its_file:
            # Before it is changed: the receiver may look at once.
            old, new = self.directory / "old.key", key
            key.rename(old)
            self.secrets[old] = self.secrets.pop(key)
        write_key_file(new)
        self.secrets[new] = [new.read_text().strip().rpartition(":")[2]]
        passwd = ("passwd", "-n", self.bob, *kdc.options, "--key-file", str(old))
        passwd += ("--new-key-file", str(new))
        self.assert_ends(self.client(*passwd), 0, "the KDC has the new secret")
        return receiver

    def test_in_its_file(self) -> None:
        """If the new secret is where the old one was, the receiver goes on with it."""
        kdc = self.kdc()
        receiver = self.changed(kdc, in_its_file=True)
        receiver.expect("no longer accepts our secret; looking for another one in ")
        receiver.expect("no longer accepts our secret; its file has another: trying")
        receiver.expect(f"{self.bob}: receiving on")
        self.realm = kdc
        self.assert_ends(self.send_to(self.bob, str(self.file("a", b"1"))), 0)

    def test_soon_in_its_file(self) -> None:
        """So it does if the new secret is put there just after it was changed."""
        kdc = self.kdc()
        receiver = self.changed(kdc, in_its_file=False)
        receiver.expect("no longer accepts our secret; looking for another one in ")
        new, key = self.directory / "new.key", Path(self.key(self.bob)[1])
        new.replace(key)
        self.secrets[key].extend(self.secrets.pop(new))
        receiver.expect(f"{self.bob}: receiving on")

    def test_passphrases(self) -> None:
        """With passphrase files it is the same."""
        kdc = self.kdc()
        old = self.passphrase_file("old", "correct horse")
        new = self.passphrase_file("new", "battery staple")
        receiver = self.client(
            *("receive", "-n", self.bob, *kdc.options, *old, "--listen", "0", "--inbox", "inbox")
        )
        receiver.expect("receiving on")
        who = ("passwd", "-n", self.bob, *kdc.options)
        wrong = self.client(*who, *new, "--new-passphrase-file", old[1])
        self.assert_brief(wrong, 4, "does not accept the old passphrase.*; nothing was changed")
        same = self.client(*who, *old, "--new-passphrase-file", old[1])
        self.assert_brief(same, 1, "the new secret is the old one; nothing was changed")
        nowhere = self.client(*who, *old)
        self.assert_brief(nowhere, 1, "new passphrase on\n.*--new-passphrase-file or")
        self.assertNotIn("lost", receiver.said)
        changed = self.client(*who, *old, "--new-passphrase-file", new[1])
        self.assert_brief(changed, 0, "a running receiver goes on if")
        Path(new[1]).replace(old[1])
        self.secrets[Path(old[1])].extend(self.secrets.pop(Path(new[1])))
        receiver.expect("looking for another one in .*old.passphrase")
        receiver.expect("receiving on")

    def test_configured(self) -> None:
        """Where the configuration names the old secret, it is said that it still does."""
        kdc = self.kdc()
        self.register(kdc, self.bob)
        key, new = self.key(self.bob)[1], self.key("new")[1]
        configuration = self.scratch.home / ".config" / "kdc" / "client.toml"
        configuration.parent.mkdir(parents=True)
        configuration.write_text(
            f'name = "{self.bob}"\nport = {kdc.port}\nkey-file = "{key}"\n'
            f'kdc-fingerprint = "{kdc.fingerprint}"\n'
        )
        program = self.client("passwd", "--new-key-file", new)
        self.assert_ends(program, 0, f"{configuration} still names {key}, the old secret")
        self.assert_ends(self.client("whoami"), 4)
        Path(new).replace(key)
        self.secrets[Path(key)].extend(self.secrets.pop(Path(new)))
        self.assert_ends(self.client("whoami"), 0)

    def test_taken_over(self) -> None:
        """A second receiver of the name takes it over; the first says so loudly, and ends."""
        kdc = self.kdc()
        first = self.receiver(kdc, self.bob, "--inbox", "inbox")
        second = self.receiver(kdc, self.bob, "--inbox", "inbox")
        self.assert_ends(
            first, 8, f"somebody began to receive as {self.bob} elsewhere", "the key is stolen"
        )
        self.realm = kdc
        self.assert_ends(self.send_to(self.bob, str(self.file("a", b"1"))), 0)
        second.expect("received a from")
        noted, log = f"superseded client={self.bob} ", self.directory / "out.txt"
        self.eventually("noted", lambda: noted in log.read_text())

    def test_not_in_its_file(self) -> None:
        """If not, it says loudly that it must be restarted: status 4."""
        receiver = self.changed(self.kdc(), in_its_file=False)
        self.assert_ends(
            receiver, 4, "the KDC no longer accepts our secret", "restart this receiver"
        )
