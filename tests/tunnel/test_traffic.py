"""What tunnels have carried, from which side one looks."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.tunnel.traffic import Traffic, TunnelFigures


@attrs.define(eq=False)
class Flow:
    received: int = 0
    sent: int = 0


class TrafficTests(SynchronousTestCase):
    def test_open_and_ended(self) -> None:
        """What is open counts as it is now, what has ended as it was then."""
        traffic = Traffic()
        one, two = Flow(), Flow()
        traffic.began(one)
        traffic.began(two, turned=True)
        one.received, one.sent = 10, 20
        two.received, two.sent = 300, 400
        self.assertEqual(traffic.figures, TunnelFigures(2, 0, 0, 410, 320))
        traffic.ended(one, in_order=True)
        self.assertEqual(traffic.figures, TunnelFigures(1, 1, 0, 410, 320))
        two.received = 301
        traffic.ended(two, in_order=False)
        self.assertEqual(traffic.figures, TunnelFigures(0, 1, 1, 410, 321))
