"""A short run of the fuzzer, always the same; and whatever it has ever found."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.fuzz import CORPUS, TARGETS, Found, Target, changed, tried

INPUTS = 40


class FuzzTests(SynchronousTestCase):
    def test_good_ones(self) -> None:
        """What the inputs are made of is taken: else they would not be almost right."""
        for name, target in TARGETS.items():
            for seed in target.seeds:
                if name not in ("sealed", "dump", "tcp", "operators", "operators-answers"):
                    target.read(seed)
                tried(name, seed)

    def test_almost_right(self) -> None:
        """Each reader returns, or refuses in the words that it documents."""
        for name, target in TARGETS.items():
            rng = random.Random(name)
            for _ in range(INPUTS):
                tried(name, changed(rng.choice(target.seeds), target.seeds, rng))

    def test_corpus(self) -> None:
        """What was found once stays mended."""
        found = sorted(CORPUS.glob("*.hex"))
        self.assertTrue(found)
        for path in found:
            tried(path.name.split(".")[0], bytes.fromhex(path.read_text()))

    def test_defects_are_found(self) -> None:
        """An error that a reader does not document is one."""

        def broken(data: bytes) -> None:
            raise IndexError

        TARGETS["broken"] = Target(broken, (b"",), (ValueError,))
        self.addCleanup(TARGETS.pop, "broken")
        self.assertRaises(Found, tried, "broken", b"")
