"""The generation file: the highest generation this store is known to have had.

It shows that a backup was put back.  So it belongs where a backup of the store
does not reach; see docs/store.md.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable

from kdc.store import StoreError
from kdc.store.sealed.files import Files, read_whole, replace

__all__ = ["KeptGeneration"]

_FORMAT = "kdc-generation:1"
_CONTENT = re.compile(rb"(kdc-generation:1:([0-9a-f]{16}):([0-9]{19}):)([0-9a-f]{8}):\n")


class KeptGeneration:
    """One number in one file, overwritten in place after each change.

    It is written after the change is durable, and reaches the disk some time
    later: it may be behind the store after a power cut, never ahead of it.
    """

    def __init__(self, files: Files, path: str, store_id: str) -> None:
        self._files = files
        self._path = path
        self._store_id = store_id
        self._fd = -1

    @classmethod
    def read(cls, files: Files, path: str, store_id: str) -> int | None:
        """Return the number, or None if there is no file.

        Raises `StoreError` if the file is damaged or of another store; `OSError`.
        """
        content = cls.content(files, path)
        return None if content is None else cls.parse(content, path, store_id)

    @staticmethod
    def content(files: Files, path: str) -> bytes | None:
        """Return the file as it is, for `parse`.  Raises `OSError`."""
        try:
            return read_whole(files, path)
        except FileNotFoundError:
            return None

    @staticmethod
    def parse(content: bytes, path: str, store_id: str) -> int:
        """Return the number in ``content``; raises `StoreError`."""
        match = _CONTENT.fullmatch(content)
        if match is None or zlib.crc32(match[1]) != int(match[4], 16):
            raise StoreError(
                f"{path} is damaged: it does not tell how far the store had come",
                hint="compare the store with its last backup, then remove the file",
            )
        if match[2].decode() != store_id:
            raise StoreError(
                f"{path} belongs to store {match[2].decode()}, not to {store_id}",
                hint="is this the pwd.txt you meant? Each store needs a generation file of its own",
            )
        return int(match[3])

    def start(self, generation: int, rename: Callable[[str, str], None] | None = None) -> None:
        """Make the file hold ``generation``, durably, and keep it open.  Raises `OSError`."""
        replace(self._files, self._path, self._content(generation), rename)
        self._fd = self._files.open(self._path, os.O_WRONLY)

    def advance(self, generation: int, rename: Callable[[str, str], None]) -> None:
        """Overwrite the number: one small write, no wait.  Raises `OSError`.

        The first time the file is made anew, and ``rename`` gives it its name.
        """
        if self._fd < 0:
            self.start(generation, rename)
            return
        self._files.pwrite(self._fd, self._content(generation), 0)

    def sync(self) -> None:
        """Wait until the number is on the disk.  Raises `OSError`."""
        if self._fd >= 0:
            self._files.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._files.close(fd)

    def _content(self, generation: int) -> bytes:
        # Always of one length: it is overwritten in place, and less than a sector.
        text = f"{_FORMAT}:{self._store_id}:{generation:019d}:".encode()
        return text + b"%08x:\n" % zlib.crc32(text)
