"""What pytest gets from an installed kdc."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TOP = Path(__file__).parent.parent.parent
TESTS = """
from kdc.kerberos.ccache import read_ccache

def test_one(krb5_realm):
    krb5_realm.user("alice")

def test_same(krb5_realm):
    assert "alice@KRBTEST.COM" in krb5_realm.principals

def test_fresh(krb5_realm_fresh):
    assert "alice@KRBTEST.COM" not in krb5_realm_fresh.principals
    krb5_realm_fresh.user("alice", "pw").kinit()
    client, tickets = read_ccache(krb5_realm_fresh.ccache.read_bytes())
    assert str(client) == "alice@KRBTEST.COM" and len(tickets) == 1
"""


class PluginTests(SynchronousTestCase):
    def test_fixtures(self) -> None:
        """One realm for the run, and one for the test that wants it."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "test_it.py").write_text(TESTS, "utf-8")
        options = ["-q", "-p", "no:cacheprovider", "-p", "kdc.testing.pytest_plugin"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, "--rootdir", ".", "test_it.py"],
            cwd=directory,
            env={"PYTHONPATH": str(TOP), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            check=False,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("3 passed", done.stdout)
