"""Where the KDC is, as people write it: host and port in one word, or two."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.client.settings import client_settings
from kdc.client.typed import advertised, host_and_port
from kdc.errors import ConfigurationError


class AddressTests(SynchronousTestCase):
    def test_read(self) -> None:
        """A host, a host and its port, an IPv6 address with brackets if a port follows."""
        for typed, host, port in (
            ("kdc.example", "kdc.example", None),
            ("kdc.example:88", "kdc.example", 88),
            ("127.0.0.1:12345", "127.0.0.1", 12345),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[2001:db8::1]:88", "2001:db8::1", 88),
        ):
            self.assertEqual(host_and_port(typed), (host, port), typed)

    def test_refused(self) -> None:
        """Whatever else is typed is refused when it is read."""
        for typed in (
            *("", ":88", "kdc:", "kdc:x", "kdc:0", "kdc:65536", "kdc:88:88", "http://kdc"),
            *("http://kdc:88/", "alice@kdc", "[kdc]:88", "[::1", "::1]:88", "[::1]x", "[::1]:"),
            *("a b", "-kdc", "a/b", "a\0b", "a..b", "x" * 70),
        ):
            self.assertRaises(ValueError, host_and_port, typed)

    def settings(self, **given: Any) -> tuple[str, int]:
        settings = client_settings({"name": "alice", "config": "/dev/null", **given})
        return settings.host, settings.port

    def test_settings(self) -> None:
        """The port may stand in the address; two that differ are a mistake."""
        self.assertEqual(self.settings(address="kdc:88"), ("kdc", 88))
        self.assertEqual(self.settings(address="[::1]:88"), ("::1", 88))
        self.assertEqual(self.settings(address="kdc:88", port="88"), ("kdc", 88))
        self.assertEqual(self.settings(address="kdc", port=89), ("kdc", 89))
        for given in ({"address": "kdc:88", "port": "89"}, {"address": "http://kdc", "port": 1}):
            self.assertRaises(ConfigurationError, self.settings, **given)

    def test_advertised(self) -> None:
        """Peers are told an IP address, and a name is refused before anything is begun."""
        self.assertEqual(advertised("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual((advertised(""), advertised(None)), ("", ""))
        for typed in ("kdc.example", "192.0.2.1:88", "fe80::1%eth0"):
            self.assertRaises(ConfigurationError, advertised, typed)
