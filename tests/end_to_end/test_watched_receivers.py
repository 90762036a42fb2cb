"""Receivers, tunnels and relays as those see them who watch them."""

from __future__ import annotations

import json
import re
import socket

from twisted.trial.unittest import SkipTest

from tests.server.test_status import fetch
from tests.support.processes import KDC, Program, ProgramTestCase
from tests.support.prometheus import tool
from tests.support.tunnels import shout_server


def status_of(program: Program) -> str:
    return program.expect(r"status at (http://127\.0\.0\.1:\d+)/\n")[1]


class WatchedTests(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.realm = self.shared_kdc()
        self.bob = self.name("bob")

    def figures(self, url: str) -> dict[str, float]:
        """All of them; Prometheus' own tool has nothing to say against their names and texts."""
        status, text = fetch(f"{url}/metrics")
        if status == 503:
            raise SkipTest("prometheus-client is not installed")
        self.assertNotIn(self.bob.encode(), text)
        tool(self, "promtool", "check", "metrics", given=text.decode())
        rows = re.findall(r"(?m)^([a-z][^ ]*) (\S+)$", text.decode())
        return {name: float(number) for name, number in rows}

    def assert_figures(self, url: str, wanted: dict[str, float]) -> None:
        found = self.figures(url)
        self.assertEqual({name: found.get(name) for name in wanted}, wanted)

    def options(self) -> tuple[str, ...]:
        return ("-n", self.bob, *self.realm.options, *self.key(self.bob), "--listen", "0")

    def test_receive(self) -> None:
        """What was received is counted exactly, and the page and the probes are there."""
        receiver = self.client("receive", "--inbox", ".", "--status", "0", *self.options())
        url = status_of(receiver)
        receiver.expect("receiving on")
        path = self.file("a.bin", bytes(100_000))
        sender = self.name("alice")
        for _ in range(2):
            self.assert_ends(self.send(self.realm, sender, self.bob, path), 0)
        status, body = fetch(f"{url}/readyz")
        self.assertEqual((status, json.loads(body)["checks"]), (200, {"kdc": "ok"}))
        self.assertEqual(fetch(f"{url}/healthz")[0], 200)
        self.assertIn(b"<dt>stored</dt><dd>2</dd>", fetch(f"{url}/")[1])
        wanted = {
            "kdc_receiver_kdc_links": 1.0,
            "kdc_receiver_relay_links": 0.0,
            "kdc_channels_opened_total": 2.0,
            'kdc_transfers_total{outcome="stored"}': 2.0,
            'kdc_transfers_total{outcome="cut"}': 0.0,
            'kdc_channels_refused_total{reason="no_service"}': 0.0,
        }
        self.assert_figures(url, wanted)
        self.assertGreater(self.figures(url)["kdc_transfer_received_bytes_total"], 200_000)
        self.assertEqual(fetch(f"{url}/readyz", Host="evil.example")[0], 421)
        receiver.stop()

    def test_the_kdc_is_gone(self) -> None:
        """Who is not reached through any KDC is not ready, and says so; alive it is."""
        self.realm = self.kdc()
        receiver = self.client("receive", "--inbox", ".", "--status", "0", *self.options())
        url = status_of(receiver)
        receiver.expect("receiving on")
        self.realm.program.stop()
        self.eventually("it is not ready", lambda: fetch(f"{url}/readyz")[0] == 503)
        self.assertIn(b"no KDC sends anybody here", fetch(f"{url}/readyz")[1])
        self.assertEqual(fetch(f"{url}/healthz")[0], 200)
        self.assert_figures(url, {"kdc_receiver_kdc_links": 0.0})

    def test_expose(self) -> None:
        """Connections and bytes of a tunnel, counted at both of its ends."""
        port = shout_server(self)
        exposing = self.client("expose", f"shout={port}", "--status", "0", *self.options())
        url = status_of(exposing)
        exposing.expect("receiving on")
        alice = self.name("alice")
        near = self.client(
            *("tunnel", "--forward", f"{self.bob}/shout=0", "--status", "0"),
            *("-n", alice, *self.realm.options, *self.key(alice)),
        )
        near_url = status_of(near)
        place = int(near.expect(r"is at 127\.0\.0\.1 port (\d+)")[1])
        with socket.create_connection(("127.0.0.1", place)) as user:
            user.sendall(b"hello\n")
            self.assertEqual(user.makefile("rb").readline(), b"HELLO\n")
            self.assert_figures(url, {"kdc_tunnel_connections": 1.0, "kdc_channels": 1.0})
        ended = 'kdc_tunnel_connections_ended_total{outcome="closed"}'
        for each in (url, near_url):
            self.eventually("it has ended", lambda each=each: self.figures(each)[ended] == 1)  # type: ignore[misc]
            self.assert_figures(
                each,
                {
                    "kdc_tunnel_connections": 0.0,
                    'kdc_tunnel_bytes_total{direction="received"}': 6.0,
                    'kdc_tunnel_bytes_total{direction="sent"}': 6.0,
                },
            )
        self.assertNotIn("kdc_receiver_kdc_links", self.figures(near_url))

    def test_relay(self) -> None:
        """A relay of its own tells who is linked, and what it has carried."""
        self.realm = self.kdc()
        relay = self.scratch.start(
            *(*KDC, "relay", *self.realm.options, *self.key("relay"), "--listen", "tcp:0"),
            *("--status", "0"),
        )
        url = status_of(relay)
        relay.expect("receiving on")
        receiver = self.client("receive", "-o", "out", "--reach", "relay", *self.options())
        receiver.expect("receiving on")
        self.eventually("linked", lambda: self.figures(url)["kdc_relay_links"] == 1)
        path = self.file("a.bin", bytes(100_000))
        sender = self.send(self.realm, "alice", self.bob, path, "--reach", "relay")
        self.assert_ends(sender, 0)
        found = self.figures(url)
        self.assertEqual(found["kdc_receiver_kdc_links"], 1)
        self.assertGreater(found["kdc_relay_bytes_total"], 100_000)
        self.assertIn(b'<h2 id="h-s-relay">Relay</h2>', fetch(f"{url}/")[1])
        self.assertEqual(fetch(f"{url}/readyz")[0], 200)

    def test_twistd(self) -> None:
        """The same under twistd."""
        program = self.twistd(
            *("-n", "--pidfile=", "kdcclient", "receiver", "--inbox", ".", "--status", "0"),
            *self.options(),
        )
        url = status_of(program)
        program.expect("receiving on")
        self.eventually("ready", lambda: fetch(f"{url}/readyz")[0] == 200)
        self.assert_figures(url, {"kdc_transfers_under_way": 0.0})

    def test_in_the_open(self) -> None:
        """Where other machines could look, it does not start without a token, nor without TLS."""
        token = self.file("token", b"0123456789abcdef0123\n")
        token.chmod(0o600)
        for given, said in (
            (("--status", "tcp:0"), "needs a token"),
            (("--status", "tcp:0", "--status-token-file", str(token)), "needs TLS"),
            (("--status-token-file", str(token)), "no port: give --status"),
        ):
            program = self.client("receive", "--inbox", ".", *given, *self.options())
            self.assert_ends(program, 1, said)

    def test_taken(self) -> None:
        """A port that is taken ends it before anything is registered."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            program = self.client("receive", "--inbox", ".", "--status", port, *self.options())
            self.assert_ends(program, 7, "is another program using that port")
