"""The store in etcd: alone, as two nodes, and what each kind of fault does."""

from __future__ import annotations

import contextlib
import copy
import errno
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ErrorKind
from kdc.store import (
    Change,
    Create,
    Delete,
    Outcome,
    Purge,
    Record,
    Replace,
    Result,
    Status,
    Store,
    StoreError,
    StoreInUse,
    StoreLost,
    StoreUnavailable,
    StoreUncertain,
)
from kdc.store.etcd.api import Unknown
from kdc.store.etcd.head import Closed
from kdc.store.etcd.store import EtcdStore
from kdc.store.etcd.wire import Answer, Keys
from tests.support.disk import Disk
from tests.support.etcd import Etcd, Nodes
from tests.support.store_conformance import StoreConformance, active, invited, token

KEYS = Keys("LOCAL")


class EtcdStoreTests(StoreConformance):
    def make_store(self) -> Store:
        self.nodes = Nodes()
        store = self.nodes.open(Disk())
        self.addCleanup(store.close)
        return store


@attrs.define
class Pair:
    """Two nodes as one store: changes go to each in turn, and are read at the other."""

    cluster: Nodes
    disk: Disk
    one: EtcdStore
    two: EtcdStore
    turn: int = 0

    realm = "LOCAL"
    notes: Sequence[str] = ()
    made = True
    most_changes = EtcdStore.most_changes

    @property
    def reads(self) -> EtcdStore:
        self.cluster.settle()
        return self.two if self.turn % 2 else self.one

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        self.turn += 1
        # Not settled before: whoever is behind finds out, and decides again.
        results = (self.one if self.turn % 2 else self.two).apply(changes)
        self.cluster.settle()
        return results

    def watch(self, changed: Callable[[Record], None]) -> Callable[[], None]:
        return self.two.watch(changed)

    def rotate_master_key(self) -> None:
        self.one.new_master_key()
        copy_key(self.disk, "/one", "/two")
        self.one.rotate_master_key()
        self.cluster.settle()
        copy_key(self.disk, "/one", "/two")

    def __iter__(self) -> Iterator[Record]:
        return iter(self.reads)

    def __len__(self) -> int:
        return len(self.reads)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reads, name)


class TwoNodesTests(StoreConformance):
    """What is changed at one node is read at the other."""

    def make_store(self) -> Store:
        nodes, disk = Nodes(), Disk()
        one = nodes.open(disk, "/one")
        copy_key(disk, "/one", "/two")
        pair = Pair(nodes, disk, one, nodes.open(disk, "/two"))
        self.addCleanup(pair.one.close)
        self.addCleanup(pair.two.close)
        return pair


del StoreConformance  # it is no test by itself


def copy_key(disk: Disk, one: str, two: str) -> None:
    """Copy the master key from node to node, as an operator does."""
    disk.names[f"{two}.key"] = disk.names[f"{one}.key"]


class NodesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.etcd = Etcd()
        self.nodes = Nodes(self.etcd)
        self.disk = Disk()
        self.one = self.nodes.open(self.disk, "/one")
        copy_key(self.disk, "/one", "/two")
        self.two = self.nodes.open(self.disk, "/two")

    def create(self, store: EtcdStore, name: str = "alice", number: int = 1) -> Record:
        (result,) = store.apply([Create(active(name), token(number))])
        self.assertIs(result.outcome, Outcome.DONE)
        assert result.record is not None
        return result.record


class SeveralNodesTests(NodesCase):
    """What no store that is alone can show."""

    def test_a_name_is_taken_once(self) -> None:
        """Two nodes that have not heard of each other's changes: one wins, the other knows it."""
        first = self.create(self.one)
        (result,) = self.two.apply([Create(active("alice", port=1), token(2))])
        self.assertEqual(result, Result(Outcome.EXISTS, first))

    def test_a_lost_answer_is_recognised_at_the_other_node(self) -> None:
        """The same registration at another node is done already, by its token."""
        first = self.create(self.one)
        (result,) = self.two.apply([Create(active("alice"), token(1))])
        self.assertEqual(result, Result(Outcome.DONE, first))

    def test_a_change_of_what_was_changed_elsewhere_is_a_conflict(self) -> None:
        """The expected generation counts, whoever changed it; the newer record is the answer."""
        first = self.create(self.one)
        self.nodes.settle()
        (now,) = self.one.apply([Replace(active("alice", port=1), first.generation)])
        (late,) = self.two.apply([Replace(active("alice", port=2), first.generation)])
        self.assertEqual(late, Result(Outcome.CONFLICT, now.record))

    def test_refusals_are_as_new_as_changes(self) -> None:
        """A name that was freed elsewhere a moment ago is not refused any more."""
        first = self.create(self.one)
        self.nodes.settle()
        (dead,) = self.one.apply([Delete("alice", first.generation)])
        assert dead.record is not None
        self.one.apply([Purge("alice", dead.record.generation)])
        (result,) = self.two.apply([Create(active("alice", port=1), token(2))])
        self.assertIs(result.outcome, Outcome.DONE)

    def test_watchers_everywhere_are_told_once_in_order(self) -> None:
        """At both nodes, of the changes of both; a purge by its tombstone."""
        told: dict[str, list[Record]] = {"one": [], "two": []}
        self.one.watch(told["one"].append)
        self.two.watch(told["two"].append)
        alice = self.create(self.one, "alice")
        bob = self.create(self.two, "bob", 2)
        (dead,) = self.one.apply([Delete("alice", alice.generation)])
        assert dead.record is not None
        self.two.apply([Purge("alice", dead.record.generation)])
        self.nodes.settle()
        self.assertEqual(told["one"][:3], [alice, bob, dead.record])
        self.assertEqual(told["one"], told["two"])
        self.assertEqual([record.generation for record in told["one"]], [1, 2, 3, 4])

    def test_a_node_needs_the_master_key(self) -> None:
        """Without it, or with another, nothing is opened, made or changed."""
        before = dict(self.etcd.keys)
        error = self.assertRaises(StoreError, self.nodes.open, self.disk, "/three")
        self.assertIn("/three.key is missing", str(error))
        other = Nodes().open(self.disk, "/four")
        other.close()
        del self.disk.names["/four.generation"]
        self.assertRaises(StoreError, self.nodes.open, self.disk, "/four")
        self.assertEqual(self.etcd.keys, before)
        self.assertNotIn("/three.key", self.disk.names)

    def test_one_process_a_node(self) -> None:
        """Two processes would have one socket and one generation file."""
        self.assertRaises(StoreInUse, self.nodes.open, self.disk, "/one")

    def test_another_realm_is_beside_it(self) -> None:
        """Realms in one etcd know nothing of each other."""
        other = self.nodes.open(Disk(), realm="OTHER")
        self.create(other, "carol")
        self.create(self.one)
        self.nodes.settle()
        self.assertEqual([record.name for record in other], ["carol"])
        self.assertEqual([record.name for record in self.two], ["alice"])


class OpeningTests(NodesCase):
    def test_what_was_put_back_is_noticed_at_the_next_start(self) -> None:
        """The generation file knows; who means it can accept it, and no number comes twice."""
        old = dict(self.etcd.keys)
        self.create(self.one)
        self.create(self.one, "bob", 2)
        self.one.close()
        self.two.close()
        back = Nodes()
        back.etcd.write(*[(key, kept.value) for key, kept in old.items()])
        error = self.assertRaises(StoreError, back.open, self.disk, "/one")
        self.assertIs(error.kind, ErrorKind.OLDER_THAN_BEFORE)
        store = back.open(self.disk, "/one", accept_rollback=True)
        self.assertEqual(self.create(store, "carol").generation, 3)
        self.assertEqual(len(store.notes), 1)

    def test_an_empty_etcd_is_no_new_store_for_who_had_one(self) -> None:
        """All was lost: that is said, and nothing is made."""
        self.one.close()
        empty = Nodes()
        error = self.assertRaises(StoreError, empty.open, self.disk, "/one")
        self.assertIn("it was not always so", str(error))
        self.assertEqual(empty.etcd.keys, {})

    def test_a_start_that_failed_leaves_nothing(self) -> None:
        """What nobody was told of is taken back: the head, the key, the generation file."""
        nodes, disk = Nodes(), Disk()
        store = nodes.open(disk)
        self.assertTrue(store.made)
        store.discard()
        self.assertEqual(nodes.etcd.keys, {})
        self.assertEqual(set(disk.names), {"/kdc.lock"})

    def test_a_start_that_failed_behind_its_head_leaves_nothing(self) -> None:
        """The generation file cannot be written: the head goes again, then the key."""
        for key_is_there in (False, True):
            nodes, disk = Nodes(), Disk()
            if key_is_there:
                disk.names["/kdc.key"] = self.disk.names["/one.key"]
            make = disk.create

            def full(path: str, make: Any = make) -> int:
                if "generation" in path:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return int(make(path))

            disk.create = full  # type: ignore[method-assign]
            error = self.assertRaises(StoreError, nodes.open, disk)
            self.assertIn("cannot write /kdc.generation", str(error))
            self.assertEqual(nodes.etcd.keys, {})
            left = {"/kdc.lock", "/kdc.key"} if key_is_there else {"/kdc.lock"}
            self.assertEqual(set(disk.names), left)

    def test_a_head_that_may_be_there_keeps_its_key(self) -> None:
        """The answer is lost, and etcd is away: without the key nobody could open it again."""
        for there in (False, True):
            nodes, disk = Nodes(), Disk()
            post = nodes.etcd.post

            def lost(nodes: Any, post: Any, there: bool, path: str, body: Answer) -> Any:
                if path == "/v3/kv/txn":
                    if there:
                        post(path, body)
                    nodes.etcd.down = True
                    raise Unknown("no answer in time")
                return post(path, body)

            etcd: Any = nodes.etcd
            etcd.post = functools.partial(lost, nodes, post, there)
            self.assertRaises(StoreUnavailable, nodes.open, disk)
            self.assertIn("/kdc.key", disk.names)
            etcd.down, etcd.post = False, post
            self.create(nodes.open(disk))

    def test_a_store_that_somebody_uses_is_not_taken_back(self) -> None:
        """The node that made it fails, and another has it already."""
        self.create(self.two)
        self.one.discard()
        self.assertIn("/one.key", self.disk.names)
        self.create(self.two, "bob", 2)

    def test_a_node_that_has_only_the_new_key_too_early(self) -> None:
        """It goes on with what it knows, and when that is not enough says which one it needs."""
        new = self.one.new_master_key()
        both = self.disk.names["/one.key"]
        only = self.disk.names["/two.key"] = copy.copy(both)
        only.content = next(line for line in both.content.splitlines(True) if new.encode() in line)
        following = self.two.following
        following.view.realm_keys.refresh()
        following._break("what was missed has been compacted away")
        self.assertFalse(following.follow_once())
        self.assertIn("the store is sealed under master key", self.two.trouble)
        self.disk.names["/two.key"] = both
        self.nodes.settle()
        self.create(self.two)

    def test_no_quorum_at_the_start(self) -> None:
        """It is not made, and the error says what to look at."""
        nodes, disk = Nodes(), Disk()
        nodes.etcd.down = True
        self.assertRaises(StoreUnavailable, nodes.open, disk)
        self.assertEqual(set(disk.names), {"/kdc.lock"})


class LostAnswerTests(NodesCase):
    """Whatever became of a transaction whose answer is lost, the truth is found out."""

    def lose_next(self, after: bool) -> None:
        """Lose the next answer to a transaction, before or after it was carried out."""
        link: Any = self.one._changing.writer
        real = link.post

        def post(path: str, body: Answer, seconds: float) -> Answer:
            from kdc.store.etcd.api import Unknown

            link.post = real
            if after:
                real(path, body, seconds)
            raise Unknown("no answer in time")

        link.post = post

    def setUp(self) -> None:
        super().setUp()
        self.one._changing.writer = Exchangeable(self.one._changing.writer)

    def test_done_and_not_heard(self) -> None:
        """It is found by its batch behind the head that it was decided on, and done once."""
        self.lose_next(after=True)
        self.assertEqual(self.create(self.one).generation, 1)
        self.nodes.settle()
        self.assertEqual([record.name for record in self.two], ["alice"])

    def test_not_done(self) -> None:
        """It is sent again."""
        self.lose_next(after=False)
        self.assertEqual(self.create(self.one).generation, 1)

    def test_somebody_else_was_faster_meanwhile(self) -> None:
        """The lost one can never be carried out any more: it is decided anew."""
        self.lose_next(after=False)
        link: Any = self.one._changing.writer
        lost = link.post

        def post(path: str, body: Answer, seconds: float) -> Answer:
            self.create(self.two, "bob", 2)
            return lost(path, body, seconds)

        link.post = post
        self.assertEqual(self.create(self.one).generation, 2)

    def test_done_and_overtaken(self) -> None:
        """Ours was carried out, and another's came behind it, before we could ask again."""
        self.lose_next(after=True)
        link: Any = self.one._changing.writer
        lost = link.post

        def post(path: str, body: Answer, seconds: float) -> Answer:
            try:
                return lost(path, body, seconds)
            finally:
                self.create(self.two, "bob", 2)

        link.post = post
        self.assertEqual(self.create(self.one).generation, 1)
        self.nodes.settle()
        self.assertEqual(list(self.one), list(self.two))

    def test_what_followed_was_compacted_away(self) -> None:
        """Nobody can know any more: so it is said, and asking again does no harm."""
        self.lose_next(after=True)
        link: Any = self.one._changing.writer
        lost = link.post

        def post(path: str, body: Answer, seconds: float) -> Answer:
            try:
                return lost(path, body, seconds)
            finally:
                self.create(self.two, "bob", 2)
                self.etcd.compact()

        link.post = post
        change = Create(active("alice"), token(1))
        self.assertRaises(StoreUncertain, self.one.apply, [change])
        (result,) = self.one.apply([change])
        self.assertIs(result.outcome, Outcome.DONE)
        self.assertEqual(len(self.one), 2)

    def test_no_answer_at_all(self) -> None:
        """With an answer lost and then nobody there, it may have been made: uncertain."""
        self.lose_next(after=True)
        link: Any = self.one._changing.writer
        lost = link.post

        def post(path: str, body: Answer, seconds: float) -> Answer:
            try:
                return lost(path, body, seconds)
            finally:
                self.etcd.down = True

        link.post = post
        self.assertRaises(StoreUncertain, self.one.apply, [Create(active("alice"), token(1))])
        self.etcd.down = False
        self.nodes.settle()
        self.assertEqual([record.name for record in self.one], ["alice"])


class Exchangeable:
    """A link whose methods a test can exchange."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self.post = link.post

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


class FaultTests(NodesCase):
    def test_nobody_there(self) -> None:
        """Nothing was changed, in memory neither; it goes on when etcd is back."""
        self.etcd.down = True
        self.assertRaises(StoreUnavailable, self.one.apply, [Create(active("alice"), token(1))])
        self.assertEqual(list(self.one), [])
        self.etcd.down = False
        self.create(self.one)

    def test_refusals_need_most_members(self) -> None:
        """Who is cut off cannot know that a name is taken: it says that it cannot say."""
        first = self.create(self.one)
        self.etcd.down = True
        self.assertRaises(StoreUnavailable, self.one.apply, [Delete("alice", first.generation - 1)])

    def test_a_full_disk(self) -> None:
        """etcd takes nothing: unavailable, and nothing was changed."""
        self.etcd.full = True
        self.assertRaises(StoreUnavailable, self.one.apply, [Create(active("alice"), token(1))])
        self.etcd.full = False
        self.assertEqual(self.create(self.one).generation, 1)

    def test_a_lost_event_is_noticed(self) -> None:
        """A watch that leaves out a revision does not go with the chain: all is read again."""
        self.two.following.follow_once()
        stream: Any = self.two.following._stream
        stream.lose = 1
        told: list[Record] = []
        self.two.watch(told.append)
        alice = self.create(self.one)
        bob = self.create(self.one, "bob", 2)
        self.nodes.settle()
        self.assertEqual(list(self.two), [alice, bob])
        self.assertEqual(told, [alice, bob])
        self.assertEqual(self.two.following.reloads, 1)

    def test_an_old_line_with_the_next_head_is_noticed(self) -> None:
        """A watch that tells of a change but shows the line before it is not followed."""
        alice = self.create(self.one)
        self.nodes.settle()
        key = KEYS.line(b"alice")
        stream: Any = self.two.following._stream
        stream.forged = {key: self.etcd.keys[key].value}
        self.one.apply([Replace(active("alice", status=Status.DISABLED), alice.generation)])
        self.nodes.settle()
        found = self.two.get("alice")
        assert found is not None
        self.assertIs(found.status, Status.DISABLED)
        self.assertEqual(self.two.following.reloads, 1)

    def test_compacted_while_away(self) -> None:
        """Whoever was away for long reads all again, and tells each difference once."""
        old = self.create(self.one, "old")
        self.nodes.settle()
        told: list[Record] = []
        self.two.watch(told.append)
        alice = self.create(self.one)
        (dead,) = self.one.apply([Delete("old", old.generation)])
        assert dead.record is not None
        self.one.apply([Purge("old", dead.record.generation)])
        self.etcd.compact()
        self.nodes.settle()
        self.assertEqual(list(self.two), [alice])
        self.assertEqual(
            [(r.name, r.status) for r in told],
            [
                ("alice", Status.ACTIVE),
                ("old", Status.DELETED),
            ],
        )

    def test_most_changes_fit_into_one_transaction(self) -> None:
        """With the head they are not more operations than etcd takes."""
        records = [Create(active(f"u{n}"), token(n)) for n in range(self.one.most_changes)]
        self.one.apply(records)
        self.assertEqual(len(self.one), self.one.most_changes)


class RotationTests(NodesCase):
    """Another master key, while nodes go on; the old one opens nothing any more."""

    def setUp(self) -> None:
        super().setUp()
        changes = [Create(active(f"u{n:03d}"), token(n)) for n in range(300)]
        for at in range(0, 300, 100):
            self.one.apply(changes[at : at + 100])
        self.nodes.settle()

    def values(self) -> list[bytes]:
        return [kept.value for kept in self.etcd.keys.values()]

    def test_every_line_and_the_head_are_sealed_anew(self) -> None:
        """Both nodes know the same records as before, are told of nothing, and can write."""
        told: list[Record] = []
        self.two.watch(told.append)
        records, old = list(self.one), set(self.values())
        self.one.new_master_key()
        copy_key(self.disk, "/one", "/two")
        self.one.rotate_master_key()
        self.nodes.settle()
        copy_key(self.disk, "/one", "/two")
        self.assertEqual(old & set(self.values()), set())
        self.assertEqual([list(self.one), list(self.two), told], [records, records, []])
        self.create(self.two)
        # Whoever starts now with the new key alone can read it all.
        disk = Disk()
        disk.names["/new.key"] = self.disk.names["/one.key"]
        self.assertEqual(len(self.nodes.open(disk, "/new")), 301)
        (line,) = disk.names["/new.key"].content.splitlines()
        key_id = line.split(b":")[2]
        for key, kept in self.etcd.keys.items():
            if key != KEYS.head:
                self.assertEqual(kept.value[:16], key_id)

    def test_others_write_meanwhile(self) -> None:
        """What another node seals under the old key in between is sealed anew as well."""
        self.one.new_master_key()
        copy_key(self.disk, "/one", "/two")
        number = 1000

        def in_between(body: Answer) -> None:
            nonlocal number
            self.etcd.before = lambda body: None
            number += 1
            if number < 1006:
                self.create(self.two, f"x{number}", number)
                self.etcd.before = in_between

        self.etcd.before = in_between
        self.one.rotate_master_key()
        self.nodes.settle()
        self.assertEqual(len(self.two), 305)
        disk = Disk()
        disk.names["/new.key"] = self.disk.names["/one.key"]
        self.assertEqual(len(list(self.nodes.open(disk, "/new"))), 305)

    def test_cut_short_it_is_done_again(self) -> None:
        """Half of it done, both keys are in the file; the next time finishes it."""
        asked = 0

        def twice(body: Answer) -> None:
            nonlocal asked
            asked += 1
            self.etcd.full = asked > 2

        self.one.new_master_key()
        copy_key(self.disk, "/one", "/two")
        self.etcd.before = twice
        self.assertRaises(StoreUnavailable, self.one.rotate_master_key)
        self.etcd.full, self.etcd.before = False, lambda body: None
        self.assertEqual(len(self.disk.names["/one.key"].content.splitlines()), 2)
        self.nodes.settle()
        self.assertEqual(len(list(self.two)), 300)
        self.one.rotate_master_key()
        self.assertEqual(len(self.disk.names["/one.key"].content.splitlines()), 1)

    def test_it_is_never_gone_back(self) -> None:
        """Cut short before the old key was dropped, and at the other node: only that is left."""
        old = self.one.nodes.master_key_id
        new = self.one.new_master_key()
        copy_key(self.disk, "/one", "/two")

        def fails(call: str) -> None:
            if call == "rename":
                raise OSError(5, "Input/output error")

        self.disk.before = fails
        self.assertRaises(StoreUnavailable, self.one.rotate_master_key)
        self.disk.before = lambda call: None
        self.nodes.settle()
        for store in self.one, self.two:
            self.assertEqual(store.nodes.own_key_ids, (new, old))
            before = dict(self.etcd.keys)
            store.rotate_master_key()
            self.assertEqual(self.etcd.keys, before)
            self.assertEqual(store.nodes.own_key_ids, (new,))

    def test_cut_short_at_each_step(self) -> None:
        """Both nodes have all at any time; the same again, at either node, completes it."""
        for at in range(1, 8):
            for again in "/one", "/two":
                self.setUp()
                sent = iter(range(1, 1000))

                def between(body: Answer, at: int = at, sent: Iterator[int] = sent) -> None:
                    self.etcd.full = next(sent) >= at

                self.one.most_changes = 120
                new = self.one.new_master_key()
                copy_key(self.disk, "/one", "/two")
                self.etcd.before = between
                with contextlib.suppress(StoreUnavailable):
                    self.one.rotate_master_key()
                self.etcd.before, self.etcd.full = lambda body: None, False
                self.nodes.settle()
                self.assertEqual(len(list(self.one)), 300)
                self.assertEqual(list(self.one), list(self.two))
                copy_key(self.disk, "/one", "/new")
                started = self.nodes.open(self.disk, "/new")  # in the middle
                self.assertEqual(list(started), list(self.one))
                store = self.one if again == "/one" else self.two
                if store.nodes.own_key_ids != (new,):
                    store.rotate_master_key()
                self.nodes.settle()
                self.assertEqual(store.nodes.own_key_ids, (new,))
                self.assertEqual(store.nodes.master_key_id, new)
                self.assertEqual(list(self.one), list(self.two))

    def test_a_node_without_the_new_key(self) -> None:
        """It refuses as soon as there is a line that it cannot read, and goes on with the key."""
        new = self.one.new_master_key()
        self.one.rotate_master_key()
        for _ in range(3):
            self.two.following.follow_once()
        self.assertIn(f"under master key {new}", self.two.trouble.replace("'", ""))
        self.assertRaises(StoreUnavailable, self.create, self.two)
        copy_key(self.disk, "/one", "/two")
        self.nodes.settle()
        self.assertEqual(list(self.one), list(self.two))

    def test_a_node_that_starts_in_the_middle_without_the_new_key(self) -> None:
        """It does not start, though the head is under the key that it has, and says why."""
        before = self.disk.names["/one.key"]
        new = self.one.new_master_key()
        self.etcd.before = lambda body: setattr(self.etcd, "down", True)
        self.assertRaises(StoreError, self.one.rotate_master_key)
        self.etcd.before, self.etcd.down = lambda body: None, False
        disk = Disk()
        disk.names["/new.key"] = before
        error = self.assertRaises(StoreError, self.nodes.open, disk, "/new")
        self.assertIn(f"there are principals under master key '{new}'", str(error))


class ConfirmedTests(NodesCase):
    def test_what_was_just_opened_is_confirmed(self) -> None:
        """All was read from most members: a KDC that starts can decide at once."""
        self.assertEqual(self.two.confirmed_milliseconds, self.nodes.milliseconds)
        self.assertEqual(self.two.trouble, "")

    def test_it_is_confirmed_from_when_it_was_asked(self) -> None:
        """Not when the answer came: what was changed meanwhile is not in it."""
        self.assertTrue(self.one.following.confirm_once())
        self.assertEqual(self.one.confirmed_milliseconds, self.nodes.milliseconds)

    def test_who_is_cut_off_is_not_confirmed(self) -> None:
        """Time goes on, and what was confirmed stays where it was."""
        self.one.following.confirm_once()
        before = self.one.confirmed_milliseconds
        self.etcd.down = True
        self.nodes.milliseconds += 20_000
        self.assertFalse(self.one.following.confirm_once())
        self.assertEqual(self.one.confirmed_milliseconds, before)
        self.assertIn("no connection", self.one.trouble)

    def test_memory_must_have_what_was_confirmed(self) -> None:
        """A watch that brings nothing does not confirm, however well etcd answers."""
        before = self.two.confirmed_milliseconds
        self.create(self.one)

        class Silent:
            dropped = False

            def next(self) -> Answer | None:
                return {"result": {}}

            def drop(self) -> None:
                self.dropped = True

            close = drop

        silent = Silent()
        self.two.following._stream = silent
        self.assertFalse(self.two.following.confirm_once())
        self.assertEqual(self.two.confirmed_milliseconds, before)
        self.assertTrue(silent.dropped)

    def test_own_changes_confirm(self) -> None:
        """Whoever changes something knows at once what was changed before."""
        self.nodes.milliseconds += 5
        self.create(self.one)
        self.assertEqual(self.one.confirmed_milliseconds, self.nodes.milliseconds)

    def test_refusals_confirm(self) -> None:
        """So does whoever reads the head to refuse."""
        self.nodes.milliseconds += 5
        self.one.apply([Delete("nobody", 1)])
        self.assertEqual(self.one.confirmed_milliseconds, self.nodes.milliseconds)


class HostileTests(NodesCase):
    """Whoever owns etcd can stop the KDCs; he cannot change a principal unnoticed."""

    def setUp(self) -> None:
        super().setUp()
        self.old = self.create(self.one)
        self.nodes.settle()
        self.old_keys = dict(self.etcd.keys)
        self.one.apply([Replace(active("alice", status=Status.DISABLED), self.old.generation)])
        self.create(self.one, "bob", 2)
        self.nodes.settle()

    def value(self, name: str) -> bytes:
        return self.etcd.keys[KEYS.line(name.encode())].value

    def assert_refused(self, *changes: tuple[bytes, bytes | None], fresh: bool = True) -> None:
        """After these both nodes decide nothing; nothing in their memory is other than before."""
        before = list(self.one)
        good = {key: kept.value for key, kept in self.etcd.keys.items()}
        self.etcd.write(*changes)
        for store in (self.one, self.two):
            for _ in range(10):
                store.following.follow_once()
                store.following.confirm_once()
            confirmed = store.confirmed_milliseconds
            assert confirmed is not None
            self.assertLess(confirmed, 0)
            self.assertEqual(list(store), before)
            self.assertNotEqual(store.trouble, "")
            self.assertRaises(StoreUnavailable, store.apply, [Create(active("x"), token(9))])
        if fresh:
            self.assertRaises(StoreError, self.nodes.open, self.fresh_node(), "/fresh")
        # Put right again, they go on.
        added = [(key, None) for key in self.etcd.keys if key not in good]
        self.etcd.write(*good.items(), *added)
        self.nodes.settle()
        self.assertEqual(self.one.trouble, "")

    def fresh_node(self) -> Disk:
        """A node without a generation file."""
        disk = Disk()
        disk.names["/fresh.key"] = self.disk.names["/one.key"]
        return disk

    def test_what_is_put_into_etcd(self) -> None:
        """A line that is deleted, old, exchanged, made up; a head that is old, forged, gone."""
        line, head = KEYS.line, KEYS.head
        old_line = self.old_keys[line(b"alice")].value
        old_head = self.old_keys[head].value
        now = self.etcd.keys[head].value
        attacks: Mapping[str, tuple[tuple[bytes, bytes | None], ...]] = {
            "a line deleted": ((line(b"bob"), None),),
            "a line deleted, with the head": ((line(b"bob"), None), (head, now)),
            "an old line": ((line(b"alice"), old_line),),
            "an old line, with the head": ((line(b"alice"), old_line), (head, now)),
            "an old head": ((head, old_head),),
            "all as it was": ((line(b"alice"), old_line), (line(b"bob"), None), (head, old_head)),
            "a line of another name": ((line(b"carol"), self.value("bob")), (head, now)),
            "a line under a name with its fields": (
                (line(b"bob:10.4.5.11"), self.value("bob")),
                (line(b"bob"), None),
                (head, now),
            ),
            "a foreign key": ((b"/kdc/LOCAL/i", b"x"),),
            "a foreign key, with the head": ((b"/kdc/LOCAL/i", b"x"), (head, now)),
            "no head": ((head, None),),
            "a head of nonsense": ((head, b"\xff" * 200),),
            "a generation further": ((head, now.replace(b":2:3:2:", b":3:3:2:")),),
            "lines of nonsense": ((line(b"bob"), b"\n" * 100), (head, now)),
        }
        self.assertIn(b":2:3:2:", now)
        for what, changes in attacks.items():
            with self.subTest(what):
                # Who has seen nothing cannot know that it was a whole state once.
                self.assert_refused(*changes, fresh=what != "all as it was")

    def test_no_secret_is_in_etcd(self) -> None:
        """Neither keys nor codes can be read there, and the sum cannot either."""
        (result,) = self.one.apply([Create(invited("carol"), token(3))])
        self.assertIs(result.outcome, Outcome.DONE)
        everything = b"".join(kept.value for kept in self.etcd.keys.values())
        for secret in (active("alice").verify_key, b"c" * 16, token(3)):
            self.assertNotIn(secret, everything)

    def test_a_moved_store_is_left(self) -> None:
        """`closed` in the place of the head ends the nodes; `loading` lets them wait."""
        head = self.etcd.keys[KEYS.head].value
        store_id, key_id = head.decode().split(":")[2:4]
        self.etcd.write((KEYS.head, Closed("loading", store_id, key_id).text()))
        for _ in range(5):
            self.one.following.follow_once()
        self.one.check_ours()
        self.assertRaises(StoreUnavailable, self.one.apply, [Delete("bob", 3)])
        self.etcd.write((KEYS.head, Closed("closed", store_id, key_id).text()))
        for _ in range(5):
            self.one.following.follow_once()
        self.assertRaises(StoreLost, self.one.check_ours)
        self.assertRaises(StoreLost, self.one.apply, [Delete("bob", 3)])
        self.assertRaises(StoreError, self.nodes.open, self.fresh_node(), "/fresh")
