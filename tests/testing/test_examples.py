"""The programs that docs/testing-kerberos.md shows, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.testing import Realm

TOP = Path(__file__).parent.parent.parent
PAGE = (TOP / "docs" / "testing-kerberos.md").read_text(encoding="utf-8")
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "kdc.testing.pytest_plugin", "--rootdir", ".")


def blocks(page: str) -> Iterator[str]:
    """Yield what is indented by four spaces, without them."""
    for found in re.finditer(r"(?:^(?: {4}.*)?\n)+", page, re.MULTILINE):
        if found[0].strip():
            yield textwrap.dedent(found[0]).strip() + "\n"


def example(part: str) -> str:
    (found,) = (block for block in blocks(PAGE) if part in block)
    return found


class ExampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def passes(self, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(TOP), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.directory,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text, encoding="utf-8")

    def test_first(self) -> None:
        """The first of the page."""
        self.write("first.py", example("alice.kinit()                         #"))
        self.passes("first.py")

    def test_pytest(self) -> None:
        self.write("test_it.py", example("def test_login(krb5_realm_fresh)"))
        self.assertIn("1 passed", self.passes("-m", "pytest", *OPTIONS, "test_it.py"))

    def test_k5(self) -> None:
        """The ten lines in place of k5test, in a conftest.py, and a test that takes the fixture."""
        self.write("conftest.py", example("from kdc.testing.k5 import K5Realm"))
        self.write(
            "test_it.py",
            "import os\n\ndef test_it(realm):\n"
            "    assert os.environ['KRB5CCNAME'] == realm.ccache\n"
            "    assert os.path.exists(realm.ccache)\n",
        )
        self.assertIn("1 passed", self.passes("-m", "pytest", *OPTIONS, "test_it.py"))

    def test_unittest(self) -> None:
        self.write("test_it.py", example("(unittest.TestCase)"))
        self.assertIn("OK", self.passes("-m", "unittest", "test_it"))

    def test_trial(self) -> None:
        self.write("test_it.py", example("deferToThread"))
        self.assertIn("PASSED", self.passes("-m", "twisted.trial", "test_it"))

    def test_workflow(self) -> None:
        """The steps of the workflow, without what brings Python; what runs is ours."""
        steps = re.findall(r"- run: (.*)", example("runs-on: "))
        self.assertEqual(steps[0], "pip install kdc-twisted")
        self.assertTrue(steps[1].startswith("kdc realm --user alice --service HTTP/localhost -- "))


class ManyTests(SynchronousTestCase):
    def test_fifty(self) -> None:
        """Fifty realms at once, each with ports, people and tickets of its own."""
        realms = []
        for _ in range(50):
            realms.append(Realm(in_process=True))
            self.addCleanup(realms[-1].close)
        self.assertEqual(len({realm.port for realm in realms}), 50)
        for number, realm in enumerate(realms):
            realm.user("alice", f"password {number}").kinit()
        keys = {realm.keytab_entries("krbtgt/KRBTEST.COM")[0].key for realm in realms}
        self.assertEqual(len(keys), 50)
