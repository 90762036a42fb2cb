"""Some seeds of the simulation; `make simulate` runs as many as one likes."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.simulate import Broken, World, run

SEEDS = 15
# A seed, and what was wrong when it was found.
FOUND = {
    4850: "both ends of a channel had ended, and an acknowledgement never came: for ever",
}


class SimulationTests(SynchronousTestCase):
    def test_seeds(self) -> None:
        """Whatever is cut, delayed, crashed or full: what was promised holds, and all ends."""
        counts: Counter[str] = Counter()
        for seed in range(SEEDS):
            counts += run(seed)
        for what in ("acknowledged", "changes acknowledged", "failed", "KDC crashed", "replayed"):
            self.assertGreater(counts[what], SEEDS, what)

    def test_found(self) -> None:
        """What was ever found stays mended."""
        for seed in FOUND:
            run(seed)

    def test_the_same_again(self) -> None:
        """A seed is one history: what it found can be looked at."""
        self.assertEqual(run(SEEDS), run(SEEDS))

    def test_invariants(self) -> None:
        """What nobody sent, what comes twice, and a key that is lost are found."""
        world = World(0)
        world.setUp()
        self.addCleanup(world.doCleanups)
        (receiver, _) = world.receivers
        self.assertRaises(Broken, receiver.store, "alice", b"forged")
        world.sent["alice", receiver.name] = [b"true"]
        receiver.store("alice", b"true")
        self.assertRaises(Broken, receiver.store, "alice", b"true")
        world.expected["eve"] = {b"her key"}
        self.assertRaises(Broken, world._check_store)
