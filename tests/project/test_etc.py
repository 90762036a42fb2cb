"""The samples in etc/: units, the logrotate file, the demonstration."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.client import configuration as configuration_module
from kdc.client.settings import client_settings
from kdc.commands import tap
from kdc.commands.client.receive import receive_settings
from kdc.commands.etcd import STORE_KEYS
from kdc.errors import ConfigurationError
from kdc.files.private import read_private
from kdc.limits import Limits
from kdc.relay import limits as relay
from kdc.relay.limits import RelayLimits
from kdc.server.policy import LIMITS, read_policy
from tests.project.test_packaging import TOP, load
from tests.support.command_lines import OURS, logical_lines, long_options, options_in, parse
from tests.support.processes import ProgramTestCase

ETC = TOP / "etc"
UNITS = [ETC / "kdc.service", ETC / "kdcclient-receiver.service"]
RENEW_UNIT, RENEW_TIMER = ETC / "kdcclient-renew.service", ETC / "kdcclient-renew.timer"
CONTAINERFILE = ETC / "Containerfile"
KDC_UNIT, KDC_SOCKET = ETC / "kdc.service", ETC / "kdc.socket"
SOCKET_CONF = ETC / "kdc.service.d" / "socket.conf"
ETCD_CONF = ETC / "kdc.service.d" / "etcd.conf"
CREDENTIALS = "${CREDENTIALS_DIRECTORY}"
# What a person has to get hold of by other means than an option's value.
SECRET_OPTIONS = ("passphrase-file", "key-file", "tls-key")


def directives(unit: Path) -> dict[str, list[str]]:
    """Return what a unit sets, joined lines and repeated keys included."""
    found: dict[str, list[str]] = {}
    text = unit.read_text(encoding="utf-8")
    for line in logical_lines(re.sub(r"^[#;].*\n", "", text, flags=re.MULTILINE)):
        key, equals, value = line.partition("=")
        if equals:
            found.setdefault(key, []).append(value)
    return found


def start_line(unit: Path, *drop_ins: Path) -> list[str]:
    """What systemd starts, its own variables filled in, with this directory for /etc/kdc."""
    values: dict[str, str] = {}
    for file in (unit, *drop_ins):
        for setting in directives(file).get("Environment", []):
            name, _, value = setting.partition("=")
            values[name] = value
    line = [line for file in (unit, *drop_ins) for line in directives(file).get("ExecStart", [])][
        -1
    ]
    for name, value in values.items():
        line = line.replace(f"${{{name}}}", value)
    return [word.replace("/etc/kdc/", f"{ETC}/") for word in shlex.split(line)]


def commented_commands(unit: Path) -> list[list[str]]:
    """Return those of our commands that a unit's comments tell people to type."""
    comments = re.findall(r"^# ? ?(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    for line in logical_lines("\n".join(comments)):
        words = line.split()
        ours = [
            at
            for at, word in enumerate(words)
            if re.fullmatch(rf"/opt/.*/({'|'.join(OURS)})", word)
        ]
        if ours:
            found.append(words[ours[0] :])
    return found


class UnitTests(SynchronousTestCase):
    """The systemd units."""

    def setUp(self) -> None:
        # Nothing of whoever runs the tests decides.
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": "/nonexistent"})

    def test_units(self) -> None:
        """There is one for the KDC and one for a receiver, and one that renews its key."""
        self.assertEqual(sorted(ETC.glob("*.service")), [*UNITS, RENEW_UNIT])

    def test_renewal(self) -> None:
        """It renews the key that the receiver's unit loads, and may write nothing else."""
        receiver, own = directives(UNITS[1]), directives(RENEW_UNIT)
        options = parse(start_line(RENEW_UNIT))
        self.assertEqual(options.subCommand, "renew")
        settings = client_settings(options.subOptions)
        key = settings.secret.key_file
        self.assertEqual(receiver["LoadCredential"], [f"key:{key}"])
        self.assertEqual(own["ReadWritePaths"], [str(key and key.parent)])
        self.assertEqual(own["ProtectSystem"], ["strict"])
        self.assertEqual(own["ExecStartPost"][0].split()[-1], UNITS[1].name)
        for key_, value in (("LimitCORE", "0"), ("UMask", "0077"), ("CapabilityBoundingSet", "")):
            self.assertEqual(own[key_], [value])
        (command,) = commented_commands(RENEW_UNIT)
        parse(command)
        self.assertEqual(directives(RENEW_TIMER)["OnCalendar"], ["weekly"])

    def test_documentation(self) -> None:
        """What a unit says is its documentation is where installing into /opt/kdc puts it."""
        installed = (TOP / "setup.py").read_text(encoding="utf-8")
        self.assertIn('"share/man/man1"', installed)
        for unit in (*UNITS, KDC_SOCKET):
            (link,) = directives(unit)["Documentation"]
            found = re.fullmatch(r"file:///opt/kdc/share/man/man1/(\S+)", link)
            if found is None:
                self.fail(link)
            self.assertIn(f'"docs/man/{found[1]}"', installed)
            self.assertTrue((TOP / "docs" / "man" / found[1]).exists())

    def test_start_lines(self) -> None:
        """Each starts a command that takes its options, with values it can use."""
        settings: dict[str, Any] = {}
        for unit in UNITS:
            options = parse(start_line(unit))
            self.assertTrue(options["nodaemon"], "Type=simple is for what stays in the foreground")
            command = options.subOptions
            if options.subCommand == "kdc":
                settings[unit.stem] = tap.settings_of(command)
            else:
                self.assertEqual(command.subCommand, "receiver")
                settings[unit.stem] = receive_settings(command.subOptions)
        self.assertEqual(settings["kdc"].endpoints, ("tcp:12345",))
        self.assertEqual(settings["kdc"].enrolment.value, "invite")
        self.assertEqual(settings["kdcclient-receiver"].allow, {"alice", "bob"})
        self.assertFalse(settings["kdcclient-receiver"].once)

    def test_a_port_that_systemd_holds(self) -> None:
        """With the drop-in the KDC takes the socket of kdc.socket, which is on the same port."""
        unit = directives(KDC_SOCKET)
        port = f"systemd:domain=INET6:name={unit['FileDescriptorName'][0]}"
        options = parse(start_line(KDC_UNIT, SOCKET_CONF))
        settings = tap.settings_of(options.subOptions)
        self.assertEqual(settings.endpoints, (port,))
        self.assertEqual(settings.enrolment.value, "invite")
        self.assertEqual([f"tcp:{number}" for number in unit["ListenStream"]], ["tcp:12345"])
        self.assertEqual(directives(SOCKET_CONF)["Requires"], [KDC_SOCKET.name])

    def test_principals_in_etcd(self) -> None:
        """With that drop-in it starts after the member of etcd here, and can do without it."""
        from kdc.commands.etcd import etcd_of

        words = start_line(KDC_UNIT, ETCD_CONF)
        options = parse(words).subOptions
        settings = tap.settings_of(options)
        self.assertEqual(settings.endpoints, ("tcp:12345",))
        etcd = etcd_of(options)
        if etcd is None:
            self.fail("it has no etcd")
        self.assertEqual([port for _, port in etcd.members], [2379] * 3)
        own = directives(ETCD_CONF)
        self.assertEqual((own["Wants"], own["After"]), (["etcd.service"],) * 2)
        self.assertEqual(own["ExecStart"][0], "", "the unit's own command has to go")
        name = own["LoadCredential"][0].split(":")[0]
        self.assertEqual(str(etcd.key), f"/{CREDENTIALS}/{name}".replace("/$", f"{Path.cwd()}/$"))
        # All else is as without.
        alone = start_line(KDC_UNIT)
        for option in ("--host", "--config", "--output"):
            at, there = words.index(option), alone.index(option)
            self.assertEqual(words[at : at + 2], alone[there : there + 2])

    def test_an_option_that_is_gone(self) -> None:
        """The check above notices one, in each unit."""
        for unit in UNITS:
            self.assertRaises(usage.UsageError, parse, [*start_line(unit), "--gone"])

    def test_commands_in_comments(self) -> None:
        """What the units tell people to type is taken by the programs as well."""
        commands = [words for unit in UNITS for words in commented_commands(unit)]
        self.assertEqual([words[1] for words in commands], ["admin", "keygen", "register"])
        for words in commands:
            parse(words)

    def test_options_in_comments(self) -> None:
        """The same for options by themselves."""
        # Of useradd, systemctl and systemd-creds.
        foreign = {"--system", "--home-dir", "--shell", "--now", "--name"}
        for unit in (*UNITS, KDC_SOCKET, SOCKET_CONF, ETCD_CONF):
            mentioned = options_in(unit.read_text(encoding="utf-8"))
            self.assertEqual(mentioned - long_options() - foreign, set(), unit.name)

    def test_secrets_are_credentials(self) -> None:
        """Every secret file comes from LoadCredential=, by the name that it has there."""
        for unit in UNITS:
            names = [value.split(":")[0] for value in directives(unit).get("LoadCredential", [])]
            words = start_line(unit)
            files = [words[at + 1] for at, word in enumerate(words) if word[2:] in SECRET_OPTIONS]
            self.assertEqual(files, [f"{CREDENTIALS}/{name}" for name in names], unit.name)

    def test_files_are_in_its_directories(self) -> None:
        """What a unit writes is where systemd lets it: everything else is read-only."""
        for unit in UNITS:
            own = directives(unit)
            allowed = [f"/var/lib/{name}" for name in own["StateDirectory"]]
            allowed += [f"/var/log/{name}" for name in own.get("LogsDirectory", [])]
            words = [word for word in start_line(unit)[1:] if not word.startswith(f"{ETC}/")]
            written = [word for word in words if word.startswith("/")]
            self.assertNotEqual(written, [])
            for path in written:
                self.assertTrue(any(path.startswith(place) for place in allowed), path)
            self.assertEqual(own["ProtectSystem"], ["strict"])

    def test_secrets_stay_in(self) -> None:
        """No core files, nothing readable by others, no rights to gain, in either unit."""
        for unit in UNITS:
            own = directives(unit)
            for key, value in (
                ("LimitCORE", "0"),
                ("UMask", "0077"),
                ("StateDirectoryMode", "0700"),
                ("NoNewPrivileges", "yes"),
                ("CapabilityBoundingSet", ""),
            ):
                self.assertEqual(own[key], [value], f"{unit.name}: {key}")
            self.assertNotIn("MemoryDenyWriteExecute", own)

    def test_systemd_takes_them(self) -> None:
        """Systemd itself finds nothing wrong."""
        verify = shutil.which("systemd-analyze")
        if verify is None:
            raise SkipTest("systemd-analyze is not here")
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "kdc.service.d").mkdir()
        for unit in (*UNITS, KDC_SOCKET, SOCKET_CONF, ETCD_CONF):
            # The user and the installation are not on this machine.
            text = re.sub(r"(?m)^(User|Group)=.*\n", "", unit.read_text(encoding="utf-8"))
            copy = directory / unit.relative_to(ETC)
            copy.write_text(text.replace("/opt/kdc/bin/twistd", sys.executable), encoding="utf-8")
        for unit in (*UNITS, KDC_SOCKET):
            result = subprocess.run(
                [verify, "verify", "--man=no", str(directory / unit.name)],
                env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual((result.returncode, result.stderr), (0, ""), unit.name)


class CredentialTests(ProgramTestCase):
    """Secrets handed over by systemd."""

    def test_an_access_list_looks_like_a_group(self) -> None:
        """A credential is taken with mode 0440, since systemd 254 shows them so."""
        path = self.file("key", b"secret")
        path.chmod(0o440)
        self.assertRaises(ConfigurationError, read_private, path)
        self.patch(os, "environ", {**os.environ, "CREDENTIALS_DIRECTORY": str(self.directory)})
        self.assertEqual(read_private(path), b"secret")

    def test_no_further(self) -> None:
        """World-readable, writable by a group, or elsewhere: refused as ever."""
        self.patch(os, "environ", {**os.environ, "CREDENTIALS_DIRECTORY": str(self.directory)})
        path = self.file("key", b"secret")
        for mode in (0o444, 0o460, 0o404):
            path.chmod(mode)
            self.assertRaises(ConfigurationError, read_private, path)
        elsewhere = self.directory / "below" / "key"
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(b"secret")
        elsewhere.chmod(0o440)
        self.assertRaises(ConfigurationError, read_private, elsewhere)

    def test_tls_key(self) -> None:
        """The KDC takes its TLS key as a credential too, and nobody else's readable one."""
        self.assertEqual(self.kdc().program.stop(), 0)
        pem = self.directory / "pwd.txt.tls"
        pem.chmod(0o440)
        options = ("--tls-key", str(pem), "--tls-certificate", str(pem))
        credentials = {"CREDENTIALS_DIRECTORY": str(self.directory)}
        self.assertEqual(self.kdc(*options, environment=credentials).program.stop(), 0)
        refused = self.scratch.start(*self.scratch.programs[0].argv, *options)
        self.assert_brief(refused, 1, "can be read by others")

    def test_master_key(self) -> None:
        """And its master key; without the credential's directory it is anybody's group's."""
        self.assertEqual(self.kdc().program.stop(), 0)
        key = self.directory / "credentials" / "master.key"
        key.parent.mkdir()
        (self.directory / "pwd.txt.key").rename(key)
        key.chmod(0o440)
        options = ("--master-key", str(key))
        credentials = {"CREDENTIALS_DIRECTORY": str(key.parent)}
        self.assertEqual(self.kdc(*options, environment=credentials).program.stop(), 0)
        refused = self.scratch.start(*self.scratch.programs[0].argv, *options)
        self.assert_brief(refused, 7, "may be read by others")


class SampleTests(SynchronousTestCase):
    """The sample configurations: the KDC's and a client's."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.patch(os, "environ", {"HOME": str(self.directory)})

    def variants(self, name: str) -> Iterator[tuple[str, Path]]:
        """The sample as it is, then with each of its commented settings in turn."""
        text = (ETC / name).read_text(encoding="utf-8")
        settings = re.findall(r"(?m)^#([a-z][a-z-]*) = ", text)
        self.assertNotEqual(settings, [])
        for setting in ("", *settings):
            path = self.directory / name
            path.write_text(re.sub(rf"(?m)^#(?={setting} = )", "", text) if setting else text)
            yield setting, path

    def test_kdc(self) -> None:
        """Every setting can be used as it stands there, and shows the default."""
        found = set()
        for setting, path in self.variants("kdc.toml"):
            policy = read_policy(path)
            found |= {"enrol", *policy.limits, *policy.relay_limits, *policy.status, *policy.store}
            if policy.lifetime_seconds is not None:
                found.add("lifetime")
                self.assertEqual(policy.lifetime_seconds, tap.DEFAULT_LIFETIME_SECONDS)
            elif policy.log_format:
                found.add("log-format")
                self.assertEqual(policy.log_format, "text")
            elif setting:
                self.assertEqual(Limits(**policy.limits), Limits(), setting)
                self.assertEqual(RelayLimits(**policy.relay_limits), RelayLimits(), setting)
                # One name can stand in both tables.
                tables = (policy.limits, policy.relay_limits, policy.status, policy.kerberos)
                self.assertTrue(any((*tables, policy.store)), setting)
                self.assertEqual(policy.store.get("confirm-within", 10), 10)
        limits = {field.name for field in (*LIMITS.values(), *relay.LIMITS.values())}
        others = {"enrol", "lifetime", "log-format", "endpoint", "token-file"}
        self.assertEqual(found, {*others, *limits, *STORE_KEYS})

    def test_client(self) -> None:
        """The client takes it; each setting that stands for another is taken instead of that."""
        found: set[str] = set()
        for setting, path in self.variants("client.toml"):
            values = configuration_module.load(path)
            found |= set(values)
            others = {
                "kdc-ca": "kdc-fingerprint",
                "passphrase-file": "key-file",
                "addresses": "address",
            }
            if setting in others:
                refused = self.assertRaises(
                    ConfigurationError, client_settings, {"config": str(path)}
                )
                self.assertIn(setting, str(refused))
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                path.write_text(
                    "".join(line for line in lines if not line.startswith(f"{others[setting]} ="))
                )
            settings = client_settings({"config": str(path)})
            self.assertEqual((settings.name, settings.realm), ("alice", "LOCAL"))
        self.assertEqual(found, set(configuration_module.KEYS))


class ContainerTests(SynchronousTestCase):
    """etc/Containerfile; `make container-check` builds it and uses what comes of it."""

    def last(self, instruction: str) -> str:
        text = CONTAINERFILE.read_text(encoding="utf-8")
        return re.findall(rf"^{instruction} (.+)$", text, re.MULTILINE)[-1]

    def test_what_it_runs(self) -> None:
        """The KDC on the port that is published, with its files in the volume, not as root."""
        words = json.loads(self.last("ENTRYPOINT")) + json.loads(self.last("CMD"))
        settings = tap.settings_of(parse(["twistd", "-n", *words]).subOptions)
        self.assertEqual(settings.endpoints, (f"tcp:{self.last('EXPOSE')}",))
        self.assertEqual(settings.store.parent, Path(self.last("VOLUME")))
        self.assertEqual(settings.enrolment.value, "invite")
        self.assertNotIn(self.last("USER").split(":")[0], ("0", "root"))

    def test_commands_in_comments(self) -> None:
        """What it tells people to type is taken."""
        text = CONTAINERFILE.read_text(encoding="utf-8")
        comments = "\n".join(re.findall(r"^# ? ?(.*)$", text, re.MULTILINE))
        (line,) = re.findall(r"exec kdc (kdc admin .*)$", comments, re.MULTILINE)
        parse(shlex.split(line))
        (option,) = re.findall(r"append (--\S+)", comments)
        self.assertIn(option, long_options())

    def test_what_it_copies(self) -> None:
        """Every file that it copies is there, and every one that setup.py names is copied."""
        text = logical_lines(CONTAINERFILE.read_text(encoding="utf-8"))
        copied = [
            name
            for line in text
            if line.startswith("COPY ") and "--from" not in line
            for name in line.split()[1:-1]
        ]
        for name in copied:
            self.assertTrue((TOP / name).exists(), name)
        for needed in ("setup.py", "kdc", "twisted", "docs/man", "README.md", "LICENSE"):
            self.assertIn(needed, copied)


class LogrotateTests(ProgramTestCase):
    """etc/kdc.logrotate."""

    def setUp(self) -> None:
        super().setUp()
        self.text = (ETC / "kdc.logrotate").read_text(encoding="utf-8")

    def test_rotates_the_units_log(self) -> None:
        """It moves the file that the unit's KDC writes, and signals that unit."""
        words = start_line(KDC_UNIT)
        output = words[words.index("--output") + 1]
        self.assertIn(f"\n{output} {{\n", self.text)
        self.assertIn("systemctl kill --signal=SIGHUP kdc.service\n", self.text)
        (user,) = directives(KDC_UNIT)["User"]
        self.assertIn(f"    su {user} {user}\n", self.text)

    def test_a_moved_log(self) -> None:
        """After the signal, the KDC goes on in a new out.txt that only its owner can read."""
        kdc = self.kdc()
        log, moved = self.directory / "out.txt", self.directory / "out.txt-1"
        self.eventually("the first lines", lambda: b" started " in log.read_bytes())
        log.rename(moved)
        kdc.program.signal(signal.SIGHUP)
        self.eventually("a new out.txt", lambda: log.exists() and b"reloaded" in log.read_bytes())
        self.assertEqual(log.stat().st_mode & 0o777, 0o600)
        self.one_transfer(kdc)
        kdc.program.stop()
        self.assertNotIn(b" issued ", moved.read_bytes())
        self.assertIn(b" issued ", log.read_bytes())

    def test_what_fails_is_said(self) -> None:
        """A KDC on a terminal says why it could not reload, and goes on."""
        kdc = self.kdc()
        (self.directory / "pwd.txt.tls").chmod(0o644)
        kdc.program.signal(signal.SIGHUP)
        kdc.program.expect(r"kdc: not reloaded, .*pwd.txt.tls can be read by others")
        self.one_transfer(kdc)


class DemonstrationTests(SynchronousTestCase):
    """The checks of docs/recorders/demo.py; CI runs the whole of it."""

    def setUp(self) -> None:
        self.demo = load(TOP / "docs" / "recorders" / "demo.py")
        self.shown: list[str] = []
        self.patch(self.demo, "show", lambda line="": self.shown.append(line))
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        for name in ("pwd.txt", "pwd.txt.key", "outenc", "out.txt"):
            Path(name).write_bytes(os.urandom(10_000))
        Path("in.txt").write_bytes(os.urandom(100_000))

    def test_a_difference(self) -> None:
        """One changed bit in outfile ends the demonstration."""
        content = Path("in.txt").read_bytes()
        Path("outfile").write_bytes(content)
        self.demo.compare("in.txt")
        Path("outfile").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        self.assertRaises(self.demo.DemoError, self.demo.compare, "in.txt")

    def test_plaintext(self) -> None:
        """A page of what was sent is found in whatever file it has got into."""
        self.demo.look_for("in.txt")
        page = Path("in.txt").read_bytes()[40_000:44_096]
        for name in ("pwd.txt", "pwd.txt.key", "outenc", "out.txt"):
            before = Path(name).read_bytes()
            Path(name).write_bytes(before + page)
            self.assertRaises(self.demo.DemoError, self.demo.look_for, "in.txt")
            Path(name).write_bytes(before)

    def test_passphrases(self) -> None:
        """So is a passphrase."""
        for passphrase in self.demo.PASSPHRASES.values():
            Path("pwd.txt").write_text(f":{passphrase}:")
            self.assertRaises(self.demo.DemoError, self.demo.look_for, "in.txt")

    def test_lines(self) -> None:
        """A long command is shown in lines that can be pasted, an option beside its value."""
        words = ["kdcclient", *(f"--option{n} value{n}" for n in range(12)), "end"]
        lines = self.demo.wrapped(" ".join(words))
        self.assertGreater(len(lines), 2)
        self.assertEqual(
            shlex.split(logical_lines("\n".join(lines))[0]), ["$", *" ".join(words).split()]
        )
        for line in lines:
            self.assertNotRegex(line, r"--option\d+ \\$")

    def test_a_program_that_fails(self) -> None:
        """An exit status that is not 0, or silence at the end, ends the demonstration."""
        self.patch(self.demo, "COMMANDS", Path("/bin"))
        failing = self.demo.Program("false", self.directory, "false")
        self.assertRaises(self.demo.DemoError, failing.end)
        silent = self.demo.Program("true", self.directory, "true")
        self.assertRaises(self.demo.DemoError, silent.wait_for, "anything")
        silent.end()
