"""Moving a store from its file into etcd and back: nothing is lost, never can both be opened."""

from __future__ import annotations

import copy
import errno
import itertools
import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ErrorKind
from kdc.store import (
    Create,
    Delete,
    Purge,
    Replace,
    Status,
    Store,
    StoreError,
    StoreInUse,
    StoreLost,
)
from kdc.store.etcd.api import Stream
from kdc.store.etcd.head import Closed
from kdc.store.etcd.opening import EtcdFiles
from kdc.store.etcd.wire import Answer, Keys
from kdc.store.flatfile import FlatFileStore
from kdc.store.flatfile.paths import Paths
from kdc.store.moving import Move, Sides, from_etcd, to_etcd
from kdc.store.portable import dump
from tests.support.disk import Disk, PowerCut, _Inode
from tests.support.etcd import Etcd, FakeLink, Faults, Nodes
from tests.support.store_conformance import active, invited, token

KEYS = Keys("LOCAL")
FILE = "/pwd.txt"
NODE = EtcdFiles("/kdc.key", "/kdc.generation", "/kdc.lock")
BESIDE = tuple((f"{FILE}{end}", f"/kdc{end}") for end in (".tls", ".directory"))
# More than one transaction holds, and one page.
MANY, PAGE, CHANGES = 8, 5, 4


def put(disk: Disk, path: str, content: bytes) -> None:
    inode = disk.names[path] = disk.durable_names[path] = _Inode()
    inode.content = inode.durable = content


def filled() -> Disk:
    """A disk with a file that has everything a store can have, some of it in its journal."""
    disk = Disk()
    store = FlatFileStore.open(FILE, realm="LOCAL", files=disk)
    store.apply([Create(active(f"u{number}"), token(number)) for number in range(MANY)])
    assert store.fold()
    (gone, freed) = store.apply(
        [
            Create(active("gone", port=4), token(1000)),
            Create(active("freed"), token(1001)),
        ]
    )
    ending = attrs.evolve(active("ending"), expiry_time=2_000_000_000, renewal_seconds=86400)
    assert gone.record is not None
    assert freed.record is not None
    (_, dead, *_) = store.apply(
        [
            Delete("gone", gone.record.generation, 5),
            Delete("freed", freed.record.generation, 6),
            Create(ending, token(1002)),
            Create(invited("newcomer"), token(1003)),
            Replace(active("u7", status=Status.DISABLED), 8),
        ]
    )
    assert dead.record is not None
    store.apply([Purge("freed", dead.record.generation)])
    put(disk, f"{FILE}.tls", b"TLS key")
    killed = disk.after_kill()  # its journal is not folded
    killed.random = disk.random
    return killed


def sides(disk: Disk, etcd: Etcd, **options: Any) -> Sides:
    link = options.pop("link", None) or etcd.link(options.pop("faults", None))
    return Sides(
        link,
        options.pop("realm", "LOCAL"),
        Paths.of(options.pop("file", FILE)),
        options.pop("node", NODE),
        options.pop("beside", BESIDE),
        files=disk,
        pause=lambda seconds: None,
        page=PAGE,
        most_changes=CHANGES,
        **options,
    )


def dumped(store: Store) -> list[str]:
    return [*dump(store, secrets=True), str(store.generation)]


def of_file(disk: Disk) -> list[str] | None:
    """What a KDC on the file has, None if it refuses to start."""
    try:
        store = FlatFileStore.open(FILE, realm="LOCAL", create=False, files=disk.after_kill())
    except StoreError:
        return None
    return dumped(store)


def of_etcd(etcd: Etcd, disk: Disk) -> list[str] | None:
    """What a node has, None if it refuses to start; nothing is changed in ``etcd``."""
    nodes, files = Nodes(copy.deepcopy(etcd)), disk.after_kill()
    if "/kdc.key" not in files.names:  # a node that has everything
        files.names["/kdc.key"] = files.names[f"{FILE}.key"]
    try:
        return dumped(nodes.open(files, create=False))
    except StoreError:
        return None


@attrs.define(eq=False)
class Steps:
    """Dies at one of its steps: each call of the disk, before and after each request to etcd."""

    at: int
    count: int = 0

    def step(self, call: str = "") -> None:
        self.count += 1
        if self.count >= self.at:
            raise PowerCut


@attrs.define(eq=False)
class Mortal:
    """A link of a process that dies."""

    link: FakeLink
    steps: Steps

    def post(self, path: str, body: Answer, seconds: float) -> Answer:
        self.steps.step()
        answer = self.link.post(path, body, seconds)
        self.steps.step()
        return answer

    def watch(self, body: Answer, seconds: float) -> Stream:
        raise NotImplementedError

    def next_member(self) -> None:
        raise NotImplementedError

    def interrupt(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class MovingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk, self.etcd = filled(), Etcd()
        expected = of_file(self.disk)
        assert expected is not None
        self.expected = expected

    def refused(self, move: Callable[[Sides], Move], text: str, **options: Any) -> StoreError:
        """Refused with these words, and nothing is another than before."""
        keys, names = dict(self.etcd.keys), self.files()
        error = self.assertRaises(StoreError, move, sides(self.disk, self.etcd, **options))
        self.assertIn(text, str(error))
        self.assertEqual(self.etcd.keys, keys)
        self.assertEqual(self.files(), names)
        return error

    def files(self) -> dict[str, bytes]:
        return {
            name: inode.content
            for name, inode in self.disk.names.items()
            if not name.endswith(".lock")
        }

    def moved(self) -> Move:
        return to_etcd(sides(self.disk, self.etcd))

    def node(self) -> Any:
        return Nodes(self.etcd).open(self.disk)


class MovingTests(MovingCase):
    def test_there_and_back(self) -> None:
        """What a node has is what the file had, and the file is what the nodes had at last."""
        self.assertEqual(self.moved(), Move(MANY + 3, MANY + 8))
        self.assertEqual(of_etcd(self.etcd, self.disk), self.expected)
        self.assertIsNone(of_file(self.disk))
        files = self.files()
        self.assertEqual(files["/kdc.key"], files[f"{FILE}.key"])
        self.assertEqual(files["/kdc.tls"], b"TLS key")
        self.assertNotIn("/kdc.directory", files)
        self.assertNotIn(FILE, files)

        node = self.node()
        self.assertEqual(node.notes, [])
        node.apply([Create(active("later"), token(2000))])
        changed = dumped(node)
        node.close()
        self.assertEqual(from_etcd(sides(self.disk, self.etcd)), Move(MANY + 4, MANY + 9))
        self.assertEqual(of_file(self.disk), changed)
        self.assertIsNone(of_etcd(self.etcd, self.disk))

    def test_there_again(self) -> None:
        """A store that was moved back is moved again, with what was changed in between."""
        self.moved()
        from_etcd(sides(self.disk, self.etcd))
        store = FlatFileStore.open(FILE, realm="LOCAL", files=self.disk)
        store.apply([Delete("u3", 4, 9), Create(active("later"), token(2000))])
        changed = dumped(store)
        store.close()
        self.assertEqual(self.moved(), Move(MANY + 4, MANY + 10))
        self.assertEqual(of_etcd(self.etcd, self.disk), changed)
        from_etcd(sides(self.disk, self.etcd))
        self.assertEqual(of_file(self.disk), changed)

    def test_another_store_was_moved_before(self) -> None:
        """What that was is not written over."""
        put(self.disk, FILE + ".moved", self.another_store())
        self.refused(to_etcd, f"{FILE}.moved is there already")
        put(self.disk, FILE + ".moved", b"no store\n")
        self.refused(to_etcd, f"{FILE}.moved is there already")

    def another_store(self) -> bytes:
        disk = Disk()
        FlatFileStore.open(FILE, realm="LOCAL", files=disk).close()
        return disk.names[FILE].content

    def test_moved_already(self) -> None:
        """The same again says so, and changes nothing, on either way."""
        self.moved()
        before, files = dict(self.etcd.keys), self.files()
        self.assertEqual(self.moved(), Move(MANY + 3, MANY + 8, again=True))
        self.assertEqual(self.etcd.keys, before)
        from_etcd(sides(self.disk, self.etcd))
        before, files = dict(self.etcd.keys), self.files()
        done = from_etcd(sides(self.disk, self.etcd))
        self.assertEqual(done, Move(MANY + 3, MANY + 8, again=True))
        self.assertEqual((self.etcd.keys, self.files()), (before, files))

    def test_back_to_another_machine(self) -> None:
        """The file comes to be wherever the way back is gone from, with its keys beside it."""
        self.moved()
        other = Disk()
        for end in (".key", ".tls"):
            put(other, f"/kdc{end}", self.disk.names[f"/kdc{end}"].content)
        from_etcd(sides(other, self.etcd))
        self.assertEqual(of_file(other), self.expected)
        self.assertEqual(other.names[f"{FILE}.tls"].content, b"TLS key")

    def test_running_nodes_end(self) -> None:
        """Once the way back has begun they decide nothing more, and say where the store is."""
        self.moved()
        nodes = Nodes(self.etcd)
        node = nodes.open(self.disk)
        from_etcd(sides(self.disk, self.etcd))
        for _ in range(5):
            node.following.follow_once()
        self.assertRaises(StoreLost, node.check_ours)
        self.assertRaises(StoreLost, node.apply, [Create(active("late"), token(9))])
        self.assertEqual(node.trouble, "the store was moved away")

    def test_a_change_while_it_is_closed(self) -> None:
        """A node that is faster than the closing has its change moved, too."""
        self.moved()
        node = self.node()
        done = []

        def between(body: Answer) -> None:
            self.etcd.before = lambda body: None
            done.extend(node.apply([Create(active("late"), token(9))]))

        self.etcd.before = between
        from_etcd(sides(self.disk, self.etcd))
        store = FlatFileStore.open(FILE, realm="LOCAL", files=self.disk)
        self.assertEqual(store.get("late"), done[0].record)

    def test_it_is_told_how_far_it_is(self) -> None:
        """Each part from nothing to all, in principals."""
        told: list[tuple[str, int, int]] = []
        to_etcd(sides(self.disk, self.etcd, told=lambda *line: told.append(line)))
        self.assertEqual(
            [what for what, _ in itertools.groupby(told, lambda line: line[0])],
            ["moving", "reading back"],
        )
        self.assertEqual(told[-1], ("reading back", MANY + 3, MANY + 3))


class RefusedTests(MovingCase):
    def test_a_kdc_runs_on_the_file(self) -> None:
        """Nothing is moved from under it, and nothing over it."""
        store = FlatFileStore.open(FILE, realm="LOCAL", files=self.disk)
        error = self.refused(to_etcd, "is in use by process")
        self.assertIsInstance(error, StoreInUse)
        store.close()
        self.moved()
        lock = self.disk.open(f"{FILE}.lock", os.O_RDWR)
        self.assertTrue(self.disk.lock(lock))
        self.assertIsInstance(self.refused(from_etcd, "is in use by process"), StoreInUse)

    def test_a_node_has_the_state_directory(self) -> None:
        """Its files are not changed."""
        Nodes().open(self.disk)
        self.refused(to_etcd, "another process runs this node")

    def test_another_realm(self) -> None:
        """Keys are bound to their realm: it cannot be moved into another."""
        error = self.refused(to_etcd, "is the store of realm LOCAL, not of OTHER", realm="OTHER")
        self.assertIs(error.kind, ErrorKind.STORE_OF_ANOTHER_REALM)
        self.moved()
        self.refused(from_etcd, "etcd has no store of OTHER", realm="OTHER")

    def test_another_store_is_there(self) -> None:
        """It is not written over, be it in use, closed or half loaded."""
        other = Nodes(self.etcd).open(Disk())
        head = other.following.view.head
        self.refused(to_etcd, "etcd has another store of LOCAL")
        for state in ("loading", "closed"):
            self.etcd.write((KEYS.head, Closed(state, head.store_id, head.key_id).text()))
            self.refused(to_etcd, "etcd has another store of LOCAL")
        self.etcd.write((KEYS.head, b"whatever"))
        self.refused(to_etcd, "etcd has another store of LOCAL")

    def test_keys_without_a_head(self) -> None:
        """Whose they are nobody knows; they are left alone."""
        self.etcd.write((KEYS.line(b"alice"), b"x"))
        self.refused(to_etcd, "etcd has keys of LOCAL, and no head")

    def test_keys_that_are_no_principals(self) -> None:
        """Even among ours, they are left alone."""
        self.etcd.write((b"/kdc/LOCAL/hello", b"x"))
        self.refused(to_etcd, "etcd has keys of LOCAL, and no head")

    def test_this_store_is_there(self) -> None:
        """A copy of the file that was moved is not moved over what it has become."""
        self.moved()
        put(self.disk, FILE, self.disk.names[f"{FILE}.moved"].content)
        self.refused(to_etcd, "etcd has this very store of LOCAL")
        self.refused(from_etcd, "is there already")

    def test_an_older_file(self) -> None:
        """What was moved back and then changed is newer than a copy of before."""
        copied = self.disk.names[FILE].content, self.disk.names[f"{FILE}.journal"].content
        kept = self.disk.names[f"{FILE}.generation"].content
        self.moved()
        node = self.node()
        node.apply([Create(active("later"), token(2000))])
        node.close()
        from_etcd(sides(self.disk, self.etcd))
        put(self.disk, FILE, copied[0])
        put(self.disk, f"{FILE}.journal", copied[1])
        error = self.refused(to_etcd, "an old copy was put back")
        self.assertIs(error.kind, ErrorKind.OLDER_THAN_BEFORE)
        # Nor if the generation file was put back, too.
        put(self.disk, f"{FILE}.generation", kept)
        self.refused(to_etcd, "in etcd: it is older")

    def test_etcd_has_lost_it(self) -> None:
        """An etcd that is empty again is not filled with what the store was long ago."""
        self.moved()
        self.etcd.keys.clear()
        self.refused(to_etcd, "was moved, and etcd has nothing")

    def test_the_way_back_is_not_turned(self) -> None:
        """Once etcd is closed, only what is there is good."""
        self.moved()
        head = self.etcd.keys[KEYS.head].value
        found = Nodes(copy.deepcopy(self.etcd)).open(self.disk.after_kill()).following.view.head
        self.etcd.write((KEYS.head, Closed("closed", found.store_id, found.key_id, head).text()))
        self.refused(to_etcd, "is being moved back")
        from_etcd(sides(self.disk, self.etcd))
        self.assertEqual(of_file(self.disk), self.expected)

    def test_another_key_beside_the_node(self) -> None:
        """A file that is there is not written over, whatever it is."""
        Nodes().open(other := Disk()).close()
        put(self.disk, "/kdc.key", other.names["/kdc.key"].content)
        self.refused(to_etcd, "/kdc.key is there already")
        del self.disk.names["/kdc.key"]
        put(self.disk, "/kdc.tls", b"another")
        self.refused(to_etcd, "/kdc.tls is there already")
        put(self.disk, "/kdc.tls", b"TLS key")
        self.moved()

    def test_another_key_beside_the_file(self) -> None:
        """The same on the way back; and without the key nothing is closed."""
        self.moved()
        put(self.disk, f"{FILE}.tls", b"another")
        self.refused(from_etcd, f"{FILE}.tls is there already")
        del self.disk.names[f"{FILE}.tls"]
        Nodes().open(other := Disk()).close()
        mine = self.disk.names[f"{FILE}.key"]
        put(self.disk, f"{FILE}.key", other.names["/kdc.key"].content)
        self.refused(from_etcd, f"{FILE}.key is there already")
        self.disk.names[f"{FILE}.key"], self.disk.names["/kdc.key"] = (
            mine,
            self.disk.names[f"{FILE}.key"],
        )
        self.refused(from_etcd, "/kdc.key does not open what is in etcd")
        del self.disk.names["/kdc.key"]
        self.refused(from_etcd, "cannot read /kdc.key")

    def test_an_older_state_of_etcd(self) -> None:
        """A node's generation file knows better."""
        self.moved()
        old = copy.deepcopy(self.etcd)
        node = self.node()
        node.apply([Create(active("later"), token(2000))])
        node.close()
        self.etcd = old
        self.refused(from_etcd, "an older state was put back")

    def test_what_is_not_whole_is_not_closed(self) -> None:
        """A line that was deleted by etcd's owner: nodes refuse, and so does the way back."""
        self.moved()
        self.etcd.write((KEYS.line(b"u5"), None))
        self.refused(from_etcd, "is not whole")

    def test_what_is_not_whole_is_not_moved_back(self) -> None:
        """Nor what was changed after it was closed."""
        self.moved()
        from_etcd(sides(self.disk, self.etcd))
        self.etcd.write((KEYS.line(b"u5"), None))
        del self.disk.names[FILE]
        self.refused(from_etcd, "is not whole")

    def test_a_journal_that_nobody_knows(self) -> None:
        """A file is not written beside a journal that it may not have."""
        self.moved()
        put(self.disk, f"{FILE}.journal", b"x")
        del self.disk.names[f"{FILE}.moved"]
        self.refused(from_etcd, f"{FILE}.journal is there already")

    def test_half_moved(self) -> None:
        """What is being loaded is not moved back."""
        self.etcd.full = True
        self.assertRaises(StoreError, self.moved)
        self.etcd.full = False
        self.etcd.write((KEYS.head, Closed("loading", "0" * 16, "1" * 16).text()))
        self.refused(from_etcd, "the store is being loaded")

    def test_a_kdc_on_the_file_says_where_it_went(self) -> None:
        """It does not begin anew, with or without what is left beside."""
        self.moved()
        for name in (f"{FILE}.generation", ""):
            self.disk.names.pop(name, None)
            error = self.assertRaises(
                StoreError, FlatFileStore.open, FILE, realm="LOCAL", files=self.disk
            )
            self.assertIn("were moved into etcd", str(error))


class CutShortTests(MovingCase):
    """Whatever happens in the middle, the same again completes it."""

    def dies(self, move: Callable[[Sides], Move], steps: Steps) -> bool:
        """Move until it dies; False if it was done before."""
        disk, link = self.disk, Mortal(self.etcd.link(), steps)
        disk.before = steps.step
        try:
            move(sides(disk, self.etcd, link=link))
        except (PowerCut, StoreError):
            return True
        finally:
            disk.before = lambda call: None
        return False

    def never_both(self, at: object) -> None:
        file, etcd = of_file(self.disk), of_etcd(self.etcd, self.disk)
        self.assertFalse(file is not None and etcd is not None, f"step {at}: both can be opened")
        for found in (file, etcd):
            self.assertIn(found, (None, self.expected), at)

    def each_step(self, move: Callable[[Sides], Move], luck: str) -> int:
        first, keys = self.disk, copy.deepcopy(self.etcd)
        for at in itertools.count(1):
            self.disk, self.etcd = first.after_kill(), copy.deepcopy(keys)
            cut = self.dies(move, Steps(at))
            self.disk = self.disk.after_power_cut(luck)
            self.never_both((at, luck))
            move(sides(self.disk, self.etcd))
            done = of_etcd(self.etcd, self.disk), of_file(self.disk)
            wanted = (self.expected, None) if move is to_etcd else (None, self.expected)
            self.assertEqual(done, wanted, (at, luck))
            if not cut:
                return at
        raise AssertionError("never done")

    def test_a_kill_or_power_cut_at_each_step_there(self) -> None:
        """At no moment can both be opened; the same again completes it, and nothing is lost."""
        for luck in ("all", "none", "some"):
            self.assertGreater(self.each_step(to_etcd, luck), 50)
            self.disk, self.etcd = filled(), Etcd()
            self.expected = of_file(self.disk) or []

    def test_a_kill_or_power_cut_at_each_step_back(self) -> None:
        """The same on the way back."""
        self.moved()
        first, keys = self.disk.after_kill(), copy.deepcopy(self.etcd)
        for luck in ("all", "none", "some"):
            self.disk, self.etcd = first.after_kill(), copy.deepcopy(keys)
            self.assertGreater(self.each_step(from_etcd, luck), 40)

    def each_failure(self, move: Callable[[Sides], Move]) -> None:
        first, keys = self.disk, copy.deepcopy(self.etcd)
        for at in itertools.count():
            self.disk, self.etcd = first.after_kill(), copy.deepcopy(keys)
            calls = itertools.count()

            def before(call: str, at: int = at, calls: itertools.count[int] = calls) -> None:
                if next(calls) == at and call != "close":
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

            self.disk.before = before
            with_error = False
            try:
                move(sides(self.disk, self.etcd))
            except StoreError:
                with_error = True
            self.disk.before = lambda call: None
            self.never_both(at)
            move(sides(self.disk, self.etcd))
            if next(calls) <= at and not with_error:
                return

    def test_each_failure_of_the_disk_there(self) -> None:
        """It is an error that says what failed, and leaves nothing that is in the way."""
        self.each_failure(to_etcd)

    def test_each_failure_of_the_disk_back(self) -> None:
        """The same on the way back."""
        self.moved()
        self.disk = self.disk.after_kill()
        self.each_failure(from_etcd)

    def test_lost_requests_and_answers(self) -> None:
        """etcd answers late, twice or not: it is asked again, and nothing is done twice."""
        for seed in range(20):
            self.disk, self.etcd = filled(), Etcd()
            expected = of_file(self.disk)
            faults = Faults(seed, unsent=100, lost_before=100, lost_after=200, compacts=50)
            to_etcd(sides(self.disk, self.etcd, faults=faults))
            self.assertEqual(of_etcd(self.etcd, self.disk), expected)
            from_etcd(sides(self.disk, self.etcd, faults=faults))
            self.assertEqual(of_file(self.disk), expected)

    def test_a_full_etcd(self) -> None:
        """The file goes on as it was; once there is room the same again completes it."""
        self.etcd.full = True
        error = self.assertRaises(StoreError, self.moved)
        self.assertIn("database space exceeded", str(error))
        self.assertEqual(of_file(self.disk), self.expected)
        self.etcd.full = False
        self.moved()
        self.etcd.full = True
        self.assertRaises(StoreError, from_etcd, sides(self.disk, self.etcd))
        self.assertEqual(of_etcd(self.etcd, self.disk), self.expected)

    def test_etcd_is_full_in_the_middle(self) -> None:
        """Half of the lines are there: no node takes them for a store, the file still is one."""
        sent = itertools.count()

        def before(body: Answer) -> None:
            self.etcd.full = next(sent) == 2  # the claim, four lines

        self.etcd.before = before
        self.assertRaises(StoreError, self.moved)
        self.etcd.before, self.etcd.full = lambda body: None, False
        self.assertEqual(len(self.etcd.keys), 1 + CHANGES)
        self.assertIsNone(of_etcd(self.etcd, self.disk))
        self.assertEqual(of_file(self.disk), self.expected)
        self.moved()

    def test_the_lines_fill_etcd(self) -> None:
        """When only the head has no place any more, the file still has its name."""

        def before(body: Answer) -> None:
            self.etcd.full = len(self.etcd.keys) > MANY + 3

        self.etcd.before = before
        self.assertRaises(StoreError, self.moved)
        self.etcd.before, self.etcd.full = lambda body: None, False
        self.assertEqual(of_file(self.disk), self.expected)
        self.moved()

    def test_no_etcd(self) -> None:
        """It is said who does not answer; the file is as it was."""
        self.etcd.down = True
        self.refused(to_etcd, "etcd cannot be reached")
        self.refused(from_etcd, "etcd cannot be reached")

    def test_two_at_once(self) -> None:
        """Copies of one file on two machines: one of the two is moved, the other says so."""
        for moment in range(1, 7):
            self.disk, self.etcd = filled(), Etcd()
            copied = self.disk.after_kill()
            other, sent = copied.after_kill(), itertools.count(1)

            def between(
                body: Answer, moment: int = moment, other: Disk = other, sent: Any = sent
            ) -> None:
                if next(sent) == moment:
                    self.etcd.before = lambda body: None
                    to_etcd(sides(other, self.etcd))

            self.etcd.before = between
            error = self.assertRaises(StoreInUse, self.moved)
            self.assertIn("another process changed the store", str(error))
            self.assertEqual(of_etcd(self.etcd, other), of_file(copied))

    def test_the_lock_is_taken_away(self) -> None:
        """Somebody who removes the lock file could have changed the file: it is not moved."""

        def before(body: Answer) -> None:
            put(self.disk, f"{FILE}.lock", b"")

        self.etcd.before = before
        error = self.assertRaises(StoreInUse, self.moved)
        self.assertIn("was removed or replaced", str(error))
        self.assertEqual(of_file(self.disk), self.expected)
        self.assertIsNone(of_etcd(self.etcd, self.disk))


class RotatedTests(MovingCase):
    """A rotation of the master key that has not ended."""

    def test_lines_under_two_keys(self) -> None:
        """On the way back they come to be under the one that the head is under."""
        self.moved()
        node = self.node()
        node.most_changes = CHANGES
        node.new_master_key()
        sent = itertools.count()

        def before(body: Answer) -> None:
            self.etcd.down = next(sent) == 0

        self.etcd.before = before
        self.assertRaises(StoreError, node.rotate_master_key)
        self.etcd.before, self.etcd.down = lambda body: None, False
        node.close()
        keys = {kept.value[:16] for key, kept in self.etcd.keys.items() if key != KEYS.head}
        self.assertEqual(len(keys), 2)
        from_etcd(sides(self.disk, self.etcd))
        self.assertEqual(of_file(self.disk), self.expected)
