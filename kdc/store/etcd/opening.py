"""Opening a realm in etcd: our key and generation file, and the head; the first node makes it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import attrs

from kdc.errors import ErrorKind
from kdc.net import clock
from kdc.protocol.names import check_realm
from kdc.store import StoreError, StoreInUse, StoreUnavailable
from kdc.store.etcd.api import Denied, EtcdError, EtcdSettings, Gateway, Link
from kdc.store.etcd.following import CALL_SECONDS, Wait, load, wait_for
from kdc.store.etcd.head import BATCH_BYTES, Head
from kdc.store.etcd.store import EtcdStore, Links
from kdc.store.etcd.view import DoesNotFollow, Moved, RealmKeys, View
from kdc.store.etcd.wire import (
    BadAnswer,
    Keys,
    forget,
    page_of,
    read_page,
    transaction,
    transaction_answer,
)
from kdc.store.sealed.files import Files
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.masterkey import MasterKeys

__all__ = ["EtcdFiles", "connected", "lock_node", "open_etcd"]

_TRIES = 7  # each at the next member
_MOVED_HINTS = {
    "loading": "finish the move, where it was begun; until then every node refuses",
    "closed": "the principals are in a file again; to share them, move that file here",
}


@attrs.frozen
class EtcdFiles:
    """What a node keeps beside etcd: its master key, and how far the store had come."""

    key: str
    generation: str
    lock: str

    @classmethod
    def of(cls, base: Path, key: Path | None = None, generation: Path | None = None) -> EtcdFiles:
        return cls(
            os.path.abspath(key or f"{base}.key"),
            os.path.abspath(generation or f"{base}.generation"),
            os.path.abspath(f"{base}.lock"),
        )


def connected(settings: EtcdSettings) -> Links:
    """Return the ways to etcd that a store has; raises `KDCError`."""
    context = settings.context()
    writer, watcher, confirmer, announcer = (Gateway(settings, context) for _ in range(4))
    return writer, watcher, confirmer, announcer


def open_etcd(
    links: Links,
    paths: EtcdFiles,
    *,
    realm: str,
    create: bool = True,
    accept_rollback: bool = False,
    random: Callable[[int], bytes] = os.urandom,
    files: Files | None = None,
    now: Callable[[], int] = clock.milliseconds,
    wait: Wait = wait_for,
    confirm_seconds: float = 10.0,
    page: int = 50_000,
) -> EtcdStore:
    """Open the store of ``realm``, or make it if ``create`` and etcd has none.

    What it returns follows once it is started.  Raises `StoreError`; then nothing
    was changed, here or there.
    """
    files = files or Files()
    lock = lock_node(files, paths)
    try:
        opening = _Opening(links[0], paths, files, check_realm(realm), random, create, page, now)
        try:
            view, made = opening.view()
            kept, notes = opening.kept(view, accept_rollback)
        except BaseException:
            opening.undo()
            raise
        store = EtcdStore(
            view,
            realm=realm,
            links=links,
            kept=kept,
            now=now,
            random=random,
            confirm_seconds=confirm_seconds,
            wait=wait,
            files=files,
            lock=lock,
            key_path=paths.key,
            made=opening.made_files if made else None,
            page=page,
        )
        store.notes = notes
        store.following.confirmed(opening.began)
    except BaseException:
        files.close(lock)
        for link in links:
            link.close()
        raise
    return store


def lock_node(files: Files, paths: EtcdFiles) -> int:
    """Return the open lock file of a state directory; raises `StoreError`."""
    try:
        fd = files.open(paths.lock, os.O_RDWR | os.O_CREAT)
        try:
            if files.lock(fd):
                files.fchmod(fd)
                return fd
        except BaseException:
            files.close(fd)
            raise
        files.close(fd)
    except OSError as error:
        raise StoreError(
            f"cannot lock {paths.lock}: {error.strerror}",
            hint="make the directory first, with mode 0700"
            if isinstance(error, FileNotFoundError)
            else "the directory has to be one that this user can write to",
        ) from error
    raise StoreInUse(
        f"another process runs this node ({paths.lock})",
        hint="ask the running one, or stop it; a second node needs a state directory of its own",
    )


class _Opening:
    """One try to open; ``undo`` removes what it made in files."""

    def __init__(
        self,
        link: Link,
        paths: EtcdFiles,
        files: Files,
        realm: str,
        random: Callable[[int], bytes],
        create: bool,
        page: int,
        now: Callable[[], int],
    ) -> None:
        self._link = link
        self._paths = paths
        self._files = files
        self._realm = realm
        self._random = random
        self._create = create
        self._page = page
        self._now = now
        self.began = 0
        self.made_key = False
        # Whether there may be a head of ours, and which revision wrote it, if we know.
        self._head_sent = False
        self._head_made: tuple[Keys, int] | None = None

    @property
    def made_files(self) -> tuple[str, ...]:
        key = (self._paths.key,) if self.made_key else ()
        return (self._paths.generation, *key)

    def undo(self) -> None:
        """Take back what it made.

        Where a head may be there, under a key that nobody else has, the key file stays: without
        it etcd would have a store that nobody can open any more.
        """
        if self._took_head_back() and self.made_key:
            with contextlib.suppress(OSError):
                self._files.unlink(self._paths.key)

    def _took_head_back(self) -> bool:
        """Whether there is certainly no head of ours."""
        if not self._head_sent:
            return True
        if self._head_made is None:
            return False
        try:
            request = forget(*self._head_made)
            return transaction_answer(self._link.post("/v3/kv/txn", request, CALL_SECONDS))[0]
        except (EtcdError, BadAnswer):
            return False

    def view(self) -> tuple[View, bool]:
        """Return what is in etcd, and whether we made it."""
        keys = self._keys()
        made = False
        for left in reversed(range(_TRIES)):
            try:
                if keys is None:
                    # Only whether there is anything: nothing of it can be read without its key.
                    keys = self._key_of_a_new_store()
                # What was acknowledged before this is in what comes.
                self.began = self._now()
                view = load(self._link, keys, self._page)
                if view is not None:
                    return view, made
                self._check_never_used()
                made = self._make(keys) or made
            except EtcdError as error:
                if isinstance(error, Denied) or not left:
                    what = "used" if isinstance(error, Denied) else "reached"
                    raise StoreUnavailable(
                        f"etcd cannot be {what}: {error}",
                        hint=error.hint or "look whether most of its members run",
                    ) from None
            except Moved as error:
                raise StoreError(
                    f"the store of {self._realm} in etcd cannot be opened: {error}",
                    hint=_MOVED_HINTS[error.found.state],
                ) from None
            except (BadAnswer, DoesNotFollow) as error:
                raise StoreError(
                    f"the store of {self._realm} in etcd cannot be opened: {error}",
                    hint="nothing was changed; see what the other nodes say",
                ) from None
        raise StoreUnavailable("etcd does not keep the store that is made in it")

    def kept(self, view: View, accept_rollback: bool) -> tuple[KeptGeneration, list[str]]:
        """Return the generation file, begun anew; raises `StoreError` if etcd is behind it."""
        path, store_id = self._paths.generation, view.head.store_id
        try:
            before = KeptGeneration.read(self._files, path, store_id)
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        notes = []
        if before is None and view.generation:
            notes.append(f"there was no {path}: an older state would not have been noticed")
        elif before is not None and before > view.generation:
            if not accept_rollback:
                raise StoreError(
                    f"etcd is at generation {view.generation}, and was at {before} before"
                    f" ({path}): an older state was put back",
                    hint="find the newer one, or accept the rollback once, if it is meant",
                    kind=ErrorKind.OLDER_THAN_BEFORE,
                )
            notes.append(f"accepted generation {view.generation} in the place of {before}")
            self._skip(view, before)
        kept = KeptGeneration(self._files, path, store_id)
        try:
            kept.start(view.generation)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        return kept, notes

    def _skip(self, view: View, generation: int) -> None:
        """Use no generation again that the state that was lost had."""
        number = self._random(BATCH_BYTES)
        _, head = view.prepared(number, generation, {})
        keys = view.realm_keys.keys
        try:
            request = transaction(keys, view.head_revision, [], head)
            done, revision = transaction_answer(
                self._link.post("/v3/kv/txn", request, CALL_SECONDS)
            )
        except (EtcdError, BadAnswer) as error:
            raise StoreUnavailable(f"etcd cannot be written: {error}", hint="try again") from None
        if not done:
            raise StoreUnavailable("the store is being changed by another node", hint="try again")
        view.follow(revision, {keys.head: head})

    def _keys(self) -> RealmKeys | None:
        path = self._paths.key
        try:
            return self._realm_keys(MasterKeys.read(self._files, path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error

    def _made_keys(self) -> RealmKeys:
        masters, path = MasterKeys.generate(self._random), self._paths.key
        try:
            masters.write(self._files, path)
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror}") from error
        self.made_key = True
        return self._realm_keys(masters)

    def _realm_keys(self, masters: MasterKeys) -> RealmKeys:
        files, path = self._files, self._paths.key
        return RealmKeys(masters, self._realm, self._random, lambda: MasterKeys.read(files, path))

    def _key_of_a_new_store(self) -> RealmKeys:
        """Make a master key, if there is nothing yet that would need another."""
        keys = Keys(self._realm)
        asked = read_page(keys.head, keys, 1, 0)
        if page_of(self._link.post("/v3/kv/range", asked, CALL_SECONDS)).pairs:
            raise StoreError(
                f"{self._paths.key} is missing: what is in etcd cannot be read without it",
                hint="copy the master key file from another node, by a safe way",
            )
        self._check_never_used()
        return self._made_keys()

    def _check_never_used(self) -> None:
        if self._files.exists(self._paths.generation):
            raise StoreError(
                f"etcd has no store of {self._realm}, and it was not always so:"
                f" {self._paths.generation} is there",
                hint="put etcd's content back from its backup; to begin anew, move that file away",
            )
        if not self._create:
            raise StoreError(
                f"there is no store of {self._realm} in etcd",
                hint="start the server once, or check the realm and the members",
            )

    def _make(self, keys: RealmKeys) -> bool:
        """Put the first head there; False if somebody was faster, or may have been."""
        key_id = next(iter(keys.masters.by_id))
        head = Head(self._random(8).hex(), key_id, 0, 0, 0, self._random(BATCH_BYTES))
        value = keys.heads(head.store_id, key_id).seal(head, 0, self._random)
        request = transaction(keys.keys, 0, [], value)
        self._head_sent = True
        done, revision = transaction_answer(self._link.post("/v3/kv/txn", request, CALL_SECONDS))
        if done:
            self._head_made = keys.keys, revision
        return done
