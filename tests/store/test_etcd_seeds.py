"""Some seeds of `tests.store.etcd_seeds`, so that it cannot break unseen."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.store.etcd_seeds import run


class EtcdSeedsTests(SynchronousTestCase):
    def test_nodes_with_faults_are_one_store(self) -> None:
        """Whatever is lost or cut: what was acknowledged was done, once, and is known to all."""
        outcomes = run(0, int(os.environ.get("KDC_ETCD_SEEDS", "200")))
        # All of them were met.
        met = {"done", "uncertain", "unavailable", "rotated", "rotation cut short"}
        self.assertEqual(set(outcomes), met)
