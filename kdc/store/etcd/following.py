"""Keeps a view up to date: reads it whole, follows the watch, and confirms that it is current.

Each step is a call of its own, for a thread to repeat; a test takes them one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kdc.store import Record, StoreLost
from kdc.store.etcd.api import EtcdError, Link, Stream
from kdc.store.etcd.view import DoesNotFollow, Loading, Moved, RealmKeys, View, differences
from kdc.store.etcd.wire import (
    BadAnswer,
    Keys,
    Watched,
    head_of,
    page_of,
    read_head,
    read_page,
    watch_request,
    watched,
)

__all__ = ["CALL_SECONDS", "LOAD_SECONDS", "PAGE", "Following", "Wait", "load", "wait_for"]

# (what to wait on, holding it; for what; seconds) -> whether it came
Wait = Callable[[threading.Condition, Callable[[], bool], float], bool]

CALL_SECONDS = 2.0  # then the next member is asked
PAGE = 50_000
LOAD_SECONDS = 60.0
_SILENT_SECONDS = 30.0  # a watch that was so long silent is begun anew
_CATCH_UP_SECONDS = 1.0
_NEVER = -(1 << 62)


def wait_for(changed: threading.Condition, wanted: Callable[[], bool], seconds: float) -> bool:
    return changed.wait_for(wanted, seconds)


def load(
    link: Link, realm_keys: RealmKeys, page: int = PAGE, *, closed_too: bool = False
) -> View | None:
    """Read everything as it is at one revision; None if there is nothing.

    ``closed_too``: though it was moved away.
    Raises `EtcdError`, `BadAnswer`, `DoesNotFollow`, `Moved`.
    """
    keys: Keys = realm_keys.keys
    loading = Loading(realm_keys, closed_too=closed_too)
    start, revision = keys.head, 0
    while True:
        asked = read_page(start, keys, page, revision)
        found = page_of(link.post("/v3/kv/range", asked, LOAD_SECONDS))
        revision = revision or found.revision
        loading.add(found.pairs)
        if not found.more:
            break
        if not found.pairs:
            raise BadAnswer("there is more, and none came")
        start = found.pairs[-1][0] + b"\0"
    return None if loading.empty else loading.view(revision)


class Following:
    """What every thread of a store shares; ``changed`` is held while any of it is used.

    ``broken``: why the view cannot follow before it is read again.  ``damaged``:
    why nothing at all may be decided.  ``tell`` is called with each record that
    changed, while ``changed`` is held.
    """

    def __init__(
        self,
        view: View,
        *,
        watcher: Link,
        confirmer: Link,
        now: Callable[[], int],
        tell: Callable[[Record], None],
        took: Callable[[View], None],
        wait: Wait = wait_for,
        page: int = PAGE,
    ) -> None:
        self.view = view
        self.changed = threading.Condition()
        self.wait = wait
        self.broken = ""
        self.damaged = ""
        self.moved: Moved | None = None
        self.closed = False
        self.reloads = 0
        self.trouble = ""
        self._confirmed = _NEVER
        self._watcher = watcher
        self._confirmer = confirmer
        self._now = now
        self._tell = tell
        self._took = took
        self._page = page
        self._stream: Stream | None = None

    @property
    def confirmed_milliseconds(self) -> int:
        """What is damaged or moved is not confirmed, ever."""
        return self._confirmed if self.usable else _NEVER

    def check_moved(self) -> None:
        """Raise `StoreLost` if the store was moved elsewhere."""
        if self.moved is not None and self.moved.found.state == "closed":
            raise StoreLost("the store is not ours any more: it was moved away")

    # The watch's thread.

    def follow_once(self) -> bool:
        """Take one step: read all again if need be, begin the watch, or take a message of it.

        False if that failed, and is better tried again a little later.
        """
        try:
            if self.broken:
                self._reload()
            elif self._stream is None:
                request = watch_request(self.view.realm_keys.keys, self.view.revision + 1)
                self._stream = self._watcher.watch(request, _SILENT_SECONDS)
            else:
                self._next(self._stream)
        except (EtcdError, BadAnswer) as error:
            self.trouble = str(error)
            self._drop_stream()
            self._watcher.next_member()
            return False
        except (DoesNotFollow, Moved):
            self._drop_stream()
            return self.usable
        return True

    @property
    def usable(self) -> bool:
        """Whether what is in memory was true not long ago."""
        return not self.damaged and self.moved is None

    def _next(self, stream: Stream) -> None:
        message = stream.next()
        found = Watched([], "silent") if message is None else watched(message)
        for revision in found.revisions:
            with self.changed:
                self.take(revision.number, revision.changes)
        if found.ended:
            self._drop_stream()
            if message is not None:
                self._break(found.ended)

    def take(self, revision: int, changes: dict[bytes, bytes | None]) -> None:
        """Take in one revision, whoever made it; hold ``changed``.

        Raises `DoesNotFollow`, `Moved`: then all is read again.
        """
        if self.broken:
            raise DoesNotFollow(self.broken)
        try:
            told = self.view.follow(revision, changes)
        except (DoesNotFollow, Moved) as error:
            self._break(str(error))
            raise
        self._told(told)

    def _told(self, records: list[Record]) -> None:
        self._took(self.view)
        for record in records:
            self._tell(record)
        self.changed.notify_all()

    def _break(self, why: str) -> None:
        with self.changed:
            self.broken = self.broken or why
            self.changed.notify_all()
        self._interrupt()

    def _interrupt(self) -> None:
        """Have the watch's thread look what there is to do."""
        stream = self._stream
        if stream is not None:
            stream.drop()

    def _reload(self) -> None:
        self.reloads += 1
        try:
            view = load(self._watcher, self.view.realm_keys, self._page)
            if view is None:
                raise DoesNotFollow("the head is gone")
            told = differences(self.view, view)
        except (DoesNotFollow, Moved) as error:
            with self.changed:
                self.moved = error if isinstance(error, Moved) else None
                self.damaged = "" if self.moved else str(error)
                self.changed.notify_all()
            raise
        with self.changed:
            view.remember(self.view)
            self.view, self.broken, self.damaged, self.moved = view, "", "", None
            self._told(told)

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # The confirming thread.

    def confirm_once(self) -> bool:
        """Ask for the head that most members agree on, and wait until memory has it, too."""
        with self.changed:
            before, began = self.view.head_revision, self._now()
        try:
            revision = self.read_head(self._confirmer)
        except (EtcdError, BadAnswer) as error:
            self.trouble = str(error)
            self._confirmer.next_member()
            return False
        if revision < before:
            self._break("the head is older than it was, or gone")
        with self.changed:
            reached = self.wait(self.changed, lambda: self._has(revision), _CATCH_UP_SECONDS)
            if reached:
                self.confirmed(began)
                return True
        # The member that we watch may be cut off from the others.
        self._interrupt()
        return False

    def read_head(self, link: Link) -> int:
        """Return the revision of the head, as whatever most members have agreed on."""
        asked = read_head(self.view.realm_keys.keys)
        return head_of(link.post("/v3/kv/range", asked, CALL_SECONDS))

    def _has(self, revision: int) -> bool:
        return self.closed or (not self.broken and self.view.head_revision >= revision)

    def confirmed(self, began: int) -> None:
        """Memory has everything that was acknowledged before ``began``; hold ``changed``."""
        if not self.broken:
            self._confirmed = max(self._confirmed, began)
            self.trouble = ""

    def end(self) -> None:
        """Let every thread that waits here go."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self._interrupt()
        for link in (self._watcher, self._confirmer):
            link.interrupt()

    def close(self) -> None:
        """Give up the connections; the threads have ended."""
        self._drop_stream()
        for link in (self._watcher, self._confirmer):
            link.close()
