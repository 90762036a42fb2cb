"""What a relay tells of itself: exactly what there was, each limit by its name, and nobody."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import RefusedByPolicy
from kdc.net.newcomers import DISPLACED_SECONDS
from kdc.protocol.relay import Claim, Verify, show_token
from kdc.relay.limits import LIMITED, RelayLimits
from kdc.relay.relay import Figures
from kdc.watch.relay import relay_facts, relay_figures
from tests.relay.test_port import PRESENT, PortTestCase
from tests.support.edge import Recorder


class CountTests(PortTestCase):
    def test_joined(self) -> None:
        """Who waits is not joined yet; what was joined and carried is counted for good."""
        link = self.claimed()
        sender = self.arrive(PRESENT)
        self.assert_figures(links=1, joined=0, waiting=1, joins=0)
        receiver = self.arrive(show_token(self.call_of(link).token))
        self.assert_figures(links=1, joined=1, waiting=0, joins=1, bytes=len(PRESENT))
        receiver.out.write(b"hello")
        self.network.settle()
        sender.out.abortConnection()
        self.network.settle()
        self.assert_figures(links=1, joined=0, waiting=0, joins=1, bytes=len(PRESENT) + 5)
        self.assertEqual(set(self.relay.figures.limited.values()), {0})

    def assert_figures(self, **expected: int) -> None:
        found = self.relay.figures
        self.assertEqual({name: getattr(found, name) for name in expected}, expected)


class LimitedTests(PortTestCase):
    """Each limit is reached once, and told once, by its name."""

    def allow(self, **limits: int) -> None:
        self.relay.limit(attrs.evolve(RelayLimits(), **limits))

    def assert_limited(self, name: str) -> None:
        found = {each: n for each, n in self.relay.figures.limited.items() if n}
        self.assertEqual(found, {name: 1})

    def test_every_one(self) -> None:
        """None of them has been forgotten here."""
        tests = {name for name in LIMITED if hasattr(self, f"test_{name}")}
        self.assertEqual(tests, set(LIMITED))

    def test_links(self) -> None:
        self.allow(links=1)
        self.link("bob")
        self.refused_link("carol")
        self.assert_limited("links")

    def test_links_per_principal(self) -> None:
        """The newest takes the place of the oldest."""
        self.allow(links_per_principal=1)
        self.link("bob")
        self.link("bob")
        self.assert_limited("links_per_principal")
        self.assertEqual(self.relay.figures.links, 1)

    def test_links_per_address(self) -> None:
        self.allow(links_per_address=1)
        self.link("bob", "203.0.113.5")
        self.refused_link("carol", "203.0.113.5")
        self.assert_limited("links_per_address")

    def refused_link(self, name: str, address: str | None = None) -> None:
        self.failureResultOf(self.linking(Recorder(), name, address), RefusedByPolicy)

    def test_epochs_per_link(self) -> None:
        self.allow(epochs_per_link=1)
        self.say(self.claimed(), Claim(bytes(16)))
        self.assert_limited("epochs_per_link")

    def test_joined(self) -> None:
        self.two_senders(joined=1)
        self.assert_limited("joined")

    def test_joined_per_principal(self) -> None:
        self.two_senders(joined_per_principal=1)
        self.assert_limited("joined_per_principal")

    def test_joined_per_address(self) -> None:
        self.two_senders(joined_per_address=1)
        self.assert_limited("joined_per_address")

    def two_senders(self, **limits: int) -> None:
        self.allow(**limits)
        self.claimed()
        first = self.arrive(PRESENT)
        self.assert_closed(self.arrive(PRESENT))
        self.assertIsNone(first.lost)

    def test_unproven(self) -> None:
        """The oldest who has said nothing makes room."""
        self.allow(unproven=1)
        first = self.arrive()
        self.arrive()
        self.assert_limited("unproven")
        self.network.advance(DISPLACED_SECONDS)
        self.assert_closed(first)

    def test_first_seconds(self) -> None:
        self.arrive()
        self.network.advance(5)
        self.assert_limited("first_seconds")

    def test_token_seconds(self) -> None:
        """A receiver that was called and does not come."""
        self.claimed()
        self.arrive(PRESENT)
        self.network.advance(10)
        self.assert_limited("token_seconds")

    def test_idle_seconds(self) -> None:
        self.joined()
        self.network.advance(900)
        self.network.advance(900)
        self.assert_limited("idle_seconds")

    def test_dials_per_minute(self) -> None:
        self.allow(dials_per_minute=1)
        link = self.claimed()
        for _ in range(2):
            self.say(link, Verify(1, bytes(16)))
            self.network.advance(3)
        self.assert_limited("dials_per_minute")


class TellTests(SynchronousTestCase):
    """Two forms of the same: for Prometheus, and for people."""

    limited = {**dict.fromkeys(LIMITED, 0), "joined": 1_234}
    figures = Figures(4, 3, 2, 1_000, 5_000_000, limited)

    def test_figures(self) -> None:
        found = {f.name: f.read() for f in relay_figures(lambda: self.figures)}
        limited = found.pop("kdc_relay_limited_total")
        self.assertEqual(limited, {(name,): count for name, count in self.limited.items()})
        self.assertEqual(
            found,
            {
                "kdc_relay_links": {(): 4},
                "kdc_relay_joined": {(): 3},
                "kdc_relay_waiting": {(): 2},
                "kdc_relay_joins_total": {(): 1_000},
                "kdc_relay_bytes_total": {(): 5_000_000},
            },
        )

    def test_gone(self) -> None:
        """A relay that has ended has nothing; its rows stay, as Prometheus wants."""
        for family in relay_figures(lambda: None):
            self.assertEqual(set(family.read().values()), {0}, family.name)

    def test_facts(self) -> None:
        """People see the limits that were reached, and no others."""
        facts = dict(relay_facts(self.figures))
        self.assertEqual(facts["joined connections"], "3")
        self.assertEqual(facts["bytes carried"], "5,000,000")
        reached = {name: told for name, told in facts.items() if "limit" in name}
        self.assertEqual(reached, {"limit joined reached": "1,234"})
