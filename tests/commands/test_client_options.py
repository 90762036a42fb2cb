"""What a client has to know, and how it decides whom to believe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from kdc.client import _first_contact as first_contact_module
from kdc.client import known_kdcs as known_kdcs_module
from kdc.client._first_contact import identities_of
from kdc.client.identity import Authority, Pin
from kdc.client.membership import client_for
from kdc.client.settings import ClientSettings, client_settings
from kdc.commands.client.options import ClientOptions
from kdc.commands.hints import hint_of
from kdc.errors import ConfigurationError, UnknownIdentity
from kdc.protocol.relay import Reach

PRINT = "sha256:" + "1a" * 32
BASIC = ["-n", "alice", "-a", "kdc.example", "-p", "88"]


class SettingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp())
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": str(self.home)})

    def settings(self, *words: str) -> ClientSettings:
        options = ClientOptions()
        options.parseOptions(words)
        return client_settings(options)

    def refused(self, *words: str) -> str:
        error = self.assertRaises(ConfigurationError, self.settings, *words)
        return f"{error} {hint_of(error)}"

    def test_flags(self) -> None:
        """The origin's flags are enough."""
        settings = self.settings(*BASIC)
        self.assertEqual(
            (settings.name, settings.host, settings.port, settings.realm),
            ("alice", "kdc.example", 88, "LOCAL"),
        )
        self.assertTrue(settings.secret.asks)
        self.assertFalse(settings.accept_new)
        self.assertEqual(settings.known_kdcs, self.home / "kdc" / "known_kdcs")
        self.assertEqual(settings.where, "kdc.example port 88")

    def test_several_names(self) -> None:
        """Each name may have a file of its own, which counts where the user's own is another's."""
        names = self.home / "kdc" / "names"
        names.mkdir(parents=True)
        text = 'name = "{0}"\naddress = "{0}.example"\nport = 88\nkey-file = "{0}.key"\n'
        for name in ("alice", "bob"):
            (names / f"{name}.toml").write_text(text.format(name))
        self.assertEqual(self.settings("-n", "Bob").host, "bob.example")
        self.assertEqual(self.settings("-n", "bob").secret.key_file, (names / "bob.key").absolute())
        # What is typed counts more, and takes with it what no longer fits.
        self.assertTrue(self.settings("-n", "bob", "--passphrase-fd", "0").secret.key_file is None)
        self.assertIn("our name", self.refused("-p", "88"))
        self.assertIn("port", self.refused("-n", "carol"))
        self.assertIn("port", self.refused("-n", "../names/bob"))
        (self.home / "kdc" / "client.toml").write_text('name = "alice"\nport = 99\n')
        self.assertEqual(self.settings("-n", "alice").port, 99)
        self.assertEqual(self.settings("-n", "bob").port, 88)
        own = str(self.home / "kdc" / "client.toml")
        self.assertEqual(self.settings("-n", "bob", "--config", own).port, 99)

    def test_folding(self) -> None:
        """Capitals in a name are folded; what cannot be a name is refused."""
        self.assertEqual(self.settings("-n", "Alice", "-p", "88").name, "alice")
        for name in ("", "al ice", "älice", "-alice", "a" * 65, "alice@LOCAL"):
            self.refused("-n", name, "-p", "88")

    def test_numbers(self) -> None:
        """Ports are numbers from 1 to 65535."""
        for port in ("0", "65536", "-1", "x", "8 8", "١", "1e3", ""):
            self.assertIn("port", self.refused("-n", "alice", f"--port={port}"))
        self.refused(*BASIC, "--passphrase-fd", "x")

    def test_hosts(self) -> None:
        """An address that no host can have is refused before anything is tried."""
        for host in ("kdc..example", "x" * 64, " ", "a b", "-"):
            self.assertIn("host", self.refused("-n", "alice", "-p", "88", f"--address={host}"))
        for host in ("localhost", "127.0.0.1", "::1", "kdc.example", "bücher.example"):
            self.assertEqual(self.settings("-n", "a", "-p", "1", "-a", host).host, host)

    def test_realm(self) -> None:
        """A realm has its own grammar."""
        self.assertEqual(self.settings(*BASIC, "--realm", "EXAMPLE.org").realm, "EXAMPLE.org")
        self.assertIn("realm", self.refused(*BASIC, "--realm", "a b"))

    def test_reach(self) -> None:
        """By which ways, and by which relay if it is another than the one that has the name."""
        for typed, expected in (
            ("auto", (Reach.AUTO, "relay")),
            ("direct", (Reach.DIRECT, "relay")),
            ("relay", (Reach.RELAY, "relay")),
            ("relay=EU-1", (Reach.RELAY, "eu-1")),
            ("auto=eu-1", (Reach.AUTO, "eu-1")),
        ):
            settings = self.settings(*BASIC, "--reach", typed)
            self.assertEqual((settings.reach, settings.relay), expected, typed)
        for typed in ("", "eu-1", "relay=", "relay=a b", "direct=eu-1", "relay=a=b", "Relay"):
            self.refused(*BASIC, "--reach", typed)

    def test_one_secret_one_identity(self) -> None:
        """Two sources of a secret, or two ways of knowing the KDC, contradict each other."""
        self.assertIn("one of", self.refused(*BASIC, "--key-file", "k", "--passphrase-file", "p"))
        self.assertIn("one of", self.refused(*BASIC, "--kdc-ca", "c", "--kdc-fingerprint", PRINT))

    def test_paths_are_absolute(self) -> None:
        """A daemon changes its directory: paths do not follow it."""
        settings = self.settings(*BASIC, "--key-file", "k", "--kdc-ca", "ca", "--known-kdcs", "n")
        here = Path.cwd()
        self.assertEqual(settings.secret.key_file, here / "k")
        self.assertEqual(settings.ca, str(here / "ca"))
        self.assertEqual(settings.known_kdcs, here / "n")
        self.assertEqual(self.settings(*BASIC, "--kdc-ca", "system").ca, "system")

    def test_fingerprint(self) -> None:
        """A fingerprint is checked when it is typed."""
        settings = self.settings(*BASIC, "--kdc-fingerprint", PRINT.upper())
        self.assertEqual(settings.fingerprint, PRINT)
        self.assertIn("fingerprint", self.refused(*BASIC, "--kdc-fingerprint", "sha256:12"))

    def test_missing(self) -> None:
        """What is not known and has no default is asked for by its option."""
        self.assertIn("--name", self.refused("-p", "88"))
        self.assertIn("--port", self.refused("-n", "alice"))

    def test_loopback(self) -> None:
        """Whether the KDC is on this machine."""
        for host, local in (("localhost", True), ("127.3.2.1", True), ("::1", True)):
            self.assertEqual(self.settings("-n", "a", "-p", "1", "-a", host).on_loopback, local)
        self.assertFalse(self.settings(*BASIC).on_loopback)
        self.assertTrue(self.settings("-n", "a", "-p", "1", "-a", "LocalHost").on_loopback)

    def test_capitals(self) -> None:
        """Capitals do not make another name or another KDC than the file's."""
        self.home.joinpath("kdc").mkdir(parents=True)
        self.home.joinpath("kdc", "client.toml").write_text(
            f'name = "alice"\naddress = "kdc.example"\nport = 88\nkey-file = "/k"\n'
            f'kdc-fingerprint = "{PRINT}"\n'
        )
        for words in (["-n", "Alice"], ["-a", "KDC.Example"], ["-p", "88"]):
            settings = self.settings(*words)
            self.assertEqual(settings.secret.key_file, Path("/k"), words)
            self.assertEqual(settings.fingerprint, PRINT, words)
        self.assertIsNone(self.settings("-n", "bob").secret.key_file)
        self.assertIsNone(self.settings("-a", "other.example").fingerprint)

    def test_port(self) -> None:
        """A port is a number that there is, of however many digits."""
        for port in ("0", "65536", "-1", "8_8", "٨٨", "9" * 5000):
            self.assertIn("a port", self.refused("-n", "alice", f"--port={port}"))

    def test_no_secret_on_the_command_line(self) -> None:
        """There is no option that takes a secret itself."""
        names = {row[0] for row in ClientOptions.optParameters}
        self.assertEqual(names & {"passphrase", "password", "key", "secret", "code"}, set())


class IdentityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "known_kdcs"
        self.looked = 0
        self.patch(known_kdcs_module, "look", self.look)
        self.patch(first_contact_module, "has_terminal", lambda: False)

    def look(self, host: str, port: int) -> str:
        self.looked += 1
        return PRINT

    def identity(self, **options: Any) -> Any:
        settings = ClientSettings("alice", "kdc.example", 88, known_kdcs=self.path, **options)
        return identities_of(settings)[0]

    def test_order(self) -> None:
        """An option comes before the file; with either, nobody is asked and nothing looked at."""
        known_kdcs_module.add(self.path, [("kdc.example", 88)], "sha256:" + "2b" * 32)
        self.assertEqual(self.identity(fingerprint=PRINT), Pin(PRINT))
        self.assertEqual(self.identity(ca="/ca.pem"), Authority("kdc.example", "/ca.pem"))
        self.assertEqual(self.identity(ca="system"), Authority("kdc.example", None))
        self.assertIn("line 1", self.identity().source)
        self.assertEqual(self.looked, 0)

    def test_first_contact(self) -> None:
        """Without a terminal a KDC that was never met is refused, with the line to add."""
        error = self.assertRaises(UnknownIdentity, self.identity)
        self.assertEqual(error.fingerprint, PRINT)
        self.assertIn(f"kdc.example:88 {PRINT}", hint_of(error))
        self.assertIn(str(self.path), hint_of(error))
        self.assertFalse(self.path.exists())

    def test_library(self) -> None:
        """A library has no business on its program's terminal, and is in another thread."""
        self.patch(
            first_contact_module, "has_terminal", lambda: self.fail("it looks for a terminal")
        )
        settings = ClientSettings("alice", "kdc.example", 88, known_kdcs=self.path)
        self.assertRaises(UnknownIdentity, client_for, reactor, settings)

    def test_accept_new(self) -> None:
        """With --accept-new it is remembered, and from then on it must be the same."""
        self.assertEqual(self.identity(accept_new=True).fingerprint, PRINT)
        self.patch(known_kdcs_module, "look", lambda host, port: "sha256:" + "2b" * 32)
        self.assertEqual(self.identity(accept_new=True).fingerprint, PRINT)
        self.assertEqual(len(self.path.read_text().splitlines()), 1)
