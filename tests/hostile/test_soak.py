"""What the soak looks at would show a leak."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.soak import MOST_DESCRIPTORS, MOST_MIB, MOST_OBJECTS, Holding

BEFORE = Holding(60.0, 20, Counter({"kdc.session.Session": 1, "builtins.dict": 20_000}))


class HoldingTests(SynchronousTestCase):
    def test_flat(self) -> None:
        """Noise is no growth, and less of anything is none."""
        self.assertEqual(BEFORE.grown(BEFORE), [])
        noise = Counter({"kdc.session.Session": MOST_OBJECTS, "builtins.dict": 10})
        after = Holding(60.0 + MOST_MIB, 20 + MOST_DESCRIPTORS, noise)
        self.assertEqual(after.grown(BEFORE), [])

    def test_grown(self) -> None:
        """One session kept for each connection, a descriptor, memory: each is named."""
        objects = Counter({"kdc.session.Session": 1_000, "builtins.dict": 20_201})
        after = Holding(62.5, 25, objects)
        self.assertEqual(
            after.grown(BEFORE),
            ["2.5 MiB", "5 descriptors", "999 kdc.session.Session", "201 builtins.dict"],
        )
