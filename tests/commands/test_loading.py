"""What a command loads, and that it ends at once: most of the time of a small message is that."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.client.secret import write_key_file
from kdc.errors import ExitStatus
from tests.support.processes import CLIENT, PATIENCE_SECONDS

# Each takes a part of a start that can be seen, and sending needs none of them.
NOT_TO_SEND = """
    kdc.api kdc.channel.listening kdc.commands.client.doctor
    kdc.commands.client.expose kdc.commands.client.forward kdc.commands.client.init
    kdc.commands.client.keygen kdc.commands.client.passwd kdc.commands.client.pipe
    kdc.commands.client.register kdc.commands.client.tap kdc.commands.client.tunnel
    kdc.commands.client.who kdc.commands.client.whoami kdc.commands.completion
    kdc.commands.option_table kdc.commands.tap kdc.files.tree kdc.issuing.issuer
    kdc.server._connections kdc.server.service kdc.store kdc.transfer.consent kdc.transfer.deposit
    kdc.transfer.hook kdc.transfer.receiver kdc.transfer.receiving
    kdc.transfer._partials kdc.tunnel.splice kdc.tunnel.tunnels
    hypothesis importlib.metadata pkg_resources setuptools sqlite3
    twisted.application twisted.conch twisted.mail twisted.names
    twisted.plugins twisted.scripts twisted.trial twisted.web twisted.words unittest
""".split()

SENDING = """
import sys
before = set(sys.modules)  # what has loaded those is a tool that watches us, as coverage does
from kdc.commands import main as main_module
status = main_module._guarded("kdcclient", main_module._kdcclient, sys.argv[1:])
print(status, *(sys.modules.keys() - before))
"""

# What Python does at the end of a process, and nobody waits for.
LAST_WORDS = "import atexit; atexit.register(print, 'taken apart')"


OPENING = """
import sys
from kdc.commands.tap import Options, settings_of
from kdc.store.opened import open_store
options = Options()
options.parseOptions(["-p", "0", "-f", sys.argv[1]])
settings = settings_of(options)
open_store(settings.store, realm=settings.realm, etcd=settings.etcd).close()
print(*sys.modules)
"""


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
            timeout=PATIENCE_SECONDS,
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
        self.assertIn("kdc.transfer.sender", loaded)
        self.assertEqual(sorted(set(NOT_TO_SEND) & set(loaded)), [])
        for module in NOT_TO_SEND:
            if module.startswith("kdc."):  # and has still that name
                self.assertIsNotNone(find_spec(module), module)

    def test_a_kdc_with_a_file(self) -> None:
        """It loads nothing of what a KDC with etcd needs."""
        done = self.run_python(sys.executable, "-c", OPENING, self.directory / "pwd.txt")
        loaded = done.stdout.split()
        self.assertIn("kdc.store.flatfile._store", loaded, done.stderr)
        self.assertEqual([each for each in loaded if each.startswith("kdc.store.etcd")], [])

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
