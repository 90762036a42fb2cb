"""Endpoints as people type them."""

from __future__ import annotations

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.client.options import listen_endpoint, listen_endpoints
from kdc.commands.client.tunnel import TunnelOptions, tunnel_settings
from kdc.commands.options import local_endpoint, server_endpoints, service_endpoint
from kdc.errors import ConfigurationError


class EndpointTests(SynchronousTestCase):
    def test_listening(self) -> None:
        """A port is on this machine, ADDRESS:PORT there, and an endpoint string is one."""
        for typed, expected in (
            ("80", "tcp:80:interface=127.0.0.1"),
            ("192.0.2.1:80", "tcp:80:interface=192.0.2.1"),
            ("[2001:db8::1]:0", "tcp6:0:interface=2001\\:db8\\:\\:1"),
            ("tcp:80", "tcp:80"),
            ("localhost:80", "localhost:80"),
        ):
            self.assertEqual(server_endpoints(typed), expected)
        self.assertEqual(local_endpoint("127.0.0.1:5"), "tcp:5:interface=127.0.0.1")
        self.assertEqual(listen_endpoint("192.0.2.1:5", True, False), "tcp:5:interface=192.0.2.1")
        self.assertRaises(usage.UsageError, server_endpoints, "65536")

    def test_a_free_port(self) -> None:
        """Where none was asked for another port will do, on the same interface."""
        for ipv6, loopback, expected in (
            (False, True, "tcp:0:interface=127.0.0.1"),
            (True, True, "tcp6:0:interface=\\:\\:1"),
            (False, False, "tcp:0"),
        ):
            given = listen_endpoints(None, loopback, ipv6)
            self.assertEqual(given, (expected.replace(":0", ":60000", 1), expected))
        self.assertEqual(listen_endpoints("60000", True, False)[1], "")

    def test_services(self) -> None:
        """What is connected to may have a name; a port alone is one of this machine."""
        for typed, expected in (
            ("80", "tcp:127.0.0.1:80"),
            ("db.example:80", "tcp:db.example:80"),
            ("localhost:80", "tcp:localhost:80"),
            ("[::1]:80", "tcp:[::1]:80"),
            ("unix:/run/db", "unix:/run/db"),
            ("tcp:80", "tcp:80"),
        ):
            self.assertEqual(service_endpoint(typed), expected)

    def test_refused_at_the_start(self) -> None:
        """What a service cannot be at is refused before anybody is asked for anything."""
        for endpoint in ("tcp:80", "tcp:h:0", "udp:localhost:53", "udp:127.0.0.1:", "h:80"):
            options = TunnelOptions()
            words = ["-n", "bob", "-p", "1", "--config", "/dev/null", "--expose", f"db={endpoint}"]
            options.parseOptions(words)
            self.assertRaises(ConfigurationError, tunnel_settings, options)
