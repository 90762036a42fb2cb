"""The n-fold of RFC 3961 section 5.1: a constant stretched or folded to the size of a block."""

from __future__ import annotations

import math

__all__ = ["nfold"]


def nfold(text: bytes, size: int) -> bytes:
    """Return ``text`` repeated, each copy rotated 13 bits further, and added up in ``size`` bytes.

    The sum is with end-around carry (ones' complement).
    """
    bits = 8 * len(text)
    value = int.from_bytes(text, "big")
    copies = []
    for copy in range(math.lcm(len(text), size) // len(text)):
        shift = 13 * copy % bits
        rotated = (value >> shift | value << (bits - shift)) & ((1 << bits) - 1)
        copies.append(rotated.to_bytes(len(text), "big"))
    long = b"".join(copies)
    total = sum(int.from_bytes(long[at : at + size], "big") for at in range(0, len(long), size))
    while total >> 8 * size:
        total = (total & ((1 << 8 * size) - 1)) + (total >> 8 * size)
    return total.to_bytes(size, "big")
