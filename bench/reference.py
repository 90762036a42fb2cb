"""A fixed load to count in: what a slow or busy machine does to it, it does to everything.

The quick form gives CPU per operation as so many of these units, so that two
runs on different machines can be compared, roughly, and a change that makes
something twice as expensive shows.
"""

from __future__ import annotations

import hashlib
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["unit_us"]

_TURNS = 400


def _once(key: Ed25519PrivateKey, table: dict[bytes, int]) -> None:
    """About equal parts of interpreter, hashing and public keys."""
    digest = b"reference"
    for _ in range(20):
        digest = hashlib.sha256(digest + b"x" * 64).digest()
        table[digest[:2]] = table.get(digest[:2], 0) + len(digest)
    for number in range(300):
        table[b"%d" % (number & 31)] = number
    key.sign(digest)


def unit_us() -> float:
    """CPU microseconds of one unit here and now: the smallest of several."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    found = []
    for _ in range(5):
        table: dict[bytes, int] = {}
        begun = time.process_time()
        for _ in range(_TURNS):
            _once(key, table)
        found.append((time.process_time() - begun) / _TURNS * 1e6)
    return min(found)
