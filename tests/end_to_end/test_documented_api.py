"""docs/api.md: each of its programs does what it says there."""

from __future__ import annotations

import re
import signal
import sys

from kdc.protocol.names import check_name
from tests.support.processes import TOP, Program, ProgramTestCase, RunningKDC

TEXT = (TOP / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


class ExampleTests(ProgramTestCase):
    """As a reader would start them: with a configuration file, in a directory with the keys."""

    def setUp(self) -> None:
        super().setUp()
        self.running = self.kdc()
        self.configure(self.running)
        for name in ("alice", "bob"):
            self.key(name)
        for block in BLOCKS:
            self.file(block.splitlines()[0].removeprefix("# "), block.encode())

    def configure(self, kdc: RunningKDC) -> None:
        directory = self.scratch.home / ".config" / "kdc"
        directory.mkdir(parents=True)
        (directory / "client.toml").write_text(
            f'address = "{kdc.host}"\nport = {kdc.port}\nkdc-fingerprint = "{kdc.fingerprint}"\n'
        )

    def python(self, name: str) -> Program:
        return self.scratch.start(sys.executable, name)

    def serve(self) -> Program:
        """server.py; it has no line to say, so wait until a client gets its answer."""
        server = self.python("server.py")
        for _ in range(100):
            client = self.python("client.py")
            status = client.wait()
            if status == 0:
                self.assertEqual(client.printed, "b'Hello, Bob!'\n")
                return server
            # 6: a server of the same name was still there, and left in the middle of an answer.
            self.assertIn(status, (5, 6), client.transcript())
        raise AssertionError("bob cannot be reached")

    def test_every_example_is_named(self) -> None:
        """There is no example that these tests do not know."""
        names = [block.splitlines()[0] for block in BLOCKS]
        expected = "server.py client.py names.py fetch.py keys.py in_asyncio.py"
        self.assertEqual(names, [f"# {name}" for name in expected.split()])
        for block in BLOCKS[:2]:
            body = [line for line in block.splitlines() if line and "import" not in line]
            self.assertEqual(len(body), 5, "a comment and four lines")

    def test_readme(self) -> None:
        """The two programs in README.md are these, to the letter."""
        readme = (TOP / "README.md").read_text(encoding="utf-8")
        for block in BLOCKS[:2]:
            self.assertIn(f"```python\n{block}```\n", readme)

    def test_server_and_client(self) -> None:
        """The short ones; nobody but alice is served; the server ends when asked to."""
        server = self.serve()
        self.as_carol("client.py", "closed the connection without an answer")
        self.assertEqual(server.stop(), 143)
        self.assert_brief(self.python("client.py"), 5, "not receiving")

    def test_without_a_kdc(self) -> None:
        """A KDC that is not there: one or two lines and an exit status, as of a command."""
        self.running.program.stop()
        self.assert_brief(self.python("client.py"), 3, "client.py: no KDC answers")

    def test_two_servers(self) -> None:
        """A second server of the same name takes it over; the first one ends, saying why."""
        first = self.serve()
        self.serve()
        self.assert_ends(first, 8, "somebody began to receive as bob")

    def test_names(self) -> None:
        """Each knows the other, and that it got everything."""
        self.assert_prints("names.py", "('bob', b'Good morning, alice', True)\n")

    def test_keys(self) -> None:
        """Both derive the same, for the same purpose only."""
        self.assert_prints("keys.py", "alice True\nFalse\n")

    def test_asyncio(self) -> None:
        """The same client in asyncio.run; the process ends by itself."""
        self.serve()
        self.assert_prints("in_asyncio.py", "[b'one', b'two']\n")

    def test_asyncio_errors(self) -> None:
        """In asyncio, what goes wrong is raised where it is awaited."""
        path = self.directory / "in_asyncio.py"
        source = path.read_text().replace(
            "    async with", "    from kdc.errors import PeerUnavailable\n    async with"
        )
        source = source.replace(
            "        answers = await",
            "        try:\n"
            "            await wait(alice.ask('nobody'))\n"
            "        except PeerUnavailable as error:\n"
            "            print(error)\n"
            "            return\n"
            "        answers = await",
        )
        path.write_text(source)
        program = self.python("in_asyncio.py")
        self.assert_ends(program, 0)
        self.assertIn("no key for nobody: the KDC knows nobody of that name", program.printed)

    def test_endpoint_strings(self) -> None:
        """twistd serves a directory by a string; Agent fetches from it by another."""
        found = re.search(r"^twistd (-n web .*) '(kdc:.*)'$", TEXT, re.MULTILINE)
        if found is None:
            raise AssertionError("there is no such line")
        (self.directory / "www").mkdir()
        (self.directory / "www" / "index.html").write_bytes(b"<p>Welcome.")
        web = self.twistd("--pidfile=", *found[1].split(), found[2])
        web.expect("Starting factory|starting on")
        self.eventually("bob is there", lambda: self.python("fetch.py").wait() == 0)
        self.assert_prints("fetch.py", "200 b'<p>Welcome.'\n")
        self.as_carol("client.py", "closed the connection without an answer")
        self.assertEqual(web.stop(), -signal.SIGTERM)  # as twistd ends, after a proper shutdown

    def as_carol(self, name: str, text: str) -> None:
        """She is refused where alice is not."""
        source = (self.directory / name).read_bytes()
        self.file("carol.py", source.replace(b"alice", b"carol"))
        self.key("carol")
        self.assert_brief(self.python("carol.py"), 5, text)

    def assert_prints(self, name: str, text: str) -> None:
        program = self.python(name)
        self.assert_ends(program, 0)
        self.assertEqual(program.printed, text)


class TextTests(ProgramTestCase):
    def setUp(self) -> None:
        """No program is needed."""

    def test_services_grammar(self) -> None:
        """What is said of the names of services is what they are."""
        self.assertIn("1-64 of `a-z 0-9 . _ -`, a letter or digit first", TEXT)
        for good in ("0", "web.8_0-x", "a" * 64):
            self.assertEqual(check_name(good), good)
        for bad in ("", "-a", ".a", "A", "a b", "a" * 65):
            self.assertRaises(ValueError, check_name, bad)
