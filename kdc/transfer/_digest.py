"""The digest of a file that arrives, as far as it has come.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["Digest"]


class Digest:
    """Of all that was added, behind what ``begun`` is the digest of: so many bytes."""

    def __init__(self, begun: hashlib._Hash | None = None, size: int = 0) -> None:
        self._sha256 = hashlib.sha256() if begun is None else begun
        self._size = size

    def add(self, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            self._sha256.update(piece)
            self._size += len(piece)

    @property
    def reached(self) -> tuple[int, str]:
        """How many bytes it is of, and what it is in hexadecimal."""
        return self._size, self._sha256.hexdigest()

    @property
    def is_behind(self) -> bool:
        """Whether what is added is read from the file once more."""
        return False

    @property
    def is_wrong(self) -> bool:
        """Whether it is known that what was kept is not what came."""
        return False

    def is_what_came(self) -> bool:
        return True
