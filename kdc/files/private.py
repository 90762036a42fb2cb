"""Small files of the user's, and whether a secret one is its owner's alone.

A path that was typed or configured must not stop the program: only a regular file is read,
and of it no more than it may be long.  A link is followed: secrets are mounted as links in
containers.  What somebody has opened for us on purpose, as ``<(command)`` in a shell does, is
waited for.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path, PurePath
from typing import BinaryIO

from kdc.errors import ConfigurationError, local_error
from kdc.hostile_text import shown

__all__ = ["open_regular", "others_can_read", "read_private", "read_small", "utf8"]

_MAX_SECRET = 4096
_OPENED_FOR_US = re.compile("/dev/null|/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")


def others_can_read(path: PurePath, mode: int) -> bool:
    """Whether a secret file of this mode is open to anybody but its owner.

    systemd lets a service read its credentials by an access control list, which
    shows as a readable group; their directory is the service's alone.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    is_credential = bool(directory) and path.parent == PurePath(str(directory))
    return bool(mode & (0o037 if is_credential else 0o077))


def open_regular(path: Path) -> BinaryIO:
    """Open it for reading; raises `OSError`, and `ConfigurationError` if it is no regular file.

    It never waits: not for who might write into a pipe, not for a device.
    """
    ours = _OPENED_FOR_US.fullmatch(str(path)) is not None
    wait = 0 if ours else os.O_NONBLOCK
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | wait), "rb")
    if not ours and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ConfigurationError(f"{shown(str(path), 4096)} is not a regular file")
    return file


def read_small(path: Path, most: int) -> bytes:
    """Return its content; raises `OSError`, and `ConfigurationError` if it is no such file."""
    with open_regular(path) as file:
        return _read(path, file, most)


def read_private(path: Path) -> bytes:
    """Read a small secret file; refuses one that others than its owner could read."""
    try:
        with open_regular(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and others_can_read(path, mode):
                raise ConfigurationError(
                    f"{shown(str(path), 4096)} can be read by others than its owner",
                    hint=f"chmod 600 {shlex.quote(str(path))}",
                )
            return _read(path, file, _MAX_SECRET)
    except OSError as error:
        raise local_error(path, error) from None


def utf8(content: bytes) -> str | None:
    """Return ``content`` as text; None if it is none.

    The error that Python raises for that holds all of it, which may be a secret, and would
    go along with whatever is raised instead.
    """
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _read(path: Path, file: BinaryIO, most: int) -> bytes:
    content = file.read(most + 1)
    if len(content) > most:
        raise ConfigurationError(f"{shown(str(path), 4096)} is too long: more than {most} bytes")
    return content
