"""The names that ``who`` has told last, for completion in the shell."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from kdc.errors import LocalIOError
from kdc.files.atomic import PartialFile

__all__ = ["default_path", "remember"]

_MOST = 1000


def default_path() -> Path:
    """Where the scripts of `kdc.commands.completion` look for it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "kdc" / "peers"


def remember(names: Iterable[str], path: Path | None = None) -> None:
    """Make ``names`` what is offered from now on.  Blocking; best effort: it is a comfort."""
    path = path or default_path()
    # RuntimeError: there is no home.
    with contextlib.suppress(OSError, LocalIOError, RuntimeError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = PartialFile(path)
        try:
            file.write([name.encode() + b"\n" for name in sorted(names)[:_MOST]])
            file.finish()
            file.show()
        finally:
            file.discard()
