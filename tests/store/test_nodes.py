"""What KDCs that share a store tell each other of themselves."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import StoreUnavailable
from kdc.store.etcd.store import EtcdStore
from kdc.store.nodes import (
    MAX_NODE_BYTES,
    MOST_NODES,
    Node,
    NodeFacts,
    SeenNode,
    UnreadableNode,
    read_node,
    slowest,
    written_node,
)
from tests.support.disk import Disk
from tests.support.etcd import Etcd, Nodes

ID = "0123456789abcdef"
FACTS = NodeFacts("kdc1", "0.2.0", ("kdc1.example:12345", "[::1]:1"), "00112233445566ff")
NODE = Node(ID, FACTS, ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"), 7, 300, 10_000, 1_800_000_000)


class ReadingTests(SynchronousTestCase):
    """Whatever is read is a node, or is shown as something that is none."""

    def unreadable(self, text: bytes, why: str, node_id: str = ID) -> None:
        found = read_node(node_id, text)
        assert isinstance(found, UnreadableNode), found
        self.assertRegex(found.why, why)

    def test_what_was_written_is_read(self) -> None:
        """Every field, and fields of a later version are passed over."""
        self.assertEqual(read_node(ID, written_node(NODE)), NODE)
        values = {**json.loads(written_node(NODE)), "colour": "red"}
        self.assertEqual(read_node(ID, json.dumps(values).encode()), NODE)

    def test_each_field_is_checked(self) -> None:
        """One that is missing, of another type, too long or too large makes it unreadable."""
        for field, bad in (
            ("format", (2, "1", True)),
            ("name", ("", "../x", "a" * 65, "\x1b[2J", 5)),
            ("version", ("", "1\n", "9" * 41)),
            ("addresses", ("kdc1", ["a b"], ["<b>"], ["a"] * 17, [1], [["a"]])),
            ("policy", ("x", "00112233445566FF", 5)),
            ("key_ids", ("aaaaaaaaaaaaaaaa", ["short"], ["a" * 16] * 9)),
            ("generation", (-1, "1", True, 10**18, 1.5)),
            ("age_milliseconds", (-1, None)),
            ("bound_milliseconds", (60_001, -1)),
            ("since_time", (-1, 10**18)),
        ):
            values = json.loads(written_node(NODE))
            for value in bad:
                with self.subTest(field=field, value=value):
                    self.unreadable(json.dumps({**values, field: value}).encode(), ".")
            del values[field]
            self.unreadable(json.dumps(values).encode(), ".")

    def test_what_is_not_even_an_object(self) -> None:
        """It says what it is; nothing of it is quoted."""
        for text, why in (
            (b"", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[" * 4000, "not JSON"),
            (b"[]", "not an object"),
            (b'{"format": 1, "name": ' + b" " * MAX_NODE_BYTES + b'"a"}', "too long"),
        ):
            self.unreadable(text, why)
        self.unreadable(written_node(NODE), "key is not", "../../etc")

    @given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
    def test_any_bytes(self, text: bytes) -> None:
        """Nothing else is raised."""
        self.assertIsInstance(read_node(ID, text), Node | UnreadableNode)

    def test_the_slowest(self) -> None:
        """A change is in force everywhere after the greatest bound, one's own among them."""
        slow = attrs.evolve(NODE, bound_milliseconds=30_000)
        nodes: list[SeenNode] = [NODE, UnreadableNode(ID, "why"), slow]
        self.assertEqual(slowest(nodes, 10_000), 30_000)
        self.assertEqual(slowest([], 5_000), 5_000)

    def test_current(self) -> None:
        """A node whose last confirmation is older than its own bound gives no keys."""
        self.assertTrue(NODE.current)
        self.assertFalse(attrs.evolve(NODE, age_milliseconds=10_001).current)


class AnnouncingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.etcd = Etcd()
        self.cluster = Nodes(self.etcd)
        self.disk = Disk()
        self.one = self.open("/one")
        self.disk.names["/two.key"] = self.disk.names["/one.key"]
        self.two = self.open("/two")

    def open(self, directory: str, **options: Any) -> EtcdStore:
        store = self.cluster.open(self.disk, directory, **options)
        self.addCleanup(store.close)
        return store

    def announce(self, store: EtcdStore, name: str, **facts: Any) -> None:
        store.nodes.announce(attrs.evolve(FACTS, name=name, **facts))
        self.assertTrue(store.nodes.once())

    def names(self, seen: Any) -> list[str]:
        return sorted(each.facts.name if isinstance(each, Node) else "?" for each in seen)

    def put(self, key: bytes, value: bytes) -> None:
        self.etcd.write((b"/kdc-nodes/LOCAL/" + key, value))

    def test_each_is_seen_by_all(self) -> None:
        """What it is called, which keys its key file has, how far it is, how old that may be."""
        self.announce(self.one, "kdc1")
        self.announce(self.two, "kdc2")
        self.assertEqual(self.names(self.one.nodes.read()), ["kdc1", "kdc2"])
        self.assertEqual(self.names(self.two.nodes.seen), ["kdc1", "kdc2"])
        (own,) = (
            node
            for node in self.one.nodes.read()
            if isinstance(node, Node) and node.id == self.one.nodes.own_id
        )
        self.assertEqual(own.facts, attrs.evolve(FACTS, name="kdc1"))
        self.assertEqual(own.key_ids, (self.one.nodes.master_key_id,))
        self.assertEqual((own.generation, own.bound_milliseconds), (0, 10_000))
        self.assertTrue(own.current)

    def test_who_only_looks_is_not_seen(self) -> None:
        """An operator's command on the store is no node."""
        self.assertTrue(self.two.nodes.once())
        self.assertEqual(list(self.one.nodes.read()), [])

    def test_another_key_in_the_key_file_is_told(self) -> None:
        """What the file has counts, before anything was sealed under it."""
        self.announce(self.one, "kdc1")
        new = self.one.new_master_key()
        self.assertTrue(self.one.nodes.once())
        (node,) = self.two.nodes.read()
        assert isinstance(node, Node)
        self.assertEqual(set(node.key_ids), {new, self.one.nodes.master_key_id})

    def test_who_is_cut_off_from_the_others_says_so(self) -> None:
        """Its last confirmation is older than its bound."""
        self.cluster.milliseconds += 11_000
        self.announce(self.one, "kdc1")
        (node,) = self.one.nodes.read()
        assert isinstance(node, Node)
        self.assertFalse(node.current)
        self.assertTrue(self.one.following.confirm_once())
        self.assertTrue(self.one.nodes.once())
        (node,) = self.one.nodes.read()
        assert isinstance(node, Node)
        self.assertTrue(node.current)

    def test_a_clean_end(self) -> None:
        """It is not seen any more, at once; nor if etcd was started without it meanwhile."""
        self.announce(self.one, "kdc1")
        self.announce(self.two, "kdc2")
        self.one.nodes.end()
        self.one.nodes.run()
        self.assertEqual(self.names(self.two.nodes.read()), ["kdc2"])
        self.two.nodes.end()
        self.etcd.down = True
        self.two.nodes.run()  # ends all the same
        self.assertNotEqual(self.two.nodes.trouble, "")

    def test_a_lost_lease_is_granted_anew(self) -> None:
        """It ended while etcd could not be reached: noticed, whichever request tells."""
        self.announce(self.one, "kdc1")
        for lease in list(self.etcd.leases):
            self.etcd.end_lease(lease)
        self.assertEqual(list(self.two.nodes.read()), [])
        self.assertTrue(self.one.nodes.once())
        self.assertEqual(self.names(self.two.nodes.read()), ["kdc1"])
        self.assertEqual(len(self.etcd.granted), 2)

    def test_a_lease_that_ends_between_two_requests(self) -> None:
        """The put is refused; the next try has another lease."""
        self.announce(self.one, "kdc1")
        self.etcd.ends_after_keepalive = True
        self.assertFalse(self.one.nodes.once())
        self.etcd.ends_after_keepalive = False
        self.assertIn("lease not found", self.one.nodes.trouble)
        self.assertTrue(self.one.nodes.once())
        self.assertEqual(self.names(self.two.nodes.read()), ["kdc1"])
        self.assertEqual(self.one.nodes.trouble, "")

    def test_a_lease_outlives_the_right_to_give_keys(self) -> None:
        """Who may give keys without etcd for a minute is seen for longer than that."""
        self.announce(self.one, "kdc1")
        self.disk.names["/slow.key"] = self.disk.names["/one.key"]
        self.announce(self.open("/slow", confirm_seconds=60.0), "slow")
        self.assertEqual(self.etcd.granted, [30, 120])

    def test_renewed_without_a_new_lease(self) -> None:
        """Again and again it is one lease, and one key."""
        for _ in range(5):
            self.announce(self.one, "kdc1")
        self.assertEqual(len(self.etcd.granted), 1)
        self.assertEqual(len(self.one.nodes.read()), 1)

    def test_what_others_put_there(self) -> None:
        """It is shown as unreadable, and hides nobody; the principals do not notice."""
        self.announce(self.one, "kdc1")
        for key, value in (
            (b"0000000000000001", b"{"),
            (b"0000000000000002", b"x" * 100_000),
            (b"\xff\x1b[2J", b"{}"),
            (b"k" * 5000, b""),
        ):
            self.put(key, value)
        self.assertEqual(self.names(self.two.nodes.read()), ["?", "?", "?", "?", "kdc1"])
        for store in (self.one, self.two):
            self.assertTrue(store.following.confirm_once())
            store.following.follow_once()
            store.following.follow_once()
            self.assertEqual(store.trouble, "")
        self.assertEqual(self.one.following.reloads, 0)

    def test_too_many(self) -> None:
        """Only so many are read, and it is told that there are more."""
        for number in range(MOST_NODES + 5):
            self.put(f"{number:016x}".encode(), written_node(NODE))
        seen: list[SeenNode] = list(self.one.nodes.read())
        self.assertEqual(len(seen), MOST_NODES + 1)
        self.assertEqual(seen[-1], UnreadableNode("", f"there are more than {MOST_NODES}"))

    def test_etcd_does_not_answer(self) -> None:
        """Who asks is told so; what was seen stays."""
        self.announce(self.one, "kdc1")
        self.etcd.down = True
        self.assertRaises(StoreUnavailable, self.one.nodes.read)
        self.assertFalse(self.one.nodes.once())
        self.assertIn("no connection", self.one.nodes.trouble)
        self.assertEqual(self.names(self.one.nodes.seen), ["kdc1"])
