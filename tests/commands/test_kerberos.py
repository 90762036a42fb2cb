"""Kerberos as it is typed: what the KDC is told of it, and that others never load it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.admin.kerberos import LOST, EnableCommand
from kdc.commands.client.kinit import _cache, _span
from kdc.commands.private_file import write_private
from kdc.commands.tap import Options, settings_of
from kdc.errors import ConfigurationError, RefusedByPolicy
from tests.support.processes import TOP

_WITHOUT = """
import sys
from twisted.internet import reactor
from kdc.admin.principals import administer
from kdc.commands.tap import Options, service_of
from kdc.server.service import KDCService
options = Options()
options.parseOptions(["-p", "0", "-f", sys.argv[1], "--directory", "0"])
service = service_of(KDCService, options, reactor, print)
service.privilegedStartService()
parts = ("kdc.kerberos", "kdc.kerberos_store", "kdc.admin.kerberos")
found = [name for name in sys.modules if name.startswith(("kdc.kerberos.", "kdc.server._kerberos"))]
print("loaded:", found + [name for name in parts if name in sys.modules])
"""


def settings(*words: str) -> Any:
    options = Options()
    options.parseOptions(["-p", "12345", *words])
    return settings_of(options)


class OptionsTests(SynchronousTestCase):
    def test_off(self) -> None:
        """Who does not ask for it has none."""
        self.assertIsNone(settings().kerberos)

    def test_without_it_nothing_of_it_is_loaded(self) -> None:
        """A KDC without it starts with no module of it."""
        ran = subprocess.run(
            [sys.executable, "-c", _WITHOUT, str(Path(self.mktemp()).absolute())],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TOP)},
            check=False,
        )
        self.assertIn("loaded: []\n", ran.stdout, ran.stderr)

    def test_on(self) -> None:
        """Places, separated by commas; a realm in capitals; what the file says of it."""
        path = Path(self.mktemp())
        path.write_text("[kerberos]\nlife = 600")
        words = ("--realm", "EXAMPLE.ORG", "--kerberos", "udp:88, tcp:88", "-c", str(path))
        found = settings(*words, "--kerberos-tickets", "12347").kerberos
        self.assertEqual(found.endpoints, ("udp:88", "tcp:88"))
        self.assertEqual(found.tickets, "tcp:12347:interface=127.0.0.1")
        self.assertEqual(found.life, 600)
        self.assertIn("kdcclient kinit", found.advice)

    def test_wrong(self) -> None:
        """A realm in small letters, no places, and a place for tickets alone are refused."""
        for words, pattern in (
            (("--realm", "Example", "--kerberos", "udp:88"), "capital letters: --realm EXAMPLE"),
            (("--kerberos", "88"), "udp:88,tcp:88"),
            (("--kerberos", ","), "udp:88,tcp:88"),
            (("--kerberos-tickets", "12347"), "give --kerberos"),
        ):
            error = self.assertRaises(usage.UsageError, settings, *words)
            self.assertIn(pattern, str(error))


class EnableTests(SynchronousTestCase):
    def test_what_is_lost(self) -> None:
        """Without --yes it is said, in the words of the README, and nothing is done."""
        command = EnableCommand()
        command.parseOptions([])
        error = self.assertRaises(RefusedByPolicy, command.run)
        self.assertEqual(str(error), LOST)
        self.assertIn("--yes", error.hint)

        def plain(text: str) -> str:
            return " ".join(text.replace("*", "").replace("`", "").split())

        for page in ("README.md", "docs/kerberos.md"):
            text = plain((TOP / page).read_text(encoding="utf-8"))
            self.assertIn(plain(LOST), text, page)


class CacheTests(SynchronousTestCase):
    def test_where(self) -> None:
        """Where other programs look, or where one is told to; caches of other kinds are refused."""
        with mock.patch.dict(os.environ, {"KRB5CCNAME": "FILE:/tmp/a"}):
            self.assertEqual(_cache(None), Path("/tmp/a"))
            self.assertEqual(_cache("/tmp/b"), Path("/tmp/b"))
        with mock.patch.dict(os.environ):
            os.environ.pop("KRB5CCNAME", None)
            self.assertEqual(_cache(None), Path(f"/tmp/krb5cc_{os.getuid()}"))
        for other in ("KEYRING:persistent:0", "DIR:/tmp", "KCM:", "FILE:"):
            self.assertRaises(ConfigurationError, _cache, other)

    def test_times(self) -> None:
        """Seconds, or a number with a unit."""
        for text, seconds in (("", 0), ("90", 90), ("30m", 1800), ("10h", 36_000), ("7d", 604_800)):
            self.assertEqual(_span(text, "--lifetime"), seconds)
        for bad in ("0", "-1", "1w", "h", "1.5h", "400d"):
            error = self.assertRaises(usage.UsageError, _span, bad, "--lifetime")
            self.assertIn("such as 30m, 10h or 7d", str(error))

    def test_the_file(self) -> None:
        """It is its owner's alone, whatever was there, and nothing lies beside it."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        path = directory / "cache"
        path.write_bytes(b"older")
        path.chmod(0o644)
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        write_private(path, b"newer")
        self.assertEqual(path.read_bytes(), b"newer")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(directory), ["cache"])
