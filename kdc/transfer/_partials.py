"""What broken transfers leave in an inbox, until the same command comes again.

    DIR/.kdc-partial/SENDER-KEY/N/...
    DIR/.kdc-partial/SENDER-KEY/shown

KEY says what was offered.  "shown" is a note of what was shown to whom does not
know it yet, see `kdc.transfer.redelivery`.  Each attempt N begins with nothing and takes from
the earlier ones what the sender has recognised as its own.  So what was left
there and is not sent again never appears.  Blocking; no Twisted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator

from kdc.errors import LocalIOError
from kdc.files.atomic import sha256_of
from kdc.files.tree import Tree
from kdc.transfer.messages import Held, Offer

__all__ = ["DIRECTORY", "Place", "forget", "free_bytes", "key_of", "make_room", "tidy"]

DIRECTORY = ".kdc-partial"
KEEP_SECONDS = 7 * 24 * 3600.0
NOTE_SECONDS = 3600.0
_NOTE = "shown"
_MAX_NOTE_BYTES = 1 << 20
_MAX_KEPT_OF_ONE_SENDER = 8
_MAX_LISTED_BYTES = 8 << 20
_RESERVE_BYTES = 64 << 20
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def key_of(sender: str, offer: Offer) -> str:
    """The same for the same things from the same sender, whatever is in them."""
    digest = hashlib.sha256(b"kdc partial 1\0")
    for part in (sender, str(offer.more), str(offer.text), *offer.names):
        digest.update(part.encode() + b"\0")
    return f"{sender}-{digest.hexdigest()[:32]}"


def _open_root(inbox: int) -> int:
    """Return a descriptor of what nobody else may look into or plant things in."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(DIRECTORY, 0o700, dir_fd=inbox)
    root = os.open(DIRECTORY, _DIRECTORY_FLAGS, dir_fd=inbox)
    status = os.fstat(root)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(root)
        raise LocalIOError(
            f"{DIRECTORY} in the inbox is open to others or belongs to somebody else",
            hint="remove it, or choose an inbox that only you can write to",
        )
    return root


class Place:
    """Where one transfer is put together; nobody else uses it meanwhile.

    ``tree`` is this attempt's.  Methods raise `OSError` or `LocalIOError`.
    """

    def __init__(self, inbox: int, key: str) -> None:
        self._inbox = inbox
        self._root = _open_root(inbox)
        self.resumable = True
        self._name, self._fd = key, -1
        try:
            if not self._claim(key):
                # The same is arriving at this moment: beside it, and for this once.
                self.resumable = False
                self._claim(f"{key}.{secrets.token_hex(4)}")
            attempts = sorted(int(name) for name in os.listdir(self._fd) if name.isdigit())
            number = str(attempts[-1] + 1 if attempts else 1)
            os.mkdir(number, 0o700, dir_fd=self._fd)
            self.tree = self._attempt(number)
            self._earlier = [self._attempt(str(each)) for each in reversed(attempts)]
        except BaseException:
            os.close(self._root)
            if self._fd >= 0:
                os.close(self._fd)
            raise

    def held(self) -> list[Held]:
        """What earlier attempts have left: the largest first, and not without limit."""
        found: dict[tuple[str, ...], tuple[int, Tree]] = {}
        for tree in self._earlier:
            for parts, size in tree.files():
                if size and parts not in found:
                    found[parts] = size, tree
        listed, length = [], 0
        for parts, (size, tree) in sorted(found.items(), key=lambda each: -each[1][0]):
            digest = _digest(tree, parts, size)
            if digest is not None:
                held = Held("/".join(parts), size, digest)
                length += len(held.encode())
                if length > _MAX_LISTED_BYTES:
                    break
                listed.append(held)
        return listed

    def take_up(self, parts: tuple[str, ...], size: int, *, executable: bool) -> int:
        """Move a file that was held into this attempt, and open it behind ``size`` bytes."""
        for tree in self._earlier:
            try:
                fd = tree.reopen(parts)
            except FileNotFoundError:
                continue
            try:
                name, above = parts[-1], self.tree.directory(parts[:-1])
                if _exists(name, above):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                os.rename(name, name, src_dir_fd=tree.directory(parts[:-1]), dst_dir_fd=above)
                os.fchmod(fd, 0o700 if executable else 0o600)
                os.ftruncate(fd, size)
                os.lseek(fd, size, os.SEEK_SET)
            except BaseException:
                os.close(fd)
                raise
            return fd
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def note(self, text: bytes) -> None:
        """Remember what is about to be shown until `forget`, or for an hour.

        No wait for the disk: a power cut at that moment may lose it, and then the
        same is stored twice, as it is where nothing is noted.
        """
        if not self.resumable:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_NOTE, flags, 0o600, dir_fd=self._fd)
        with os.fdopen(fd, "wb") as file:
            file.write(text)

    def unnote(self) -> None:
        """It was not shown after all."""
        with contextlib.suppress(OSError):
            os.unlink(_NOTE, dir_fd=self._fd)

    def noted(self) -> bytes:
        """What was noted by the transfer before; nothing if there is no note, or an old one."""
        try:
            fd = os.open(_NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            return b""
        with os.fdopen(fd, "rb") as file:
            old = abs(time.time() - os.fstat(fd).st_mtime) > NOTE_SECONDS
            return b"" if old else file.read(_MAX_NOTE_BYTES)

    def leave(self, *, keep: bool) -> None:
        """Give it up; what is not kept for another attempt is gone."""
        for tree in (self.tree, *self._earlier):
            tree.close()
        with contextlib.suppress(OSError):
            if keep and self.resumable:
                os.utime(self._name, dir_fd=self._root, follow_symlinks=False)
            elif _exists(_NOTE, self._fd):
                for number in os.listdir(self._fd):
                    if number != _NOTE:
                        shutil.rmtree(number, dir_fd=self._fd)
            else:
                shutil.rmtree(self._name, dir_fd=self._root)
        os.close(self._fd)
        os.close(self._root)
        with contextlib.suppress(OSError):  # others may still use it: then it is not empty
            os.rmdir(DIRECTORY, dir_fd=self._inbox)

    def _claim(self, name: str) -> bool:
        """Make or find the directory and lock it; False if somebody has it."""
        for _ in range(100):
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=self._root)
                self._fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=self._root)
            except FileNotFoundError:
                self._reopen_root()
                continue
            if not _lock(self._fd):
                os.close(self._fd)
                self._fd = -1
                return False
            if _is_still(self._root, name, self._fd):
                self._name = name
                return True
            os.close(self._fd)  # it was removed between opening and locking it
            self._fd = -1
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _reopen_root(self) -> None:
        """Another transfer was the last one, and removed what we had opened."""
        os.close(self._root)
        self._root = _open_root(self._inbox)

    def _attempt(self, number: str) -> Tree:
        return Tree(os.open(number, _DIRECTORY_FLAGS, dir_fd=self._fd))


def forget(inbox: int, key: str) -> None:
    """Remove the note of what was shown; raises `OSError`."""
    with _existing_root(inbox) as root:
        if root is None:
            return
        fd = os.open(key, _DIRECTORY_FLAGS, dir_fd=root)
        try:
            if not _lock(fd):
                return  # the same arrives again, and decides about it
            os.unlink(_NOTE, dir_fd=fd)
            os.rmdir(key, dir_fd=root)  # unless an attempt is kept there
        finally:
            os.close(fd)
    os.rmdir(DIRECTORY, dir_fd=inbox)


def tidy(inbox: int, sender: str = "", *, now: float | None = None) -> None:
    """Remove what is too old, and of ``sender`` what is too much; raises `OSError`."""
    now = time.time() if now is None else now
    with _existing_root(inbox) as root:
        if root is None:
            return
        oldest_first = _oldest_first(root)
        own = [name for _, name in oldest_first if name.rpartition("-")[0] == sender]
        surplus = set(own[:-_MAX_KEPT_OF_ONE_SENDER])
        for changed, name in oldest_first:
            # A clock that was set back must not keep things for years.
            if abs(now - changed) > KEEP_SECONDS or name in surplus:
                _remove(root, name)


def make_room(inbox: int, wanted: int) -> None:
    """Remove what is kept, the oldest first, until there is room for ``wanted`` bytes.

    Raises `LocalIOError` if there is not so much even then.
    """
    with _existing_root(inbox) as root:
        for _, name in [] if root is None else _oldest_first(root):
            if free_bytes(inbox) >= wanted:
                return
            if root is not None:
                _remove(root, name)
    if free_bytes(inbox) < wanted:
        raise LocalIOError(os.strerror(errno.ENOSPC), hint="make room and try again")


@contextlib.contextmanager
def _existing_root(inbox: int) -> Iterator[int | None]:
    try:
        root = os.open(DIRECTORY, _DIRECTORY_FLAGS, dir_fd=inbox)
    except OSError:
        yield None
        return
    try:
        yield root
    finally:
        os.close(root)


def _oldest_first(root: int) -> list[tuple[float, str]]:
    found = []
    for name in os.listdir(root):
        with contextlib.suppress(FileNotFoundError):
            found.append((os.stat(name, dir_fd=root, follow_symlinks=False).st_mtime, name))
    return sorted(found)


def _remove(root: int, name: str) -> None:
    """Unless somebody is using it."""
    try:
        fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=root)
    except OSError:
        return
    try:
        if _lock(fd):
            shutil.rmtree(name, dir_fd=root, ignore_errors=True)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(root: int, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=root, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def free_bytes(directory: int) -> int:
    """How much may be stored there: a full disk stops more than a receiver, so not all of it."""
    status = os.fstatvfs(directory)
    reserve = min(_RESERVE_BYTES, status.f_blocks * status.f_frsize // 100)
    return max(status.f_bavail * status.f_frsize - reserve, 0)


def _digest(tree: Tree, parts: tuple[str, ...], size: int) -> str | None:
    try:
        fd = tree.reopen(parts)
    except OSError:
        return None
    try:
        return sha256_of(fd, size)
    finally:
        os.close(fd)
