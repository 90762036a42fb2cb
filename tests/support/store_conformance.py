"""What any store must do, whatever it is made of.

Mix `StoreConformance` into a test case and define ``make_store``; that is all a
new store needs.  ``tests/store/test_memory.py`` shows it.  Nothing here looks at how
generations are numbered, only that they grow.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import (
    Create,
    Delete,
    KerberosKey,
    KerberosPart,
    Outcome,
    Purge,
    Record,
    Replace,
    Result,
    Status,
    Store,
    part_owner,
)

__all__ = ["HOSTILE_NAMES", "StoreConformance", "active", "invited", "part", "serving", "token"]

HOSTILE_NAMES = [
    "",
    "a:b",
    "alice:10.4.5.11",  # what her line begins with, where stores are text
    "a\nb",
    "alice\n",
    "a\0b",
    "a\rb",
    "Alice",
    "\u0430lice",  # a Cyrillic letter that looks like a
    "al\u0131ce",  # a dotless i
    "alice\u200b",
    "\uff41lice",  # full width
    "a b",
    " alice",
    "-alice",
    ".alice",
    "../alice",
    "a/b",
    "a" * 65,
    "end:",
    "\ud800",
]


def active(name: str, **fields: Any) -> Record:
    record = Record(
        name=name,
        status=Status.ACTIVE,
        address="10.4.5.11",
        port=35678,
        verify_key=name.encode()[:32].ljust(32, b"v"),
        reply_key=name.encode()[:32].ljust(32, b"r"),
        changed_time=1_700_000_000,
    )
    return attrs.evolve(record, **fields)


def invited(name: str) -> Record:
    return Record(name, Status.INVITED, invitation=b"c" * 16, invitation_end_time=1_800_000_000)


def part(record: Record, *services: str, kvno: int = 1) -> KerberosPart:
    """What ``record`` may hold for Kerberos: keys of two types, and these services."""
    keys = (KerberosKey(kvno, 18, b"K" * 32, 1_700_000_000), KerberosKey(kvno, 17, b"k" * 16))
    return KerberosPart(kvno, keys, "", 0, services, part_owner(record.verify_key))


def serving(name: str, *services: str, **fields: Any) -> Record:
    record = active(name, **fields)
    return attrs.evolve(record, kerberos=part(record, *services))


def token(number: int) -> bytes:
    return number.to_bytes(16, "big")


class StoreConformance(SynchronousTestCase):
    """Abstract: the mixin's own class runs nothing."""

    def make_store(self) -> Store:
        """Return an empty store of realm LOCAL; close it by ``addCleanup``."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.store = self.make_store()

    def one(self, change: Create | Replace | Delete | Purge) -> Result:
        (result,) = self.store.apply([change])
        return result

    def create(self, name: str = "alice", number: int = 1) -> Record:
        result = self.one(Create(active(name), token(number)))
        self.assertIs(result.outcome, Outcome.DONE)
        assert result.record is not None
        return result.record

    def test_an_empty_store_knows_nobody(self) -> None:
        """Nobody is in a new store, and it has its realm."""
        self.assertIsNone(self.store.get("alice"))
        self.assertEqual(list(self.store), [])
        self.assertEqual(len(self.store), 0)
        self.assertEqual(self.store.realm, "LOCAL")

    def test_a_created_record_is_there_as_it_was_given(self) -> None:
        """What was registered is what is found, with a generation of the store's."""
        record = self.create()
        self.assertGreater(record.generation, 0)
        self.assertEqual(attrs.evolve(record, generation=0), active("alice"))
        self.assertEqual(self.store.get("alice"), record)
        self.assertEqual(list(self.store), [record])
        self.assertEqual(len(self.store), 1)

    def test_every_field_is_kept(self) -> None:
        """All kinds of records come back equal: each status, IPv6, no address."""
        records = [
            active("a", address="2001:db8::1", port=65535),
            active("b", address="::", port=0),
            active("c", address="", status=Status.DISABLED),
            invited("d"),
            active("e", expiry_time=1_900_000_000),
            active("f", expiry_time=1_900_000_000, renewal_seconds=90 * 86_400),
            attrs.evolve(invited("g"), expiry_time=10**18 - 1, renewal_seconds=10**18 - 1),
            serving("h", "HTTP/h.example.org", "host/h"),
            serving("i", expiry_time=1_900_000_000),
            active("j", kerberos=KerberosPart(7)),
            Record("krbtgt", Status.DISABLED, kerberos=part(Record("k", Status.DISABLED))),
            active("0", changed_time=0),
            active("a" * 64),
            # Names that are also words of a file format.
            active("active"),
            active("end"),
            active("commit"),
            active("x.y_z-0"),
            active("x"),
        ]
        self.store.apply([Create(record, token(1)) for record in records])
        found = {record.name: attrs.evolve(record, generation=0) for record in self.store}
        self.assertEqual(found, {record.name: record for record in records})
        for record in records:
            now = self.store.get(record.name)
            assert now is not None
            self.assertEqual(attrs.evolve(now, generation=0), record)

    def test_a_part_of_another_key(self) -> None:
        """Kerberos keys made beside another key are not kept, only their number."""
        old = serving("alice", "HTTP/a")
        self.one(Create(old, token(1)))
        self.assertEqual(self.store.owner_of("HTTP/a"), "alice")
        changed = attrs.evolve(old, verify_key=b"n" * 32)
        result = self.one(Replace(changed, self.store.get("alice").generation))  # type: ignore[union-attr]
        assert result.record is not None
        self.assertEqual(result.record.kerberos, KerberosPart(1))
        self.assertIsNone(self.store.owner_of("HTTP/a"))
        # And the old key again does not bring them back.
        back = attrs.evolve(result.record, verify_key=old.verify_key)
        result = self.one(Replace(back, result.record.generation))
        assert result.record is not None
        self.assertEqual(result.record.kerberos, KerberosPart(1))

    def test_a_service_has_one_owner(self) -> None:
        """Who is second is told so, in one batch or in two, and nothing of it is stored."""
        first, second = self.store.apply(
            [
                Create(serving("a", "HTTP/x", "HTTP/y"), token(1)),
                Create(serving("b", "HTTP/y"), token(2)),
            ]
        )
        self.assertIs(first.outcome, Outcome.DONE)
        self.assertEqual(second, Result(Outcome.TAKEN, None))
        self.assertIsNone(self.store.get("b"))
        result = self.one(Create(serving("c", "HTTP/x"), token(3)))
        self.assertEqual(result, Result(Outcome.TAKEN, None))
        free = self.one(Create(active("d"), token(4))).record
        assert free is not None
        result = self.one(Replace(serving("d", "HTTP/x"), free.generation))
        self.assertEqual(result, Result(Outcome.TAKEN, free))
        self.assertEqual(self.store.get("d"), free)
        self.assertEqual(self.store.owner_of("HTTP/x"), "a")
        self.assertIsNone(self.store.owner_of("HTTP/z"))

    def test_a_service_goes_on(self) -> None:
        """Once its owner has let it go, was deleted, or purged, another may have it."""
        (one,) = self.store.apply([Create(serving("a", "HTTP/x", "HTTP/y"), token(1))])
        assert one.record is not None
        taken = self.store.apply(
            [
                Replace(serving("a", "HTTP/x"), one.record.generation),
                Create(serving("b", "HTTP/y"), token(2)),
            ]
        )
        self.assertEqual([result.outcome for result in taken], [Outcome.DONE] * 2)
        self.assertEqual(self.store.owner_of("HTTP/y"), "b")
        left = taken[0].record
        assert left is not None
        done = self.store.apply(
            [Delete("a", left.generation), Create(serving("c", "HTTP/x"), token(3))]
        )
        self.assertEqual([result.outcome for result in done], [Outcome.DONE] * 2)
        self.assertEqual(self.store.owner_of("HTTP/x"), "c")
        (new,) = self.store.apply([Create(invited("d"), token(4))])
        assert new.record is not None
        dead = attrs.evolve(new.record, kerberos=part(new.record, "HTTP/z"))
        (result,) = self.store.apply([Replace(dead, new.record.generation)])
        assert result.record is not None
        self.assertEqual(self.store.owner_of("HTTP/z"), "d")
        self.store.apply([Purge("d", result.record.generation)])
        self.assertIsNone(self.store.owner_of("HTTP/z"))

    def test_who_has_a_part(self) -> None:
        """They are found without looking through all, and stay found under another master key."""
        self.store.apply(
            [Create(record, token(1)) for record in (serving("b", "B"), active("c"), serving("a"))]
        )
        self.assertEqual([record.name for record in self.store.with_kerberos()], ["a", "b"])
        self.store.rotate_master_key()
        self.assertEqual([record.name for record in self.store.with_kerberos()], ["a", "b"])
        self.assertEqual(self.store.owner_of("B"), "b")
        found = self.store.get("a")
        assert found is not None
        self.one(Replace(active("a"), found.generation))
        self.assertEqual([record.name for record in self.store.with_kerberos()], ["b"])

    def test_a_name_is_taken_once(self) -> None:
        """The second to register a name is told that it exists; the first keeps it."""
        first = self.create()
        result = self.one(Create(active("alice", port=1), token(2)))
        self.assertEqual(result, Result(Outcome.EXISTS, first))
        self.assertEqual(self.store.get("alice"), first)

    def test_a_retried_registration_is_recognised(self) -> None:
        """The same token again is the same registration: done, and nothing changes."""
        first = self.create()
        self.assertEqual(self.one(Create(active("alice"), token(1))), Result(Outcome.DONE, first))
        self.assertEqual(len(self.store), 1)

    def test_a_retry_is_recognised_after_a_change(self) -> None:
        """The token stays with the name when its record is replaced."""
        first = self.create()
        second = self.one(Replace(active("alice", port=1), first.generation)).record
        self.assertEqual(self.one(Create(active("alice"), token(1))), Result(Outcome.DONE, second))

    def test_replace_expects_a_generation(self) -> None:
        """A change based on what is no longer so is a conflict and changes nothing."""
        first = self.create()
        result = self.one(Replace(active("alice", port=1), first.generation))
        self.assertIs(result.outcome, Outcome.DONE)
        assert result.record is not None
        self.assertGreater(result.record.generation, first.generation)
        self.assertEqual(result.record.port, 1)
        late = self.one(Replace(active("alice", port=2), first.generation))
        self.assertEqual(late, Result(Outcome.CONFLICT, result.record))
        self.assertEqual(self.store.get("alice"), result.record)

    def test_the_generation_in_a_given_record_counts_for_nothing(self) -> None:
        """The store alone numbers changes."""
        result = self.one(Create(active("alice", generation=10**17), token(1)))
        assert result.record is not None
        self.assertLess(result.record.generation, 10**17)

    def test_a_deleted_name_stays_reserved(self) -> None:
        """A tombstone holds no keys, and nobody can register the name."""
        first = self.create()
        result = self.one(Delete("alice", first.generation, changed_time=17))
        tombstone = result.record
        assert tombstone is not None
        self.assertGreater(tombstone.generation, first.generation)
        self.assertEqual(
            attrs.evolve(tombstone, generation=0),
            Record("alice", Status.DELETED, changed_time=17),
        )
        for number in 1, 2:  # not even who made it first: those keys are gone
            again = self.one(Create(active("alice"), token(number)))
            self.assertEqual(again, Result(Outcome.EXISTS, tombstone))
        self.assertEqual(list(self.store), [tombstone])
        self.assertEqual(len(self.store), 1)

    def test_delete_and_purge_expect_a_generation(self) -> None:
        """Nothing is removed that is not what one has seen."""
        first = self.create()
        self.assertEqual(
            self.one(Delete("alice", first.generation + 1)), Result(Outcome.CONFLICT, first)
        )
        tombstone = self.one(Delete("alice", first.generation)).record
        assert tombstone is not None
        self.assertEqual(
            self.one(Purge("alice", first.generation)), Result(Outcome.CONFLICT, tombstone)
        )

    def test_only_tombstones_and_invitations_are_purged(self) -> None:
        """A live principal is deleted first; its name cannot be freed in one step."""
        for status in Status.ACTIVE, Status.DISABLED:
            name = status.value
            record = self.one(Create(active(name, status=status), token(1))).record
            assert record is not None
            result = self.one(Purge(name, record.generation))
            self.assertEqual(result, Result(Outcome.CONFLICT, record))
            self.assertEqual(self.store.get(name), record)

    def test_a_purged_name_is_free(self) -> None:
        """After a purge the name is as if never used, but for its generation."""
        first = self.create()
        tombstone = self.one(Delete("alice", first.generation)).record
        assert tombstone is not None
        self.assertEqual(self.one(Purge("alice", tombstone.generation)), Result(Outcome.DONE, None))
        self.assertIsNone(self.store.get("alice"))
        self.assertEqual(len(self.store), 0)
        again = self.create(number=2)
        self.assertGreater(again.generation, tombstone.generation)

    def test_an_invitation_is_claimed_or_purged(self) -> None:
        """An invited name is taken by a replacement, or freed by a purge."""
        one = self.one(Create(invited("alice"), token(1))).record
        two = self.one(Create(invited("bob"), token(2))).record
        assert one is not None and two is not None
        claimed = self.one(Replace(active("alice"), one.generation))
        self.assertIs(claimed.outcome, Outcome.DONE)
        self.assertIs(self.one(Purge("bob", two.generation)).outcome, Outcome.DONE)
        self.assertEqual([record.name for record in self.store], ["alice"])

    def test_changes_of_nobody(self) -> None:
        """A name without a record cannot be changed."""
        for change in (Replace(active("alice"), 1), Delete("alice", 1), Purge("alice", 1)):
            self.assertEqual(self.one(change), Result(Outcome.ABSENT, None))
        self.assertEqual(len(self.store), 0)

    def test_changes_of_one_batch_follow_each_other(self) -> None:
        """A batch is as good as its changes one by one; a refused one stops none."""
        results = self.store.apply(
            [
                Create(active("alice"), token(1)),
                Create(active("alice", port=9), token(2)),
                Create(active("alice"), token(1)),
                Create(active("bob"), token(3)),
                Delete("carol", 1),
            ]
        )
        self.assertEqual(
            [result.outcome for result in results],
            [Outcome.DONE, Outcome.EXISTS, Outcome.DONE, Outcome.DONE, Outcome.ABSENT],
        )
        alice, bob = self.store
        self.assertEqual([result.record for result in results], [alice, alice, alice, bob, None])

    def test_a_name_may_be_made_and_removed_in_one_batch(self) -> None:
        """Create, delete, purge and create again of one name at once."""
        base = self.create("bob").generation
        (created,) = self.store.apply([Create(invited("alice"), token(1))])
        assert created.record is not None
        step = created.record.generation - base
        results = self.store.apply(
            [
                Purge("alice", created.record.generation),
                Create(active("alice"), token(2)),
                Delete("alice", created.record.generation + 2 * step),
            ]
        )
        self.assertIs(results[0].outcome, Outcome.DONE)
        self.assertIs(results[1].outcome, Outcome.DONE)
        now = self.store.get("alice")
        self.assertEqual(now, results[2].record)

    def test_a_batch_has_a_limit(self) -> None:
        """As many changes as the store says go together; one more is the caller's mistake."""
        changes = [Create(active(f"u{n}"), token(n)) for n in range(self.store.most_changes + 1)]
        self.assertRaises(ValueError, self.store.apply, changes)
        self.assertEqual(len(self.store), 0)
        self.store.apply(changes[1:])
        self.assertEqual(len(self.store), self.store.most_changes)

    def test_the_generation_is_that_of_the_latest_change(self) -> None:
        """It grows with each change that is done, and with nothing else."""
        before = self.store.generation
        record = self.create()
        self.assertGreater(record.generation, before)
        self.assertEqual(self.store.generation, record.generation)
        self.one(Delete("alice", record.generation + 1))
        self.assertEqual(self.store.generation, record.generation)

    def test_a_well_store_has_no_trouble(self) -> None:
        """It has nothing to say, and what it answers from memory is confirmed, or always so."""
        self.create()
        self.assertEqual(self.store.trouble, "")
        self.assertEqual(list(self.store.notes), [])
        self.assertIsInstance(self.store.confirmed_milliseconds, int | None)

    def test_a_store_that_nobody_takes_over_is_ours(self) -> None:
        """To look for it changes nothing, before a change and after."""
        self.store.check_ours()
        self.create("alice")
        self.store.check_ours()
        self.assertEqual(self.store.generation, 1)

    def test_maintenance_changes_no_record(self) -> None:
        """Folding and a new master key leave every record, token and generation as it was."""
        self.create("alice", 1)
        self.create("bob", 2)
        records, generation = list(self.store), self.store.generation
        self.assertTrue(self.store.fold())
        self.store.rotate_master_key()
        self.assertEqual(list(self.store), records)
        self.assertEqual(self.store.generation, generation)
        self.assertEqual(
            self.one(Create(active("alice"), token(1))), Result(Outcome.DONE, records[0])
        )
        self.assertGreater(self.create("carol", 3).generation, generation)

    def test_an_empty_batch(self) -> None:
        """Nothing to do is done."""
        self.assertEqual(self.store.apply([]), [])

    def test_each_status_is_counted(self) -> None:
        """Records are counted by their status, whatever they are called."""
        self.assertEqual(self.store.counts(), dict.fromkeys(Status, 0))
        names = ("active", "alice", "bob", "deleted", "disabled", "invited", "purged", "xactive")
        for number, name in enumerate(names):
            self.one(Create(active(name, address=""), token(number)))
        for number, name in enumerate(("carol", "dave"), len(names)):
            self.one(Create(invited(name), token(number)))
        for name in ("bob", "disabled"):
            now = self.store.get(name)
            assert now is not None
            self.one(Replace(attrs.evolve(now, status=Status.DISABLED), now.generation))
        for name in ("alice", "dave"):
            now = self.store.get(name)
            assert now is not None
            self.one(Delete(name, now.generation, 1))
        found = Counter(record.status for record in self.store)
        self.assertEqual(self.store.counts(), found)
        self.assertEqual(sorted(found.values()), [1, 2, 2, 5])

    def test_records_come_in_the_order_of_names(self) -> None:
        """Iteration is sorted by name, by bytes."""
        names = ["b", "a", "a0", "a-", "a.", "a_", "aa", "0", "z" * 64]
        self.store.apply([Create(active(name), token(1)) for name in names])
        self.assertEqual([record.name for record in self.store], sorted(names))

    def test_records_from_a_name_on(self) -> None:
        """From one that is there, from one that is not, from the first, and behind the last."""
        for name in ("dora", "alice", "eve", "bob"):
            self.create(name)
        for start, names in (
            ("", ["alice", "bob", "dora", "eve"]),
            ("alice", ["alice", "bob", "dora", "eve"]),
            ("bob", ["bob", "dora", "eve"]),
            ("carol", ["dora", "eve"]),
            ("zoe", []),
            ("\u0430lice", []),
            ("a:b", ["alice", "bob", "dora", "eve"]),
        ):
            self.assertEqual([r.name for r in self.store.names_from(start)], names, start)

    def test_iteration_is_a_snapshot(self) -> None:
        """Changes made while one iterates do not show."""
        first = self.create("alice")
        self.create("bob", 2)
        records = iter(self.store)
        self.one(Replace(active("alice", port=1), first.generation))
        self.create("carol", 3)
        self.assertEqual([(record.name, record.port) for record in records][0], ("alice", 35678))
        self.assertEqual(len(self.store), 3)

    def test_watchers_are_told_of_what_is_done(self) -> None:
        """Each durable change is told once, in order; refused ones and retries are not."""
        told: list[Record] = []
        stop = self.store.watch(told.append)
        first = self.create()
        self.one(Create(active("alice"), token(1)))
        self.one(Create(active("alice"), token(2)))
        self.one(Delete("alice", 0))
        tombstone = self.one(Delete("alice", first.generation)).record
        assert tombstone is not None
        self.one(Purge("alice", tombstone.generation))
        self.assertEqual(told[:2], [first, tombstone])
        (purged,) = told[2:]
        self.assertEqual((purged.name, purged.status), ("alice", Status.DELETED))
        self.assertGreater(purged.generation, tombstone.generation)
        stop()
        self.create("bob", 3)
        self.assertEqual(len(told), 3)

    def test_a_watcher_sees_the_store_changed(self) -> None:
        """What a watcher is told of can be read from the store already."""
        seen: list[Record | None] = []
        self.store.watch(lambda record: seen.append(self.store.get(record.name)))
        first = self.create()
        tombstone = self.one(Delete("alice", first.generation)).record
        assert tombstone is not None
        self.one(Purge("alice", tombstone.generation))
        self.assertEqual(seen, [first, tombstone, None])

    def test_hostile_names_are_nobody(self) -> None:
        """No name that is not a principal's gets in, or is found."""
        self.create()
        for name in HOSTILE_NAMES:
            self.assertRaises(ValueError, active, name)
            self.assertIsNone(self.store.get(name), ascii(name))
            for change in (Delete(name, 1), Purge(name, 1)):
                self.assertEqual(self.one(change), Result(Outcome.ABSENT, None), ascii(name))
        self.assertEqual([record.name for record in self.store], ["alice"])

    def test_hostile_fields_make_no_record(self) -> None:
        """Whatever is not an address, a port or a time is refused before any store sees it."""
        for fields in (
            {"address": "10.4.5.11:1"},
            {"address": "10.4.5.11\n"},
            {"address": "010.4.5.11"},
            {"address": "::0"},
            {"address": "fe80::1%eth0"},
            {"address": "localhost"},
            {"port": -1},
            {"port": 65536},
            {"changed_time": -1},
            {"invitation_end_time": 10**18},
            {"verify_key": b"short"},
            {"invitation": b"short"},
        ):
            self.assertRaises(ValueError, active, "alice", **fields)

    def test_many(self) -> None:
        """Some hundreds of records, made in no order, are all found again."""
        names = [f"u{number * 7919 % 1000:03d}" for number in range(600)]
        for start in range(0, len(names), 50):
            self.store.apply([Create(active(n), token(1)) for n in names[start : start + 50]])
        self.assertEqual([record.name for record in self.store], sorted(names))
        self.assertEqual(len(self.store), 600)
        for name in names:
            found = self.store.get(name)
            assert found is not None
            self.assertEqual(found.verify_key, active(name).verify_key)
        self.assertIsNone(self.store.get("u999x"))
