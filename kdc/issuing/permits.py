"""The realm's policy on keys: which client may ask for a key to which receiver."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Mapping

__all__ = ["Permits"]

_PATTERN = re.compile(r"[a-z0-9._*-]{1,64}")
_MAX_REMEMBERED = 65_536


class Permits:
    """Rules, in order: a pattern of receivers, and the patterns of clients that may reach them.

    The first rule that fits the receiver decides; to receivers that none fits
    everybody may ask for keys.  In a pattern ``*`` stands for any characters.
    """

    def __init__(self, rules: Mapping[str, Iterable[str]] | None = None) -> None:
        """Raises `ValueError`, naming the pattern that can fit no name."""
        self.rules = {receiver: tuple(clients) for receiver, clients in (rules or {}).items()}
        for receiver, clients in self.rules.items():
            for pattern in (receiver, *clients):
                _check(pattern)
        # Asked for each key: what was decided for a pair stays so.
        self._decided = functools.lru_cache(_MAX_REMEMBERED)(self._decide)

    def __call__(self, client: str, receiver: str) -> bool:
        """Whether ``client`` may have a key to ``receiver``."""
        return not self.rules or self._decided(client, receiver)

    def __eq__(self, other: object) -> bool:
        # In their order, which counts.
        return isinstance(other, Permits) and [*self.rules.items()] == [*other.rules.items()]

    def __hash__(self) -> int:
        return hash(tuple(self.rules.items()))

    def _decide(self, client: str, receiver: str) -> bool:
        for pattern, clients in self.rules.items():
            if fnmatch.fnmatchcase(receiver, pattern):
                return any(fnmatch.fnmatchcase(client, each) for each in clients)
        return True


def _check(pattern: str) -> None:
    if not isinstance(pattern, str) or _PATTERN.fullmatch(pattern) is None:
        raise ValueError(f"not a name, or a pattern of names: {str(pattern)[:80]!r}")
