"""An etcd in memory: what `kdc.store.etcd` uses of it, with the faults that a real one has.

It answers as the JSON gateway does.  One thread; a watch hands out what is there.
Faults are drawn from a seed: an answer is lost before the change or after it, a member
is not there, a watch is cut, the past is compacted away.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

import attrs

from kdc.store.etcd.api import Denied, Unknown, Unsent
from kdc.store.etcd.opening import EtcdFiles, open_etcd
from kdc.store.etcd.store import EtcdStore
from kdc.store.etcd.wire import Answer
from kdc.store.sealed.files import Files

__all__ = ["Etcd", "FakeLink", "Faults", "Nodes"]

_STEPS = 40  # of a node that waits for something that does not come


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


@attrs.frozen
class Kept:
    value: bytes
    mod_revision: int
    lease: int = 0


@attrs.frozen
class Event:
    revision: int
    key: bytes
    value: bytes | None


@attrs.define
class Faults:
    """How often what goes wrong, of a thousand requests each."""

    seed: int = 0
    unsent: int = 0
    lost_before: int = 0
    lost_after: int = 0
    cut: int = 0
    compacts: int = 0
    _random: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def happens(self, of_a_thousand: int) -> bool:
        return self._random.randrange(1000) < of_a_thousand

    def up_to(self, most: int) -> int:
        return self._random.randrange(most + 1)


class Etcd:
    """The cluster: one sequence of revisions."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.keys: dict[bytes, Kept] = {}
        self.events: list[Event] = []
        self._base: dict[bytes, Kept] = {}  # before the first of the events
        self.leases: set[int] = set()
        self.ends_after_keepalive = False
        self.granted: list[int] = []  # seconds of each lease
        self.down = False
        self.full = False
        # Called with each transaction before it is carried out; a test puts others in between.
        self.before: Callable[[Answer], None] = lambda body: None

    def link(self, faults: Faults | None = None) -> FakeLink:
        return FakeLink(self, faults or Faults())

    def write(self, *changes: tuple[bytes, bytes | None]) -> int:
        """Make a revision, as anybody could who has the keys to etcd."""
        self.revision += 1
        for key, value in changes:
            if value is None:
                if self.keys.pop(key, None) is None:
                    continue
            else:
                self.keys[key] = Kept(value, self.revision)
            self.events.append(Event(self.revision, key, value))
        return self.revision

    def end_lease(self, lease: int) -> None:
        """It was not renewed in time, or given back: what was under it is gone."""
        self.leases.discard(lease)
        gone = [key for key, kept in self.keys.items() if kept.lease == lease]
        if gone:
            self.write(*((key, None) for key in gone))

    def _grant(self, body: Answer) -> Answer:
        self.granted.append(int(body["TTL"]))
        lease = 1000 + len(self.granted)
        self.leases.add(lease)
        return {"ID": str(lease), "TTL": body["TTL"]}

    def _keep_alive(self, body: Answer) -> Answer:
        there = int(body["ID"]) in self.leases
        if self.ends_after_keepalive:
            self.end_lease(int(body["ID"]))
        return {"result": {"ID": body["ID"], **({"TTL": "30"} if there else {})}}

    def _revoke(self, body: Answer) -> Answer:
        if int(body["ID"]) not in self.leases:
            raise Denied("requested lease not found")
        self.end_lease(int(body["ID"]))
        return {}

    def _put(self, body: Answer) -> Answer:
        key, lease = _bytes(body["key"]), int(body["lease"])
        if lease not in self.leases:
            raise Denied("requested lease not found")
        if self.full:
            raise Denied("mvcc: database space exceeded")
        value = _bytes(body["value"])
        self.keys[key] = Kept(value, self.write((key, value)), lease)
        return {}

    def compact(self) -> None:
        """Forget the past."""
        self.compacted = self.revision
        self.events.clear()
        self._base = dict(self.keys)

    def post(self, path: str, body: Answer) -> Answer:
        answers: dict[str, Callable[[Answer], Answer]] = {
            "/v3/kv/range": self._range,
            "/v3/kv/txn": self._transaction,
            "/v3/kv/put": self._put,
            "/v3/lease/grant": self._grant,
            "/v3/lease/keepalive": self._keep_alive,
            "/v3/lease/revoke": self._revoke,
        }
        return {"header": {"revision": str(self.revision)}, **answers[path](body)}

    def _range(self, body: Answer) -> Answer:
        revision = int(body.get("revision", "0"))
        if revision and revision < self.compacted:
            raise Unknown("required revision has been compacted")
        content = self._at(revision) if revision else self.keys
        first, end = _bytes(body["key"]), body.get("range_end")
        last = _bytes(end) if end else first + b"\0"
        found = sorted(key for key in content if first <= key < last)
        limit = int(body.get("limit", "0")) or len(found)
        only = body.get("keys_only", False)
        answer: dict[str, Any] = {}
        if found:
            answer["kvs"] = [self._pair(key, content[key], only) for key in found[:limit]]
            answer["count"] = str(len(found))
        if len(found) > limit:
            answer["more"] = True
        return answer

    def _pair(self, key: bytes, kept: Kept, keys_only: bool) -> dict[str, str]:
        pair = {"key": _text(key), "mod_revision": str(kept.mod_revision)}
        return pair if keys_only else {**pair, "value": _text(kept.value)}

    def _at(self, revision: int) -> dict[bytes, Kept]:
        content = dict(self._base)
        for event in self.events:
            if event.revision > revision:
                break
            if event.value is None:
                content.pop(event.key, None)
            else:
                content[event.key] = Kept(event.value, event.revision)
        return content

    def _transaction(self, body: Answer) -> Answer:
        self.before(body)
        good = all(self._holds(compare) for compare in body["compare"])
        operations = body["success" if good else "failure"]
        if len(operations) > 128:
            raise Denied("too many operations in txn request")
        if not good:
            return {"responses": [{"response_range": self._range(operations[0]["request_range"])}]}
        if self.full:
            raise Denied("mvcc: database space exceeded")
        changes: list[tuple[bytes, bytes | None]] = []
        for operation in operations:
            ((kind, asked),) = operation.items()
            value = _bytes(asked["value"]) if kind == "request_put" else None
            changes.append((_bytes(asked["key"]), value))
        if len({key for key, _ in changes}) != len(changes):
            raise Denied("duplicate key given in txn request")
        return {"succeeded": True, "header": {"revision": str(self.write(*changes))}}

    def _holds(self, compare: Answer) -> bool:
        kept = self.keys.get(_bytes(compare["key"]))
        return int(compare["mod_revision"]) == (kept.mod_revision if kept else 0)


@attrs.define(eq=False)
class FakeLink:
    """See `kdc.store.etcd.api.Link`."""

    etcd: Etcd
    faults: Faults
    ended: bool = False
    skipped: int = 0
    posted: list[str] = attrs.field(factory=list)

    def post(self, path: str, body: Answer, seconds: float) -> Answer:
        faults = self.faults
        if self.ended or self.etcd.down or faults.happens(faults.unsent):
            raise Unsent("no connection")
        if faults.happens(faults.lost_before):
            raise Unknown("no answer in time")
        if faults.happens(faults.compacts):
            self.etcd.compact()
        self.posted.append(path)
        answer = self.etcd.post(path, body)
        if faults.happens(faults.lost_after):
            raise Unknown("no answer in time")
        return answer

    def watch(self, body: Answer, seconds: float) -> FakeStream:
        if self.ended or self.etcd.down or self.faults.happens(self.faults.unsent):
            raise Unsent("no connection")
        asked = body["create_request"]
        watched = _bytes(asked["key"]), _bytes(asked["range_end"])
        return FakeStream(self, int(asked["start_revision"]), watched)

    def next_member(self) -> None:
        self.skipped += 1

    def interrupt(self) -> None:
        self.ended = True

    def close(self) -> None:
        """There is nothing to give up."""


@attrs.define(eq=False)
class FakeStream:
    """A watch of a range of keys, from a revision on."""

    link: FakeLink
    revision: int
    watched: tuple[bytes, bytes]
    dropped: bool = False
    lose: int = 0  # so many revisions are never told, as in some versions of etcd
    forged: dict[bytes, bytes] = attrs.field(factory=dict)  # told for what such keys have become

    def next(self) -> Answer | None:
        etcd, faults = self.link.etcd, self.link.faults
        if self.dropped or etcd.down or faults.happens(faults.cut):
            raise Unknown("the watch was cut")
        if self.revision <= etcd.compacted and self.revision <= etcd.revision:
            return {"result": {"canceled": True, "compact_revision": str(etcd.compacted)}}
        while self.lose and any(event.revision >= self.revision for event in etcd.events):
            self.lose -= 1
            self.revision += 1
        first, end = self.watched
        found = [
            event
            for event in etcd.events
            if event.revision >= self.revision and first <= event.key < end
        ]
        if not found:
            return None
        # As much as has gathered: one revision or several.
        until = min(etcd.revision, found[0].revision + faults.up_to(2))
        found = [event for event in found if event.revision <= until]
        self.revision = until + 1
        return {"result": {"events": [self._event(event) for event in found]}}

    def _event(self, event: Event) -> Answer:
        pair = {"key": _text(event.key), "mod_revision": str(event.revision)}
        if event.value is None:
            return {"type": "DELETE", "kv": pair}
        return {"kv": {**pair, "value": _text(self.forged.get(event.key, event.value))}}

    def drop(self) -> None:
        self.dropped = True

    def close(self) -> None:
        """There is nothing to give up."""


class Nodes:
    """Stores on one etcd without threads: who waits makes the others' steps."""

    def __init__(self, etcd: Etcd | None = None) -> None:
        self.etcd = etcd or Etcd()
        self.milliseconds = 1_000_000
        self.stores: list[EtcdStore] = []

    def now(self) -> int:
        return self.milliseconds

    def open(
        self,
        files: Files,
        directory: str = "/kdc",
        *,
        faults: Faults | None = None,
        random: Callable[[int], bytes] | None = None,
        **options: Any,
    ) -> EtcdStore:
        paths = EtcdFiles(f"{directory}.key", f"{directory}.generation", f"{directory}.lock")
        one = faults or Faults()
        store: list[EtcdStore] = []

        def wait(changed: object, wanted: Callable[[], bool], seconds: float) -> bool:
            for _ in range(_STEPS):
                if wanted():
                    return True
                store[0].following.follow_once()
            self.milliseconds += int(1000 * seconds)
            return wanted()

        writer, watcher, confirmer, announcer = (self.etcd.link(one) for _ in range(4))
        links = writer, watcher, confirmer, announcer
        options = {"realm": "LOCAL", **options}
        if random is not None:
            options["random"] = random
        store.append(
            open_etcd(links, paths, files=files, now=self.now, wait=wait, page=7, **options)
        )
        self.stores += store
        return store[0]

    def settle(self) -> None:
        """Let every store learn of everything that was changed; faults or not."""
        for store in self.stores:
            for _ in range(1000):
                if store.following.confirm_once():
                    break
                store.following.follow_once()
            else:
                raise AssertionError(f"a node does not catch up: {store.following.trouble}")
