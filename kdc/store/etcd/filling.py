"""Puts a whole store into etcd, or shuts the one that is there; for whoever moves it.

Meanwhile a word stands in the place of the head, under which no node decides anything.
Each transaction compares the head, so of two that move only the later goes on; and
each can be sent again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

from kdc.store import StoreError, StoreInUse, StoreUnavailable
from kdc.store.etcd.api import Denied, EtcdError, Link
from kdc.store.etcd.following import CALL_SECONDS, LOAD_SECONDS, PAGE
from kdc.store.etcd.head import Closed
from kdc.store.etcd.view import merged, value_of
from kdc.store.etcd.wire import (
    Answer,
    BadAnswer,
    Keys,
    page_of,
    read_page,
    transaction,
    transaction_answer,
)
from kdc.store.sealed.lines import name_of
from kdc.store.sealed.table import lines_of

__all__ = ["MOST_CHANGES", "Filling", "Told"]

T = TypeVar("T")
# (what is done with them, so many principals, of so many)
Told: TypeAlias = Callable[[str, int, int], None]

# etcd takes 128 operations in one transaction.
MOST_CHANGES = 120
_TRIES = 20  # each at the next member
_AGAIN_SECONDS = 0.3
_PASSES = 3
_TELL_EVERY = 1000
_AGAIN = "once that is mended, do the same again: it goes on where it was"


class Filling:
    """The keys of one realm.  One thread."""

    def __init__(
        self,
        link: Link,
        keys: Keys,
        pause: Callable[[float], None],
        page: int = PAGE,
        most_changes: int = MOST_CHANGES,
    ) -> None:
        self._link = link
        self._keys = keys
        self._pause = pause
        self._page = page
        self._most_changes = most_changes

    def head(self) -> tuple[bytes, int]:
        """Return the head and the revision that wrote it; nothing and 0 if nothing is there."""
        found = self._read(self._keys.head, 1)[0]
        if not found:
            return b"", 0
        key, value, revision = found[0]
        if key != self._keys.head:
            raise StoreError(
                f"etcd has keys of {self._keys.realm}, and no head: this store is not whole",
                hint="see whose they are; a store is moved only to where there is none",
            )
        return value, revision

    def put_head(self, revision: int, value: bytes) -> int | None:
        """Put ``value`` in the place of the head of ``revision``; return what wrote it.

        None if the head is another by now: perhaps this one, if an answer was lost.
        """
        done, now = self._transact(transaction(self._keys, revision, [], value))
        return now if done else None

    def claim(self, revision: int, head: Closed) -> int:
        """Put what no node decides under in the place of the head; return what wrote it.

        Raises `StoreInUse` if the head becomes something else meanwhile.
        """
        for _ in range(_TRIES):
            now = self.put_head(revision, head.text())
            if now is not None:
                return now
            value, revision = self.head()
            if value != head.text():  # else it may be ours, whose answer was lost
                break
        raise self._other()

    def finish(self, revision: int, head: bytes) -> None:
        """Put the head itself there, from which nodes go on."""
        if self.put_head(revision, head) is None and self.head()[0] != head:
            raise self._other()

    def fill(self, chunks: list[bytes], count: int, key_id: str, revision: int, told: Told) -> None:
        """Make the lines in etcd those in ``chunks``; when this returns, that was read back.

        ``revision``: that of our `claim`.  What is there already is not written again.
        """
        for number in range(_PASSES):
            report = functools.partial(_report, told, "reading back" if number else "moving", count)
            if not self._pass(chunks, key_id, revision, report):
                return
        raise StoreUnavailable("etcd does not keep what is written to it", hint=_AGAIN)

    def _pass(
        self, chunks: list[bytes], key_id: str, revision: int, told: Callable[[int], None]
    ) -> bool:
        """Write what differs; whether anything did."""
        changes: list[tuple[bytes, bytes | None]] = []
        wanted = ((name_of(line), value_of(key_id, line)) for line in lines_of(chunks))
        differed, seen = False, 0
        told(0)
        for name, value, there in merged(wanted, self._lines()):
            seen += value is not None
            if seen % _TELL_EVERY == 0:
                told(seen)
            if value != there:
                changes.append((self._keys.line(name), value))
            # Only names that have been read: the pages that are yet to come stay as they are.
            if len(changes) == self._most_changes:
                self._put(revision, changes)
                differed, changes = True, []
        if changes:
            self._put(revision, changes)
        told(seen)
        return differed or bool(changes)

    def _put(self, revision: int, changes: list[tuple[bytes, bytes | None]]) -> None:
        done, _ = self._transact(transaction(self._keys, revision, changes, None))
        if not done:
            raise self._other()

    def _lines(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield name and value of each line in etcd, in their order."""
        start, last = self._keys.lines, b""
        while True:
            found, more = self._read(start, self._page)
            for key, value, _ in found:
                try:
                    name = self._keys.name(key)
                except BadAnswer as error:
                    raise StoreError(str(error), hint="see whose it is") from None
                if name <= last:
                    raise StoreError("etcd does not give its keys in their order")
                last = name
                yield name, value
            if not more or not found:
                return
            start = found[-1][0] + b"\0"

    def _read(self, start: bytes, limit: int) -> tuple[list[tuple[bytes, bytes, int]], bool]:
        asked = read_page(start, self._keys, limit, 0)
        page = self._ask("/v3/kv/range", asked, LOAD_SECONDS, page_of)
        return page.pairs, page.more

    def _transact(self, request: Answer) -> tuple[bool, int]:
        return self._ask("/v3/kv/txn", request, CALL_SECONDS, transaction_answer)

    def _ask(self, path: str, body: Answer, seconds: float, read: Callable[[Answer], T]) -> T:
        """Ask until there is an answer; whatever was carried out may be asked for again."""
        for left in reversed(range(_TRIES)):
            try:
                return read(self._link.post(path, body, seconds))
            except Denied as error:
                raise StoreUnavailable(f"etcd refuses it: {error}", hint=_AGAIN) from None
            except (EtcdError, BadAnswer) as error:
                if not left:
                    raise StoreUnavailable(
                        f"etcd cannot be reached: {error}", hint=_AGAIN
                    ) from None
            self._pause(_AGAIN_SECONDS)
        raise AssertionError("no try at all")

    def _other(self) -> StoreInUse:
        return StoreInUse(
            f"another process changed the store of {self._keys.realm} in etcd meanwhile",
            hint="one at a time may move it; see who else does, and do it again",
        )


def _report(told: Told, what: str, count: int, done: int) -> None:
    told(what, done, count)
