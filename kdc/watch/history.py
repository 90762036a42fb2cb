"""The last hour, minute by minute.  Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

__all__ = ["History", "Minute", "quantile"]

_MINUTES = 60


@attrs.frozen
class Minute:
    """What was done in it, and how long it took; None where nothing was done."""

    count: float = 0
    median: float | None = None
    slowest: float | None = None  # 99 of 100 took no longer


class History:
    """``note`` is told now and then how much there has been since the start."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._past: deque[Minute] = deque([Minute()] * (_MINUTES - 1), maxlen=_MINUTES - 1)
        self._minute: int | None = None
        self._began: tuple[float, list[int]] = 0.0, [0] * (len(bounds) + 1)
        self._now = self._began

    def note(self, now_seconds: float, total: float, counts: Sequence[int]) -> None:
        minute = int(now_seconds // 60)
        if self._minute is None:
            self._minute = minute
        for _ in range(min(minute - self._minute, _MINUTES)):
            self._past.append(self._current())
            self._began = self._now
        self._minute = max(minute, self._minute)
        self._now = total, list(counts)

    @property
    def minutes(self) -> list[Minute]:
        """The last is the one that is under way."""
        return [*self._past, self._current()]

    def _current(self) -> Minute:
        (before, older), (total, counts) = self._began, self._now
        grown = [now - then for now, then in zip(counts, older, strict=True)]
        return Minute(
            total - before,
            quantile(self._bounds, grown, 0.5),
            quantile(self._bounds, grown, 0.99),
        )


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The least bound that this part of all is below; the highest one if it is above all."""
    wanted = part * sum(counts)
    if not wanted:
        return None
    seen = 0
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return bounds[-1]
