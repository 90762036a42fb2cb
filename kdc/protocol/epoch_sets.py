"""The epochs of a receiver at several KDCs of its realm: a current one at each.

docs/protocol.md section 4.2: to which KDC an epoch belongs, nobody on the channel can tell, and
nothing depends on it.
"""

from __future__ import annotations

from kdc.protocol.handshake import Epoch, Epochs, HeldEpochs

__all__ = ["EpochSets"]


class EpochSets(HeldEpochs):
    """``count`` `Epochs`, each kept by whoever deals with that KDC; what any holds is held."""

    def __init__(self, count: int) -> None:
        self.each = tuple(Epochs() for _ in range(count))

    def clear(self) -> None:
        """Forget every key at once: somebody else receives under our name."""
        for epochs in self.each:
            epochs.clear()

    def due(self, now_milliseconds: int) -> bool:
        return any(epochs.due(now_milliseconds) for epochs in self.each)

    def _living(self) -> list[Epoch]:
        return [epoch for epochs in self.each for epoch in epochs._living()]

    def _forget(self, now_milliseconds: int) -> None:
        for epochs in self.each:
            epochs._forget(now_milliseconds)
