"""How often proofs fail: guessing on line is slow, and nobody is locked out by it."""

from __future__ import annotations

from kdc.issuing.decisions import Now
from kdc.limits import Limits, TokenBuckets

__all__ = ["Guesses"]

_MAX_KNOWN_ADDRESSES = 65_536


class Guesses:
    """Failed proofs, by name and address, and where each name has succeeded before."""

    def __init__(self, limits: Limits, max_known: int = _MAX_KNOWN_ADDRESSES) -> None:
        self._known: dict[tuple[str, str], None] = {}
        self._max_known = max_known
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """Count by these from now on, from nothing.

        Where each principal has been before stays known: else a flood on a name
        would lock its owner out after all.
        """
        self._here = TokenBuckets(limits.failures)
        self._anywhere = TokenBuckets(limits.failures_of_name)
        self._at_home = TokenBuckets(limits.failures_of_name)

    def wait(self, name: str, prefix: str, now: Now) -> int:
        """Return 0 if ``name`` may try from there now, else the seconds to wait."""
        return max(
            bucket.wait(key, now.milliseconds) for bucket, key in self._counting(name, prefix)
        )

    def failed(self, name: str, prefix: str, now: Now) -> None:
        for bucket, key in self._counting(name, prefix):
            bucket.take(key, now.milliseconds)

    def _counting(self, name: str, prefix: str) -> list[tuple[TokenBuckets, object]]:
        """What counts the failures of ``name`` from there.

        Where it has succeeded before, the owner is likely to be the next who comes:
        a few failures of others in the same place must not keep him out.
        """
        if (name, prefix) in self._known:
            return [(self._at_home, (name, prefix))]
        return [(self._here, (name, prefix)), (self._anywhere, name)]

    def succeeded(self, name: str, prefix: str) -> None:
        self._known.pop((name, prefix), None)
        self._known[name, prefix] = None
        if len(self._known) > self._max_known:
            del self._known[next(iter(self._known))]
