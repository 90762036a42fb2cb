"""The directory in an inbox where things are put together: nobody else's, and one use at a time.

Blocking; no Twisted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator

from kdc.errors import LocalIOError
from kdc.transfer.messages import Offer

__all__ = [
    "DIRECTORY",
    "DIRECTORY_FLAGS",
    "existing_root",
    "exists",
    "is_still",
    "key_of",
    "lock",
    "open_root",
]

DIRECTORY = ".kdc-partial"
_TRIES = 100
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def key_of(sender: str, offer: Offer) -> str:
    """The same for the same things from the same sender, whatever is in them."""
    digest = hashlib.sha256(b"kdc partial 1\0")
    for part in (sender, str(offer.more), str(offer.text), *offer.names):
        digest.update(part.encode() + b"\0")
    return f"{sender}-{digest.hexdigest()[:32]}"


def open_root(inbox: int) -> int:
    """Return a descriptor of what nobody else may look into or plant things in."""
    root, made = _made_or_found(inbox)
    status = os.fstat(root)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        if status.st_uid == os.geteuid() and _has_no_modes(root):
            return root
        os.close(root)
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(DIRECTORY, dir_fd=inbox)
        raise LocalIOError(
            f"{DIRECTORY} in the inbox is open to others or belongs to somebody else",
            hint="remove it, or choose an inbox that only you can write to",
        )
    return root


def _made_or_found(inbox: int) -> tuple[int, bool]:
    """Raises `OSError`."""
    for _ in range(_TRIES):
        made = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o700, dir_fd=inbox)
            made = True
        # Another transfer that was the last one may have removed what we found.
        with contextlib.suppress(FileNotFoundError):
            return os.open(DIRECTORY, DIRECTORY_FLAGS, dir_fd=inbox), made
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _has_no_modes(root: int) -> bool:
    """Whether the file system gives its own modes to all, as FAT does, none to write for others.

    Then others can read there what they can read in the inbox, and plant nothing.
    """
    name = secrets.token_hex(8)
    mode = stat.S_IMODE(os.fstat(root).st_mode)
    if mode & 0o022:
        return False
    os.mkdir(name, 0o700, dir_fd=root)
    try:
        return stat.S_IMODE(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode) == mode
    finally:
        os.rmdir(name, dir_fd=root)


@contextlib.contextmanager
def existing_root(inbox: int) -> Iterator[int | None]:
    try:
        root = os.open(DIRECTORY, DIRECTORY_FLAGS, dir_fd=inbox)
    except OSError:
        yield None
        return
    try:
        yield root
    finally:
        os.close(root)


def lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_still(root: int, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=root, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
