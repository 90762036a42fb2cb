"""Whether long files that were kept are still as they came: read while their sender reads its own.

To read one through takes seconds for each few GiB.  What the sender is told of it is
what was written down when it came, so nobody has to wait before that is said; but
nothing is gone on with before it has been read.  Blocking; no Twisted.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from kdc.files.atomic import hashed

__all__ = ["Rereading"]

_PIECE_BYTES = 16 << 20


class Rereading:
    """Reads files in a thread of its own, one after the other.  `close` ends it."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._thread = ThreadPoolExecutor(1, "rereading")
        self._files: dict[str, tuple[int, Future[hashlib._Hash | None]]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def begin(self, name: str, fd: int, size: int) -> None:
        """Read the first ``size`` bytes of ``fd``, which is ours from now on."""
        self._files[name] = fd, self._thread.submit(self._read, fd, size)

    def take(self, name: str) -> tuple[int, hashlib._Hash | None] | None:
        """Wait for it; return the descriptor, behind what was read, and the digest of that.

        None if it was never begun; no digest if it is not there to be read.  Raises `OSError`.
        """
        if name not in self._files:
            return None
        fd, reading = self._files.pop(name)
        try:
            return fd, reading.result()
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        self._closed.set()
        self._thread.shutdown(cancel_futures=True)
        while self._files:
            os.close(self._files.popitem()[1][0])

    def _read(self, fd: int, size: int) -> hashlib._Hash | None:
        digest = hashlib.sha256()
        for at in range(0, size, _PIECE_BYTES):
            if self._closed.is_set():
                return None
            if hashed(fd, min(_PIECE_BYTES, size - at), digest) is None:
                return None
        return digest
