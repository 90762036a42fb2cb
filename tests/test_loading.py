"""What a command loads, and that it ends at once: most of the time of a small message is that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ExitStatus
from kdc.secret import write_key_file
from tests.support.processes import CLIENT

# Each takes a part of a start that can be seen, and sending needs none of them.
NOT_TO_SEND = """
    kdc.api kdc.asking_commands kdc.client_tap kdc.completion kdc.confined kdc.consent kdc.deposit
    kdc.doctor kdc.hook kdc.identity_commands kdc.issuer kdc.listening kdc.optiontable
    kdc.receive_app kdc.receiving kdc.server kdc.service kdc.store kdc.tap kdc.tunnel
    kdc.tunnel_app kdc.tunnel_commands kdc.unfinished kdc.who_app
    hypothesis importlib.metadata pkg_resources setuptools sqlite3
    twisted.application twisted.conch twisted.mail twisted.names
    twisted.plugins twisted.scripts twisted.trial twisted.web twisted.words unittest
""".split()

SENDING = """
import sys
from kdc import cli
status = cli._guarded("kdcclient", cli._kdcclient, sys.argv[1:])
print(status, *sys.modules)
"""

# What Python does at the end of a process, and nobody waits for.
LAST_WORDS = "import atexit; atexit.register(print, 'taken apart')"


class LoadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.key = self.directory / "alice.key"
        write_key_file(self.key)

    def run_python(self, *argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in argv],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "XDG_CONFIG_HOME": str(self.directory), **env},
        )

    def test_a_small_message(self) -> None:
        """Sending one loads what sends, and nothing that receives, tunnels or serves."""
        done = self.run_python(
            *(sys.executable, "-c", SENDING, "send", "-n", "alice", "--key-file", self.key),
            *("-a", "127.0.0.1", "-p", "1", "--kdc-fingerprint", "sha256:" + 64 * "0"),
            *("bob", "--text", "Hello"),
        )
        status, *loaded = done.stdout.split()
        self.assertEqual(int(status), ExitStatus.KDC, done.stderr)
        self.assertIn("kdc.sending", loaded)
        self.assertEqual(sorted(set(NOT_TO_SEND) & set(loaded)), [])

    def test_the_end(self) -> None:
        """A command that is done has said all it had to, and does not tidy up behind itself."""
        (self.directory / "sitecustomize.py").write_text(LAST_WORDS)
        there = os.pathsep.join([str(self.directory), *sys.path])
        ordinary = self.run_python(sys.executable, "-c", "print('done')", PYTHONPATH=there)
        self.assertEqual(ordinary.stdout, "done\ntaken apart\n")
        done = self.run_python(*CLIENT, "completion", "bash", PYTHONPATH=there)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(done.stdout.startswith("# bash completion"), done.stdout[:100])
        self.assertTrue(done.stdout.endswith("kdcclient\n"), done.stdout[-100:])
