"""Files with secrets for other programs: whole, and their owner's alone."""

from __future__ import annotations

from pathlib import Path

from kdc.files.atomic import PartialFile

__all__ = ["write_private"]


def write_private(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of ``path``, readable by its owner only.

    Cut short, what was there is as it was.  Raises `LocalIOError`.
    """
    file = PartialFile(path)
    try:
        file.write([content])
        file.finish()
        file.show()
    finally:
        file.discard()
