"""What broken transfers leave in an inbox, until the same command comes again.

    DIR/.kdc-partial/SENDER-KEY/N/...
    DIR/.kdc-partial/SENDER-KEY/N.received
    DIR/.kdc-partial/SENDER-KEY/showing, or shown

KEY says what was offered.  N.received says what has come of each item in the
attempt N, see `kdc.transfer._receipts`.  "shown" is a note that it was shown to
whom does not know it yet, see `kdc.transfer.redelivery`; "showing" that it was
about to be.  Each attempt N begins with nothing and takes from the earlier ones
what the sender has recognised as its own.  So what was left there and is not
sent again never appears.  Blocking; no Twisted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Mapping

import attrs

from kdc.files.atomic import hashed, sha256_of
from kdc.files.opening import open_regular
from kdc.files.tree import Tree, remove_tree
from kdc.transfer._digest import Digest
from kdc.transfer._parts import (
    DIRECTORY,
    DIRECTORY_FLAGS,
    existing_root,
    exists,
    is_still,
    lock,
    open_root,
)
from kdc.transfer._receipts import Receipt, Receipts, read_receipts
from kdc.transfer._rereading import LONG_BYTES, KeptDigest, Rereading
from kdc.transfer.deposit import NOT_WHAT_CAME, Anew
from kdc.transfer.messages import MAX_HELD_BYTES, Held
from kdc.transfer.names import safe_path

__all__ = ["NOTE_SECONDS", "Note", "Place", "forget"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # follows no link either
_RECEIPTS = ".received"
NOTE_SECONDS = 3600.0
_SHOWING, _SHOWN = "showing", "shown"
_MAX_NOTE_BYTES = 1 << 20
_MAX_ATTEMPTS = 16
_MOST_LONG = 4  # each is two descriptors and a thread


@attrs.frozen
class Note:
    """What was shown: the top-level names with their inodes, and all that had come by then.

    ``process`` is what the one who noted it called itself.
    """

    process: str
    tops: Mapping[str, int]
    receipts: Mapping[str, Receipt]


class Place:
    """Where one transfer is put together; nobody else uses it meanwhile.

    ``tree`` and ``receipts`` are this attempt's.  What is held of files of ``long_bytes`` or
    more is read while they are gone on with.  Methods raise `OSError` or `LocalIOError`.
    """

    def __init__(
        self,
        inbox: int,
        key: str,
        *,
        long_bytes: int = LONG_BYTES,
        rereading: Callable[[], Rereading] = Rereading,
    ) -> None:
        self._inbox = inbox
        self._root = open_root(inbox)
        self.resumable = True
        self._name, self._fd = key, -1
        self._found: dict[str, tuple[int, Receipt]] = {}
        self._earlier: tuple[int, Tree] | None = None
        self._long_bytes = long_bytes
        self._rereading = rereading()
        self._kept: dict[str, tuple[int, KeptDigest]] = {}
        try:
            if not self._claim(key):
                # The same is arriving at this moment: beside it, and for this once.
                self.resumable = False
                self._claim(f"{key}.{secrets.token_hex(4)}")
            attempts = self._attempts()
            self._number = attempts[-1] + 1 if attempts else 1
            for number in attempts[:-_MAX_ATTEMPTS]:
                self._remove_attempt(number)
            self._begin()
        except BaseException:
            os.close(self._root)
            if self._fd >= 0:
                os.close(self._fd)
            raise

    def _begin(self) -> None:
        os.mkdir(str(self._number), 0o700, dir_fd=self._fd)
        file = os.open(f"{self._number}{_RECEIPTS}", _NEW, 0o600, dir_fd=self._fd)
        self.receipts = Receipts(file)
        self.tree = self._attempt(self._number)

    def held(self, most: int | None) -> list[Held]:
        """What has come in earlier attempts and is still so: the largest first, with a limit.

        Of each name only the newest stays, and no attempt that is older than
        ``most`` bytes: however often a sender begins anew, it does not fill the disk.
        """
        total = 0
        for number in reversed(self._attempts()):
            if most is not None and total > most:
                self._remove_attempt(number)
                continue
            for name, receipt in self._received(number).items():
                if name in self._found:
                    self._remove_file(number, name)
                elif receipt.size:
                    self._found[name] = number, receipt
                    total += receipt.size
        listed, length = [], 0
        for number, receipt in sorted(self._found.values(), key=lambda each: -each[1].size):
            if self._may_be_still(number, receipt):
                length += len(receipt.held.encode())
                if length > MAX_HELD_BYTES:
                    break
                listed.append(receipt.held)
        return listed

    def take_up(self, parts: tuple[str, ...], size: int, mode: int) -> tuple[int, Digest]:
        """Move a file that was held into this attempt, and open it behind ``size`` bytes.

        Return its descriptor, and the digest of what is before it to go on with; of a long
        file whether that is what came is told later.
        """
        number, receipt = self._found.get("/".join(parts), (0, None))
        if receipt is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        tree = self._earlier_tree(number)
        fd, digest = self._reopened(number, parts, receipt, size)
        try:
            name, above = parts[-1], self.tree.directory(parts[:-1])
            if exists(name, above):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(name, name, src_dir_fd=tree.directory(parts[:-1]), dst_dir_fd=above)
            # It was made under the umask: nothing is added to that but what is the owner's.
            before = stat.S_IMODE(os.fstat(fd).st_mode)
            with contextlib.suppress(OSError):  # where there are no permissions to keep
                os.fchmod(fd, before & mode | 0o600 | mode & 0o100)
            os.ftruncate(fd, size)
        except BaseException:
            os.close(fd)
            raise
        return fd, digest

    def _reopened(
        self, number: int, parts: tuple[str, ...], receipt: Receipt, size: int
    ) -> tuple[int, Digest]:
        """Open it behind ``size`` bytes; raises `Anew` if they are known not to be what came."""
        # The same file is gone on with that is read, whatever has its name now.
        fd, kept = self._kept.pop(receipt.name, (-1, None))
        if kept is None:
            fd = self._earlier_tree(number).reopen(parts)
        try:
            if kept is not None and size == receipt.size:
                os.lseek(fd, size, os.SEEK_SET)
                return fd, kept
            if kept is not None and not kept.is_what_came():
                self._remove_file(number, receipt.name)  # or it would be told of again
                raise Anew(NOT_WHAT_CAME)
            digest = hashed(fd, size)
            if digest is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except BaseException:
            os.close(fd)
            raise
        return fd, Digest(digest, size)

    def note(self, process: str, tops: Iterable[str]) -> None:
        """Remember what is about to be shown until `forget`, or for an hour.

        No wait for the disk: a power cut at that moment may lose it, and then the
        same is stored twice, as it is where nothing is noted.
        """
        if not self.resumable or not self.receipts.complete:
            return
        top = self.tree.directory(())
        inodes = {name: os.stat(name, dir_fd=top).st_ino for name in tops}
        text = json.dumps({"process": process, "attempt": self._number, "tops": inodes})
        if len(text) > _MAX_NOTE_BYTES:
            return
        self.receipts.flush()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(open_regular(_SHOWING, flags, dir_fd=self._fd), "wb") as file:
            file.write(text.encode())

    def shown(self) -> None:
        """What was noted is true now."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(_SHOWING, _SHOWN, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unnote(self) -> None:
        """It was not shown after all, or is of no use any more."""
        for name in (_SHOWING, _SHOWN):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)

    def noted(self) -> Note | None:
        """What was noted by the transfer before, and is not older than an hour."""
        try:
            process, number, tops = self._read_note()
            entries = self._received(number)
        except (OSError, ValueError):
            return None
        if (
            not all(receipt.whole for receipt in entries.values())
            or not tops.keys() <= entries.keys()
        ):
            return None
        return Note(process, tops, entries)

    def leave(self, *, keep: bool) -> None:
        """Give it up; what is not kept for another attempt is gone."""
        self.receipts.close()
        self._rereading.close()
        for fd, _ in self._kept.values():
            os.close(fd)
        self.tree.close()
        if self._earlier is not None:
            self._earlier[1].close()
        with contextlib.suppress(OSError, ValueError):
            if keep and self.resumable:
                os.utime(self._name, dir_fd=self._root, follow_symlinks=False)
            elif exists(_SHOWN, self._fd):
                _, noted, _ = self._read_note()
                for number in self._attempts():
                    self._remove_attempt(number, receipts=number != noted)
            else:
                remove_tree(self._name, self._root)
        os.close(self._fd)
        os.close(self._root)
        with contextlib.suppress(OSError):  # others may still use it: then it is not empty
            os.rmdir(DIRECTORY, dir_fd=self._inbox)

    def _read_note(self) -> tuple[str, int, dict[str, int]]:
        """Raises `OSError` if there is none, and `ValueError` if it is not good."""
        if not exists(_SHOWN, self._fd) and self._has_been_shown():
            self.shown()
        with os.fdopen(open_regular(_SHOWN, dir_fd=self._fd), "rb") as file:
            if abs(time.time() - os.fstat(file.fileno()).st_mtime) > NOTE_SECONDS:
                raise FileNotFoundError
            return _note_of(file.read(_MAX_NOTE_BYTES))

    def _has_been_shown(self) -> bool:
        """Whoever noted it was killed, before or behind the moment: what is not here is there."""
        with os.fdopen(open_regular(_SHOWING, dir_fd=self._fd), "rb") as file:
            _, number, tops = _note_of(file.read(_MAX_NOTE_BYTES))
        tree = os.open(str(number), DIRECTORY_FLAGS, dir_fd=self._fd)
        try:
            return not any(exists(name, tree) for name in tops)
        finally:
            os.close(tree)

    def _attempts(self) -> list[int]:
        names = {name.removesuffix(_RECEIPTS) for name in os.listdir(self._fd)}
        return sorted(int(name) for name in names if name.isdecimal())

    def _received(self, number: int) -> dict[str, Receipt]:
        try:
            fd = open_regular(f"{number}{_RECEIPTS}", dir_fd=self._fd)
        except FileNotFoundError:
            return {}
        try:
            return read_receipts(fd)
        finally:
            os.close(fd)

    def _may_be_still(self, number: int, receipt: Receipt) -> bool:
        """Whether there is what has come: otherwise it is not gone on with.

        Of few long files only whether there is so much; what is in it is read from now on.
        """
        try:
            fd = self._earlier_tree(number).reopen(safe_path(receipt.name))
        except OSError:
            return False
        is_long = self._long_bytes <= receipt.size <= os.fstat(fd).st_size
        if is_long and len(self._kept) < _MOST_LONG:
            digest = self._rereading.begin(os.dup(fd), receipt.size, receipt.sha256)
            self._kept[receipt.name] = fd, digest
            return True
        try:
            return sha256_of(fd, receipt.size) == receipt.sha256
        finally:
            os.close(fd)

    def _earlier_tree(self, number: int) -> Tree:
        if self._earlier is None or self._earlier[0] != number:
            if self._earlier is not None:
                self._earlier[1].close()
                self._earlier = None
            self._earlier = number, self._attempt(number)
        return self._earlier[1]

    def _remove_file(self, number: int, name: str) -> None:
        parts = safe_path(name)
        with contextlib.suppress(OSError):  # it has mostly been taken up
            os.unlink(parts[-1], dir_fd=self._earlier_tree(number).directory(parts[:-1]))

    def _remove_attempt(self, number: int, *, receipts: bool = True) -> None:
        with contextlib.suppress(FileNotFoundError):
            remove_tree(str(number), self._fd)
        if receipts:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{number}{_RECEIPTS}", dir_fd=self._fd)

    def _claim(self, name: str) -> bool:
        """Make or find the directory and lock it; False if somebody has it."""
        for _ in range(100):
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=self._root)
                self._fd = os.open(name, DIRECTORY_FLAGS, dir_fd=self._root)
            except FileNotFoundError:
                self._reopen_root()
                continue
            if not lock(self._fd):
                os.close(self._fd)
                self._fd = -1
                return False
            if is_still(self._root, name, self._fd):
                self._name = name
                return True
            os.close(self._fd)  # it was removed between opening and locking it
            self._fd = -1
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _reopen_root(self) -> None:
        """Another transfer was the last one, and removed what we had opened."""
        os.close(self._root)
        self._root = open_root(self._inbox)

    def _attempt(self, number: int) -> Tree:
        return Tree(os.open(str(number), DIRECTORY_FLAGS, dir_fd=self._fd))


def _note_of(text: bytes) -> tuple[str, int, dict[str, int]]:
    """Raises `ValueError` if it is none."""
    try:
        note = json.loads(text)
        tops = {str(name): int(inode) for name, inode in note["tops"].items()}
        return str(note["process"]), int(note["attempt"]), tops
    except (TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("not a note") from None


def forget(inbox: int, key: str) -> None:
    """Remove the note of what was shown; raises `OSError`."""
    with existing_root(inbox) as root:
        if root is None:
            return
        fd = os.open(key, DIRECTORY_FLAGS, dir_fd=root)
        try:
            if not lock(fd):
                return  # the same arrives again, and decides about it
            for name in os.listdir(fd):
                if name == _SHOWN or name.endswith(_RECEIPTS):
                    os.unlink(name, dir_fd=fd)
            os.rmdir(key, dir_fd=root)  # unless an attempt is kept there
        finally:
            os.close(fd)
    os.rmdir(DIRECTORY, dir_fd=inbox)
