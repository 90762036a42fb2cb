"""The programs that docs/testing-kerberos.md shows, as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import distribution
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


class ExampleTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def passes(self, *words: str) -> str:
        return self.succeeds(sys.executable, *words)

    def succeeds(self, *words: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(TOP),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "no_proxy": "localhost",
        }
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of who runs us
            environment.pop(name, None)
        done = subprocess.run(
            words,
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


class ExampleTests(ExampleTestCase):
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

    def test_java(self) -> None:
        """The program, its configuration, and the command, as they stand there."""
        if shutil.which("java") is None:
            self.skipTest("this machine has no java (Debian: openjdk-17-jre-headless)")
        self.write("Login.java", example("public class Login"))
        self.write("jaas.conf", example("client {"))
        command = example("java -Djava")
        said = self.succeeds("bash", "-c", command)
        self.assertEqual(said, "alice@KRBTEST.COM came to HTTP@localhost\n")
        self.assertIn(said.strip(), PAGE)

    def test_workflow(self) -> None:
        """What its steps run: the second as it stands there, the first as far as it can be."""
        steps = re.findall(r"- run: (.*)", example("runs-on: "))
        self.assertEqual(steps[0], f"pip install {distribution('kdc-twisted').name}")
        self.write("Makefile", "check:\n\t@test -s $${KRB5CCNAME#FILE:} && echo has a ticket\n")
        self.assertEqual(self.succeeds("bash", "-c", steps[1]), "has a ticket\n")
        self.assertEqual(len(steps), 2)


class OthersTests(ExampleTestCase):
    """Examples that need what our own environment has not: another Python, which has it."""

    def setUp(self) -> None:
        super().setUp()
        self.python = os.environ.get("KDC_TEST_PYTHON", "")
        if not self.python:
            self.skipTest("KDC_TEST_PYTHON names no Python with gssapi: make kerberos-suites does")

    def pytest_says(self) -> str:
        return self.succeeds(self.python, "-m", "pytest", *OPTIONS, "test_it.py")

    def test_requests(self) -> None:
        self.write("test_it.py", example("HTTPSPNEGOAuth"))
        self.assertIn("1 passed", self.pytest_says())

    def test_paramiko(self) -> None:
        self.write("test_it.py", example("paramiko.SSHClient"))
        self.assertIn("1 passed", self.pytest_says())

    def test_syntax_of_the_workflow(self) -> None:
        """It is YAML, with the keys of GitHub's syntax and no others."""
        self.write("workflow.yml", example("runs-on: "))
        program = (
            "import json, ruamel.yaml as yaml\n"
            "print(json.dumps(yaml.YAML(typ='safe').load(open('workflow.yml'))))"
        )
        workflow = json.loads(self.succeeds(self.python, "-c", program))
        (job,) = workflow["jobs"].values()
        self.assertEqual(set(job), {"runs-on", "steps"})
        for step in job["steps"]:
            self.assertTrue({"uses"} <= set(step) <= {"uses", "with"} or set(step) == {"run"}, step)


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
