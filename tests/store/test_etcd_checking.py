"""An operator's look at every line in etcd, beside running nodes or without any."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from kdc.store import Create, StoreError, StoreUnavailable
from kdc.store.etcd.checking import Examined, examine
from kdc.store.etcd.opening import EtcdFiles
from kdc.store.etcd.wire import Keys
from tests.support.disk import Disk
from tests.support.etcd import Etcd, Nodes
from tests.support.store_conformance import active, token

PATHS = EtcdFiles("/one.key", "/one.generation", "/one.lock")
KEYS = Keys("LOCAL")


class ExamineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.etcd = Etcd()
        self.disk = Disk()
        self.store = Nodes(self.etcd).open(self.disk, "/one")
        for number, name in enumerate(("alice", "bob")):
            self.store.apply([Create(active(name), token(number))])

    def examine(self, realm: str = "LOCAL") -> Examined:
        before = dict(self.etcd.keys), dict(self.disk.names)
        found = examine(self.etcd.link(), PATHS, realm, self.disk)
        self.assertEqual((dict(self.etcd.keys), dict(self.disk.names)), before)
        return found

    def test_good(self) -> None:
        """Beside a node that has its lock; nothing is changed."""
        self.assertEqual(self.examine(), Examined(2, []))

    def test_a_changed_line(self) -> None:
        """The lines are not those that the head is about."""
        alice = KEYS.line(b"alice")
        value = self.etcd.keys[alice].value
        for bad in (b"x", value[:-3] + b"A:\n", None):
            self.etcd.write((alice, bad))
            (problem,) = self.examine().problems
            self.assertRegex(problem, "not its line|lines are not those")
            self.etcd.write((alice, value))
        self.assertEqual(self.examine().problems, [])

    def test_an_older_state(self) -> None:
        """What this node's generation file remembers counts, though all else is in order."""
        before = {key: kept.value for key, kept in self.etcd.keys.items()}
        self.store.apply([Create(active("carol"), token(9))])
        self.store.close()
        self.etcd.write((KEYS.line(b"carol"), None), *before.items())
        (problem,) = self.examine().problems
        self.assertRegex(problem, "at generation 2, and was at 3 before")

    def test_nothing_to_look_at(self) -> None:
        """No store of that realm is a problem; no key, or no etcd, an error."""
        (problem,) = self.examine("OTHER").problems
        self.assertIn("no store of OTHER", problem)
        self.etcd.down = True
        self.assertRaises(StoreUnavailable, self.examine)
        self.etcd.down = False
        del self.disk.names["/one.key"]
        error = self.assertRaises(StoreError, self.examine)
        self.assertIn(os.strerror(2), str(error))
