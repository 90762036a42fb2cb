"""Connections that have proved nothing yet, and who has to go when there are too many."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from kdc.limits import ConnectionLimiter

__all__ = ["DISPLACED_SECONDS", "Newcomer", "Newcomers"]

# A burst of connections is taken before what they sent is read: a moment more, for so many.
DISPLACED_SECONDS = 0.5
_MAX_DISPLACED = 64


class Newcomer(Protocol):
    """One of them."""

    def displaced(self) -> None:
        """Your place is another's: prove within `DISPLACED_SECONDS`, or go."""

    def crowded_out(self) -> None:
        """Go now."""


T = TypeVar("T", bound=Newcomer)


class Newcomers(Generic[T]):
    """Counts them by ``limiter``; who has to go for a newcomer has a moment to prove himself."""

    def __init__(self, limiter: ConnectionLimiter[T]) -> None:
        self.limiter = limiter
        self._displaced: dict[T, None] = {}

    def admit(self, newcomer: T, address: str) -> None:
        displaced = self.limiter.admit(newcomer, address)
        if displaced is None:
            return
        self._displaced[displaced] = None
        displaced.displaced()
        if len(self._displaced) > _MAX_DISPLACED:
            first = next(iter(self._displaced))
            del self._displaced[first]
            first.crowded_out()

    def release(self, member: T) -> None:
        """It has proved what it had to, or has gone."""
        self.limiter.release(member)
        self._displaced.pop(member, None)
