"""Carries one change out, exactly once, whatever becomes of the answers; see docs/cluster.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from kdc.store import StoreUnavailable, StoreUncertain
from kdc.store.etcd.api import Denied, EtcdError, Link, Unsent
from kdc.store.etcd.following import CALL_SECONDS, Following
from kdc.store.etcd.head import BATCH_BYTES
from kdc.store.etcd.view import DoesNotFollow, Moved, View
from kdc.store.etcd.wire import Answer, BadAnswer, transaction, transaction_answer

__all__ = ["Changing", "Wanted"]

_SECONDS = 8.0  # a client waits ten
_AGAIN_SECONDS = 0.2


@attrs.frozen
class Wanted:
    """What is to be written: lines by name, None for one that goes, under which keys."""

    generation: int
    lines: Mapping[bytes, bytes | None] = attrs.field(repr=False)
    line_key_id: str | None = None  # None: that of the head
    head_key_id: str | None = None  # None: as it is


@attrs.frozen
class _Sent:
    """One transaction: what it follows, its number, and what it makes of the keys."""

    request: Answer = attrs.field(repr=False)
    head_revision: int
    number: bytes = attrs.field(repr=False)
    changes: dict[bytes, bytes | None] = attrs.field(repr=False)


class Changing:
    """Only one thread at a time may use it."""

    def __init__(
        self,
        following: Following,
        writer: Link,
        now: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self.writer = writer
        self.random = random
        self.conflicts = self.resent = 0
        self._following = following
        self._now = now

    def change(self, decide: Callable[[View], Wanted | None]) -> None:
        """Carry out what ``decide`` wants, on what is there then.

        If somebody else was faster it decides again; that nothing is to be done has to
        be true for everybody, too.  Raises `StoreUnavailable` if nothing was changed,
        `StoreUncertain` if that is not known, `StoreLost`.
        """
        until = self._now() + int(1000 * _SECONDS)
        while not self._try(decide, until):
            self.conflicts += 1

    def _try(self, decide: Callable[[View], Wanted | None], until: int) -> bool:
        """Decide on memory and carry it out; False if somebody else was faster."""
        with self._following.changed:
            self._usable(until)
            view = self._following.view
            head_revision = view.head_revision
            wanted = decide(view)
            sent = None if wanted is None else self._sent(view, wanted)
        if sent is None:
            return self._unchanged(head_revision, until)
        return self._carry_out(sent, until)

    def _sent(self, view: View, wanted: Wanted) -> _Sent:
        number, keys = self.random(BATCH_BYTES), view.realm_keys.keys
        changes, head = view.prepared(
            number, wanted.generation, wanted.lines, wanted.line_key_id, wanted.head_key_id
        )
        request = transaction(keys, view.head_revision, changes, head)
        return _Sent(request, view.head_revision, number, {**dict(changes), keys.head: head})

    def _usable(self, until: int) -> None:
        """Wait until memory can follow; hold ``changed``."""
        following = self._following

        def known() -> bool:
            return following.closed or not following.usable or not following.broken

        following.wait(following.changed, known, self._left(until))
        if following.closed:
            raise StoreUnavailable("the store is closed")
        following.check_moved()
        if following.broken:
            raise StoreUnavailable(
                f"etcd: {following.damaged or following.moved or following.broken}",
                hint="nothing was changed; the other nodes say whether they see the same",
            )

    def _left(self, until: int) -> float:
        return max(0.0, (until - self._now()) / 1000)

    def _unchanged(self, head_revision: int, until: int) -> bool:
        """Whether nobody had changed anything when this was called; nothing was written."""
        began = self._now()
        while True:
            try:
                now = self._following.read_head(self.writer)
            except (EtcdError, BadAnswer) as error:
                if isinstance(error, Denied) or not self._again(until):
                    raise self._failure(False, str(error)) from None
                continue
            if now == head_revision:
                with self._following.changed:
                    if self._following.view.head_revision == head_revision:
                        self._following.confirmed(began)
                return True
            self._catch_up(now, until)
            return False

    def _carry_out(self, sent: _Sent, until: int) -> bool:
        """Send the transaction until it is known what became of it; False if it can never be.

        Once an answer was lost, only what came behind the head that it follows can tell.
        """
        doubtful = False
        while True:
            began = self._now()
            try:
                answer = self.writer.post("/v3/kv/txn", sent.request, CALL_SECONDS)
                done, revision = transaction_answer(answer)
            except (EtcdError, BadAnswer) as error:
                doubtful = doubtful or not isinstance(error, Unsent | Denied)
                if not isinstance(error, Denied) and self._again(until):
                    self.resent += 1
                    continue
                raise self._failure(doubtful, str(error)) from None
            if done:
                self._took_own(revision, sent.changes, began, until)
                return True
            if not self._catch_up(revision, until):
                raise self._failure(doubtful, "the watch does not catch up")
            return doubtful and self._was_ours(sent)

    def _was_ours(self, sent: _Sent) -> bool:
        """Whether what came behind that head was ours: then it is done."""
        with self._following.changed:
            follower = self._following.view.follower_of(sent.head_revision, sent.number)
        if follower is None:
            raise self._failure(True, "it was compacted away whose change came")
        return follower == sent.number

    def _took_own(
        self, revision: int, change: dict[bytes, bytes | None], began: int, until: int
    ) -> None:
        """Take our own change into memory, unless the watch was faster."""
        following = self._following
        with following.changed:
            if not following.broken:
                try:
                    following.take(revision, change)
                except (DoesNotFollow, Moved):
                    pass  # it is being read again; the change is durable all the same
                else:
                    following.confirmed(began)
                    return
        if not self._catch_up(revision, until):
            raise self._failure(True, "memory does not have it yet")

    def _catch_up(self, revision: int, until: int) -> bool:
        """Wait until memory has the head of ``revision``."""
        following = self._following
        with following.changed:
            return following.wait(
                following.changed,
                lambda: (
                    following.closed
                    or (not following.broken and self._following.view.head_revision >= revision)
                ),
                self._left(until),
            )

    def _again(self, until: int) -> bool:
        """Wait a moment before the next member is asked; False if there is no time left."""
        if self._now() >= until or self._following.closed:
            return False
        following = self._following
        with following.changed:
            following.wait(following.changed, lambda: following.closed, _AGAIN_SECONDS)
        return not following.closed

    def _failure(self, doubtful: bool, why: str) -> StoreUnavailable | StoreUncertain:
        if doubtful:
            return StoreUncertain(
                f"it is not known whether etcd made the change: {why}",
                hint="look whether it was made; to ask for it again does no harm",
            )
        return StoreUnavailable(
            f"etcd cannot be written: {why}",
            hint="nothing was changed; see whether most of its members run",
        )
