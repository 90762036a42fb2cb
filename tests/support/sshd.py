"""What sshd wants of whoever starts it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SkipTest

__all__ = ["account", "privately"]

_OWN_RUN = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd"
_SHADOW = Path("/etc/shadow")


def account() -> str:
    """Who we are, whatever the environment says; raises `SkipTest` if sshd lets nobody be that.

    Without PAM it refuses an account whose password is locked, and looks at it as root only.
    """
    name = pwd.getpwuid(os.getuid()).pw_name
    if os.geteuid() == 0 and _SHADOW.exists():
        for line in _SHADOW.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(f"{name}:!"):
                raise SkipTest(f"the account of {name} is locked here, and sshd would refuse it")
    return name


def privately(serve: Iterable[str]) -> tuple[str, ...]:
    """As root it wants /run/sshd: it gets one that nobody else on this machine sees."""
    if os.geteuid() != 0 or Path("/run/sshd").is_dir():
        return tuple(serve)
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", _OWN_RUN], check=False)
    if tried.returncode:
        raise SkipTest("sshd has no /run/sshd, and may not have one of its own")
    return ("unshare", "--mount", "sh", "-c", f'{_OWN_RUN} && exec "$0" "$@"', *serve)
