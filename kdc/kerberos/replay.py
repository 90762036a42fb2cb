"""Requests that come again: the same bytes get the same answer, other bytes are refused.

Both memories forget by time and are bounded in number.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

import attrs

__all__ = ["Authenticators", "LookAside"]

_MOST = 10_000
# UDP clients ask again within a minute; RFC 4120 section 3.1.2 wants the same answer.
_LOOK_ASIDE_SECONDS = 120
_MOST_BYTES = 8 * 1024 * 1024


class Answered(Protocol):
    """What a request got, and perhaps more that is known of it by then."""

    @property
    def reply(self) -> bytes: ...


T = TypeVar("T", bound=Answered)


@attrs.define
class LookAside(Generic[T]):
    """Answers to requests that may not have arrived."""

    _answers: OrderedDict[bytes, tuple[float, int, T]] = attrs.field(
        factory=OrderedDict, init=False, repr=False
    )
    _bytes: int = attrs.field(default=0, init=False)

    def get(self, request: bytes, now: float) -> T | None:
        self._forget(now)
        found = self._answers.get(hashlib.sha256(request).digest())
        return None if found is None else found[2]

    def put(self, request: bytes, answer: T, now: float) -> None:
        # What is known of a request may be as long as that.
        size = len(request) + len(answer.reply)
        self._answers[hashlib.sha256(request).digest()] = (now, size, answer)
        self._bytes += size
        while len(self._answers) > _MOST or self._bytes > _MOST_BYTES:
            self._drop()

    def clear(self) -> None:
        self._answers.clear()
        self._bytes = 0

    def _drop(self) -> None:
        _, (_, size, _) = self._answers.popitem(last=False)
        self._bytes -= size

    def _forget(self, now: float) -> None:
        while self._answers:
            at, _, _ = next(iter(self._answers.values()))
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
