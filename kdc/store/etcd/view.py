"""A realm's lines in memory, as they were at one revision; follows, or says that it cannot.

Pure: what etcd said goes in.  Nothing is believed that the head's sealed sum does
not cover, so a change that was lost, made up or put back is noticed here, however
it came about.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from kdc.store import Record, Status, StoreError
from kdc.store.etcd.head import BadHead, Closed, Head, HeadKeys, closed, key_id_of_head
from kdc.store.etcd.wire import BadAnswer, Keys
from kdc.store.sealed.content import Content
from kdc.store.sealed.lines import BadLine, Entry, Sealer, name_of
from kdc.store.sealed.masterkey import MasterKeys
from kdc.store.sealed.table import Table, lines_of

__all__ = [
    "DoesNotFollow",
    "Loading",
    "Moved",
    "RealmKeys",
    "View",
    "differences",
    "merged",
    "value_of",
]

_KEY_ID_CHARACTERS = 16
# So many heads are remembered, to find out whose change followed which.
_REMEMBERED = 4096


class DoesNotFollow(Exception):
    """What came does not go with what is in memory, or not with its own head."""


class Moved(Exception):
    """The store is being moved, or was: nothing may be decided here."""

    def __init__(self, found: Closed) -> None:
        super().__init__(
            "the store is being loaded" if found.state == "loading" else "the store was moved away"
        )
        self.found = found


class RealmKeys:
    """The master keys, as one store of one realm uses them.

    ``read`` reads the key file again: a key that is not known may have come there.
    """

    def __init__(
        self,
        masters: MasterKeys,
        realm: str,
        random: Callable[[int], bytes],
        read: Callable[[], MasterKeys] | None = None,
    ) -> None:
        self.masters = masters
        self.realm = realm
        self.random = random
        self.keys = Keys(realm)
        self._read = read
        self._heads: dict[tuple[str, str], HeadKeys] = {}
        self._sealers: dict[tuple[str, str], Sealer] = {}

    def refresh(self) -> bool:
        """Read the key file again; False if it has what it had, or cannot be read."""
        if self._read is None:
            return False
        try:
            masters = self._read()
        except (OSError, StoreError):
            return False
        before, self.masters = set(self.masters.by_id), masters
        return set(masters.by_id) != before

    def check_known(self, key_ids: set[bytes]) -> None:
        """Raise `DoesNotFollow` if something is sealed under a key that the file has not."""
        for key_id in sorted(each.decode("ascii", "replace") for each in key_ids):
            if key_id not in self.masters.by_id and not (
                self.refresh() and key_id in self.masters.by_id
            ):
                raise DoesNotFollow(
                    f"there are principals under master key {key_id!r}, and the key file has "
                    + " and ".join(self.masters.by_id)
                )

    def heads(self, store_id: str, key_id: str) -> HeadKeys:
        """Raises `BadHead` if we do not have that master key."""
        at = store_id, key_id
        if at not in self._heads:
            self._heads[at] = HeadKeys(self._master(key_id), store_id)
        return self._heads[at]

    def _master(self, key_id: str) -> bytes:
        """Raises `BadHead`: the key file may have had it once, and may not have it now."""
        if key_id not in self.masters.by_id and not (
            self.refresh() and key_id in self.masters.by_id
        ):
            raise BadHead(
                f"the store is sealed under master key {key_id}, and the key file has "
                + " and ".join(self.masters.by_id)
            )
        return self.masters.by_id[key_id]

    def sealer(self, store_id: str, key_id: str) -> Sealer:
        """Return what writes under one key and reads under each; raises `BadHead`."""
        return _Sealer(self, self._master(key_id), store_id)

    def single(self, store_id: str, key_id: str) -> Sealer:
        """Return what reads and writes under one key only; raises `BadHead`."""
        at = store_id, key_id
        if at not in self._sealers:
            self._sealers[at] = Sealer(self._master(key_id), self.realm, store_id, self.random)
        return self._sealers[at]

    def opened(self, value: bytes) -> tuple[Head, int]:
        """Return a head and its sum; raises `BadHead`, `Moved`."""
        found = closed(value)
        if found is not None:
            raise Moved(found)
        return self.heads(*key_id_of_head(value)).open(value)


class _Sealer(Sealer):
    """Writes under one master key, and reads under every one of the key file."""

    def __init__(self, realm_keys: RealmKeys, master: bytes, store_id: str) -> None:
        super().__init__(master, realm_keys.realm, store_id, realm_keys.random)
        self._realm_keys = realm_keys
        self._store_id = store_id

    def entry(self, line: bytes) -> Entry:
        try:
            return super().entry(line)
        except BadLine:
            found = self._by_another(line)
            if found is None and self._realm_keys.refresh():
                found = self._by_another(line)
            if found is None:
                raise
            return found

    def _by_another(self, line: bytes) -> Entry | None:
        for key_id in list(self._realm_keys.masters.by_id):
            with contextlib.suppress(BadLine):
                return self._realm_keys.single(self._store_id, key_id).entry(line)
        return None


def value_of(key_id: str, line: bytes) -> bytes:
    """Return what is kept in etcd for a line."""
    return key_id.encode() + line


def key_id_of(value: bytes) -> bytes:
    """Return what a value says that its line is sealed under."""
    return value[:_KEY_ID_CHARACTERS]


def line_of(name: bytes, value: bytes) -> bytes:
    """Return the line in a value; raises `DoesNotFollow` if it is not even the shape of one."""
    line = value[_KEY_ID_CHARACTERS:]
    whole = line.startswith(b":" + name + b":") and line.find(b"\n") == len(line) - 1
    # A separator in the key would match the fields behind somebody else's name.
    if not whole or name_of(line) != name:
        raise DoesNotFollow(f"the value of {name[:80]!r} is not its line")
    return line


@attrs.define(eq=False)
class View:
    """What is in memory.  ``head_revision``: what wrote the head; ``revision``: where we are."""

    realm_keys: RealmKeys
    head: Head
    total: int
    head_revision: int
    revision: int
    content: Content
    # Which batch followed which head.
    _followed: dict[int, bytes] = attrs.field(factory=dict, repr=False)

    @property
    def generation(self) -> int:
        return self.head.generation

    @property
    def head_keys(self) -> HeadKeys:
        return self.realm_keys.heads(self.head.store_id, self.head.key_id)

    def follower_of(self, head_revision: int, number: bytes) -> bytes | None:
        """Return the batch that came next behind that head, if we saw it.

        ``number``: one that could only come there; as the latest of all it is seen, too.
        """
        latest = number if self.head.batch == number else None
        return self._followed.get(head_revision, latest)

    def remember(self, older: View) -> None:
        """Go on from ``older``: whose change followed which is as it was."""
        self._followed = older._followed

    def prepared(
        self,
        batch: bytes,
        generation: int,
        lines: Mapping[bytes, bytes | None],
        line_key_id: str | None = None,
        head_key_id: str | None = None,
    ) -> tuple[list[tuple[bytes, bytes | None]], bytes]:
        """Return the keys and the head of a batch that is to follow.

        ``line_key_id``: what its lines are sealed under, ``head_key_id``: what its head
        is to be, if that is not what the head has; the latter comes without lines.
        """
        gone, come, count = self._exchanged(lines)
        key_id = head_key_id or self.head.key_id
        heads = self.realm_keys.heads(self.head.store_id, key_id)
        head = Head(self.head.store_id, key_id, self.generation, generation, count, batch)
        total = (
            heads.total(lines_of(self.content.table.snapshot()))
            if head_key_id
            else heads.moved(self.total, gone, come)
        )
        keys = self.realm_keys.keys
        changes = [
            (keys.line(name), None if line is None else value_of(line_key_id or key_id, line))
            for name, line in lines.items()
        ]
        return changes, heads.seal(head, total, self.realm_keys.random)

    def follow(self, revision: int, changes: Mapping[bytes, bytes | None]) -> list[Record]:
        """Take in what one revision changed; return the records to tell of, by generation.

        Raises `DoesNotFollow`, and then nothing was taken in; `Moved`.
        """
        if revision <= self.revision:
            return []  # our own change, which was taken in when it was answered
        rest = dict(changes)
        value = rest.pop(self.realm_keys.keys.head, None)
        if value is None:
            raise DoesNotFollow("there was a change without a head")
        try:
            head, total = self.realm_keys.opened(value)
            content = self._content_under(head)
            lines = {
                (name := self.realm_keys.keys.name(key)): (
                    None if value is None else line_of(name, value)
                )
                for key, value in rest.items()
            }
        except (BadHead, BadAnswer) as error:
            raise DoesNotFollow(str(error)) from None
        self.realm_keys.check_known(
            {key_id_of(value) for value in rest.values() if value is not None}
        )
        self._check(head, total, lines)
        told = self._told(head, lines)
        for name, line in lines.items():
            if line is None:
                self.content.remove(name)
            else:
                self.content.put(line)
        if content is not None:
            self.content = content
        self._followed[self.head_revision] = head.batch
        while len(self._followed) > _REMEMBERED:
            del self._followed[next(iter(self._followed))]
        self.head, self.total = head, total
        self.head_revision = self.revision = revision
        return told

    def _content_under(self, head: Head) -> Content | None:
        """What is there, if ``head`` is under another master key; raises `BadHead`."""
        if head.key_id == self.head.key_id:
            return None
        sealer = self.realm_keys.sealer(head.store_id, head.key_id)
        return Content(self.content.table, sealer, self.realm_keys.keys.head.decode())

    def _check(self, head: Head, total: int, lines: Mapping[bytes, bytes | None]) -> None:
        if head.store_id != self.head.store_id:
            raise DoesNotFollow("the head is of another store")
        if head.after != self.generation or head.generation < head.after:
            raise DoesNotFollow(
                f"generation {head.generation} follows {head.after}, and we are at"
                f" {self.generation}"
            )
        gone, come, count = self._exchanged(lines)
        if head.key_id == self.head.key_id:
            expected = self.head_keys.moved(self.total, gone, come)
        elif lines:
            raise DoesNotFollow("another master key came together with changes")
        else:
            heads = self.realm_keys.heads(head.store_id, head.key_id)
            expected = heads.total(lines_of(self.content.table.snapshot()))
        if expected != total or count != head.count:
            raise DoesNotFollow("the lines are not those that the head is about")

    def _exchanged(
        self, lines: Mapping[bytes, bytes | None]
    ) -> tuple[list[bytes], list[bytes], int]:
        """Return the lines that go, those that come, and how many there are then."""
        table = self.content.table
        before = {name: table.get(name) for name in lines}
        if any(line is None and before[name] is None for name, line in lines.items()):
            raise DoesNotFollow("a line was deleted that is not there")
        gone = [line for line in before.values() if line is not None]
        come = [line for line in lines.values() if line is not None]
        return gone, come, len(table) - len(gone) + len(come)

    def _told(self, head: Head, lines: Mapping[bytes, bytes | None]) -> list[Record]:
        found = []
        for name, line in lines.items():
            before = self.content.table.get(name)
            record = self._record(name, line, head.generation)
            if before is None or record != self._record(name, before, 0):
                found.append(record)
        return sorted(found, key=lambda record: record.generation)

    def _record(self, name: bytes, line: bytes | None, generation: int) -> Record:
        if line is None:
            return Record(name.decode(), Status.DELETED, generation=generation)
        try:
            return self.content.sealer.entry(line).record
        except BadLine as error:
            raise DoesNotFollow(f"the line of {name!r} {error}") from None


class Loading:
    """Gathers pages of one revision into a `View`; raises `DoesNotFollow`, `Moved`.

    ``closed_too``: what was closed is read as it was then, by whoever moves it away.
    """

    def __init__(self, realm_keys: RealmKeys, *, closed_too: bool = False) -> None:
        self._realm_keys = realm_keys
        self._closed_too = closed_too
        self._table = Table()
        self._head: tuple[bytes, int] | None = None
        self._last = b""

    def add(self, pairs: Iterable[tuple[bytes, bytes, int]]) -> None:
        lines, key_ids = [], set()
        for key, value, revision in pairs:
            if self._head is None:
                if key != self._realm_keys.keys.head:
                    raise DoesNotFollow("there are lines, and no head")
                self._head = self._opened(value), revision
                continue
            try:
                name = self._realm_keys.keys.name(key)
            except BadAnswer as error:
                raise DoesNotFollow(str(error)) from None
            if name <= self._last:
                raise DoesNotFollow("the keys are not in their order")
            self._last = name
            lines.append(line_of(name, value))
            key_ids.add(key_id_of(value))
        # Before anybody is told of a principal whose line cannot be read.
        self._realm_keys.check_known(key_ids)
        self._table.extend(b"".join(lines), len(lines))

    def _opened(self, value: bytes) -> bytes:
        found = closed(value)
        if found is None:
            return value
        if self._closed_too and found.state == "closed":
            return found.before
        raise Moved(found)

    @property
    def empty(self) -> bool:
        return self._head is None

    def view(self, revision: int) -> View:
        if self._head is None:
            raise DoesNotFollow("the head is gone")
        value, head_revision = self._head
        try:
            head, total = self._realm_keys.opened(value)
            sealer = self._realm_keys.sealer(head.store_id, head.key_id)
        except BadHead as error:
            raise DoesNotFollow(str(error)) from None
        heads = self._realm_keys.heads(head.store_id, head.key_id)
        found = heads.total(lines_of(self._table.snapshot()))
        if found != total or len(self._table) != head.count:
            raise DoesNotFollow("the lines are not those that the head is about")
        content = Content(self._table, sealer, self._realm_keys.keys.head.decode())
        return View(self._realm_keys, head, total, head_revision, revision, content)


def differences(old: View, new: View) -> list[Record]:
    """Return the records that changed between the two, by generation; a purge as its tombstone.

    Raises `DoesNotFollow` if ``new`` is no later state of ``old``.
    """
    if new.head.store_id != old.head.store_id:
        raise DoesNotFollow("the store is another")
    if new.generation < old.generation:
        raise DoesNotFollow(
            f"it is at generation {new.generation}, and was at {old.generation} before"
        )
    found = [
        new._record(name, line, new.generation)
        for name, before, line in _unequal(old, new)
        if before is None
        or line is None
        or new._record(name, line, 0) != old._record(name, before, 0)
    ]
    if found and new.generation == old.generation:
        raise DoesNotFollow(f"it is at generation {new.generation}, and is not what it was then")
    return sorted(found, key=lambda record: record.generation)


def _unequal(old: View, new: View) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Yield each name whose lines differ, with both."""
    olds, news = (
        ((name_of(line), line) for line in lines_of(view.content.table.snapshot()))
        for view in (old, new)
    )
    return (found for found in merged(olds, news) if found[1] != found[2])


def merged(
    ones: Iterator[tuple[bytes, bytes]], twos: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Yield each name with what it has in both; each is in the order of names."""
    one, two = next(ones, None), next(twos, None)
    while one is not None or two is not None:
        if one is not None and (two is None or one[0] < two[0]):
            yield one[0], one[1], None
            one = next(ones, None)
        elif two is not None and (one is None or two[0] < one[0]):
            yield two[0], None, two[1]
            two = next(twos, None)
        elif one is not None and two is not None:
            yield one[0], one[1], two[1]
            one, two = next(ones, None), next(twos, None)
