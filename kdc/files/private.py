"""Whether a secret file is its owner's alone."""

from __future__ import annotations

import os
from pathlib import PurePath

__all__ = ["others_can_read"]


def others_can_read(path: PurePath, mode: int) -> bool:
    """Whether a secret file of this mode is open to anybody but its owner.

    systemd lets a service read its credentials by an access control list, which
    shows as a readable group; their directory is the service's alone.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    is_credential = bool(directory) and path.parent == PurePath(str(directory))
    return bool(mode & (0o037 if is_credential else 0o077))
