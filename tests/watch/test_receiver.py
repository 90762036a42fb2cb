"""What a receiver tells of itself: exactly what it has counted, and nobody's name."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kdc.channel.figures import NOTHING, REASONS, ChannelFigures
from kdc.transfer.receiver import OUTCOMES, TransferFigures
from kdc.tunnel.traffic import TunnelFigures
from kdc.watch.answers import Answer, Query
from kdc.watch.build import build_info
from kdc.watch.figures import Labels, Sampled
from kdc.watch.page import FactsPage
from kdc.watch.receiver import (
    channel_facts,
    channel_figures,
    transfer_facts,
    transfer_figures,
    tunnel_facts,
    tunnel_figures,
)
from kdc.watch.view import Facts
from tests.watch.test_page import HOSTILE, KNOWN, Elements

CHANNELS = ChannelFigures(3, 17, {**NOTHING.refused, "not_authentic": 2, "no_service": 1}, 2, 1)
TRANSFERS = TransferFigures(4, 12_345, dict(zip(OUTCOMES, (7, 6, 5, 8), strict=True)))
TUNNELS = TunnelFigures(2, 9, 1, 1000, 2000)


def values(families: Any) -> dict[str, dict[Labels, float]]:
    found: list[Sampled] = list(families)
    return {family.name: {**family.read()} for family in found}


class FiguresTests(SynchronousTestCase):
    def test_channels(self) -> None:
        found = values(channel_figures(lambda: CHANNELS))
        refused = found.pop("kdc_channels_refused_total")
        self.assertEqual(
            found,
            {
                "kdc_receiver_kdc_links": {(): 2},
                "kdc_receiver_relay_links": {(): 1},
                "kdc_channels": {(): 3},
                "kdc_channels_opened_total": {(): 17},
            },
        )
        self.assertEqual(set(refused), {(reason,) for reason in REASONS})
        self.assertEqual(
            {reason: n for (reason,), n in refused.items() if n},
            {"not_authentic": 2, "no_service": 1},
        )

    def test_transfers(self) -> None:
        self.assertEqual(
            values(transfer_figures(lambda: TRANSFERS)),
            {
                "kdc_transfers_under_way": {(): 4},
                "kdc_transfers_total": {
                    ("stored",): 7,
                    ("cut",): 6,
                    ("refused",): 5,
                    ("failed",): 8,
                },
                "kdc_transfer_received_bytes_total": {(): 12_345},
            },
        )

    def test_tunnels(self) -> None:
        self.assertEqual(
            values(tunnel_figures(lambda: TUNNELS)),
            {
                "kdc_tunnel_connections": {(): 2},
                "kdc_tunnel_connections_ended_total": {("closed",): 9, ("broken",): 1},
                "kdc_tunnel_bytes_total": {("received",): 1000, ("sent",): 2000},
            },
        )

    def test_build(self) -> None:
        """What runs is in the labels; the figure is always one."""
        family = build_info()
        ((labels, number),) = family.read().items()
        self.assertEqual((family.labels, number), (("version", "python", "twisted"), 1))
        self.assertTrue(all(labels))

    def test_facts(self) -> None:
        """People are told the same numbers; of the refusals those that there were."""
        told = dict(channel_facts(CHANNELS))
        self.assertEqual(told["refused: no service"], "1")
        self.assertNotIn("refused: expired", told)
        self.assertEqual(told["open channels"], "3")
        self.assertEqual(dict(transfer_facts(TRANSFERS))["bytes received"], "12,345")
        self.assertEqual(dict(tunnel_facts(TUNNELS))["bytes to peers"], "2,000")


class Viewer:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, text: bytes) -> None:
        self.sent.append(text)


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.facts = Facts({"Transfers": [("under way", "0")]}, [])
        self.page = FactsPage("bob", lambda: self.facts)

    def ask(self, path: str = "/") -> Any:
        query = Query("GET", path, {}, "localhost", "", "", b"", "127.0.0.1")
        return self.successResultOf(Deferred.fromCoroutine(self.page.answer(query)))

    def test_whole(self) -> None:
        """It is a page without script, too; what is not well stands first."""
        answer = self.ask()
        assert isinstance(answer, Answer)
        text = answer.body.decode()
        self.assertIn("<dt>under way</dt><dd>0</dd>", text)
        self.assertIn("Everything is well", text)
        self.facts = Facts({}, [("kdc", "no KDC sends anybody here")])
        self.assertIn("kdc: no KDC sends anybody here", self.ask().body.decode())

    def test_inert(self) -> None:
        """Whatever is in a text, it stays a text."""
        for text in HOSTILE:
            self.facts = Facts({"Now": [(text, text)]}, [(text, text)])
            elements = Elements(self.ask().body.decode()).found
            self.assertLessEqual({tag for tag, _ in elements}, KNOWN)
            for _, attributes in elements:
                self.assertFalse([name for name in attributes if name.startswith("on")])

    def test_live(self) -> None:
        """Who looks is told at first how it is, and then what has changed."""
        viewer: Any = Viewer()
        self.ask("/events").came(viewer)
        self.page.beat()
        self.page.beat()
        self.facts = Facts({"Transfers": [("under way", "1")]}, [])
        self.page.beat()
        self.assertIn(b"<dd>0</dd>", viewer.sent[0])
        self.assertEqual(viewer.sent[2], b":\n\n")
        self.assertIn(b"<dd>1</dd>", viewer.sent[3])
        self.assertNotIn(b"health", viewer.sent[3])
