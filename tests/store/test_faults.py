"""Whatever call of the system fails, and whenever the power goes: nothing acknowledged is lost.

One history of changes is run again and again; each time another call of the
system fails, once or from then on until space returns.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from twisted.trial.unittest import SynchronousTestCase

from kdc.store import (
    Change,
    Create,
    Delete,
    Outcome,
    Record,
    Replace,
    Status,
    StoreError,
    StoreUnavailable,
)
from kdc.store.flatfile._store import FlatFileStore, Folding
from tests.support.disk import Disk, PowerCut
from tests.support.store_conformance import active, token

PATH = "/store/pwd.txt"


def inline(work: Callable[[], None]) -> None:
    """Fold in the caller's thread, so that each run has the same calls in the same order."""
    work()


def open_on(disk: Disk, folding: Folding | None = None) -> FlatFileStore:
    return FlatFileStore.open(PATH, realm="LOCAL", files=disk, run=inline, folding=folding)


class Fault:
    """Fails the ``number``-th call, and all that follow until `heal` if it is lasting."""

    def __init__(self, number: int, kind: str, lasting: bool) -> None:
        self.number = number
        self.kind = kind
        self.lasting = lasting
        self.calls = 0
        self.happened = False
        self.healed = False

    def __call__(self, call: str) -> str | None:
        self.calls += 1
        due = self.calls == self.number or (self.lasting and self.calls > self.number)
        if not due or self.healed:
            return None
        if self.kind == "short":
            self.happened |= call == "write"
            return "short"
        if self.kind == "power cut":
            self.happened = True
            raise PowerCut
        # A full disk refuses only what needs space.
        if self.kind == "ENOSPC" and call not in ("open", "write", "pwrite", "fsync", "rename"):
            return None
        if call == "close" and self.lasting:
            return None
        self.happened = True
        number = getattr(errno, self.kind)
        raise OSError(number, os.strerror(number))


class History:
    """Changes a store, and knows what must be in it."""

    def __init__(self, store: FlatFileStore) -> None:
        self.store = store
        self.acknowledged = {record.name: record for record in store}
        self.sent: list[Record] = []

    def run(self) -> Iterator[None]:
        for step in range(6):
            name = f"n{step}"
            self.change([Create(active(name, port=step), token(step))])
            yield
            others: list[Change] = [
                Create(active(f"{name}-{i}", port=step), token(i)) for i in range(2)
            ]
            first = self.acknowledged.get("n0")
            if first is not None:
                others.append(Replace(active("n0", port=100 + step), first.generation))
            third = self.acknowledged.get(f"n{step - 2}-1")
            if third is not None:
                others.append(Delete(third.name, third.generation))
            self.change(others)
            yield

    def change(self, changes: Sequence[Change]) -> bool:
        try:
            results = self.store.apply(changes)
        except StoreUnavailable:
            for change in changes:
                if isinstance(change, Create | Replace):
                    self.sent.append(change.record)
                else:
                    self.sent.append(Record(change.name, Status.DELETED))
            return False
        for result in results:
            assert result.outcome is Outcome.DONE, result
            assert result.record is not None
            self.acknowledged[result.record.name] = result.record
        return True


class FaultTests(SynchronousTestCase):
    def open_on(self, disk: Disk) -> FlatFileStore:
        # Folds in the middle of the history, not after four megabytes of it.
        return open_on(disk, Folding(1500, 1))

    def setUp(self) -> None:
        disk = Disk()
        store = self.open_on(disk)
        store.apply([Create(active("first"), token(1))])
        store.fold()
        store.apply([Create(active("second"), token(2))])
        self.start = disk.after_kill()
        # Abandoned, not closed: a killed process does not fold either.

        self.all_sent: list[Record] = []

    def calls(self) -> int:
        fault = Fault(0, "EIO", False)
        disk = self.start.after_kill()
        store = self.open_on(disk)
        disk.before = fault
        store.watch(self.all_sent.append)
        list(History(store).run())
        return fault.calls

    def same_as(self, store: FlatFileStore, history: History, context: object) -> None:
        found = {record.name: record for record in store}
        self.assertEqual(found, history.acknowledged, context)

    def check_stored(self, disk: Disk, history: History, context: object) -> None:
        """All that was acknowledged is there; what else is there was at least asked for."""
        store = self.open_on(disk)
        found = {record.name: record for record in store}
        for name, record in history.acknowledged.items():
            self.assertIn(name, found, context)
            if found[name].generation == record.generation:
                self.assertEqual(found[name], record, context)
            else:
                self.assertGreater(found[name].generation, record.generation, context)
                self.check_sent(found[name], history, context)
        for name in set(found) - set(history.acknowledged):
            self.check_sent(found[name], history, context)
        retry = History(store)
        self.assertTrue(retry.change([Create(active("afterwards"), token(9))]), context)
        self.assertEqual(len(self.open_on(disk.after_power_cut("none"))), len(found) + 1, context)
        store.close()
        self.assertEqual(len(self.open_on(disk)), len(found) + 1, context)

    def check_sent(self, record: Record, history: History, context: object) -> None:
        self.assertIn(
            (record.name, record.status, record.port),
            [(sent.name, sent.status, sent.port) for sent in history.sent],
            context,
        )

    def run_with(self, number: int, kind: str, lasting: bool) -> None:
        context = (number, kind, lasting)
        disk = self.start.after_kill()
        store = self.open_on(disk)
        history = History(store)
        disk.before = fault = Fault(number, kind, lasting)
        for _ in history.run():
            self.same_as(store, history, context)
            self.assertEqual(store.get("first"), history.acknowledged["first"])
            if fault.calls >= number:
                for luck in "all", "none", "some":
                    self.check_stored(disk.after_power_cut(luck), history, (*context, luck))
                number = fault.calls + 12  # and again some calls later
        fault.healed = True
        self.assertTrue(history.change([Create(active("healed"), token(7))]), context)
        self.same_as(store, history, context)
        # With the disk well again, memory is the disk, whatever had been left half done.
        for luck in "all", "none":
            again = self.open_on(disk.after_power_cut(luck))
            self.same_as(again, history, (*context, luck))
        disk.before = lambda call: None
        self.assertTrue(store.fold(), context)
        self.assertEqual(store.trouble, "", context)
        self.assertEqual([p for p in disk.names if p.endswith((".new", ".fold"))], [], context)

    def test_each_call_fails_once(self) -> None:
        """EIO on any one call: the change is done or refused, and the next one works."""
        for number in range(1, self.calls() + 1):
            self.run_with(number, "EIO", False)

    def test_the_disk_is_full_once(self) -> None:
        """ENOSPC on any one call."""
        for number in range(1, self.calls() + 1):
            self.run_with(number, "ENOSPC", False)

    def test_each_write_is_short(self) -> None:
        """A write that takes only half is gone on with."""
        for number in range(1, self.calls() + 1):
            self.run_with(number, "short", False)

    def test_the_disk_fills_up(self) -> None:
        """From any call on until space returns: then changes are taken without a restart."""
        for number in range(1, self.calls() + 1, 3):
            self.run_with(number, "ENOSPC", True)

    def test_the_disk_breaks(self) -> None:
        """From any call on everything fails: what is in memory can be read all the time."""
        for number in range(1, self.calls() + 1, 3):
            self.run_with(number, "EIO", True)

    def test_power_fails_at_any_call(self) -> None:
        """The machine stops before any call, with the worst, the best and any luck."""
        for number in range(1, self.calls() + 1):
            disk = self.start.after_kill()
            store = self.open_on(disk)
            history = History(store)
            disk.before = Fault(number, "power cut", False)
            with contextlib.suppress(PowerCut):
                list(history.run())
            history.sent = list(self.all_sent)
            for luck in "all", "none", "some", "some":
                self.check_stored(disk.after_power_cut(luck), history, (number, luck))

    def test_a_first_start_that_fails_can_be_done_again(self) -> None:
        """Any call failing while a store is made, or the power: the next start makes it."""
        for kind in "EIO", "ENOSPC", "power cut":
            number = 0
            while True:
                number += 1
                disk = Disk()
                disk.before = fault = Fault(number, kind, False)
                try:
                    store = self.open_on(disk)
                    store.apply([Create(active("alice"), token(1))])
                except (StoreError, PowerCut):
                    acknowledged = False
                else:
                    acknowledged = True
                if not fault.happened and fault.calls < number:
                    break
                for luck in "all", "none", "some":
                    again = self.open_on(disk.after_power_cut(luck))
                    if acknowledged:
                        self.assertIsNotNone(again.get("alice"), (number, kind, luck))
                    again.apply([Create(active("bob"), token(2))])
                    self.assertIsNotNone(again.get("bob"))


class OneFaultTests(SynchronousTestCase):
    """Single faults with a known best outcome."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, folding: Folding | None = None) -> None:
        self.disk = Disk()
        self.store = open_on(self.disk, folding)
        self.store.apply([Create(active("alice"), token(1))])

    def break_calls(self, *calls: str, after: int = 0) -> None:
        """Let each call of these names fail, but for the first ``after``."""
        seen = 0

        def before(call: str) -> None:
            nonlocal seen
            if call in calls:
                seen += 1
                if seen > after:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.disk.before = before

    def names(self, disk: Disk) -> list[str]:
        return [record.name for record in open_on(disk)]

    def refuse(self, name: str) -> StoreUnavailable:
        return self.assertRaises(
            StoreUnavailable, self.store.apply, [Create(active(name), token(2))]
        )

    def test_what_was_refused_is_taken_back(self) -> None:
        """A change whose fsync failed is not on the disk for the next start to find."""
        self.break_calls("fsync")
        error = self.refuse("bob")
        self.assertIn("pwd.txt.journal: Input/output error", str(error))
        self.assertIn("nothing was changed", error.hint)
        self.assertEqual(self.names(self.disk.after_kill()), ["alice"])

    def test_a_refused_change_that_cannot_be_taken_back(self) -> None:
        """It is left out as soon as the disk works, even though it stood in the journal."""
        self.break_calls("fsync", "ftruncate")
        self.refuse("bob")
        self.disk.before = lambda call: None
        before = self.disk.names[PATH]
        self.store.apply([Create(active("carol"), token(3))])
        for luck in "all", "none":
            self.assertEqual(self.names(self.disk.after_power_cut(luck)), ["alice", "carol"])
        # A new journal is enough for that; a million principals are not written again.
        self.assertIs(self.disk.names[PATH], before)

    def test_a_journal_that_cannot_be_read_back(self) -> None:
        """The store is then written from memory."""
        self.break_calls("fsync")
        self.refuse("bob")
        self.break_calls("pread")
        self.store.apply([Create(active("carol"), token(3))])
        self.disk.before = lambda call: None
        for luck in "all", "none":
            self.assertEqual(self.names(self.disk.after_power_cut(luck)), ["alice", "carol"])

    def test_the_copy_of_a_journal_fails(self) -> None:
        """Wherever it does: the change is refused, and nothing is left of the copy."""
        for nth in range(3):
            self.break_calls("fsync")
            self.refuse("bob")
            self.break_calls("write", after=nth)
            self.refuse("bob")
            self.disk.before = lambda call: None
            self.assertEqual([path for path in self.disk.names if path.endswith(".new")], [], nth)
            self.assertEqual(self.names(self.disk.after_kill()), [r.name for r in self.store], nth)
            self.store.apply([Create(active(f"carol{nth}"), token(3))])
            self.assertIn(f"carol{nth}", self.names(self.disk.after_power_cut("none")))

    def test_a_name_that_is_not_durable_is_not_relied_on(self) -> None:
        """A journal whose renaming failed to reach the disk takes no change."""
        for nth in 0, 1:
            self.break_calls("sync_directory", after=nth)
            self.store.apply([Create(active(f"a{nth}"), token(2))])
            self.store.fold()
            self.disk.before = lambda call: None
            self.store.apply([Create(active(f"b{nth}"), token(3))])
            expected = [record.name for record in self.store]
            for luck in ["all", "none"] + 10 * ["some"]:
                self.assertEqual(self.names(self.disk.after_power_cut(luck)), expected)

    def test_the_journal_reaches_back_to_the_pwd_txt_that_is_durable(self) -> None:
        """A new pwd.txt whose name may yet be lost does not shorten the journal."""
        self.store.fold()
        self.store.apply([Create(active("bob"), token(2))])
        self.break_calls("sync_directory")
        self.store.fold()
        syncs = 0

        def before(call: str) -> None:
            nonlocal syncs
            syncs += call == "fsync"
            if call == "sync_directory":
                raise PowerCut

        self.disk.before = before
        with contextlib.suppress(PowerCut):
            self.store.fold()
        self.assertGreater(syncs, 0)
        for _ in range(20):
            self.assertEqual(self.names(self.disk.after_power_cut("some")), ["alice", "bob"])

    def test_a_failed_fold_leaves_nothing(self) -> None:
        """It is told, its temporary files are removed, and nothing was refused for it."""
        for call in "write", "fsync", "rename":
            self.break_calls(call)
            self.assertFalse(self.store.fold())
            self.assertIn("cannot fold", self.store.trouble)
            self.assertFalse([path for path in self.disk.names if path.endswith(".fold")], call)
        self.disk.before = lambda call: None
        self.assertTrue(self.store.fold())
        self.assertEqual(self.store.trouble, "")

    def test_a_failed_rotation_leaves_nothing(self) -> None:
        """Wherever it fails, no half of a file is left beside the whole ones."""
        for after in range(8):
            self.begin()
            self.break_calls("write", after=after)
            with contextlib.suppress(StoreUnavailable):
                self.store.rotate_master_key()
            self.assertFalse([path for path in self.disk.names if path.endswith(".new")], after)

    def test_what_is_read_back_is_not_all(self) -> None:
        """A journal that has lost what was acknowledged is not copied: memory has it."""
        self.store.apply([Create(active("bob"), token(2))])
        self.break_calls("write")
        self.refuse("carol")
        journal = self.disk.names[PATH + ".journal"]
        journal.content = journal.content.splitlines(keepends=True)[0]
        self.disk.before = lambda call: None
        self.store.apply([Create(active("dave"), token(4))])
        for luck in ("none", "some"):
            found = self.names(self.disk.after_power_cut(luck))
            self.assertEqual(found, ["alice", "bob", "dave"])

    def test_a_failed_fold_is_not_tried_at_every_change(self) -> None:
        """Each try writes the whole of pwd.txt, so it waits for more changes."""
        self.begin(Folding(2000))
        tries: list[str] = []

        def before(call: str) -> None:
            if call == "rename":
                tries.append(call)
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.disk.before = before
        for number in range(40):
            self.store.apply([Create(active(f"n{number}"), token(number))])
        self.assertTrue(0 < len(tries) < 12, tries)

    def test_changes_go_on_while_a_fold_writes(self) -> None:
        """What is changed during a fold is in the store after it, and after a power cut."""
        expected = ["alice"]

        def before(call: str) -> None:
            if call in ("write", "fsync", "pread") and len(expected) < 6:
                expected.append(f"bob{len(expected)}")
                self.disk.before = lambda call: None
                self.store.apply([Create(active(expected[-1]), token(2))])
                self.disk.before = before

        self.disk.before = before
        self.store.fold()
        self.disk.before = lambda call: None
        self.assertEqual(len(expected), 6)
        for luck in "all", "none":
            self.assertEqual(self.names(self.disk.after_power_cut(luck)), expected)
        self.store.apply([Create(active("last"), token(3))])
        for luck in "all", "none":
            self.assertEqual(self.names(self.disk.after_power_cut(luck)), [*expected, "last"])

    def test_a_copy_taken_at_any_moment_of_a_fold_is_a_backup(self) -> None:
        """pwd.txt and journal, copied in either order, with a fold in between or half done."""
        paths = [PATH, PATH + ".journal", PATH + ".key"]
        # Most calls change none of them, and most pairs of copies are the same then.
        found: dict[tuple[bytes, ...], set[str]] = {}

        def check(known: set[str], contents: dict[str, bytes]) -> None:
            each = tuple(contents.values())
            if each not in found:
                found[each] = self.names_in(contents)
            self.assertLessEqual(known, found[each])

        copies: list[tuple[int, set[str], dict[str, bytes]]] = []
        folds = 0

        def before(call: str) -> None:
            nonlocal folds
            contents = {path: self.disk.names[path].content for path in paths}
            folds += bool(copies) and copies[-1][2][PATH] != contents[PATH]
            copies.append((folds, {record.name for record in self.store}, contents))

        self.disk.before = before
        for number in range(6):
            self.store.apply([Create(active(f"n{number}"), token(number))])
            if number % 2:
                self.store.fold()
        self.disk.before = lambda call: None
        self.assertEqual(folds, 3)
        for (fold, known, early), (later, _, late) in itertools.combinations(copies, 2):
            # With two folds in between the copy is refused: docs/store.md says so.
            if later <= fold + 1:
                check(known, {**early, PATH: late[PATH]})
                check(known, {**late, PATH: early[PATH]})
        self.assertGreater(len(found), 20)

    def names_in(self, contents: dict[str, bytes]) -> set[str]:
        disk = Disk()
        for path, content in contents.items():
            fd = disk.create(path)
            disk.write(fd, content)
        return set(self.names(disk))

    def test_the_generation_file_cannot_be_written(self) -> None:
        """Changes are durable all the same, and the trouble is told until it is over."""
        self.break_calls("pwrite")
        self.store.apply([Create(active("bob"), token(2))])
        self.assertIn("pwd.txt.generation: Input/output error", self.store.trouble)
        self.disk.before = lambda call: None
        self.store.apply([Create(active("carol"), token(3))])
        self.assertEqual(self.store.trouble, "")
