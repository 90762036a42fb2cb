"""The one comparison of secrets."""

from __future__ import annotations

import hmac

__all__ = ["same"]


def same(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in time that tells nothing but their length."""
    return hmac.compare_digest(one, other)
