"""Where the KDC is, as people write it: host and port in one word, or two."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.client import known_kdcs
from kdc.client.addresses import MOST, key_of, nodes_of, places, read
from kdc.client.settings import ClientSettings, client_settings
from kdc.client.typed import advertised, host_and_port
from kdc.errors import ConfigurationError
from tests.support.core import PROPERTY


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
        for wrong in ({"address": "kdc:88", "port": "89"}, {"address": "http://kdc", "port": 1}):
            self.assertRaises(ConfigurationError, self.settings, **wrong)

    def test_advertised(self) -> None:
        """Peers are told an IP address, and a name is refused before anything is begun."""
        self.assertEqual(advertised("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual((advertised(""), advertised(None)), ("", ""))
        for typed in ("kdc.example", "192.0.2.1:88", "fe80::1%eth0"):
            self.assertRaises(ConfigurationError, advertised, typed)


PRINT, OTHER = "sha256:" + "1a" * 32, "sha256:" + "2b" * 32
hosts = st.one_of(
    st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{0,20}[a-z]\.example", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.sampled_from(["Bücher.example", "localhost"]),
)
ports = st.integers(1, 65535)
several = st.lists(st.tuples(hosts, ports), min_size=1, max_size=MOST)


def typed_as(host: str, port: int | None) -> str:
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SeveralTests(SynchronousTestCase):
    """More KDCs than one."""

    def settings(self, **given: Any) -> ClientSettings:
        return client_settings({"name": "alice", "config": "/dev/null", **given})

    @PROPERTY
    @given(st.lists(st.tuples(hosts, st.none() | ports), min_size=1, max_size=MOST), ports)
    def test_round_trip(self, wanted: list[tuple[str, int | None]], port: int) -> None:
        """What is typed is read in its order, each place once, with the one port for the rest."""
        found = places(read(typed_as(*each) for each in wanted), port)
        keys = [key_of(host, own or port) for host, own in wanted]
        self.assertEqual([key_of(*place) for place in found], list(dict.fromkeys(keys)))

    @PROPERTY
    @given(several)
    def test_remembered(self, wanted: list[tuple[str, int]]) -> None:
        """A line of the known-KDCs file is found by each of its places, and by no other."""
        path = Path(self.mktemp())
        known_kdcs.add(path, wanted, f"{PRINT},{OTHER}")
        self.assertEqual(len(path.read_text().split()), 2)
        for host, port in wanted:
            pin = known_kdcs.find(path, host.upper(), port)
            assert pin is not None
            self.assertEqual(pin.fingerprint, f"{PRINT},{OTHER}")
            another = port % 65535 + 1
            if key_of(host, another) not in [key_of(*place) for place in wanted]:
                self.assertIsNone(known_kdcs.find(path, host, another))

    def test_ports(self) -> None:
        """The port is that of those which have none; with one that fits nothing it is a mistake."""
        settings = self.settings(address=("kdc1", "kdc2:99", "[::1]:99"), port="88")
        self.assertEqual(settings.places, (("kdc1", 88), ("kdc2", 99), ("::1", 99)))
        self.assertEqual(settings.where, "kdc1 port 88, kdc2 port 99, ::1 port 99")
        self.assertEqual(self.settings(address=("kdc1:1", "kdc2:2")).places[1], ("kdc2", 2))
        for wrong in (
            {"address": ("kdc1:1", "kdc2:2"), "port": "88"},
            {"address": ("kdc1:1", "kdc2")},
            {"address": ("kdc1", "a b"), "port": "1"},
            {"address": (), "port": "1"},
            {"address": [f"kdc{n}" for n in range(MOST + 1)], "port": "1"},
        ):
            self.assertRaises(ConfigurationError, self.settings, **wrong)

    def test_here(self) -> None:
        """They are on this machine if all of them are."""
        self.assertTrue(self.settings(address=("localhost:1", "127.0.0.1:2")).on_loopback)
        self.assertFalse(self.settings(address=("localhost:1", "kdc:2")).on_loopback)
        self.assertTrue(self.settings(address=("kdc:1", "[::1]:2")).ipv6)
        self.assertFalse(self.settings(address=("kdc:1", "kdc:2")).ipv6)

    def test_one_twice(self) -> None:
        """A receiver at one KDC twice would take its own name over."""
        self.assertEqual(self.settings(address=("kdc", "KDC:88"), port=88).places, (("kdc", 88),))

    def configured(self, text: str, **given: Any) -> ClientSettings:
        path = Path(self.mktemp())
        path.write_text(f'name = "alice"\nkdc-fingerprint = "{PRINT}, {OTHER}"\n{text}\n')
        return client_settings({"config": path, **given})

    def test_configuration(self) -> None:
        """A list in the file, and the identity of all of them."""
        text = 'addresses = ["kdc1.example", "kdc2.example:12345"]\nport = 88'
        settings = self.configured(text)
        self.assertEqual(settings.places, (("kdc1.example", 88), ("kdc2.example", 12345)))
        self.assertEqual(settings.fingerprint, f"{PRINT},{OTHER}")
        # One of them is no other KDC; one that is not there is.
        for one in ("KDC1.example", "kdc2.example:12345"):
            self.assertIsNotNone(self.configured(text, address=one).fingerprint)
        for others in (["kdc3.example"], ["kdc1.example:12345"], ["kdc1.example", "kdc3.example"]):
            self.assertIsNone(self.configured(text, address=others).fingerprint)
        self.assertIsNone(self.configured(text, port="99").fingerprint)
        for wrong in (
            'addresses = "kdc1.example"\nport = 1',
            "addresses = [1]\nport = 1",
            "addresses = []\nport = 1",
            'addresses = ["a"]\naddress = "b"\nport = 1',
        ):
            self.assertRaises(ConfigurationError, self.configured, wrong)

    def test_names_with_several(self) -> None:
        """A name with two addresses of one kind is two KDCs; with one of each kind it is one."""
        found: list[Any] = []
        self.patch(socket, "getaddrinfo", lambda *place, **how: found)
        four, six = socket.AF_INET, socket.AF_INET6
        for entries, expected in (
            ([(four, "192.0.2.1"), (six, "2001:db8::1")], [("kdc", 88)]),
            (
                [(six, "2001:db8::1"), (four, "192.0.2.2"), (four, "192.0.2.1")],
                [("192.0.2.2", 88), ("192.0.2.1", 88)],
            ),
            (
                [(six, "2001:db8::1"), (six, "2001:db8::2"), (four, "192.0.2.1")],
                [("2001:db8::1", 88), ("2001:db8::2", 88)],
            ),
            ([(four, "192.0.2.1"), (four, "192.0.2.1")], [("kdc", 88)]),
        ):
            found[:] = [(family, 1, 6, "", (address, 88)) for family, address in entries]
            self.assertEqual(nodes_of(("kdc", 88)), tuple(expected))
        self.assertEqual(nodes_of(("192.0.2.1", 88)), (("192.0.2.1", 88),))

    def test_a_name_that_is_not_found(self) -> None:
        """It may be found later: whoever connects says so otherwise."""
        self.assertEqual(nodes_of(("kdc..example", 88)), (("kdc..example", 88),))
