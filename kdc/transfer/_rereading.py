"""What was kept of long files is read again while they are gone on with, not before.

To read one through takes seconds for each few GiB, at both ends.  Nobody waits for
that: what follows is sent and written meanwhile.  But no file counts as sent, and
none is shown, before what was kept of it has been found to be what it has to be.
Blocking; no Twisted.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Sequence

from kdc.transfer._digest import Digest

__all__ = ["LONG_BYTES", "KeptDigest", "Rereading"]

LONG_BYTES = 64 << 20  # less is read in a moment
_BLOCK_BYTES = 1 << 20


class KeptDigest(Digest):
    """Of a file of which ``size`` bytes were kept that had the digest ``sha256`` when they came.

    What is added is in the file already.  It is hashed by itself, and read again behind
    what was kept: so the digest is of what came, whoever else may write into that file.
    `run` does the reading and takes ``fd`` over; all else another thread calls.
    """

    def __init__(self, fd: int, size: int, sha256: str, stopped: threading.Event) -> None:
        super().__init__()
        self._fd = fd
        self._kept = self._read = size, sha256
        self._stopped = stopped
        self._added: deque[tuple[int, str]] = deque()
        self._lock = threading.Lock()  # of the two below it, as to whose the next piece is
        self._caught_up = False
        self._wrong = False
        self._error: OSError | None = None
        self._over = threading.Event()

    def add(self, pieces: Sequence[bytes | memoryview]) -> None:
        if not self._caught_up:
            digest = hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
            with self._lock:
                if not self._caught_up:
                    self._added.append((sum(map(len, pieces)), digest.hexdigest()))
                    return
        super().add(pieces)

    @property
    def reached(self) -> tuple[int, str]:
        """As far as it has been read; until then what was noted of what was kept."""
        return super().reached if self._caught_up else self._read

    @property
    def is_behind(self) -> bool:
        return not self._caught_up

    @property
    def is_wrong(self) -> bool:
        return self._wrong

    def is_what_came(self) -> bool:
        """Wait until all has been read; raises `OSError`.  False also if it was stopped."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._caught_up

    def run(self) -> None:
        try:
            good = self._read_kept() and self._read_added()
            self._wrong = not good and not self._stopped.is_set()
        except OSError as error:
            self._error = error
        finally:
            os.close(self._fd)
            self._over.set()

    def _read_kept(self) -> bool:
        size, sha256 = self._kept
        return self._hashed(size, None) and self._sha256.hexdigest() == sha256

    def _read_added(self) -> bool:
        while True:
            with self._lock:
                if not self._added:
                    self._caught_up = True
                    return True
                count, sha256 = self._added.popleft()
            piece = hashlib.sha256()
            if not self._hashed(count, piece) or piece.hexdigest() != sha256:
                return False
            self._read = super().reached

    def _hashed(self, count: int, piece: hashlib._Hash | None) -> bool:
        """Whether so many bytes more are there; False if it is stopped."""
        while count:
            # Not where the descriptor is: others write there.
            data = os.pread(self._fd, min(count, _BLOCK_BYTES), self._size)
            if self._stopped.is_set() or not data:
                return False
            super().add((data,))
            if piece is not None:
                piece.update(data)
            count -= len(data)
        return True


class Rereading:
    """Reads files one after the other, in threads of its own.  `close` ends it."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []

    def begin(self, fd: int, size: int, sha256: str) -> KeptDigest:
        """Read ``fd``, which is taken over, and whose first ``size`` bytes had that digest."""
        kept = KeptDigest(fd, size, sha256, self._stopped)
        thread = threading.Thread(target=self._run, args=(kept,), name="rereading", daemon=True)
        self._threads.append(thread)
        thread.start()
        return kept

    def stop(self) -> None:
        """Have whoever waits go on, with nothing; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        self.stop()
        for thread in self._threads:
            thread.join()

    def _run(self, kept: KeptDigest) -> None:
        with self._turn:
            kept.run()
