"""Requests that come again: the same bytes get the same answer, other bytes are refused.

Both memories forget by time and are bounded in number.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import attrs

__all__ = ["Authenticators", "LookAside"]

_MOST = 10_000
# UDP clients ask again within a minute; RFC 4120 section 3.1.2 wants the same answer.
_LOOK_ASIDE_SECONDS = 120
_MOST_REPLY_BYTES = 8 * 1024 * 1024


@attrs.define
class LookAside:
    """Answers to requests that may not have arrived."""

    _replies: OrderedDict[bytes, tuple[float, bytes]] = attrs.field(
        factory=OrderedDict, init=False, repr=False
    )
    _bytes: int = attrs.field(default=0, init=False)

    def get(self, request: bytes, now: float) -> bytes | None:
        self._forget(now)
        found = self._replies.get(hashlib.sha256(request).digest())
        return None if found is None else found[1]

    def put(self, request: bytes, reply: bytes, now: float) -> None:
        self._replies[hashlib.sha256(request).digest()] = (now, reply)
        self._bytes += len(reply)
        while len(self._replies) > _MOST or self._bytes > _MOST_REPLY_BYTES:
            self._drop()

    def clear(self) -> None:
        self._replies.clear()
        self._bytes = 0

    def _drop(self) -> None:
        _, (_, reply) = self._replies.popitem(last=False)
        self._bytes -= len(reply)

    def _forget(self, now: float) -> None:
        while self._replies:
            at, _ = next(iter(self._replies.values()))
            if abs(now - at) <= _LOOK_ASIDE_SECONDS:
                return
            self._drop()


@attrs.define
class Authenticators:
    """Authenticators that have been used (3.2.3): one is good for one request."""

    _used: OrderedDict[bytes, float] = attrs.field(factory=OrderedDict, init=False, repr=False)

    def is_new(self, authenticator: bytes, now: float, keep_seconds: float) -> bool:
        """Remember it; say whether it had not been there before."""
        while self._used and abs(now - next(iter(self._used.values()))) > keep_seconds:
            self._used.popitem(last=False)
        mark = hashlib.sha256(authenticator).digest()
        if mark in self._used:
            return False
        self._used[mark] = now
        if len(self._used) > _MOST:
            self._used.popitem(last=False)
        return True
