"""The KDCs that share a store, as an operator sees them; how soon what he does counts."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.admin.nodes import rows_of, troubles_of
from kdc.admin.principals import administer
from kdc.errors import RefusedByPolicy
from kdc.store import Create
from kdc.store.etcd.store import EtcdStore
from kdc.store.memory import MemoryStore
from kdc.store.nodes import Node, NodeFacts, SeenNode, UnreadableNode
from tests.admin.test_principals import PRINT, Operator
from tests.support.disk import Disk
from tests.support.etcd import Etcd, Nodes
from tests.support.store_conformance import active, token

FACTS = NodeFacts("kdc1", "0.2.0", ("kdc1.example:12345",), "00112233445566ff")
KEY, OTHER = "a" * 16, "b" * 16
NODE = Node("1" * 16, FACTS, (KEY,), 7, 300, 10_000, 1_800_000_000)


@attrs.define
class Of:
    """As much of `kdc.store.nodes.Nodes` as these need."""

    own_id: str = NODE.id
    bound_milliseconds: int = 10_000
    master_key_id: str = KEY
    seen: Any = ()
    trouble: str = ""
    own_key_ids: tuple[str, ...] = (KEY,)

    def announce(self, facts: NodeFacts) -> None:
        raise NotImplementedError

    def read(self) -> Any:
        raise NotImplementedError

    def new_master_key(self) -> str:
        raise NotImplementedError


def another(name: str = "kdc2", node_id: str = "2" * 16, **changed: Any) -> Node:
    facts = {key: changed.pop(key) for key in ("policy",) if key in changed}
    return attrs.evolve(NODE, id=node_id, facts=attrs.evolve(FACTS, name=name, **facts), **changed)


class TroubleTests(SynchronousTestCase):
    def of_second(self, *others: SeenNode, **changed: Any) -> str:
        second = another(**changed)
        seen = [NODE, second, *others]
        self.assertEqual(troubles_of(NODE, [NODE, another()], Of()), [])
        return "; ".join(troubles_of(second, seen, Of()))

    def test_each(self) -> None:
        """What is wrong with a node is said of that one."""
        third = another("kdc3", "3" * 16)
        self.assertEqual(self.of_second(third), "")
        self.assertIn("for 12 s", self.of_second(third, age_milliseconds=12_500))
        self.assertIn("master key that is in use", self.of_second(third, key_ids=(OTHER,)))
        self.assertIn("another policy", self.of_second(third, policy="f" * 16))
        self.assertIn("only one of this name", self.of_second(another("kdc2", "3" * 16)))

    def test_who_lacks_the_new_key(self) -> None:
        """While the master key is changed those are named that have not got it."""
        seen = [attrs.evolve(NODE, key_ids=(OTHER, KEY)), another()]
        self.assertEqual(troubles_of(seen[0], seen, Of()), [])
        self.assertEqual(
            troubles_of(seen[1], seen, Of()),
            [f"has not the master key {OTHER}, which others have"],
        )

    def test_what_cannot_be_read(self) -> None:
        """It is in a row, with why; it says nothing of the others."""
        bad = UnreadableNode("9" * 16, "it is not JSON")
        rows = list(rows_of([bad, NODE], Of()))
        self.assertEqual([row["id"] for row in rows], [NODE.id, bad.id])
        self.assertEqual([row["troubles"] for row in rows], [[], [f"cannot be read: {bad.why}"]])
        self.assertEqual([row.get("this") for row in rows], [True, None])


class SharedStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.etcd = Etcd()
        self.cluster = Nodes(self.etcd)
        self.disk = Disk()
        self.one = self.open("/one", 10.0)
        self.disk.names["/two.key"] = self.disk.names["/one.key"]
        self.two = self.open("/two", 30.0)
        self.one.apply([Create(active("alice"), token(1))])
        self.operator = Operator(self.one)

    def open(self, directory: str, seconds: float) -> EtcdStore:
        store = self.cluster.open(self.disk, directory, confirm_seconds=seconds)
        self.addCleanup(store.close)
        store.nodes.announce(attrs.evolve(FACTS, name=directory[1:]))
        self.assertTrue(store.nodes.once())
        return store

    def test_nodes(self) -> None:
        """All are asked for, whichever is asked, and it says which one that is."""
        rows = self.operator.ask("nodes")
        self.assertEqual([row["node"] for row in rows], ["one", "two"])
        self.assertEqual([row["this"] for row in rows], [True, False])
        self.assertEqual([row["confirm_within"] for row in rows], [10.0, 30.0])
        self.assertEqual(rows[0]["master_keys"], [self.one.nodes.master_key_id])
        self.assertEqual([row["troubles"] for row in rows], [[], []])
        rows = Operator(self.two).ask("nodes")
        self.assertEqual([row["this"] for row in rows], [False, True])

    def test_nobody_shares_it(self) -> None:
        """That is an error, which says so."""
        request = {"command": "nodes"}
        context = self.operator.context
        self.assertRaises(
            RefusedByPolicy, lambda: list(administer(MemoryStore(), request, context))
        )

    def test_in_force(self) -> None:
        """After what takes something away: the greatest bound of all that run."""
        self.assertEqual(self.operator.one("disable", "alice")["in_force_seconds"], 30)
        # It may have been done a moment ago only, by somebody who has not heard of it.
        self.assertEqual(self.operator.one("disable", "alice")["in_force_seconds"], 30)
        self.assertNotIn("in_force_seconds", self.operator.one("enable", "alice"))
        self.assertNotIn("in_force_seconds", self.operator.one("show", "alice"))
        self.assertEqual(
            self.operator.one("reset", "alice", kdc_fingerprint=PRINT)["in_force_seconds"], 30
        )
        self.assertEqual(self.operator.one("expire", "alice", at=2**31)["in_force_seconds"], 30)
        self.assertEqual(self.operator.one("delete", "alice")["in_force_seconds"], 30)
        self.assertEqual(self.operator.one("purge", "alice", force=True)["in_force_seconds"], 30)

    def test_in_force_when_the_others_are_not_known(self) -> None:
        """It is told the longest that there can be, and no error: the change is made."""

        def refuse(body: Any) -> None:
            self.etcd.down = True

        # Once the change is there.
        self.one.watch(lambda record: refuse(None))
        self.assertEqual(self.operator.one("disable", "alice")["in_force_seconds"], 60)
        self.assertEqual(self.operator.audit, [("admin-disabled", "alice", "")])

    def test_alone_everything_is_in_force_at_once(self) -> None:
        """A store that nobody shares says nothing of it."""
        store = MemoryStore()
        store.apply([Create(active("alice"), token(1))])
        self.assertNotIn("in_force_seconds", Operator(store).one("disable", "alice"))

    def copy_key(self) -> None:
        self.disk.names["/two.key"] = self.disk.names["/one.key"]
        self.assertTrue(self.two.nodes.once())

    def key_ids(self) -> list[tuple[str, ...]]:
        return [self.one.nodes.own_key_ids, self.two.nodes.own_key_ids]

    def test_another_master_key(self) -> None:
        """Not before every node has it; then the others drop the old one, each by the same."""
        error = self.assertRaises(RefusedByPolicy, self.operator.one, "rotate-master-key")
        self.assertIn("no new master key", str(error))
        old = self.one.nodes.master_key_id
        new = self.operator.one("new-master-key")["master_key"]
        self.assertEqual(self.operator.one("new-master-key")["master_key"], new)
        error = self.assertRaises(RefusedByPolicy, self.operator.one, "rotate-master-key")
        self.assertIn(f"has the new master key {new}: two", str(error))
        self.assertEqual(self.one.nodes.master_key_id, old)
        self.copy_key()
        self.assertEqual(self.operator.one("rotate-master-key"), {"done": True, "shared": True})
        self.cluster.settle()
        self.assertTrue(self.one.nodes.once())
        self.assertEqual(self.key_ids(), [(new,), (new, old)])
        self.assertEqual([row["troubles"] for row in self.operator.ask("nodes")], [[], []])
        # Not back to the old one.
        self.assertEqual(Operator(self.two).one("rotate-master-key")["done"], True)
        self.cluster.settle()
        self.assertEqual(self.key_ids(), [(new,), (new,)])
        self.assertEqual(self.two.nodes.master_key_id, new)
        self.assertRaises(RefusedByPolicy, Operator(self.two).one, "rotate-master-key")

    def test_a_node_that_cannot_be_read_may_lack_the_key(self) -> None:
        """Whatever is in the place of a node is waited for."""
        self.operator.one("new-master-key")
        self.copy_key()
        self.etcd.write((b"/kdc-nodes/LOCAL/" + b"3" * 16, b"what"))
        error = self.assertRaises(RefusedByPolicy, self.operator.one, "rotate-master-key")
        self.assertIn("'3333333333333333' (it is not JSON)", str(error))
