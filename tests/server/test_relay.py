"""The KDC's own relay: it comes with the KDC, and goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.tap import Options, settings_of
from kdc.errors import ConfigurationError, ErrorKind
from kdc.protocol.relay import RELAY
from kdc.relay.limits import LIMITS, RelayLimits, RelaySettings
from kdc.server._relay import OwnRelay
from kdc.server._residents import Resident
from kdc.server.policy import read_policy
from kdc.store import Status
from tests.support.edge import KDC_HOST, KDC_PORT, Recorder
from tests.support.relay import RELAY_HOST, RELAY_PORT, RelayTestCase

TAKEN = ErrorKind.NAME_OF_RELAY_TAKEN


class OwnRelayTests(RelayTestCase):
    def start_relay(self, **options: Any) -> Any:
        self.key_file = Path(self.mktemp()).absolute()
        client = self.resident().client(
            self.host(RELAY_HOST),
            self.kdc.realm,
            self.kdc.store,
            lambda: self.kdc.tls.fingerprint,
            (KDC_HOST, KDC_PORT),
            1_700_000_000,
        )
        self.clients.append(client)
        settings = RelaySettings(f"tcp:{RELAY_PORT}", limits=self.relay_limits)
        own = OwnRelay(client, settings, realm=self.kdc.realm, say=self.said.append)
        own.start()
        self.network.settle()
        self.own = own
        return own._relay

    def resident(self) -> Resident:
        return Resident(RELAY, self.key_file, "relay", "free the name", TAKEN)

    def tearDown(self) -> None:
        self.do(self.own.stop())
        super().tearDown()

    def test_carries(self) -> None:
        """It is registered, reachable, and joins; it says where it is."""
        self.assertEqual(self.said, [f"kdc: {RELAY}: receiving on {RELAY_HOST} port {RELAY_PORT}"])
        self.listen("bob")
        self.network.advance(4)
        near = Recorder()
        self.successResultOf(self.reach("bob", near))
        near.out.write(b"hello")
        self.network.settle()
        self.assertEqual(bytes(near.received), b"hello")
        self.assertEqual((self.own.figures.links, self.own.figures.joined), (1, 1))
        near.out.loseConnection()

    def test_disabled(self) -> None:
        """A link ends with its owner's right to receive; a channel that is open goes on."""
        self.listen("bob")
        self.listen("carol")
        self.network.advance(4)
        near = Recorder()
        self.successResultOf(self.reach("bob", near))
        record = self.kdc.store.get("bob")
        assert record is not None
        self.own.record_changed(attrs.evolve(record, changed_time=7))
        self.network.settle()
        self.assertEqual((self.own.figures.links, self.own.figures.joined), (2, 1))
        self.own.record_changed(attrs.evolve(record, status=Status.DISABLED))
        self.network.settle()
        self.assertEqual((self.own.figures.links, self.own.figures.joined), (1, 1))
        near.out.write(b"still here")
        self.network.settle()
        self.assertEqual(bytes(near.received), b"still here")
        near.out.loseConnection()

    def test_other_limits(self) -> None:
        """Limits that are read again count for who comes then; who is there stays."""
        self.listen("bob")
        self.network.advance(4)
        first = Recorder()
        self.successResultOf(self.reach("bob", first))
        self.own.limit(RelayLimits(joined=1))
        second = self.reach("bob", Recorder(), "carol")
        self.network.advance(30)
        self.assertIsNotNone(self.failureResultOf(second))
        self.assertIsNone(first.lost)
        first.out.loseConnection()

    def test_the_name_is_taken(self) -> None:
        """Who has the name is not turned out."""
        self.key_file.unlink()
        error = self.assertRaises(
            ConfigurationError,
            self.resident().client,
            self.host(),
            self.kdc.realm,
            self.kdc.store,
            lambda: self.kdc.tls.fingerprint,
            (KDC_HOST, KDC_PORT),
            1_700_000_000,
        )
        self.assertIs(error.kind, TAKEN)
        self.assertIn("the name relay is not the relay's", str(error))


class SettingsTests(SynchronousTestCase):
    def policy(self, text: str) -> Any:
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        return read_policy(path)

    def settings(self, *typed: str) -> Any:
        options = Options()
        options.parseOptions(["-p", "0", *typed])
        return settings_of(options)

    def test_options(self) -> None:
        """There is no relay unless it is asked for; a port alone is on loopback."""
        self.assertIsNone(self.settings().relay)
        self.assertEqual(self.settings("--relay", "tcp:60600").relay, "tcp:60600")
        self.assertEqual(self.settings("--relay", "60600").relay, "tcp:60600:interface=127.0.0.1")

    def test_every_limit(self) -> None:
        """Each can be set in the configuration file; none but the share of bytes can be 0."""
        for name, field in LIMITS.items():
            limits = self.policy(f"[relay]\n{name} = 7\n").relay_limits
            self.assertEqual(limits, {field.name: 7})
            self.assertEqual(getattr(RelayLimits(**limits), field.name), 7)
            for wrong in ("-1", "1.5", "true", '"7"', "10000000000"):
                self.assertRaises(ConfigurationError, self.policy, f"[relay]\n{name} = {wrong}\n")
            if field.default:
                self.assertRaises(ConfigurationError, self.policy, f"[relay]\n{name} = 0\n")
        self.assertRaises(ConfigurationError, self.policy, "[relay]\nnothing = 1\n")
        self.assertRaises(ConfigurationError, self.policy, "relay = 1\n")
