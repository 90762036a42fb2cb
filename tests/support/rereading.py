"""What was kept of a long file, read when a test says so."""

from __future__ import annotations

from kdc.transfer._rereading import KeptDigest, Rereading

__all__ = ["ReadLater"]


class ReadLater(Rereading):
    """In the place of threads that begin at once."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[KeptDigest] = []

    def begin(self, fd: int, size: int, sha256: str) -> KeptDigest:
        self._waiting.append(KeptDigest(fd, size, sha256, self._stopped))
        return self._waiting[-1]

    def read(self) -> None:
        """Read all that has been begun, as far as there is something of it."""
        while self._waiting:
            self._waiting.pop(0).run()

    def close(self) -> None:
        super().close()
        self.read()
