"""Damage of any kind is noticed, named with file and line, and never overwritten."""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import Create, Delete, Purge, Replace, Status, StoreError
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.flatfile.base import write_base
from kdc.store.flatfile.check import Problem, check
from kdc.store.flatfile.opening import open_files
from kdc.store.flatfile.paths import Paths
from kdc.store.flatfile.repair import repair
from tests.store.test_faults import PATH, inline
from tests.support.disk import Disk
from tests.support.store_conformance import active, token

JOURNAL = PATH + ".journal"
KEY = PATH + ".key"
GENERATION = PATH + ".generation"


def open_on(disk: Disk, *, accept_rollback: bool = False) -> FlatFileStore:
    return FlatFileStore.open(
        PATH, realm="LOCAL", files=disk, run=inline, accept_rollback=accept_rollback
    )


class DamageCase(SynchronousTestCase):
    """A small store: alice, bob and carol in pwd.txt; bob changed, dave added in the journal."""

    def setUp(self) -> None:
        self.disk = Disk()
        store = open_on(self.disk)
        store.apply([Create(active(name), token(1)) for name in ("alice", "bob", "carol")])
        store.fold()
        self.early = self.contents(self.disk)
        bob = store.get("bob")
        assert bob is not None
        store.apply([Replace(active("bob", port=2), bob.generation)])
        store.apply([Create(active("dave"), token(4)), Create(active("eve"), token(5))])
        self.records = list(store)
        self.good = self.contents(self.disk)

    def contents(self, disk: Disk) -> dict[str, bytes]:
        return {path: inode.content for path, inode in disk.names.items()}

    def with_(self, changed: Mapping[str, bytes | None]) -> Disk:
        """Return a disk with the store on it, but for these contents (None: no such file)."""
        disk = Disk()
        for path, content in {**self.good, **changed}.items():
            if content is not None:
                disk.write(disk.create(path), content)
        return disk

    def check(self, disk: Disk) -> list[Problem]:
        before = self.contents(disk)
        problems = check(PATH, files=disk)
        self.assertEqual(self.contents(disk), before)
        return problems

    def assert_refused(self, changed: Mapping[str, bytes | None], context: object = "") -> Disk:
        """Opening refuses and changes nothing, and `check` has something to say."""
        disk = self.with_(changed)
        before = self.contents(disk)
        try:
            store = open_on(disk)
        except StoreError as error:
            self.assertIn(PATH, str(error), context)
        else:
            raise AssertionError(f"opened with {len(store)} records: {context}")
        after = self.contents(disk)
        after.pop(PATH + ".lock"), before.pop(PATH + ".lock")
        self.assertEqual(after, before, context)
        fatal = [problem for problem in self.check(disk) if not problem.harmless]
        self.assertTrue(fatal, context)
        return disk

    def lines(self, path: str) -> list[bytes]:
        return self.good[path].splitlines(keepends=True)


class EveryByteTests(DamageCase):
    def test_a_good_store(self) -> None:
        """Without damage there is nothing to say."""
        self.assertEqual(self.check(self.with_({})), [])
        self.assertEqual(list(open_on(self.with_({}))), self.records)

    def flip_each(self, path: str) -> None:
        content = self.good[path]
        for at in range(len(content)):
            flipped = bytearray(content)
            flipped[at] ^= 1 << (at % 7)
            disk = self.assert_refused({path: bytes(flipped)}, (path, at))
            number = content.count(b"\n", 0, at) + 1
            problems = self.check(disk)
            where = {(problem.file, problem.line) for problem in problems}
            if path in (PATH, JOURNAL) and content[:at].rfind(b"\n:") >= 0:
                self.assertIn((path, number), where, (at, problems))

    def test_any_flipped_bit_of_pwd_txt(self) -> None:
        """Refused, and the line is named."""
        self.flip_each(PATH)

    def test_any_flipped_bit_of_the_journal(self) -> None:
        """Refused, and the line is named: what was acknowledged is not taken for torn."""
        self.flip_each(JOURNAL)

    def test_any_flipped_bit_of_the_generation_file(self) -> None:
        """Refused: it no longer tells whether the store is the latest."""
        self.flip_each(GENERATION)

    def test_any_flipped_bit_of_the_master_key(self) -> None:
        """Refused."""
        self.flip_each(KEY)

    def test_a_damaged_master_key_is_blamed_itself(self) -> None:
        """Not pwd.txt, which nobody should then go and repair."""
        key = self.good[KEY]
        changed = key[:60] + (b"A" if key[60:61] != b"A" else b"B") + key[61:]
        error = self.assertRaises(StoreError, open_on, self.with_({KEY: changed}))
        self.assertIn(f"{KEY}, line 1 is not a master key", str(error))

    def test_pwd_txt_cut_at_any_byte(self) -> None:
        """A truncated pwd.txt is refused wherever it was cut, also to nothing."""
        for end in range(len(self.good[PATH])):
            self.assert_refused({PATH: self.good[PATH][:end]}, end)

    def test_the_journal_cut_at_any_byte(self) -> None:
        """Refused: the generation file knows that there was more."""
        for end in range(len(self.good[JOURNAL])):
            self.assert_refused({JOURNAL: self.good[JOURNAL][:end]}, end)

    def test_another_number_of_principals(self) -> None:
        """Not even what has the right MAC is believed, if it is not as many as it says."""
        disk = self.with_({})
        found = open_files(disk, Paths.of(PATH), "LOCAL", False, os.urandom, False)
        header = attrs.evolve(found.header, count=found.header.count + 1)
        write_base(disk, PATH, header, found.master, found.table.snapshot())
        error = self.assertRaises(StoreError, open_on, disk)
        self.assertIn("another number of principals", str(error))

    def test_a_torn_copy_of_the_journal(self) -> None:
        """Without the generation file, as in a copy, whole batches count and the rest is told."""
        content = self.good[JOURNAL]
        header = content.index(b"\n") + 1
        for end in range(header, len(content) + 1):
            disk = self.with_({JOURNAL: content[:end], GENERATION: None})
            store = open_on(disk)
            commits = content[:end].splitlines(keepends=True)
            whole = [line for line in commits if line[:7] == b"commit:" and line[-1:] == b"\n"]
            last = int(whole[-1].split(b":")[1]) if whole else 3
            last = max(last, 3)
            self.assertEqual(store.generation, last, end)
            torn = end > header and not content[:end].endswith(whole[-1] if whole else b"\0")
            self.assertEqual(any("left out" in note for note in store.notes), torn, (end, whole))
            store.apply([Create(active("later"), token(9))])
            again = open_on(self.with_(self.contents(disk)))
            self.assertEqual(list(again), list(store))


class KindsOfDamageTests(DamageCase):
    def say(self, changed: Mapping[str, bytes | None]) -> str:
        disk = self.assert_refused(changed)
        return "\n".join(map(str, self.check(disk)))

    def test_a_line_changed_by_hand(self) -> None:
        """A readable field that somebody changed is named."""
        edited = self.good[PATH].replace(b"10.4.5.11", b"10.4.5.12", 1)
        self.assertIn(f"{PATH}, line 2: is not authentic", self.say({PATH: edited}))

    def test_a_disabled_principal_cannot_be_enabled_by_hand(self) -> None:
        """Nor the other way round: the status is bound, too."""
        edited = self.good[PATH].replace(b":active:2:", b":disabled:2:", 1)
        self.assertIn(f"{PATH}, line 3: is not authentic", self.say({PATH: edited}))

    def test_exchanged_digests(self) -> None:
        """alice's keys under bob's name: both lines are named, and whose the digest is."""
        _, alice, bob, *_ = self.lines(PATH)
        one, two = alice.split(b":")[4], bob.split(b":")[4]
        content = self.good[PATH].replace(one, b"?").replace(two, one).replace(b"?", two)
        said = self.say({PATH: content})
        self.assertIn("line 2: its digest is that of line 3", said)
        self.assertIn("line 3: its digest is that of line 2", said)

    def test_exchanged_lines(self) -> None:
        """Lines in another order are named."""
        header, alice, bob, carol, end = self.lines(PATH)
        said = self.say({PATH: header + bob + alice + carol + end})
        self.assertIn(f"{PATH}, line 3: 'alice' is out of order", said)

    def test_a_doubled_line(self) -> None:
        """The copy is named."""
        header, alice, bob, carol, end = self.lines(PATH)
        said = self.say({PATH: header + alice + alice + bob + carol + end})
        self.assertIn(f"{PATH}, line 3: 'alice' is there twice (see line 2)", said)

    def test_a_removed_line(self) -> None:
        """That lines are missing is said, with how many."""
        header, _, bob, carol, end = self.lines(PATH)
        self.assertIn("1 lines were removed", self.say({PATH: header + bob + carol + end}))

    def test_a_line_of_later_put_in(self) -> None:
        """A line from the journal, pasted into pwd.txt, is named."""
        header, alice, bob, carol, end = self.lines(PATH)
        dave = next(line for line in self.lines(JOURNAL) if line.startswith(b":dave:"))
        said = self.say({PATH: header + alice + bob + carol + dave + end})
        self.assertIn(f"{PATH}, line 5: is of generation 5, later than this file (3)", said)

    def test_an_older_line_put_back(self) -> None:
        """An old key that is brought back into pwd.txt is named, while the journal remembers."""
        store = open_on(disk := self.with_({}))
        store.fold()
        new = self.contents(disk)
        header, alice, _, *rest = new[PATH].splitlines(keepends=True)
        bob = self.lines(PATH)[2]
        said = self.say({**new, PATH: header + alice + bob + b"".join(rest)})
        self.assertIn(f"{PATH}, line 3: is generation 2 of 'bob', and the journal has 4", said)
        self.assertIn("an older line of somebody was put back", said)

    def test_a_deleted_principal_put_back(self) -> None:
        """Beside her tombstone the old line is the one that is named."""
        store = open_on(disk := self.with_({}))
        store.apply([Delete("alice", 1)])
        store.fold()
        new = self.contents(disk)
        header, tombstone, *rest = new[PATH].splitlines(keepends=True)
        alice = self.lines(PATH)[1]
        said = self.say({**new, PATH: header + tombstone + alice + b"".join(rest)})
        self.assertIn(f"{PATH}, line 3: 'alice' has two lines, and this is the older one", said)

    def test_a_line_of_another_store(self) -> None:
        """A line sealed for another store does not open here, even under the same key."""
        other = Disk()
        other.write(other.create(KEY), self.good[KEY])
        store = open_on(other)
        store.apply([Create(active("alice"), token(1))])
        store.fold()
        foreign = other.names[PATH].content.splitlines(keepends=True)[1]
        header, _, *rest = self.lines(PATH)
        said = self.say({PATH: header + foreign + b"".join(rest)})
        self.assertIn(f"{PATH}, line 2: is not authentic", said)

    def test_batches_of_the_journal_moved(self) -> None:
        """Exchanged, repeated and removed batches are refused."""
        content = self.good[JOURNAL]
        header = content[: content.index(b"\n") + 1]
        rest = content[len(header) :]
        batches = []
        while rest:
            end = rest.index(b"\n", rest.index(b"\ncommit:") + 1) + 1
            batches.append(rest[:end])
            rest = rest[end:]
        one, two, three = batches
        said = self.say({JOURNAL: header + one + three + two})
        self.assertIn("generations 4 to 4 are missing", said)
        said = self.say({JOURNAL: header + one + two + two + three})
        self.assertIn("repeats generation 4", said)
        self.assertIn("missing", self.say({JOURNAL: header + one + three}))

    def test_damage_before_the_last_batch_is_no_torn_tail(self) -> None:
        """Without the generation file, too: a batch follows, so it was acknowledged."""
        content = self.good[JOURNAL].replace(b":bob:10.4.5.11:2:", b":bob:10.4.5.11:3:")
        self.assert_refused({JOURNAL: content, GENERATION: None})

    def test_accepting_an_older_state_is_not_accepting_damage(self) -> None:
        """A damaged acknowledged batch is refused with its line, whatever one is told to accept."""
        content = self.good[JOURNAL].replace(b":eve:10.4.5.11:", b":eve:10.4.5.12:")
        disk = self.with_({JOURNAL: content})
        error = self.assertRaises(StoreError, open_on, disk, accept_rollback=True)
        self.assertIn(f"{JOURNAL} line 8: acknowledged changes from here on", str(error))

    def test_an_old_backup_is_noticed(self) -> None:
        """pwd.txt and journal from before: refused while the generation file is of now."""
        early = {**self.early, GENERATION: self.good[GENERATION]}
        self.assertIn("an old copy was put back", self.say(early))

    def test_an_old_backup_is_taken_if_told_to(self) -> None:
        """Its generations go on behind those of the lost state."""
        disk = self.with_({**self.early, GENERATION: self.good[GENERATION]})
        store = open_on(disk, accept_rollback=True)
        self.assertEqual([record.name for record in store], ["alice", "bob", "carol"])
        self.assertIn("accepted generation 3 in the place of 6", store.notes)
        (result,) = store.apply([Create(active("dave"), token(9))])
        assert result.record is not None
        self.assertEqual(result.record.generation, 7)
        self.assertEqual(list(open_on(disk.after_kill())), list(store))

    def test_pwd_txt_of_before_with_the_journal_of_now(self) -> None:
        """The journal reaches back one pwd.txt, so nothing is lost and nothing refused."""
        store = open_on(disk := self.with_({}))
        store.fold()
        store.apply([Create(active("late"), token(1))])
        now = self.contents(disk)
        self.assertEqual(list(open_on(self.with_({**now, PATH: self.good[PATH]}))), list(store))
        # But not two.
        store.fold()
        now = self.contents(disk)
        said = self.say({**now, PATH: self.good[PATH]})
        self.assertIn("changes between them are missing", said)

    def test_a_journal_of_another_store(self) -> None:
        """Files of two stores are not mixed."""
        open_on(other := Disk()).apply([Create(active("x"), token(1))])
        foreign = self.contents(other)
        self.say({JOURNAL: foreign[JOURNAL]})
        self.say({GENERATION: foreign[GENERATION]})
        self.assertIn("master key", self.say({KEY: foreign[KEY]}))
        twin = Disk()  # made with this store's key
        twin.write(twin.create(KEY), self.good[KEY])
        open_on(twin).apply([Create(active(f"x{number}"), token(1)) for number in range(9)])
        journal = self.contents(twin)[JOURNAL]
        self.assertIn("another store", self.say({JOURNAL: journal, GENERATION: None}))

    def test_missing_files(self) -> None:
        """Each file that is missing is said to be; none is silently made anew."""
        self.assertIn(f"{PATH}: is missing", self.say({PATH: None}))
        self.assertIn("was truncated", self.say({PATH: b""}))
        self.assertIn(f"{KEY}: is missing", self.say({KEY: None}))
        self.assertIn("journal is missing or cut", self.say({JOURNAL: None}))

    def test_another_version(self) -> None:
        """A file of a version to come is not touched."""
        content = self.good[PATH].replace(b"kdc-principals:1:", b"kdc-principals:3:")
        error = self.assertRaises(StoreError, open_on, self.with_({PATH: content}))
        self.assertIn("another version", str(error))

    def test_the_original_programs_file(self) -> None:
        """It is told apart from damage, with what to do."""
        disk = Disk()
        disk.write(disk.create(PATH), b":alice:127.0.0.1:35678:bG9uZw==:\n")
        error = self.assertRaises(StoreError, open_on, disk)
        self.assertIn("original program", str(error))
        self.assertIn("import", error.hint)

    def test_another_realm(self) -> None:
        """Keys are bound to their realm, so a store is not opened for another."""
        disk = self.with_({})
        error = self.assertRaises(
            StoreError, FlatFileStore.open, PATH, realm="OTHER", files=disk, run=inline
        )
        self.assertIn("realm LOCAL", str(error))


class RepairTests(DamageCase):
    def repaired(self, changed: Mapping[str, bytes | None]) -> Disk:
        disk = self.assert_refused(changed)
        self.result = repair(PATH, files=disk, now=17)
        self.assertEqual(self.check(disk), [])
        quarantine = disk.names[self.result.quarantine].content
        for path in PATH, JOURNAL:
            content = {**self.good, **changed}[path]
            if content is not None:
                self.assertIn(content, quarantine)
        return disk

    def test_a_damaged_line_is_put_aside(self) -> None:
        """The others are kept, and the name stays reserved until somebody has looked."""
        self.forget_in_the_journal()
        disk = self.repaired({PATH: self.good[PATH].replace(b":carol:10", b":carol:11")})
        store = open_on(disk)
        self.assertEqual(self.result.reserved, ["carol"])
        self.assertEqual((self.result.kept, self.result.quarantined), (5, 1))
        carol = store.get("carol")
        assert carol is not None
        self.assertIs(carol.status, Status.DELETED)
        self.assertEqual((carol.generation, carol.changed_time), (8, 17))
        others = [record for record in self.records if record.name != "carol"]
        self.assertEqual([record for record in store if record.name != "carol"], others)

    def forget_in_the_journal(self) -> None:
        store = open_on(disk := self.with_({}))
        store.fold()
        store.apply([Create(active("frank"), token(6))])
        store.fold()
        self.records = list(store)
        self.good = self.contents(disk)

    def test_a_line_that_the_journal_has_again(self) -> None:
        """The damaged line of bob is not missed: one pwd.txt back, the journal has it."""
        disk = self.repaired({PATH: self.good[PATH].replace(b":bob:10", b":bob:11")})
        self.assertEqual(self.result.reserved, [])
        self.assertEqual(list(open_on(disk)), self.records)

    def test_a_purged_name_stays_purged(self) -> None:
        """A repair does not bring back what the journal says is gone."""
        store = open_on(disk := self.with_({}))
        store.apply([Delete("carol", 3)])
        store.apply([Purge("carol", 7)])
        self.records = list(store)
        self.good = self.contents(disk)
        disk = self.repaired({PATH: self.good[PATH].replace(b":alice:10", b":alice:11")})
        self.assertEqual(list(open_on(disk)), self.records)

    def test_every_cut(self) -> None:
        """Of a cut pwd.txt all whole lines are kept; generations go on behind the lost ones."""
        content = self.good[PATH]
        for end in range(content.index(b"\n") + 1, len(content), 7):
            disk = self.repaired({PATH: content[:end]})
            store = open_on(disk)
            self.assertGreaterEqual(store.generation, 6)
            found = {record.name for record in store}
            self.assertLessEqual({"bob", "dave", "eve"}, found)

    def test_a_lost_first_line(self) -> None:
        """The journal knows what it said."""
        content = self.good[PATH]
        disk = self.repaired({PATH: b"garbage" + content[7:]})
        self.assertEqual(list(open_on(disk)), self.records)

    def test_changes_go_on(self) -> None:
        """A repaired store is a store like any other."""
        disk = self.repaired({JOURNAL: self.good[JOURNAL][:-5]})
        store = open_on(disk)
        store.apply([Create(active("late"), token(1))])
        self.assertEqual(list(open_on(disk.after_kill())), list(store))

    def test_nothing_to_repair(self) -> None:
        """A good store is left alone."""
        disk = self.with_({})
        self.assertRaises(StoreError, repair, PATH, files=disk)
        del self.good[PATH + ".lock"]
        contents = self.contents(disk)
        del contents[PATH + ".lock"]
        self.assertEqual(contents, self.good)

    def test_without_the_master_key(self) -> None:
        """Nothing can be told apart, so nothing is touched."""
        disk = self.assert_refused({KEY: None})
        error = self.assertRaises(StoreError, repair, PATH, files=disk)
        self.assertIn("backup", error.hint)
