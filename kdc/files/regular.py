"""Reading a small file whole, which has to be a regular one: a FIFO would hold us up for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kdc.errors import ConfigurationError, LocalIOError, local_error
from kdc.files.private import others_can_read

__all__ = ["read_regular"]


def read_regular(path: Path, most: int, *, private: bool = False) -> bytes:
    """Return the content, of which ``most`` bytes are allowed; raises `KDCError`.

    ``private``: refuse what others than its owner could read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise LocalIOError(f"{path} is no regular file")
            if private and others_can_read(path, mode):
                raise ConfigurationError(
                    f"{path} can be read by others than its owner", hint=f"chmod 600 {path}"
                )
            content = file.read(most + 1)
    except OSError as error:
        raise local_error(path, error) from None
    if len(content) > most:
        raise ConfigurationError(
            f"{path}: it is too long", hint=f"{most} bytes at most: is it the right file?"
        )
    return content
