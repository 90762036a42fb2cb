"""When to try again, and why it failed."""

from __future__ import annotations

import random

from twisted.internet.error import DNSLookupError

__all__ = ["backoff", "chance", "reason_of"]

# The system's, so that no two processes have the same; a simulation puts its own here.
chance: random.Random = random.SystemRandom()


def backoff(attempt: int, *, first: float = 0.1, most: float = 60.0) -> float:
    """Seconds to wait before try ``attempt`` (from 0): growing, and never the same for two.

    Not Twisted's `backoffPolicy`: that adds up to a second to whatever the pause is, which
    is much after a tenth of a second, and brings a crowd that waited a minute back at once.
    """
    return chance.uniform(0.5, 1.0) * min(most, first * 2.0 ** min(attempt, 20))


def reason_of(error: Exception) -> str:
    if isinstance(error, DNSLookupError):
        return "there is no host of that name"
    text = str(error).strip().rstrip(".")
    return text.partition(": ")[2].partition(": ")[2] or text
