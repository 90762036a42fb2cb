"""What an operator may do to the principals, what is refused, and that each change is noted."""

from __future__ import annotations

import base64
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.admin import principals as principals_module
from kdc.admin.enrolment import MAX_RECORDS
from kdc.admin.principals import READING, Context, administer
from kdc.errors import ConfigurationError, KDCError, PeerUnavailable, RefusedByPolicy
from kdc.protocol.invitation import Invitation
from kdc.protocol.messages import LIFETIME_SECONDS
from kdc.store import Change, Record, Replace, Result, Status, Store, StoreUnavailable
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.memory import MemoryStore
from kdc.store.portable import dump, fields_of, read_dump
from tests.support.core import PROPERTY, SeededRandom

NOW = 1_700_000_000
PRINT = "sha256:" + "1a" * 32
KEYS = {"verify_key": "11" * 32, "reply_key": "22" * 32}
_numbers = itertools.count()
EVERY = sorted(principals_module._COMMANDS)


class Operator:
    """Somebody who gives commands, and what was noted of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.random = SeededRandom(f"operator {next(_numbers)}")
        self.audit: list[tuple[str, str, str]] = []
        self.place = ("kdc.example", 88, PRINT)
        self.now = NOW
        self.rotated: list[str] = []
        self.seen: dict[str, Any] = {}

    def ask(self, command: str, name: str | None = None, **request: Any) -> list[dict[str, Any]]:
        named = {} if name is None else {"name": name}
        return list(administer(self.store, {"command": command, **named, **request}, self.context))

    def one(self, command: str, name: str | None = None, **request: Any) -> dict[str, Any]:
        (answer,) = self.ask(command, name, **request)
        return answer

    @property
    def context(self) -> Context:
        return Context(
            now=self.now,
            random=self.random,
            audit=lambda *line: self.audit.append(line),
            where=lambda: self.place,
            rotate_tls=lambda: self.rotate("tls"),
            more_stats={"connections": 3},
            **self.seen,
        )

    def rotate(self, what: str) -> str:
        self.rotated.append(what)
        return f"sha256:{what}"


class AdministrationTests(SynchronousTestCase):
    """On a store in memory."""

    def make_store(self) -> Store:
        return MemoryStore()

    def setUp(self) -> None:
        self.store = self.make_store()
        self.operator = Operator(self.store)
        self.ask, self.one = self.operator.ask, self.operator.one

    def status(self, name: str) -> Status | None:
        record = self.store.get(name)
        return None if record is None else record.status

    def refused(
        self, error: type[KDCError], pattern: str, command: str, name: Any = None, **request: Any
    ) -> None:
        """It is refused, and neither store nor log has changed."""
        before, noted = list(self.store), list(self.operator.audit)
        raised = self.assertRaises(error, self.ask, command, name, **request)
        self.assertRegex(str(raised), pattern)
        self.assertEqual(list(self.store), before)
        self.assertEqual(self.operator.audit, noted)

    def noted(self, *events: tuple[str, str, str]) -> None:
        """These changes are in the log, and no others."""
        self.assertEqual(self.operator.audit, list(events))
        self.operator.audit.clear()

    def existing(self, status: Status, name: str = "bob") -> None:
        """A principal in that state."""
        if status is Status.INVITED:
            self.one("invite", name)
        else:
            self.one("add", name, **KEYS)
        if status is Status.DISABLED:
            self.one("disable", name)
        if status is Status.DELETED:
            self.one("delete", name)
        self.assertIs(self.status(name), status)
        self.operator.audit.clear()

    def test_seen(self) -> None:
        """A running KDC tells who receives now, and when the others were there last."""
        self.existing(Status.ACTIVE)
        self.assertNotIn("online", self.one("show", "bob"))
        for online, at in ((True, NOW), (False, NOW - 9), (False, None)):
            self.operator.seen = {
                "online": {"bob": online}.__getitem__,
                "last_seen": {"bob": at}.__getitem__,
            }
            for command in ("show", "list"):
                answer = self.one(command, "bob" if command == "show" else None)
                self.assertEqual((answer["online"], answer["last_seen"]), (online, at))

    def test_add(self) -> None:
        """A principal with a key file can be let in without an invitation."""
        answer = self.one("add", "bob", address="2001:DB8::1", port=60000, **KEYS)
        self.assertEqual(answer, {"done": True, "name": "bob"})
        record = self.store.get("bob")
        self.assertEqual(
            record and attrs.evolve(record, generation=0),
            Record(
                "bob",
                Status.ACTIVE,
                "2001:db8::1",
                60000,
                b"\x11" * 32,
                b"\x22" * 32,
                changed_time=NOW,
            ),
        )
        self.noted(("admin-added", "bob", ""))

    def test_add_again(self) -> None:
        """Who is there already is left alone; for a script that is no error, if it is the same."""
        self.one("add", "bob", **KEYS)
        self.operator.audit.clear()
        self.refused(RefusedByPolicy, r"bob is there already \(active\)", "add", "bob", **KEYS)
        answer = self.one("add", "bob", if_absent=True, **KEYS)
        self.assertEqual(answer, {"done": False, "name": "bob", "why": "it is active already"})
        self.noted()
        other = {**KEYS, "verify_key": "33" * 32}
        self.refused(RefusedByPolicy, "there already", "add", "bob", if_absent=True, **other)

    def test_add_in_vain(self) -> None:
        """A name that is invited, disabled or deleted is not there, whatever a script hopes."""
        for status in (Status.INVITED, Status.DISABLED, Status.DELETED):
            name = status.value
            self.existing(status, name)
            pattern = rf"there already \({name}\)"
            self.refused(RefusedByPolicy, pattern, "add", name, if_absent=True, **KEYS)

    def test_add_without_keys(self) -> None:
        """Keys are 32 bytes, and are not quoted."""
        for keys in ({}, {**KEYS, "reply_key": "22" * 31}, {**KEYS, "verify_key": "zz" * 32}):
            self.refused(
                ConfigurationError, r"^\w+_key is not 32 bytes in hex$", "add", "b", **keys
            )

    def test_invite(self) -> None:
        """The answer is the invitation, and nothing else shows its code."""
        answer = self.one("invite", "bob", valid_seconds=600)
        invitation = Invitation.parse(answer["invitation"])
        record = self.store.get("bob")
        if record is None:
            self.fail("no record")
        self.assertEqual(record.status, Status.INVITED)
        self.assertEqual(record.invitation_end_time, NOW + 600)
        self.assertEqual(len(record.invitation), 16)
        self.assertEqual(
            invitation, Invitation("LOCAL", "bob", "kdc.example", 88, PRINT, record.invitation)
        )
        self.noted(("admin-invited", "bob", ""))
        self.assertEqual(self.one("show", "bob")["invitation_end"], NOW + 600)

    def test_invite_again(self) -> None:
        """The new invitation counts, not the old; a script that repeats itself spoils none."""
        first = Invitation.parse(self.one("invite", "bob")["invitation"])
        self.operator.audit.clear()
        answer = self.one("invite", "bob", if_absent=True)
        self.assertEqual(answer, {"done": False, "name": "bob", "why": "it is invited already"})
        self.noted()
        second = Invitation.parse(self.one("invite", "bob")["invitation"])
        self.assertNotEqual(first.code, second.code)
        record = self.store.get("bob")
        self.assertEqual(record and record.invitation, second.code)
        self.noted(("admin-invited", "bob", "again"))

    def test_invite_in_vain(self) -> None:
        """Nobody is invited to a name that has an owner, or had one until just now."""
        for status in (Status.ACTIVE, Status.DISABLED, Status.DELETED):
            self.existing(status, status.value)
            self.refused(RefusedByPolicy, "there already", "invite", status.value)
        for name in ("active", "disabled"):
            self.assertIs(self.one("invite", name, if_absent=True)["done"], False)
        self.refused(RefusedByPolicy, "there already", "invite", "deleted", if_absent=True)
        self.noted()

    def test_reset(self) -> None:
        """Whose secret is lost is invited anew, in one step; the old keys are good for nothing."""
        for status in (Status.ACTIVE, Status.DISABLED, Status.INVITED):
            name = status.value
            self.existing(status, name)
            self.one("set-address", name, address="192.0.2.1", port=7)
            self.operator.audit.clear()
            changes: list[Record] = []
            unwatch = self.store.watch(changes.append)
            answer = self.one("reset", name, valid_seconds=600)
            invitation = Invitation.parse(answer["invitation"])
            (record,) = changes
            unwatch()
            self.assertEqual(record, self.store.get(name))
            self.assertEqual((record.status, record.verify_key), (Status.INVITED, b""))
            self.assertEqual(record.invitation, invitation.code)
            self.assertEqual(record.invitation_end_time, NOW + 600)
            self.assertEqual((record.address, record.port), ("192.0.2.1", 7))
            self.noted(("admin-reset", name, ""))
            self.operator.audit.clear()

    def test_reset_in_vain(self) -> None:
        """Whoever is deleted or was never there has no secret to lose."""
        self.existing(Status.DELETED)
        self.refused(RefusedByPolicy, "there already", "reset", "bob")
        self.refused(PeerUnavailable, "there is no carol", "reset", "carol")
        self.operator.place = ("", 88, PRINT)
        self.existing(Status.ACTIVE, "dave")
        self.refused(ConfigurationError, "not known where clients reach", "reset", "dave")
        self.noted()

    def test_invitation_to_nowhere(self) -> None:
        """What an invitation must say has to be known before anything is stored."""
        for place, pattern in (
            (("", 88, PRINT), "not known where clients reach"),
            (("kdc.example", 0, PRINT), "not known where clients reach"),
            (("kdc.example", 88, ""), "fingerprint of this KDC is not known"),
            (("a b", 88, PRINT), "not a host name"),
            (("my_kdc", 88, PRINT), "not a host name"),
            (("kdc.example", 88, "sha256:1"), "not a fingerprint"),
        ):
            self.operator.place = place
            self.refused(ConfigurationError, pattern, "invite", "bob")
        where = {"kdc_host": "192.0.2.1", "kdc_port": 99, "kdc_fingerprint": PRINT}
        answer = self.one("invite", "bob", **where)
        invitation = Invitation.parse(answer["invitation"])
        self.assertEqual((invitation.host, invitation.port), ("192.0.2.1", 99))

    def test_disable_and_enable(self) -> None:
        """A disabled principal keeps its keys and can be let in again; doing it twice is fine."""
        self.existing(Status.ACTIVE)
        self.assertEqual(self.one("disable", "bob"), {"done": True, "name": "bob"})
        self.assertIs(self.status("bob"), Status.DISABLED)
        self.assertIs(self.one("disable", "bob")["done"], False)
        self.assertEqual(self.one("enable", "bob"), {"done": True, "name": "bob"})
        record = self.store.get("bob")
        self.assertEqual(record and record.verify_key, b"\x11" * 32)
        self.assertIs(self.one("enable", "bob")["done"], False)
        self.noted(("admin-disabled", "bob", ""), ("admin-enabled", "bob", ""))

    def test_enable_in_vain(self) -> None:
        """An invitation or a tombstone has no keys that could be enabled."""
        for status in (Status.INVITED, Status.DELETED):
            self.existing(status, status.value)
            for command in ("enable", "disable"):
                self.refused(RefusedByPolicy, f"is {status.value}, not", command, status.value)

    def test_delete(self) -> None:
        """The name stays reserved, and nothing else of its owner."""
        for status in (Status.ACTIVE, Status.DISABLED, Status.INVITED):
            name = status.value
            self.existing(status, name)
            self.assertIs(self.one("delete", name)["done"], True)
            record = self.store.get(name)
            self.assertEqual(
                record and attrs.evolve(record, generation=0),
                Record(name, Status.DELETED, changed_time=NOW),
            )
            self.assertIs(self.one("delete", name)["done"], False)
            self.noted(("admin-deleted", name, ""))

    def test_purge(self) -> None:
        """A name is free again when no ticket for its last owner can be left."""
        self.existing(Status.DELETED)
        self.refused(RefusedByPolicy, "less than an hour ago", "purge", "bob")
        self.operator.now += LIFETIME_SECONDS.stop - 2
        self.refused(RefusedByPolicy, "less than an hour ago", "purge", "bob")
        self.operator.now += 1
        self.one("purge", "bob")
        self.assertIsNone(self.store.get("bob"))
        self.noted(("admin-purged", "bob", ""))

    def test_what_force_gives_up(self) -> None:
        """Whoever is told of ``--force`` is told what it is paid with."""
        self.existing(Status.DELETED)
        error = self.assertRaises(RefusedByPolicy, self.one, "purge", "bob")
        self.assertIn("takes a new owner of the name for the old one", error.hint)

    def test_an_ipv4_address_in_an_ipv6_one(self) -> None:
        """It is kept as the IPv4 address: the other spelling cannot be sent to anybody."""
        self.one("add", "bob", address="::ffff:192.0.2.7", port=1, **KEYS)
        record = self.store.get("bob")
        self.assertEqual(record and record.address, "192.0.2.7")

    def test_purge_at_once(self) -> None:
        """By force, and an invitation that nobody took needs none."""
        self.existing(Status.DELETED, "deleted")
        self.existing(Status.INVITED, "invited")
        self.one("purge", "deleted", force=True)
        self.one("purge", "invited")
        self.assertEqual(len(self.store), 0)

    def test_purge_in_vain(self) -> None:
        """Who is still there is deleted first, force or not."""
        for status in (Status.ACTIVE, Status.DISABLED):
            self.existing(status, status.value)
            self.refused(RefusedByPolicy, status.value, "purge", status.value, force=True)

    def test_set_address(self) -> None:
        """Where a principal is said to be can be noted; twice is fine; its keys stay."""
        self.existing(Status.ACTIVE)
        self.one("set-address", "bob", address="192.0.2.7", port=77)
        record = self.store.get("bob")
        self.assertEqual(
            record and (record.address, record.port, record.verify_key),
            ("192.0.2.7", 77, b"\x11" * 32),
        )
        self.assertIs(self.one("set-address", "bob", address="192.0.2.7", port=77)["done"], False)
        self.one("set-address", "bob")
        self.noted(("admin-moved", "bob", "192.0.2.7 77"), ("admin-moved", "bob", "- 0"))
        self.one("delete", "bob")
        self.operator.audit.clear()
        self.refused(RefusedByPolicy, "is deleted", "set-address", "bob", address="192.0.2.7")

    def test_expire(self) -> None:
        """A principal ends at a time, so long from now, or never; an invitation has an end."""
        self.existing(Status.ACTIVE)
        now = self.operator.now
        for asked, end, renewal in (
            ({"at": now + 7}, now + 7, 0),
            ({"in_seconds": 90}, now + 90, 90),
            ({}, 0, 0),
        ):
            answer = self.one("expire", "bob", **asked)
            record = self.store.get("bob")
            self.assertEqual(
                record and (record.expiry_time, record.renewal_seconds), (end, renewal)
            )
            self.assertEqual(answer.get("expiry", 0), end)
            shown = self.one("show", "bob")
            self.assertEqual(
                (shown.get("expiry", 0), shown.get("renewal_seconds", 0)), (end, renewal)
            )
            self.noted(("admin-expires", "bob", str(end or "never")))
            self.operator.audit.clear()
        self.assertIs(self.one("expire", "bob")["done"], False)
        self.existing(Status.INVITED, "carol")
        self.operator.audit.clear()
        self.one("expire", "carol", at=now + 8)
        self.assertEqual(self.one("show", "carol")["invitation_end"], now + 8)
        self.noted(("admin-expires", "carol", str(now + 8)))
        self.operator.audit.clear()
        self.refused(RefusedByPolicy, "always has an end", "expire", "carol")
        self.existing(Status.DELETED, "dave")
        self.operator.audit.clear()
        self.refused(RefusedByPolicy, "is deleted", "expire", "dave", at=now)
        bad: tuple[dict[str, Any], ...] = ({"at": 0}, {"at": "x"}, {"in_seconds": -1})
        for asked in (*bad, {"at": 7, "in_seconds": 7}):
            self.refused(ConfigurationError, "at|in seconds", "expire", "bob", **asked)

    def test_reset_keeps_the_end(self) -> None:
        """Whoever is invited anew has the end that the operator has set."""
        self.existing(Status.ACTIVE)
        self.one("expire", "bob", in_seconds=90)
        self.one("reset", "bob")
        record = self.store.get("bob")
        self.assertEqual(record and record.renewal_seconds, 90)

    def test_bad_addresses(self) -> None:
        """What is no address of use to others is refused, wherever it is given."""
        self.existing(Status.ACTIVE)
        for place in (
            {"address": "kdc.example"},
            {"address": "fe80::1%eth0"},
            {"address": "192.0.2.7:active:"},
            {"port": -1},
            {"port": 65536},
            {"port": True},
            {"port": "77"},
            {"port": [1]},
            {"port": 1.5},
        ):
            self.refused(ConfigurationError, "address|port", "set-address", "bob", **place)
            self.refused(ConfigurationError, "address|port", "add", "eve", **place, **KEYS)
            self.refused(ConfigurationError, "address|port", "invite", "eve", **place)

    def test_rename(self) -> None:
        """Keys are made from the name, so another name needs others: what to do is said."""
        self.existing(Status.ACTIVE)
        self.refused(RefusedByPolicy, "cannot be renamed", "rename", "bob", to="robert")

    def test_rotations(self) -> None:
        """Both are done and noted; the new fingerprint is told."""
        self.assertEqual(self.one("rotate-master-key"), {"done": True})
        self.refused(RefusedByPolicy, "shares its principals with no other", "new-master-key")
        self.assertEqual(self.one("rotate-tls"), {"done": True, "fingerprint": "sha256:tls"})
        self.assertEqual(self.operator.rotated, ["tls"])
        self.noted(("admin-rotated-master-key", "", ""), ("admin-rotated-tls", "", "sha256:tls"))

    def test_list(self) -> None:
        """All principals in the order of their names, or those that are wanted."""
        for name, status in (("eve", Status.DELETED), ("bob", Status.ACTIVE)):
            self.existing(status, name)
        self.existing(Status.INVITED, "bobby")

        def names(**request: Any) -> list[str]:
            return [answer["name"] for answer in self.ask("list", **request)]

        self.assertEqual(names(), ["bob", "bobby", "eve"])
        self.assertEqual(names(prefix="bob"), ["bob", "bobby"])
        self.assertEqual(names(status="deleted"), ["eve"])
        self.assertEqual(names(status="invited", prefix="e"), [])
        self.refused(ConfigurationError, "no such status: 'gone'", "list", status="gone")
        self.noted()

    def test_stats(self) -> None:
        """How many there are of each, and what a running KDC knows besides."""
        for status in Status:
            self.existing(status, status.value)
        self.assertEqual(
            self.one("stats"),
            {
                "realm": "LOCAL",
                "records": 4,
                "active": 1,
                "disabled": 1,
                "invited": 1,
                "deleted": 1,
                "generation": self.operator.store.generation,
                "trouble": "",
                "connections": 3,
            },
        )

    def test_dump(self) -> None:
        """The store as text; with the keys only if that is said, and then it is noted."""
        self.existing(Status.ACTIVE)
        text = "".join(answer["line"] for answer in self.ask("dump"))
        self.noted()
        self.assertIn('"bob"', text)
        self.assertNotIn("key", text)
        text = "".join(answer["line"] for answer in self.ask("dump", secrets=True))
        self.assertIn("reply_key", text)
        self.noted(("admin-dumped", "", "with secrets"))

    def test_names(self) -> None:
        """A name that is none, or nobody's, is told."""
        of_all = {"new-master-key", "rename", "rotate-tls", "rotate-master-key", "load", "import"}
        for command in set(EVERY) - READING - of_all | {"show"}:
            keys = KEYS if command == "add" else {}
            for name in ("Bob", "", "a:b", "x" * 65, None, ["bob"], 7.5, "bob\n"):
                self.refused(ConfigurationError, "not a principal's name", command, name, **keys)
            if command not in ("add", "invite"):
                self.refused(PeerUnavailable, "there is no carol", command, "carol")

    def test_numbers(self) -> None:
        """Numbers in a request are whole, and within their limits."""
        for key, high in (("valid_seconds", 366 * 86_400), ("kdc_port", 65_535)):
            values: tuple[Any, ...] = (
                0,
                -1,
                high + 1,
                "5",
                1.5,
                [1],
                {},
                True,
                float("inf"),
                float("nan"),
            )
            for value in values:
                self.refused(
                    ConfigurationError, "is a number from 1 to", "invite", "b", **{key: value}
                )

    def test_nothing_secret(self) -> None:
        """No answer and no line of the log has a key or a code in it, but for the invitation."""
        said: list[Any] = []
        for status in Status:
            self.existing(status, status.value)
        secrets = [b"\x22" * 32, b"\x11" * 32]
        for record in self.store:
            secrets += filter(None, (record.invitation, record.reply_key))
        for command in EVERY:
            for name in ("active", "disabled", "invited", "deleted", "new"):
                try:
                    answers = self.ask(command, name, **(KEYS if command == "add" else {}))
                except KDCError as error:
                    answers = [{"error": str(error), "hint": error.hint}]
                said += [{**answer, "invitation": ""} for answer in answers]
                secrets += [record.invitation for record in self.store if record.invitation]
        text = json.dumps([said, self.operator.audit])
        for secret in secrets:
            self.assertNotIn(secret.hex(), text)
            self.assertNotIn(base64.b64encode(secret).decode()[:16], text)
            self.assertNotIn(base64.urlsafe_b64encode(secret).decode()[:16], text)

    def test_two_operators(self) -> None:
        """Whoever comes second decides anew, on what is there then."""
        for before, first, second, outcome in (
            ((), "disable", "disable", False),
            ((), "delete", "delete", False),
            ((), "disable", "delete", True),
            ((), "delete", "disable", RefusedByPolicy),
            (("disable",), "delete", "enable", RefusedByPolicy),
            (("disable",), "enable", "enable", False),
            (("delete",), "purge", "purge", PeerUnavailable),
        ):
            store = MemoryStore()
            quick = Operator(store)
            quick.one("add", "bob", **KEYS)
            for command in before:
                quick.one(command, "bob")
            quick.now += 4000
            slow = Operator(Slower(store, functools.partial(quick.one, first, "bob")))
            slow.now = quick.now
            if isinstance(outcome, bool):
                self.assertIs(slow.one(second, "bob")["done"], outcome, (first, second))
                self.assertEqual(len(slow.audit), outcome)
            else:
                self.assertRaises(outcome, slow.one, second, "bob")
                self.assertEqual(slow.audit, [])

    def test_two_operators_create(self) -> None:
        """Of two that add one name, one is told that it is there."""
        self.existing(Status.INVITED)
        other = Operator(self.store)
        self.refused(RefusedByPolicy, "there already", "add", "bob", **KEYS)
        other.one("purge", "bob")
        self.assertRaises(PeerUnavailable, self.one, "purge", "bob")
        slow = Operator(Slower(self.store, lambda: other.one("add", "bob", **KEYS)))
        self.assertRaises(RefusedByPolicy, slow.one, "invite", "bob")
        self.assertEqual(slow.audit, [])

    def test_invited_and_taken(self) -> None:
        """An invitation that is taken up while it is renewed stays taken up."""
        self.existing(Status.INVITED)

        def register() -> None:
            record = self.store.get("bob")
            if record is None:
                self.fail("no record")
            new = Record("bob", Status.ACTIVE, verify_key=b"\x11" * 32, reply_key=b"\x22" * 32)
            self.store.apply([Replace(new, record.generation)])

        slow = Operator(Slower(self.store, register, before=Replace))
        self.assertRaises(RefusedByPolicy, slow.one, "invite", "bob")
        self.assertIs(self.status("bob"), Status.ACTIVE)

    def test_endless_quarrel(self) -> None:
        """Who is always late gives up, and says so."""
        self.existing(Status.ACTIVE)
        port = iter(range(1, 100))

        def move() -> None:
            self.one("set-address", "bob", port=next(port))

        slow = Operator(Slower(self.store, move, times=100))
        error = self.assertRaises(RefusedByPolicy, slow.one, "delete", "bob")
        self.assertIn("changed by somebody else", str(error))
        self.assertIs(self.status("bob"), Status.ACTIVE)

    def test_a_store_that_cannot_write(self) -> None:
        """Nothing is noted that was not done."""
        self.existing(Status.ACTIVE)

        def fail() -> None:
            raise StoreUnavailable("the disk is full")

        slow = Operator(Slower(self.store, fail, times=100))
        record = fields_of(Record("new", Status.INVITED), secrets=True)
        for command in ("disable", "delete", "invite", "add", "set-address", "load"):
            name = "new" if command in ("add", "invite") else "bob"
            more = KEYS if command == "add" else {"port": 1, "records": [record]}
            self.assertRaises(StoreUnavailable, slow.one, command, name, **more)
        self.assertEqual(slow.audit, [])

    def test_load(self) -> None:
        """Who comes with keys is who he was, down to an invitation that is open; each is noted."""
        there = MemoryStore()
        other = Operator(there)
        for status in Status:
            other.one("invite" if status is Status.INVITED else "add", status.value, **KEYS)
        other.one("disable", "disabled")
        other.one("delete", "deleted")
        answers = self.load(there)
        self.assertEqual(answers, [{"done": True, "name": record.name} for record in there])
        self.assertEqual(
            [attrs.evolve(record, generation=0) for record in self.store],
            [attrs.evolve(record, generation=0) for record in there],
        )
        names = sorted(status.value for status in Status)
        self.noted(*(("admin-loaded", name, name) for name in names))

    def test_load_again(self) -> None:
        """Who is there is left alone; it is told who is there otherwise than he was to be."""
        there = MemoryStore()
        other = Operator(there)
        for name in ("changed", "deleted", "disabled", "same"):
            other.one("add", name, **KEYS)
        other.one("invite", "claimed")
        other.one("invite", "gone")
        self.load(there)
        self.one("disable", "disabled")
        for name in ("deleted", "gone"):
            self.one("delete", name)
        for name in ("changed", "claimed"):
            record = self.store.get(name)
            if record is None:
                self.fail("no record")
            new = Record(name, Status.ACTIVE, verify_key=b"\x33" * 32, reply_key=b"\x44" * 32)
            self.store.apply([Replace(new, record.generation)])
        before = list(self.store)
        self.operator.audit.clear()
        answers = {answer["name"]: answer for answer in self.load(there)}
        self.assertEqual(list(self.store), before)
        self.noted()
        self.assertEqual(
            answers["same"],
            {"done": False, "name": "same", "why": "it is there already (active)"},
        )
        refused = {name for name, answer in answers.items() if answer.get("refused")}
        self.assertEqual(refused, {"changed", "deleted", "disabled", "gone"})
        self.assertFalse(any(answer["done"] for answer in answers.values()))

    def test_load_without_keys(self) -> None:
        """Whose keys are not known is invited: from now on, for as long as is said."""
        there = MemoryStore()
        Operator(there).one("add", "bob", port=77, **KEYS)
        Operator(there).one("add", "gone", **KEYS)
        Operator(there).one("delete", "gone")
        bob, gone = self.load(there, secrets=False, command="import", valid_seconds=60)
        invitation = Invitation.parse(bob["invitation"])
        record = self.store.get("bob")
        self.assertEqual(
            record and attrs.evolve(record, generation=0),
            Record(
                "bob",
                Status.INVITED,
                port=77,
                invitation=invitation.code,
                invitation_end_time=NOW + 60,
                changed_time=NOW,
            ),
        )
        self.assertEqual(
            invitation, Invitation("LOCAL", "bob", "kdc.example", 88, PRINT, invitation.code)
        )
        self.assertEqual(gone, {"done": True, "name": "gone"})
        self.noted(("admin-imported", "bob", "invited"), ("admin-imported", "gone", "deleted"))

    def test_load_one_name_twice(self) -> None:
        """The first counts, and only its code is told."""
        bob = fields_of(Record("bob", Status.INVITED, port=1), secrets=True)
        first, second = self.ask("load", records=[bob, {**bob, "port": 2}])
        self.assertIn("invitation", first)
        self.assertEqual((second["done"], second.get("invitation")), (False, None))
        record = self.store.get("bob")
        self.assertEqual(record and record.port, 1)

    def test_load_to_nowhere(self) -> None:
        """If invitations cannot be made, nobody is taken, those who need none neither."""
        self.operator.place = ("", 88, PRINT)
        bob = fields_of(Record("bob", Status.DELETED), secrets=True)
        eve = fields_of(Record("eve", Status.INVITED), secrets=True)
        self.refused(ConfigurationError, "not known where", "load", records=[bob, eve])
        self.ask("load", records=[bob])
        self.assertIs(self.status("bob"), Status.DELETED)

    def test_load_what_is_no_record(self) -> None:
        """Then nothing of the request is taken, and no key is quoted."""
        good = fields_of(Record("bob", Status.DELETED), secrets=True)
        secret = "c2VjcmV0" * 5
        odd: tuple[Any, ...] = (
            None,
            7,
            [],
            {},
            {**good, "name": "a:b"},
            {**good, "name": 7},
            {**good, "status": "active"},
            {**good, "status": secret},
            {**good, "status": ["deleted"]},
            {**good, "verify_key": secret},
            {**good, "verify_key": KEYS["verify_key"]},
            {**good, "port": 1.5},
            {**good, "port": True},
            {**good, "port": "1"},
            {**good, "changed_time": 10**30},
            {**good, "address": secret},
            {**good, secret: ""},
            {"name": "eve", "status": "active", "verify_key": "ERER", "reply_key": "ERER"},
            {"name": "eve", "status": "invited", "reply_key": base64.b64encode(b"k" * 32).decode()},
        )
        for bad in odd:
            raised = self.assertRaises(ConfigurationError, self.ask, "load", records=[good, bad])
            self.assertEqual(str(raised).replace(secret, "SECRET"), str(raised), bad)
            self.assertIn("a record of the request is", str(raised))
        lists: tuple[Any, ...] = (None, {}, "x", 7, [good] * (MAX_RECORDS + 1))
        for records in lists:
            self.refused(ConfigurationError, "a list of at most", "load", records=records)
        self.assertEqual(len(self.store), 0)
        self.noted()

    def test_load_noted_though_nobody_listens(self) -> None:
        """What was taken is in the log, however much of the answer is asked for."""
        records = [fields_of(Record(f"p{n}", Status.DELETED), secrets=True) for n in range(3)]
        request = {"command": "load", "records": records}
        next(administer(self.store, request, self.operator.context))
        self.assertEqual(len(self.operator.audit), 3)

    def load(self, there: Store, *, secrets: bool = True, **request: Any) -> list[dict[str, Any]]:
        """Take what another store has into ours, by way of its dump."""
        found = read_dump(dump(there, secrets=secrets), there.realm)
        records = [fields_of(one.record, secrets=True) for one in found]
        return self.ask(request.pop("command", "load"), records=records, **request)

    def test_one_at_a_time(self) -> None:
        """Of many principals each is read when it is wanted: they are never held together."""
        read: list[str] = []

        class Many(MemoryStore):
            def __iter__(self) -> Iterator[Record]:
                for number in range(1_000_000):
                    read.append(f"p{number}")
                    yield Record(f"p{number}", Status.ACTIVE)

        operator = Operator(Many())
        for command in ("list", "dump"):
            read.clear()
            answers = administer(operator.store, {"command": command}, operator.context)
            for _ in range(3):
                next(answers)
            self.assertLessEqual(len(read), 3, command)

    def test_unknown_command(self) -> None:
        """It is told, cut to length."""
        self.refused(ConfigurationError, "no such command: 'shutdown'", "shutdown")
        self.refused(ConfigurationError, r"no such command: 'x{40}'$", "x" * 1000)


class FlatFileTests(AdministrationTests):
    """The same on a flat file."""

    def make_store(self) -> Store:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        store = FlatFileStore.open(self.directory / "pwd.txt", realm="LOCAL")
        self.addCleanup(store.close)
        return store


class RequestTests(SynchronousTestCase):
    """Requests that no tool of ours makes."""

    @PROPERTY
    @given(
        st.dictionaries(
            st.sampled_from(
                "name status prefix address port verify_key reply_key kdc_host kdc_port"
                " valid_seconds if_absent force secrets kdc_fingerprint records".split()
            ),
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(max_size=8),
                st.sampled_from(["bob", "active", "11" * 32]),
                st.lists(st.none(), max_size=1),
                st.lists(st.just({"name": "eve", "status": "invited"}), max_size=2),
            ),
        ),
        st.sampled_from([*EVERY, "no-such-command", None]),
    )
    def test_any_request(self, request: dict[str, Any], command: str | None) -> None:
        """Whatever is asked is answered with what can be written down, or refused in our words."""
        operator = Operator(MemoryStore())
        operator.one("add", "bob", **KEYS)
        try:
            answers = list(
                administer(operator.store, {"command": command, **request}, operator.context)
            )
        except KDCError as error:
            self.assertLess(len(str(error)), 300)
        else:
            json.dumps(answers)


class Slower:
    """A store in which somebody else is faster: ``first`` happens just before a change of ours."""

    def __init__(
        self,
        store: Store,
        first: Callable[[], object],
        *,
        times: int = 1,
        before: type[Change] | None = None,
    ) -> None:
        self._store = store
        self._first = first
        self._left = times
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        wanted = self._before is None or isinstance(changes[0], self._before)
        if self._left and wanted:
            self._left -= 1
            self._first()
        return self._store.apply(changes)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._store)

    def __len__(self) -> int:
        return len(self._store)
