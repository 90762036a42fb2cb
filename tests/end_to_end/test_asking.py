"""``who``, ``whoami`` and ``doctor``: what is, and what is wrong with it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from tests.support.processes import KDC, Program, ProgramTestCase, RunningKDC, reserved_port


def _day(days: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + days * 86400))


class AskingTests(ProgramTestCase):
    """Commands that change nothing."""

    def ask(self, kdc: RunningKDC, name: str, command: str, *options: str) -> Program:
        return self.client(command, "-n", name, *kdc.options, *self.key(name), *options)

    def test_who(self) -> None:
        """Each peer is receiving, registered, unknown, or not for us."""
        kdc = self.shared_kdc()
        alice, bob, carol, nobody = map(self.name, ("alice", "bob", "carol", "nobody"))
        for name in (alice, carol):
            self.register(kdc, name)
        self.receiver(kdc, bob, "-o", "outfile")
        program = self.ask(kdc, alice, "who", bob, carol, nobody, alice)
        self.assert_ends(program, 0)
        there, *others = program.printed.splitlines()
        self.assertRegex(there, rf"^{bob}: receiving at 127\.0\.0\.1 port \d+$")
        self.assertEqual(
            others, [f"{carol}: registered", f"{nobody}: unknown", f"{alice}: not allowed"]
        )
        program = self.ask(kdc, alice, "who", "--json", carol, nobody)
        self.assert_ends(program, 0)
        self.assertEqual(
            [json.loads(line) for line in program.printed.splitlines()],
            [
                {"name": carol, "state": "registered", "address": "", "port": 0},
                {"name": nobody, "state": "unknown", "address": "", "port": 0},
            ],
        )

    def test_who_without_a_directory(self) -> None:
        """Without names, a KDC that keeps no directory: said so, with what to type instead."""
        kdc, alice = self.shared_kdc(), self.name("alice")
        self.register(kdc, alice)
        program = self.ask(kdc, alice, "who")
        self.assert_brief(program, 5, "has no directory", r"kdcclient who PEER\.\.\.")
        self.assertEqual(program.printed, "")

    def test_directory(self) -> None:
        """With one, everybody is listed; after a restart of the KDC, too, with the same key."""
        kdc = self.kdc("--directory", "0")
        for _ in range(2):
            kdc.program.expect(r"kdc: directory: receiving on 127\.0\.0\.1 port \d+\n")
            bob = self.receiver(kdc, "bob", "-o", "outfile")
            self.register(kdc, "carol")
            program = self.ask(kdc, "carol", "who")
            self.assert_ends(program, 0)
            self.assertRegex(
                program.printed,
                r"^bob: receiving at 127\.0\.0\.1 port \d+\ncarol: registered\n$",
            )
            program = self.ask(kdc, "carol", "who", "--json")
            self.assert_ends(program, 0)
            rows = [json.loads(line) for line in program.printed.splitlines()]
            self.assertEqual([row["state"] for row in rows], ["receiving", "registered"])
            bob.stop()
            key = self.directory / "pwd.txt.directory"
            self.secrets[key] = [key.read_text().strip().rpartition(":")[2]]
            self.assertEqual(key.stat().st_mode & 0o777, 0o600)
            self.assertEqual(kdc.program.stop(), 0)
            kdc = self.kdc("--directory", "0", port=kdc.port)
        self.one_transfer(kdc)

    def test_doctor_with_a_directory(self) -> None:
        """It knows where the KDC sends those who look for us, and whether we are there."""
        kdc = self.kdc("--directory", "0")
        kdc.program.expect("directory: receiving on")
        bob = self.receiver(kdc, "bob", "-o", "outfile")
        program = self.ask(kdc, "bob", "doctor")
        self.assert_ends(program, 0)
        self.assertRegex(program.printed, r"ok .*the KDC holds it and sends others to 127")
        bob.stop()
        program = self.ask(kdc, "bob", "doctor")
        self.assert_ends(program, 0)
        self.assertIn("to receive, start one: kdcclient receive", program.printed)
        self.receiver(kdc, "bob", "-o", "outfile", "--advertise", "127.0.0.9")
        program = self.ask(kdc, "bob", "doctor")
        self.assertEqual(program.wait(), 5)
        self.assertRegex(
            program.printed,
            r"FAIL our receiver: .*127.0.0.9 port \d+, where nothing.*\n.*--adver",
        )

    def test_two_receivers(self) -> None:
        """The second on this machine takes a port that is free, unless it was told which."""
        kdc, ports = self.shared_kdc(), []
        for _ in range(2):
            name = self.name("bob")
            options = ("-n", name, *kdc.options, *self.key(name), "-o", f"{name}.out")
            receiver = self.client("receive", *options)
            ports.append(receiver.expect(r"receiving on 127\.0\.0\.1 port (\d+)\n")[1])
        self.assertEqual(len(set(ports)), 2, ports)
        self.assertIn("in use: taking another port, ", receiver.said)
        options = ("-n", self.name("carol"), *kdc.options, "-o", "carol.out", "--listen", ports[0])
        self.assert_brief(self.client("receive", *options, *self.key("carol")), 7, "in use\n")

    def test_renew(self) -> None:
        """A new key in the same file, which the KDC has; the old one is good for nothing."""
        kdc, alice = self.shared_kdc(), self.name("alice")
        self.register(kdc, alice)
        key = Path(self.key(alice)[1])
        old = self.directory / "old.key"
        old.write_bytes(key.read_bytes())
        old.chmod(0o600)
        self.secrets[old] = [old.read_text().strip().rpartition(":")[2]]
        self.assert_ends(self.ask(kdc, alice, "renew"), 0, f"the key of {alice} is a new one")
        self.assertNotEqual(old.read_bytes(), key.read_bytes())
        self.secrets[key] = [key.read_text().strip().rpartition(":")[2]]
        self.assertFalse(key.with_name(f"{key.name}.new").exists())
        self.assert_ends(self.ask(kdc, alice, "whoami"), 0)
        stale = self.client("whoami", "-n", alice, *kdc.options, "--key-file", str(old))
        self.assert_brief(stale, 4, "wrong passphrase or key")
        # As if it had been cut short when the KDC had decided: the new key is beside the old one.
        key.rename(key.with_name(f"{key.name}.new"))
        key.write_bytes(old.read_bytes())
        key.chmod(0o600)
        self.assert_ends(self.ask(kdc, alice, "renew"), 0)
        self.secrets[key] = [key.read_text().strip().rpartition(":")[2]]
        self.assert_ends(self.ask(kdc, alice, "whoami"), 0)
        typed = self.client("renew", "-n", alice, *kdc.options)
        self.assert_brief(typed, 1, "a passphrase is changed by passwd")

    def test_whoami(self) -> None:
        """Name, realm, KDC, its fingerprint, and which version of our secret it has."""
        kdc, alice = self.shared_kdc(), self.name("alice")
        self.assert_brief(self.ask(kdc, alice, "whoami"), 4, "wrong passphrase or key")
        self.register(kdc, alice)
        program = self.ask(kdc, alice, "whoami", "--json")
        self.assert_ends(program, 0)
        found = json.loads(program.printed)
        self.assertGreater(found.pop("generation"), 0)
        self.assertEqual(
            found,
            {
                "name": alice,
                "realm": "LOCAL",
                "kdc": f"{kdc.host} port {kdc.port}",
                "fingerprint": kdc.fingerprint,
            },
        )

    def test_end(self) -> None:
        """When our time ends is told, from 14 days before as a warning; by the KDC's clock."""
        kdc = self.kdc("--directory", "0")
        kdc.program.expect("directory: receiving on")
        self.register(kdc, "alice")
        program = self.ask(kdc, "alice", "whoami")
        self.assert_ends(program, 0)
        self.assertNotIn("end", program.printed)
        self.assert_ends(self.scratch.start(*KDC, "admin", "expire", "alice", "--in", "90d"), 0)
        program = self.ask(kdc, "alice", "whoami", "--json")
        self.assert_ends(program, 0)
        self.assertLess(abs(json.loads(program.printed)["end"] - time.time() - 90 * 86400), 86400)
        self.assertNotIn("ends", program.said)
        program = self.ask(kdc, "alice", "doctor")
        self.assert_ends(program, 0)
        self.assertRegex(program.printed, "\nok   our time there: ends 20")
        # Twelve whole days and the rest of one; or thirteen within the same second.
        ends = r"our time at the KDC ends in 1[23] days, (20\d\d-\d\d-\d\dT\d\d:\d\dZ): "
        for given, how in (
            (("--in", "13d"), "a new key moves that\n  kdcclient renew"),
            (("--at", _day(13)), "only the KDC's operator can .*\n  .*kdc admin expire"),
        ):
            self.assert_ends(self.scratch.start(*KDC, "admin", "expire", "alice", *given), 0)
            # Its own clock is years ahead, and nothing depends on that.
            program = self.scratch.start(
                *(sys.executable, "-m", "tests.support.other_clock", "40", "kdcclient", "whoami"),
                *("-n", "alice", *kdc.options, *self.key("alice")),
            )
            self.assert_ends(program, 0)
            found = re.search(ends + how, program.said)
            if found is None:
                self.fail(program.said)
            self.assertIn(f"end: {found[1]}\n", program.printed)

    def test_doctor_finds_nothing(self) -> None:
        """All is well: status 0, and every check says what it saw."""
        kdc, alice = self.shared_kdc(), self.name("alice")
        self.register(kdc, alice)
        program = self.ask(kdc, alice, "doctor", "--listen-port", str(kdc.port))
        self.assert_ends(program, 0)
        lines = program.printed.splitlines()
        self.assertTrue(all(line.startswith("ok  ") for line in lines), lines)
        for what in ("who we are", "secret", "name of the KDC", "port of", "identity of", "clock"):
            self.assertIn(what, program.printed)
        self.assertRegex(program.printed, r"our registration: version \d+")
        self.assertRegex(program.printed, f"something, ours or not, listens on port {kdc.port} of")

    def test_doctor_finds(self) -> None:
        """What is wrong is named with what to do, and the status is that of the first of it."""
        kdc, alice = self.shared_kdc(), self.name("alice")
        key = Path(self.key(alice)[1])
        nowhere = reserved_port()
        cases: list[tuple[Program, int, str]] = [
            (self.ask(kdc, alice, "doctor"), 4, "FAIL our registration: .*\n +\\S"),
            (
                self.client("doctor", "-n", alice, "-p", str(nowhere), "--key-file", str(key)),
                3,
                "FAIL port of the KDC: nothing answers.*\n +is the KDC running",
            ),
            (
                self.client("doctor", "-n", alice, *kdc.place, "--key-file", str(key)),
                3,
                "FAIL identity of the KDC: .*nobody has vouched.*\n.*add this line",
            ),
            (
                self.client(
                    *("doctor", "-n", alice, *kdc.place, "--key-file", str(key)),
                    *("--kdc-fingerprint", "sha256:" + "0" * 64),
                ),
                3,
                "FAIL identity of the KDC: .*but --kdc-fingerprint says",
            ),
        ]
        for program, status, pattern in cases:
            self.assertEqual(program.wait(), status, program.printed)
            self.assertRegex(program.printed, pattern)
        key.chmod(0o644)
        program = self.ask(kdc, alice, "doctor", "--json")
        self.assertEqual(program.wait(), 1)
        rows = [json.loads(line) for line in program.printed.splitlines()]
        (failed,) = [row for row in rows if not row["ok"]]
        self.assertEqual((failed["what"], failed["hint"]), ("secret", f"chmod 600 {key}"))
