"""What a directory tells of the files in it: who can change them, which are mounted there."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shlex
import stat
from pathlib import Path

from kdc.errors import ConfigurationError
from kdc.files.opening import open_regular
from kdc.hostile_text import shown

__all__ = ["check_directory", "mounted_alone", "owners_of"]

_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4  # proc_pid_mountinfo(5): which field it is
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def owners_of(path: Path) -> frozenset[int]:
    """Who may change what is at ``path``, by their numbers: root, we, and its owner."""
    owners = {0, os.geteuid()}
    with contextlib.suppress(OSError):
        owners.add(os.lstat(path).st_uid)
    return frozenset(owners)


def check_directory(path: Path) -> None:
    """Refuse to use ``path`` if others than its owners could put another file there.

    Raises `ConfigurationError`.  A directory that cannot be looked at is left to
    whoever opens something in it.
    """
    try:
        status = path.parent.stat()
    except OSError:
        return
    directory = str(path.parent)
    named = f"the directory of {path.name}, {shown(directory, 4096)},"
    if status.st_uid not in owners_of(path):
        raise ConfigurationError(
            f"{named} belongs to another user (uid {status.st_uid}),"
            " who could put another one in its place",
            hint=f"do it as that user, or give {path.name} a directory of your own",
        )
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if _is_private(status):
        others &= ~stat.S_IWGRP
    if others:
        # In one with the sticky bit, as /tmp, each has room for his own.
        hint = f"chmod go-w {shlex.quote(directory)}, if nobody was there yet"
        if status.st_mode & stat.S_ISVTX:
            hint = f"give {path.name} a directory of its own, of mode 700"
        raise ConfigurationError(
            f"{named} can be written by others, who could put another one in its place", hint=hint
        )


def mounted_alone(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether a file was mounted at ``path`` by itself, as containers do with single files.

    What is renamed to its name, or made beside it, never reaches the place that it comes
    from.  False where the system does not tell.
    """
    try:
        with os.fdopen(open_regular(mounts), "rb") as lines:
            points = [line.split(b" ")[_MOUNT_POINT] for line in lines]
    except OSError:
        return False
    # Not `Path.resolve`, which has an error of its own for links that go round.
    wanted = os.fsencode(os.path.join(os.path.realpath(path.parent), path.name))
    return any(_ESCAPED.sub(_character, point) == wanted for point in points)


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)])


def _is_private(status: os.stat_result) -> bool:
    """Whether its group is its owner's own, as many systems make one for each user."""
    try:
        user, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    own = user.pw_gid == status.st_gid and group.gr_name == user.pw_name
    return own and not {*group.gr_mem} - {user.pw_name}
