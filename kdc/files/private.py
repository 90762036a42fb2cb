"""Whether a secret file is its owner's alone."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path, PurePath

from kdc.errors import ConfigurationError, local_error
from kdc.hostile_text import shown

__all__ = ["others_can_read", "read_private"]


def others_can_read(path: PurePath, mode: int) -> bool:
    """Whether a secret file of this mode is open to anybody but its owner.

    systemd lets a service read its credentials by an access control list, which
    shows as a readable group; their directory is the service's alone.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    is_credential = bool(directory) and path.parent == PurePath(str(directory))
    return bool(mode & (0o037 if is_credential else 0o077))


_MAX_FILE = 4096


def read_private(path: Path) -> bytes:
    """Read a small secret file; refuses one that others than its owner could read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if stat.S_ISREG(mode) and others_can_read(path, mode):
                raise ConfigurationError(
                    f"{shown(str(path), 4096)} can be read by others than its owner",
                    hint=f"chmod 600 {shlex.quote(str(path))}",
                )
            content = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise local_error(path, error) from None
    if len(content) > _MAX_FILE:
        raise ConfigurationError(f"{shown(str(path), 4096)} is too long for a secret")
    return content
