"""Small files that the user names, and whether a secret one is its owner's alone.

A path that was typed or configured must not stop the program: see `open_regular`, and of
a file no more is read than it may be long.  Links are followed: secrets are mounted as links
in containers.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path, PurePath

from kdc.errors import ConfigurationError, local_error
from kdc.files.opening import open_regular
from kdc.hostile_text import shown

__all__ = ["others_can_read", "read_private", "read_small", "utf8"]

_MAX_SECRET = 4096


def others_can_read(path: PurePath, mode: int) -> bool:
    """Whether a secret file of this mode is open to anybody but its owner.

    systemd lets a service read its credentials by an access control list, which
    shows as a readable group; their directory is the service's alone.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    is_credential = bool(directory) and path.parent == PurePath(str(directory))
    return bool(mode & (0o037 if is_credential else 0o077))


def read_small(path: Path, most: int, *, missing: bytes | None = None) -> bytes:
    """Return its content, ``missing`` if that is given and there is no such file.

    Raises `LocalIOError`, and `ConfigurationError` for a file with more than
    ``most`` bytes.
    """
    return _read(path, most, missing=missing)


def read_private(path: Path, most: int = _MAX_SECRET) -> bytes:
    """As `read_small`, of a secret file; one that others than its owner could read is refused."""
    return _read(path, most, private=True)


def _read(path: Path, most: int, *, private: bool = False, missing: bytes | None = None) -> bytes:
    try:
        with os.fdopen(open_regular(path, follow=True), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if private and stat.S_ISREG(mode) and others_can_read(path, mode):
                raise ConfigurationError(
                    f"{shown(str(path), 4096)} can be read by others than its owner",
                    hint=f"chmod 600 {shlex.quote(str(path))}",
                )
            content = file.read(most + 1)
    except FileNotFoundError as error:
        if missing is None:
            raise local_error(path, error) from None
        return missing
    except OSError as error:
        raise local_error(path, error) from None
    if len(content) > most:
        raise ConfigurationError(
            f"{shown(str(path), 4096)}: it is too long: more than {most} bytes",
            hint="is it the right file?",
        )
    return content


def utf8(content: bytes) -> str | None:
    """Return ``content`` as text; None if it is none.

    The error that Python raises for that holds all of it, which may be a secret, and would
    go along with whatever is raised instead.
    """
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
