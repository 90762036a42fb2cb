"""The principal database in etcd, as one KDC of several has it; see docs/cluster.md.

Every node holds all lines in memory and follows by a watch.  A change is decided
on memory and is one transaction, which is carried out only if the head is still
the one that it was decided on: so all nodes together make one sequence of changes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from kdc.store import Change, Record, Result, Status, StoreError
from kdc.store.etcd.announcing import Announcing
from kdc.store.etcd.api import EtcdError, Link
from kdc.store.etcd.changing import Changing, Wanted
from kdc.store.etcd.following import CALL_SECONDS, Following, Wait, wait_for
from kdc.store.etcd.rotating import add_master_key, rotate
from kdc.store.etcd.view import View
from kdc.store.etcd.wire import BadAnswer, forget, transaction_answer
from kdc.store.nodes import Node, NodeFacts
from kdc.store.sealed.batch import Batch
from kdc.store.sealed.files import Files
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.masterkey import MasterKeys

__all__ = ["EtcdStore", "Links"]

# For changes, for the watch, for confirming, for what nodes tell each other.
Links: TypeAlias = tuple[Link, Link, Link, Link]

_LONG_AGO = 1000 * 86_400 * 366
_AGAIN_SECONDS = 0.2
_DAMAGED_SECONDS = 1.0


def _in_thread(work: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


class EtcdStore:
    """See `kdc.store.Store`; made by `kdc.store.etcd.opening.open_etcd`.

    ``now``: milliseconds of the boot clock.  ``made``: the files that were made when it
    was opened, if the store was.  Without ``start`` nothing happens by itself.
    """

    # With the head, below the 128 operations that etcd takes in one transaction.
    most_changes = 120

    def __init__(
        self,
        view: View,
        *,
        realm: str,
        links: Links,
        kept: KeptGeneration,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        confirm_seconds: float = 10.0,
        wait: Wait = wait_for,
        files: Files,
        lock: int,
        key_path: str,
        made: tuple[str, ...] | None = None,
        page: int = 50_000,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.realm = realm
        self.made = made is not None
        self._made_files = made or ()
        self._files = files
        self._lock = lock
        self.notes: Sequence[str] = ()
        self._writer, watcher, confirmer, announcer = links
        self._kept = kept
        self._now = now
        self._confirm_seconds = confirm_seconds
        self._key_path = key_path
        self._applying = threading.Lock()
        self._watchers: list[Callable[[Record], None]] = []
        self._threads: list[threading.Thread] = []
        self._kept_trouble = ""
        self.following = Following(
            view,
            watcher=watcher,
            confirmer=confirmer,
            now=now,
            tell=self._tell,
            took=self._keep,
            wait=wait,
            page=page,
        )
        self._changing = Changing(self.following, self._writer, now, random)
        self._since_time = int(unix_time())
        self.nodes = Announcing(
            announcer,
            realm,
            own=self._own_node,
            own_id=random(8).hex(),
            bound_milliseconds=int(1000 * confirm_seconds),
            master_key_id=lambda: self._view.head.key_id,
            own_key_ids=self._key_ids,
            new_master_key=self.new_master_key,
        )

    def start(self) -> None:
        """Follow and confirm from now on, in threads."""
        self._threads = [
            _in_thread(self._follow, "kdc-etcd-watch"),
            _in_thread(self._confirm, "kdc-etcd-confirm"),
            _in_thread(self.nodes.run, "kdc-etcd-nodes"),
        ]

    def _follow(self) -> None:
        while not self.following.closed:
            if not self.following.follow_once():
                # To read all again costs etcd something.
                self._pause(_AGAIN_SECONDS if self.following.usable else _DAMAGED_SECONDS)

    def _confirm(self) -> None:
        while not self.following.closed:
            confirmed = self.following.confirm_once()
            self._pause(self._confirm_seconds / 10 if confirmed else _AGAIN_SECONDS)

    def _own_node(self, facts: NodeFacts) -> Node:
        age = self._now() - self.following.confirmed_milliseconds
        return Node(
            self.nodes.own_id,
            facts,
            self._key_ids(),
            self.generation,
            min(max(0, age), _LONG_AGO),
            self.nodes.bound_milliseconds,
            self._since_time,
        )

    def _key_ids(self) -> tuple[str, ...]:
        """Of the keys that the key file has now: whoever seals under another asks for that."""
        try:
            return tuple(MasterKeys.read(self._files, self._key_path).by_id)
        except (OSError, StoreError):
            return tuple(self._view.realm_keys.masters.by_id)

    def _pause(self, seconds: float) -> None:
        following = self.following
        with following.changed:
            following.changed.wait_for(lambda: following.closed, seconds)

    @property
    def _view(self) -> View:
        return self.following.view

    def get(self, name: str) -> Record | None:
        entry = self._view.content.entry_of(name)
        return None if entry is None else entry.record

    def __iter__(self) -> Iterator[Record]:
        return (entry.record for entry in self._view.content.entries())

    def names_from(self, name: str) -> Iterator[Record]:
        return (entry.record for entry in self._view.content.entries_from(name))

    def owner_of(self, service: str) -> str | None:
        return self._view.content.owner_of(service)

    def with_kerberos(self) -> list[Record]:
        return [entry.record for entry in self._view.content.entries_with_parts()]

    def __len__(self) -> int:
        return len(self._view.content.table)

    def counts(self) -> dict[Status, int]:
        return self._view.content.counts()

    @property
    def generation(self) -> int:
        return self._view.generation

    @property
    def confirmed_milliseconds(self) -> int | None:
        return self.following.confirmed_milliseconds

    @property
    def trouble(self) -> str:
        following = self.following
        late = self._now() - following.confirmed_milliseconds > 1000 * self._confirm_seconds
        found = [self._kept_trouble]
        if following.damaged:
            found.append(f"etcd holds what no KDC wrote: {following.damaged}")
        elif following.moved is not None:
            found.append(str(following.moved))
        elif late:
            found.append(f"etcd: {following.trouble or 'most members do not answer'}")
        return "; ".join(filter(None, found))

    @property
    def figures(self) -> Mapping[str, float]:
        return {
            "database_bytes": self._view.content.table.total_bytes,
            "etcd_revision": self._view.revision,
            "etcd_reloads": self.following.reloads,
            "etcd_conflicts": self._changing.conflicts,
            "etcd_resent": self._changing.resent,
        }

    def watch(self, changed: Callable[[Record], None]) -> Callable[[], None]:
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def check_ours(self) -> None:
        self.following.check_moved()

    def fold(self) -> bool:
        return True

    def close(self) -> None:
        if self.following.closed:
            return
        self.following.end()
        self.nodes.end()
        for thread in self._threads:
            thread.join()
        self.following.close()
        self._watchers.clear()
        self.nodes.close()
        self._writer.close()
        self._kept.close()
        self._files.close(self._lock)

    def discard(self) -> None:
        if self._forgotten():
            for path in self._made_files:
                with contextlib.suppress(OSError):
                    self._files.remove_if_there(path)
        self.close()

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        if len(changes) > self.most_changes:
            raise ValueError(f"a batch has at most {self.most_changes} changes")
        results: list[Result] = []

        def decide(view: View) -> Wanted | None:
            batch = Batch(view.content, view.generation)
            results[:] = [batch.decide(change) for change in changes]
            if not batch.entries:
                return None
            lines: dict[bytes, bytes | None] = {}
            sealed = view.content.sealer.lines(batch.entries)
            for entry, line in zip(batch.entries, sealed, strict=True):
                lines[entry.record.name.encode()] = None if entry.purged else line
            for name in [name for name, line in lines.items() if line is None]:
                if view.content.table.get(name) is None:
                    del lines[name]  # made and removed in this very batch
            return Wanted(batch.generation, lines)

        if changes:
            with self._applying:
                self._changing.change(decide)
        return results

    def new_master_key(self) -> str:
        """Put a newer key into the key file, if there is none yet; return what it is called.

        It is for `rotate_master_key`, once every node has that file.
        """
        with self._applying:
            return add_master_key(self._changing, self.following, self._files, self._key_path)

    def rotate_master_key(self) -> None:
        """Seal everything under the newer key of the key file, then drop the old one.

        Where there is no other it is made first; where the old one is no longer in use it
        is only dropped.  Cut short, the key file holds both, and doing it again finishes it.
        What etcd still has of the past, and backups, need the old key.  Blocks for some
        microseconds a principal.
        """
        with self._applying:
            rotate(self._changing, self.following, self._files, self._key_path, self.most_changes)
        self.nodes.tell()

    def _forgotten(self) -> bool:
        """Take the head back that we made, if nobody has used it; without it nothing is lost."""
        if not self.made or self.following.closed or self._view.generation:
            return False
        request = forget(self._view.realm_keys.keys, self._view.head_revision)
        try:
            return transaction_answer(self._writer.post("/v3/kv/txn", request, CALL_SECONDS))[0]
        except (EtcdError, BadAnswer):
            return False

    def _tell(self, record: Record) -> None:
        for changed in list(self._watchers):
            changed(record)

    def _keep(self, view: View) -> None:
        try:
            self._kept.advance(view.generation, self._files.rename)
        except OSError as error:
            # An older state that is put back might go unnoticed at the next start.
            self._kept_trouble = f"cannot write the generation file: {error.strerror}"
        else:
            self._kept_trouble = ""
