"""Whatever goes wrong with a store, nothing that is said of it shows a key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import attrs

from kdc.store import Create, Record, Status, StoreError
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.flatfile.opening import open_files
from kdc.store.flatfile.paths import Paths
from kdc.store.flatfile.repair import repair
from kdc.store.portable import dump, fields_of, read_dump, record_of
from kdc.store.sealed.masterkey import MasterKeys
from tests.store.test_damage import GENERATION, JOURNAL, KEY, DamageCase, open_on
from tests.store.test_faults import PATH, Fault, inline
from tests.support.canaries import shown_in, told
from tests.support.disk import Disk
from tests.support.store_conformance import active, token

VERIFY = b"Wellensittich, who may be seen".ljust(32, b"!")
REPLY = b"Kanarienvogel in the reply key".ljust(32, b"?")
CODE = b"Zeisig in the invitation"
MASTER = b"Stieglitz in the master key".ljust(32, b".")


def given(length: int) -> bytes:
    """What stands for randomness: the master key is the one that we look for."""
    return MASTER if length == len(MASTER) else b"\x07" * length


class CanaryTests(DamageCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = Disk()
        store = self.open(self.disk)
        store.apply([Create(self.alice(), token(1)), Create(self.invited(), token(2))])
        store.fold()
        store.apply([Create(active("carol"), token(3))])
        self.records = list(store)
        self.good = self.contents(self.disk)

    def open(self, disk: Disk) -> FlatFileStore:
        return FlatFileStore.open(PATH, realm="LOCAL", files=disk, run=inline, random=given)

    def alice(self) -> Record:
        return Record("alice", Status.ACTIVE, verify_key=VERIFY, reply_key=REPLY)

    def invited(self) -> Record:
        return Record("bob", Status.INVITED, invitation=CODE, invitation_end_time=1)

    def assert_nothing(self, text: str, context: object = "") -> None:
        for secret in (MASTER, REPLY, CODE):
            self.assertIs(shown_in(text, secret), None, (context, text))

    def refused(self, call: Callable[[], object], context: object = "") -> None:
        """What it raises shows nothing, nor what that was raised from."""
        try:
            call()
        except (StoreError, ValueError, OSError) as error:
            self.assert_nothing(told(error), context)
        else:
            self.fail(f"nothing was wrong: {context}")

    def test_the_master_key_is_there(self) -> None:
        """It would be found."""
        key = self.good[KEY].decode()
        self.assertEqual(shown_in(key, MASTER), base64.b64encode(MASTER)[:12].decode())

    def test_a_master_key_that_is_broken(self) -> None:
        """Each byte of its file changed, the file cut at each, doubled, of another store, away."""
        key = self.good[KEY]
        broken: list[bytes | None] = [None, b"", key + key[:-9], b"\xff" + key, key * 2 + b"x\n"]
        broken += [key[:at] for at in range(len(key) - 1)]
        broken += [key[:at] + b"?" + key[at + 1 :] for at in range(len(key) - 1)]
        broken += [key.replace(b"kdc-master-key:1", b"kdc-master-key:2")]
        for content in broken:
            disk = self.with_({KEY: content})
            self.refused(lambda disk=disk: open_on(disk), content)  # type: ignore[misc]
            for problem in self.check(disk):
                self.assert_nothing(f"{problem} {problem!r}", content)
            self.refused(lambda disk=disk: repair(PATH, files=disk), content)  # type: ignore[misc]

    def test_other_files_that_are_broken(self) -> None:
        """Each line of them changed, missing or doubled: what opening, check and repair say."""
        for path in (PATH, JOURNAL, GENERATION):
            lines = self.good[path].splitlines(keepends=True)
            for at, line in enumerate(lines):
                for other in (b"", line * 2, line[:-9] + b"?" + line[-8:], line[len(line) // 2 :]):
                    content = b"".join([*lines[:at], other, *lines[at + 1 :]])
                    self.told_of({path: content})

    def told_of(self, changed: dict[str, bytes]) -> None:
        disk = self.with_(changed)
        try:
            store = open_on(disk)
            self.assert_nothing(f"{list(store)} {store.notes} {store.trouble}")
        except StoreError as error:
            self.assert_nothing(told(error), changed)
        disk = self.with_(changed)
        for problem in self.check(disk):
            self.assert_nothing(f"{problem} {problem!r}", changed)
        try:
            self.assert_nothing(repr(repair(PATH, files=disk)), changed)
        except StoreError as error:
            self.assert_nothing(told(error), changed)

    def test_a_disk_that_fails(self) -> None:
        """At each call of a change, a fold and a rotation."""
        for number in range(1, 60):
            disk = self.with_({})
            disk.before = Fault(number, "EIO", lasting=True)
            try:
                store = self.open(disk)
                self.assert_nothing(f"{store} {store.apply([Create(active('dave'), token(9))])}")
                store.rotate_master_key()
                store.close()
                self.assert_nothing(store.trouble)
            except StoreError as error:
                self.assert_nothing(told(error), number)

    def test_what_is_in_memory(self) -> None:
        """Records, changes, the opened files, the keys, and the store itself."""
        disk = self.with_({})
        found = open_files(disk, Paths.of(PATH), "LOCAL", False, given, False)
        keys = MasterKeys.read(disk, KEY)
        for thing in (*self.records, Create(self.alice(), token(1)), found, keys, open_on(disk)):
            self.assert_nothing(f"{thing} {thing!r}")
        self.assertIn("alice", repr(self.records))

    def test_records_that_cannot_be(self) -> None:
        """A key or code of the wrong length is refused, and not quoted."""
        for field, value in (
            ("reply_key", REPLY[:-1]),
            ("reply_key", REPLY * 2),
            ("invitation", CODE[:15]),
            ("invitation", CODE * 3),
        ):
            self.refused(lambda f=field, v=value: attrs.evolve(self.alice(), **{f: v}))  # type: ignore[misc]
        fields = fields_of(self.alice(), secrets=True)
        for name in fields:
            for wrong in (fields["reply_key"], [fields["reply_key"]], None):
                other = {**fields, name: wrong, "verify_key": ""}
                self.refused(lambda other=other: record_of(other), name)  # type: ignore[misc]

    def test_a_dump_that_is_broken(self) -> None:
        """Each line of a dump with secrets, cut at each place and with each byte changed."""
        first, *lines = dump(open_on(self.with_({})), secrets=True)
        self.assertIn(base64.b64encode(REPLY).decode(), lines[0])
        for line in lines[:2]:
            for at in range(len(line)):
                for wrong in (line[:at], line[:at] + "\x00" + line[at + 1 :]):
                    self.refused(lambda w=wrong: list(read_dump([first, w], "LOCAL")), wrong)  # type: ignore[misc]
        self.refused(lambda: list(read_dump(lines, "LOCAL")))
        self.refused(lambda: list(read_dump([json.dumps(lines)], "LOCAL")))
