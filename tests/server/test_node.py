"""What a KDC that shares its store tells the others of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from kdc import __version__
from kdc.issuing.decisions import Enrolment
from kdc.issuing.permits import Permits
from kdc.limits import Limits
from kdc.relay.limits import RelayLimits
from kdc.server._node import node_facts, nodes_shown, policy_hash
from kdc.server.service import KDCSettings
from kdc.store.nodes import MOST_ADDRESSES, NodeFacts, UnreadableNode
from tests.admin.test_nodes import NODE, Of, another

SETTINGS = KDCSettings(Path("/kdc/kdc"), ("tcp:1",), node="kdc1")


@attrs.frozen
class Port:
    where: Any

    def getHost(self) -> Any:
        return self.where


class NodeFactsTests(SynchronousTestCase):
    def test_where_clients_reach_it(self) -> None:
        """The names it was told, otherwise where it is bound; not the operators' socket."""
        ports = [
            Port(IPv4Address("TCP", "192.0.2.1", 12345)),
            Port(IPv6Address("TCP", "::1", 12346)),
            Port(UNIXAddress(b"/kdc/kdc.admin")),
        ]
        facts = NodeFacts(
            "kdc1", __version__, ("192.0.2.1:12345", "[::1]:12346"), policy_hash(SETTINGS)
        )
        self.assertEqual(node_facts(SETTINGS, ports), facts)
        named = attrs.evolve(SETTINGS, hosts=("a.example", "b.example"))
        self.assertEqual(
            node_facts(named, ports[:1]).addresses, ("a.example:12345", "b.example:12345")
        )
        many = attrs.evolve(SETTINGS, hosts=tuple(f"h{n}" for n in range(99)))
        self.assertEqual(len(node_facts(many, ports).addresses), MOST_ADDRESSES)

    def test_the_hash_is_of_what_clients_may_do(self) -> None:
        """Whatever changes that changes it; name, ports, files and log do not."""
        rules = {"db-*": ["alice"], "*": ["bob"]}
        hashes = [
            policy_hash(attrs.evolve(SETTINGS, **changed))
            for changed in (
                {},
                {"enrolment": Enrolment.CLOSED},
                {"lifetime_seconds": 60},
                {"limits": Limits(keys_burst=5)},
                {"permits": Permits(rules)},
                {"permits": Permits(dict(reversed(rules.items())))},
                {"relay_limits": RelayLimits(links=5)},
            )
        ]
        self.assertEqual(len(set(hashes)), len(hashes))
        other = attrs.evolve(SETTINGS, node="kdc2", endpoints=("tcp:2",), output=Path("/x"))
        self.assertEqual(policy_hash(other), hashes[0])
        # No rules: everybody may reach everybody, as without a table of them.
        self.assertEqual(policy_hash(attrs.evolve(SETTINGS, permits=Permits())), hashes[0])
        self.assertRegex(hashes[0], "^[0-9a-f]{16}$")


class ShownTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """One for each, which one this is, and what is wrong; bounded, whatever it is."""
        bad = UnreadableNode("9" * 16, "x" * 10_000)
        nodes = Of(seen=[NODE, another(key_ids=()), bad], trouble="no answer " + "y" * 10_000)
        lines = dict(nodes_shown(nodes))
        self.assertEqual(lines["kdc1 (this one)"], "0.2.0, change 7, sure 0.3 s ago")
        self.assertIn("has not the master key", lines["kdc2"])
        self.assertIn("cannot be read", lines["/" + "9" * 16])
        self.assertIn("may be old: no answer", lines["trouble"])
        self.assertLess(max(map(len, lines.values())), 400)
