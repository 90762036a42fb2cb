"""Every figure that there is: well named, documented; and what etc/ asks for is among them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

from kdc.channel.figures import NOTHING
from kdc.relay.limits import LIMITED
from kdc.relay.relay import Figures as RelayFigures
from kdc.server._status import shared_store_figures
from kdc.store import Store
from kdc.store.nodes import UnreadableNode
from kdc.transfer.receiver import OUTCOMES, TransferFigures
from kdc.tunnel.traffic import TunnelFigures
from kdc.watch.figures import Counter, Figures, Histogram, Sampled
from kdc.watch.receiver import channel_figures, transfer_figures, tunnel_figures
from kdc.watch.relay import relay_figures
from kdc.watch.settings import StatusSettings
from tests.admin.test_nodes import NODE, Of, another
from tests.server.test_service import LOOPBACK
from tests.server.test_status import StatusTestCase
from tests.support.processes import TOP
from tests.support.prometheus import tool

ETC = TOP / "etc"
# Of the process itself, which Prometheus' library looks up.
PROCESS = {
    *("process_cpu_seconds_total", "process_open_fds", "process_max_fds"),
    *("process_resident_memory_bytes", "process_virtual_memory_bytes"),
    "process_start_time_seconds",
}
SHARED = {
    "kdc_store_confirmed_age_seconds": 1.5,
    "kdc_store_reloads_total": 1,
    "kdc_store_conflicts_total": 2,
    "kdc_store_resent_total": 3,
    "kdc_store_nodes": 3,
    "kdc_store_nodes_troubled": 2,
    "kdc_store_nodes_up": 1,
}


class Shared:
    """As much of a store that several KDCs share as tells of itself."""

    confirmed_milliseconds = 3500
    figures: ClassVar = {"etcd_reloads": 1, "etcd_conflicts": 2, "etcd_resent": 3}
    # One lacks the master key, one cannot be read.
    nodes = Of(seen=(NODE, another(key_ids=()), UnreadableNode("9" * 16, "why")))


Family = Counter | Histogram | Sampled


def expressions(dashboard: Any) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


class FamiliesTests(StatusTestCase):
    def setUp(self) -> None:
        super().setUp()
        service = self.start(self.settings(status=StatusSettings(LOOPBACK), relay=LOOPBACK))
        assert service._measured is not None
        self.families: dict[str, Family] = dict(service._measured.figures.families)
        others = Figures()
        others.sampled(channel_figures(lambda: NOTHING))
        transfers = TransferFigures(0, 0, dict.fromkeys(OUTCOMES, 0))
        others.sampled(transfer_figures(lambda: transfers))
        others.sampled(tunnel_figures(TunnelFigures))
        others.sampled(shared_store_figures(cast(Store, Shared()), lambda: 5000))
        self.families |= others.families
        relay = RelayFigures(0, 0, 0, 0, 0, dict.fromkeys(LIMITED, 0))
        of_relay = {family.name for family in relay_figures(lambda: relay)}
        self.assertLessEqual(of_relay, set(self.families))

    def test_shared_store(self) -> None:
        """A store that several KDCs share tells how old it may be, and what went otherwise."""
        found = {name: family for name, family in self.families.items() if name in SHARED}
        read = {name: cast(Sampled, family).read() for name, family in found.items()}
        self.assertEqual(read, {name: {(): value} for name, value in SHARED.items()})

    def rows(self, expression: str) -> set[str]:
        """The families that an expression of Prometheus' language is about."""
        names = set(re.findall(r"\b(?:kdc|process)_[a-z_]+\b", re.sub(r'"[^"]*"', "", expression)))
        self.assertTrue(names or "up" in expression, expression)
        return {self.family(name) for name in names}

    def family(self, row: str) -> str:
        base = re.sub("_(bucket|sum|count)$", "", row)
        return base if isinstance(self.families.get(base), Histogram) else row

    def test_conventions(self) -> None:
        """Counters end in total, units are seconds and bytes, texts are sentences."""
        for name, family in self.families.items():
            self.assertRegex(name, "^kdc_[a-z_]+[a-z]$")
            grows = isinstance(family, Counter) or (isinstance(family, Sampled) and family.grows)
            self.assertEqual(name.endswith("_total"), grows, name)
            if isinstance(family, Histogram):
                self.assertTrue(name.endswith("_seconds"), name)
            self.assertNotRegex(name, "milli|micro|kilo|minutes|hours|percent")
            self.assertRegex(family.text, r"^[A-Z0-9].*\.$", name)
            for label in family.labels:
                self.assertRegex(label, "^[a-z]+$", name)

    def test_bounded(self) -> None:
        """No label has a value that was not known at the start: nobody's name, no address."""
        for name, family in self.families.items():
            rows: Any = (
                family.read()
                if isinstance(family, Sampled)
                else (family.counts if isinstance(family, Counter) else family.spreads)
            )
            self.assertLess(len(rows), 40, name)
            for labels in rows:
                self.assertEqual(len(labels), len(family.labels), name)

    def test_documented(self) -> None:
        """docs/operators.md has each of them, and no other."""
        text = (TOP / "docs" / "operators.md").read_text(encoding="utf-8")
        told = set(re.findall(r"`(kdc_[a-z_]+)`", text))
        self.assertEqual(told, set(self.families))

    def test_dashboard(self) -> None:
        """Each panel is about figures that there are; every figure has its place on it."""
        dashboard = json.loads((ETC / "kdc.dashboard.json").read_text(encoding="utf-8"))
        (source,) = (v for v in dashboard["templating"]["list"] if v["type"] == "datasource")
        shown: set[str] = set()
        for expression in expressions(dashboard):
            shown |= self.rows(expression)
        self.assertLessEqual(shown, set(self.families) | PROCESS)
        self.assertEqual(set(self.families) - shown, set())
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                self.assertEqual(panel["datasource"]["uid"], f"${{{source['name']}}}")
                self.assertTrue(panel["description"], panel["title"])
        numbers = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))

    def test_dashboard_can_be_asked(self) -> None:
        """Prometheus understands each of its expressions."""
        dashboard = json.loads((ETC / "kdc.dashboard.json").read_text(encoding="utf-8"))
        rules = [
            {"record": f"kdc:panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
            for number, expression in enumerate(expressions(dashboard))
        ]
        path = Path(self.mktemp()).absolute()
        # JSON is YAML, too.
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        self.assertIn(
            f"{len(rules)} rules found", tool(self, "promtool", "check", "rules", str(path))
        )

    def test_alerts(self) -> None:
        """Each alert is about figures that there are, and says what to do."""
        path = ETC / "kdc.rules.yml"
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"(?m)^        expr: (.*)$", text)
        for expression in found:
            self.assertLessEqual(self.rows(expression), set(self.families) | PROCESS)
        for word in ("alert", "summary", "do"):
            self.assertEqual(len(re.findall(rf"(?m)^ +(?:- )?{word}: ", text)), len(found), word)
        self.assertIn(
            f"{len(found)} rules found", tool(self, "promtool", "check", "rules", str(path))
        )
