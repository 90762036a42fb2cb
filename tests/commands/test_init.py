"""``kdcclient init``: from an invitation to a name that can send and receive."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.client import configuration as configuration_module
from kdc.commands.admin.database import AdminStore
from kdc.errors import ConfigurationError, LocalIOError
from kdc.protocol.invitation import Invitation
from tests.support.processes import KDC, Program, ProgramTestCase, reserved_port


class InitTestCase(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.config = self.scratch.home / ".config" / "kdc" / "client.toml"

        self.kdc_here = self.shared_kdc()
        self.bob, self.carol = self.name("bob"), self.name("carol")

    def invite(self, name: str, **where: Any) -> str:
        """As the operator does it; return what he hands over."""
        store = Path(f"/proc/{self.kdc_here.program.pid}/cwd").resolve() / "pwd.txt"
        (answer,) = AdminStore(store).ask({"command": "invite", "name": name, **where})
        self.secrets.setdefault(None, []).append(answer["invitation"].rpartition(":")[2])
        return str(answer["invitation"])

    def file_of(self, invitation: str, name: str = "invitation") -> str:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(f"{invitation}\n")
        self.secrets[None].remove(invitation.rpartition(":")[2])
        return str(path)

    def init(self, *argv: str, **how: Any) -> Program:
        return self.client("init", *argv, **how)

    def keep(self, path: Path) -> None:
        """A secret file, which is to show up nowhere else."""
        self.secrets[path] = [path.read_text().strip().rpartition(":")[2]]


class FirstExperienceTests(InitTestCase):
    def test_four_commands(self) -> None:
        """From an invitation to the file on bob's disk, with nothing but names to type."""
        self.kdc("--enrol", "invite")
        for name in ("bob", "alice"):
            program = self.scratch.start(*KDC, "admin", "invite", name)
            self.assert_ends(program, 0)
            path = self.directory / f"{name}.invitation"
            path.touch(mode=0o600)
            path.write_text(program.printed)
        homes = {name: self.directory / name for name in ("bob", "alice")}
        for name, home in homes.items():
            home.mkdir()
            argv = ("init", "--invitation-file", f"{name}.invitation")
            program = self.client(*argv, environment={"HOME": str(home)})
            self.assert_ends(program, 0, rf"client\.toml: {name} at the KDC at 127\.0\.0\.1 port")
            self.keep(home / ".config" / "kdc" / f"{name}.key")
        receiving = self.client(
            *("receive", "--inbox", "bob", "--listen", "0", "--once"),
            environment={"HOME": str(homes["bob"])},
        )
        receiving.expect("bob: receiving on")
        self.file("report.pdf", b"a report")
        sending = self.client(
            "send", "bob", "report.pdf", environment={"HOME": str(homes["alice"])}
        )
        self.assert_ends(sending, 0, "sent report.pdf .* to bob, who has it on disk")
        self.assert_ends(receiving, 0)
        self.assertEqual((homes["bob"] / "report.pdf").read_bytes(), b"a report")

    def test_files(self) -> None:
        """What is written is its owner's alone, and says who and where, but no secret."""
        self.assert_ends(self.init("--invitation-file", self.file_of(self.invite(self.bob))), 0)
        key = self.config.with_name(f"{self.bob}.key")
        self.keep(key)
        for path, mode in ((self.config, 0o600), (key, 0o600), (self.config.parent, 0o700)):
            self.assertEqual(path.stat().st_mode & 0o777, mode, path)
        self.assertEqual(
            tomllib.loads(self.config.read_text()),
            {
                "name": self.bob,
                "address": "127.0.0.1",
                "port": self.kdc_here.port,
                "realm": "LOCAL",
                "kdc-fingerprint": self.kdc_here.fingerprint,
                "key-file": f"{self.bob}.key",
            },
        )
        self.assert_ends(self.client("whoami"), 0)

    def test_several_kdcs(self) -> None:
        """An invitation for several KDCs of a realm: one of them has to be there."""
        away = reserved_port()
        invitation = self.invite(
            self.bob, kdc_host="127.0.0.1", kdc_port=away, kdc_others=[("::1", away), self.here]
        )
        self.assert_ends(self.init("--invitation-file", self.file_of(invitation)), 0)
        self.keep(self.config.with_name(f"{self.bob}.key"))
        written = tomllib.loads(self.config.read_text())
        self.assertEqual(
            written["addresses"],
            [f"127.0.0.1:{away}", f"[::1]:{away}", f"127.0.0.1:{self.kdc_here.port}"],
        )
        self.assertFalse({"address", "port"} & set(written))
        self.assert_ends(self.client("whoami"), 0)

    @property
    def here(self) -> tuple[str, int]:
        return self.kdc_here.host, self.kdc_here.port

    def test_typed(self) -> None:
        """The invitation can be pasted at a prompt, which does not show it."""
        invitation = self.invite(self.bob)
        program = self.init(terminal=True)
        program.answer("invitation: ", invitation)
        self.assert_ends(program, 0, f"{self.bob} at the KDC")
        self.assertNotIn(invitation, program.said)
        self.keep(self.config.with_name(f"{self.bob}.key"))

    def test_typed_in_pieces(self) -> None:
        """A window has broken it into two lines: the second is read too, and shown to nobody."""
        invitation = self.invite(self.bob)
        program = self.init(terminal=True)
        program.answer("invitation: ", f"{invitation[:70]}\n  {invitation[70:]}")
        self.assert_ends(program, 0, f"{self.bob} at the KDC")
        self.assertNotIn(invitation[:20], program.said)
        self.assertNotIn(invitation[-20:], program.said)
        self.keep(self.config.with_name(f"{self.bob}.key"))

    def test_the_end_is_missing(self) -> None:
        """That is what is said, of what was typed and of a file."""
        invitation = self.invite(self.bob)
        program = self.init(terminal=True)
        program.answer("invitation: ", invitation[:70])
        program.answer("Paste the rest: ", "")
        self.assert_ends(program, 1, "its end is missing")
        path = self.directory / "cut"
        path.touch(mode=0o600)
        path.write_text(invitation[:70])
        self.assert_brief(self.init("--invitation-file", str(path)), 1, "its end is missing")
        self.assertFalse(self.config.exists())

    def test_not_behind_the_command(self) -> None:
        """Others can read a command line; the word is not repeated."""
        invitation = self.invite(self.bob)
        program = self.init(invitation)
        self.assert_ends(program, 1, "an invitation is a secret, and .* can be read by")
        self.assertNotIn(invitation, program.said)

    def test_passphrase(self) -> None:
        """With a passphrase instead, typed twice, and asked for from then on."""
        path = self.file_of(self.invite(self.bob))
        self.secrets.setdefault(None, []).extend(["a long passphrase", "another"])
        program = self.init("--passphrase", "--invitation-file", path, terminal=True)
        program.answer(f"passphrase for {self.bob}: ", "a long passphrase")
        program.answer("once more: ", "another")
        self.assert_ends(program, 1, "the two passphrases differ; nothing was registered")
        self.assertFalse(self.config.exists())
        program = self.init("--passphrase", "--invitation-file", path, terminal=True)
        program.answer(f"passphrase for {self.bob}: ", "a long passphrase")
        program.answer("once more: ", "a long passphrase")
        self.assert_ends(program, 0)
        self.assertEqual([path.name for path in self.config.parent.iterdir()], ["client.toml"])
        program = self.client("whoami", terminal=True)
        program.answer(f"passphrase of {self.bob}: ", "a long passphrase")
        self.assert_ends(program, 0, f"name: {self.bob}")

    def test_elsewhere(self) -> None:
        """Another configuration file, and a key file that is there already."""
        _, key = self.key("old")
        other = self.directory / "other" / "bob.toml"
        program = self.init(
            *("--invitation-file", self.file_of(self.invite(self.bob))),
            *("--config", str(other), "--key-file", key),
        )
        self.assert_ends(program, 0)
        self.assertEqual(tomllib.loads(other.read_text())["key-file"], key)
        self.assertFalse(self.config.exists())
        self.assert_ends(self.client("whoami", "--config", str(other)), 0)


class RefusalTests(InitTestCase):
    def test_nothing_is_overwritten(self) -> None:
        """Settings that are there stay, and the invitation is not used up; unless by --force."""
        bob, carol = (self.file_of(self.invite(name), name) for name in (self.bob, self.carol))
        self.assert_ends(self.init("--invitation-file", bob), 0)
        before = self.config.read_bytes()
        refused = self.init("--invitation-file", carol)
        self.assert_brief(refused, 1, r"client\.toml is there already\n.*--force")
        self.assertEqual(self.config.read_bytes(), before)
        self.assertFalse(self.config.with_name(f"{self.carol}.key").exists())
        self.assert_ends(self.init("--force", "--invitation-file", carol), 0)
        self.assertIn(f'name = "{self.carol}"', self.config.read_text())
        for name in (self.bob, self.carol):
            self.keep(self.config.with_name(f"{name}.key"))

    def test_again(self) -> None:
        """What was cut short can be done again: the same key, and the name is ours already."""
        path = self.file_of(self.invite(self.bob))
        self.assert_ends(self.init("--invitation-file", path), 0)
        key = self.config.with_name(f"{self.bob}.key")
        self.keep(key)
        before = key.read_bytes()
        self.config.unlink()
        self.assert_ends(self.init("--invitation-file", path), 0)
        self.assertEqual(key.read_bytes(), before)
        self.assert_ends(self.client("whoami"), 0)

    def test_not_good(self) -> None:
        """An invitation that was used, is none, or is open to others: no settings are written."""
        used = self.file_of(self.invite(self.bob), "used")
        self.assert_ends(self.init("--invitation-file", used, "--config", "theirs/client.toml"), 0)
        self.keep(self.directory / "theirs" / f"{self.bob}.key")
        exposed = self.file_of(self.invite(self.carol), "exposed")
        Path(exposed).chmod(0o644)
        junk = self.file("junk", b"kdc-invite:2:")
        junk.chmod(0o600)
        good = Invitation.parse(Path(used).read_text())
        wrong = attrs.evolve(good, fingerprint="sha256:" + "0" * 64)
        impostor = self.directory / "impostor"
        impostor.touch(mode=0o600)
        impostor.write_text(str(wrong))
        spent = rf"not take this invitation for {self.bob} .*{self.bob} is registered.*\n.*invite"
        for path, status, pattern in (
            (used, 4, spent),
            (exposed, 1, "can be read by others.*\n.*chmod 600"),
            (str(junk), 1, "that is not an invitation\n.*kdc admin invite"),
            ("missing", 7, "missing: No such file"),
            (str(impostor), 3, "the KDC is not the one pinned"),
        ):
            self.assert_ends(self.init("--invitation-file", path), status, pattern)
        self.assert_brief(self.init(), 1, "no terminal to ask for the invitation on\n.*-file")
        both = self.init("--invitation-file", used, "--passphrase", "--key-file", "x")
        self.assert_brief(both, 1, "give one of --passphrase and --key-file")
        self.assertFalse(self.config.exists())
        for key in self.config.parent.glob("*.key"):
            self.keep(key)

    def test_no_stray_key(self) -> None:
        """After a refusal the key that was made for it is gone; one that was there stays."""
        kdc = self.kdc("--enrol", "invite")
        self.kdc_here = kdc
        old = self.invite(self.bob)
        new = self.invite(self.bob)
        path = self.file_of(old, "old")
        refused = self.init("--invitation-file", path)
        self.assert_ends(refused, 4, r"a newer one has taken its place\n")
        self.assertEqual(list(self.config.parent.iterdir()), [])
        _, key = self.key("kept")
        refused = self.init("--invitation-file", path, "--key-file", key)
        self.assert_ends(refused, 4)
        self.assertTrue(Path(key).exists())
        self.assert_ends(self.init("--invitation-file", self.file_of(new, "new")), 0)
        self.keep(self.config.with_name(f"{self.bob}.key"))
        log, why = self.directory / "out.txt", "not the code of its invitation"
        self.eventually("noted", lambda: f"INVITATION {self.bob}: {why}" in log.read_text())

    def test_short_passphrase(self) -> None:
        """It is refused before it has to be typed again, unless it is asked for."""
        path = self.file_of(self.invite(self.bob))
        self.secrets.setdefault(None, []).append("p%q")
        program = self.init("--passphrase", "--invitation-file", path, terminal=True)
        program.answer(f"passphrase for {self.bob}: ", "p%q")
        self.assert_ends(program, 1, "at least 8 characters, and this one 3\n.*--short-passphrase")
        argv = ("--passphrase", "--short-passphrase", "--invitation-file", path)
        program = self.init(*argv, terminal=True)
        program.answer(f"passphrase for {self.bob}: ", "p%q")
        program.answer("once more: ", "p%q")
        self.assert_ends(program, 0)


class SaveTests(SynchronousTestCase):
    """Writing the configuration file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()

    def test_read_back(self) -> None:
        """Whatever can be written is read back the same."""
        for key_file in ("bob.key", '/a "quoted"\\path', "/ünïcode/\U0001f511", "/tab\t/new\nline"):
            configuration_module.save(self.path, {"name": "bob", "port": 88, "key-file": key_file})
            expected = str(self.path.parent / key_file)
            self.assertEqual(
                configuration_module.load(self.path),
                {"name": "bob", "port": "88", "key-file": expected},
            )
            self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_cannot_be_written(self) -> None:
        """A path of bytes that are no text is refused; the old file stays."""
        configuration_module.save(self.path, {"name": "bob"})
        for key_file in ("/\udcff", "/\x7f"):
            values = {"name": "eve", "key-file": key_file}
            self.assertRaises(ConfigurationError, configuration_module.save, self.path, values)
        self.assertEqual(configuration_module.load(self.path), {"name": "bob"})
        self.assertRaises(LocalIOError, configuration_module.save, self.path / "x", {"name": "bob"})

    def test_a_link_in_the_way(self) -> None:
        """A link is somebody's settings too, even if it leads nowhere; it is not followed."""
        self.path.symlink_to("nowhere")
        self.assertRaises(ConfigurationError, configuration_module.check_free, self.path)
        configuration_module.save(self.path, {"name": "bob"})
        self.assertFalse(self.path.is_symlink())
