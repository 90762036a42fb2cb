"""What a receiver says that it has already, as far as a sender believes and keeps it.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kdc.errors import malformed
from kdc.transfer.messages import Held, Offer, Remark, remark_of

__all__ = ["HeldByReceiver"]

# Twice of what our own receiver says at most.
MAX_ANSWER_BYTES = 16 << 20
_MAX_ENTRIES = 100_000


class HeldByReceiver:
    """Keeps no more than what was offered can be: the receiver chooses what it says.

    A receiver may have more than is offered this time, from a transfer before;
    that is passed over.  Methods raise `RemoteProtocolError`.
    """

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._most = min(_MAX_ENTRIES, _MAX_ENTRIES if offer.items is None else offer.items)
        self._held: dict[str, Held] = {}
        self._remarks: set[Remark] = set()
        self._arrived = 0

    @property
    def of(self) -> Mapping[str, Held]:
        """By their names."""
        return self._held

    @property
    def remarks(self) -> frozenset[Remark]:
        """What it says of itself, of what is known here."""
        return frozenset(self._remarks)

    def arrived(self, count: int) -> None:
        """So many bytes more of answers have come."""
        self._arrived += count
        if self._arrived > MAX_ANSWER_BYTES:
            raise malformed(f"more than {MAX_ANSWER_BYTES} bytes about what is there already")

    def add(self, held: Held) -> None:
        """Keep it, if it can be of use."""
        remark = remark_of(held)
        if remark is not None:
            self._remarks |= {each for each in Remark if each.value == remark}
            return
        offer = self._offer
        top = held.name.partition("/")[0]
        if len(self._held) < self._most and (offer.more or top in offer.names):
            self._held[held.name] = held
