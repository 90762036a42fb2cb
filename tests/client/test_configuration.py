"""client.toml: defaults for what would be typed each time."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.client import configuration as configuration_module
from kdc.errors import ConfigurationError, LocalIOError
from tests.support.core import PROPERTY

TOP = Path(__file__).parent.parent.parent


class ConfigTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "client.toml"
        self.patch(os, "environ", {"HOME": str(self.directory / "home")})

    def load(self, text: str | bytes) -> dict[str, str]:
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return configuration_module.load(self.path)

    def refusal(self, text: str | bytes) -> str:
        error = self.assertRaises(ConfigurationError, self.load, text)
        self.assertIn(str(self.path), str(error))
        return f"{error}\n{error.hint}"

    def test_values(self) -> None:
        """Texts and whole numbers, as the command line would have them."""
        self.assertEqual(
            self.load('name = "bob"\naddress = "kdc.example"\nport = 12345\nrealm = "LAB"\n'),
            {"name": "bob", "address": "kdc.example", "port": "12345", "realm": "LAB"},
        )
        self.assertEqual(self.load(""), {})

    def test_no_home(self) -> None:
        """Who has no home directory has no file of his own, and no other trouble."""
        self.patch(os, "environ", {})
        self.patch(pwd, "getpwuid", lambda uid: {}[uid])
        self.assertEqual(configuration_module.load(), {})
        loaded = self.load('key-file = "~nobody-of-that-name/bob.key"')
        self.assertTrue(loaded["key-file"].endswith("/~nobody-of-that-name/bob.key"))

    def test_paths(self) -> None:
        """A relative path starts where the file is, whatever the working directory."""
        loaded = self.load(
            'key-file = "bob.key"\nknown-kdcs = "/etc/kdc/known"\n'
            'passphrase-file = "~/secret"\nkdc-ca = "ca/root.pem"\n'
        )
        self.assertEqual(
            loaded,
            {
                "key-file": str(self.directory / "bob.key"),
                "known-kdcs": "/etc/kdc/known",
                "passphrase-file": str(self.directory / "home" / "secret"),
                "kdc-ca": str(self.directory / "ca" / "root.pem"),
            },
        )

    def test_system_ca(self) -> None:
        """`system` is no path."""
        self.assertEqual(self.load('kdc-ca = "system"'), {"kdc-ca": "system"})

    def test_unknown_key(self) -> None:
        """A key that does not exist is an error that names those that do."""
        told = self.refusal('nmae = "bob"')
        self.assertIn("no setting nmae", told)
        self.assertIn("passphrase-file", told)
        self.assertIn("no setting xxxxxxxxxx", self.refusal("x" * 100 + "=1"))

    def test_zero_bytes(self) -> None:
        """No file has one in its name, with a home directory before it or not."""
        for value in ("~\\u0000bob.key", "bob\\u0000.key"):
            self.assertIn("key-file has a zero byte", self.refusal(f'key-file = "{value}"'))

    def test_no_secret(self) -> None:
        """A passphrase in the file is refused, and not repeated."""
        self.assertNotIn("hunter2", self.refusal('passphrase = "hunter2"'))
        self.assertNotIn("hunter2", self.refusal("passphrase-file = ['hunter2']"))

    def test_other_types(self) -> None:
        """What is neither a text nor a whole number is refused."""
        for value in ("true", "1.5", "[1]", "{}", "1979-05-27"):
            self.assertIn("must be a text or a number", self.refusal(f"port = {value}"))

    def test_no_toml(self) -> None:
        """What is not TOML is refused: broken, not UTF-8, too long, too deep."""
        for text in ("name", b"name = '\xff'", "a=" + "[" * 20_000):
            self.assertIn("it must be TOML", self.refusal(text))
        self.assertIn("too long: more than 65536 bytes", self.refusal("#" * 70_000))

    def test_missing(self) -> None:
        """Without a file there are no defaults; one that was named has to be there."""
        self.assertEqual(configuration_module.load(), {})
        self.assertRaises(LocalIOError, configuration_module.load, self.path)
        self.assertRaises(LocalIOError, configuration_module.load, self.directory)

    def test_default_path(self) -> None:
        """It is where such files are, and read from there."""
        self.assertEqual(
            configuration_module.default_path(),
            self.directory / "home" / ".config" / "kdc" / "client.toml",
        )
        os.environ["XDG_CONFIG_HOME"] = str(self.directory)
        (self.directory / "kdc").mkdir()
        (self.directory / "kdc" / "client.toml").write_text('name = "carol"')
        self.assertEqual(configuration_module.load(), {"name": "carol"})

    def test_unreadable_default(self) -> None:
        """One's own file that is there but cannot be read is an error, not nothing."""
        os.environ["XDG_CONFIG_HOME"] = str(self.directory)
        (self.directory / "kdc" / "client.toml").mkdir(parents=True)
        self.assertRaises(LocalIOError, configuration_module.load)

    @PROPERTY
    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_anything(self, content: bytes) -> None:
        """Any bytes at all give settings or one clear error."""
        try:
            loaded = self.load(content)
        except ConfigurationError:
            return
        self.assertLessEqual(set(loaded), set(configuration_module.KEYS))

    def test_documented(self) -> None:
        """docs/client.md has every key, and no other."""
        text = (TOP / "docs" / "client.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
        documented = [key for row in rows for key in re.findall(r"`([a-z-]+)`", row)]
        self.assertEqual(sorted(documented), sorted(configuration_module.KEYS))
