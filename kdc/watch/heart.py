"""A look once a second: how late it comes is how long the reactor was kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kdc.net.waiting import Deadline
from kdc.watch.figures import Histogram

__all__ = ["Heart"]

_SECONDS = 1.0


class Heart:
    """``beat`` is called once a second, from `start` to `stop`."""

    def __init__(self, clock: Any, lags: Histogram, beat: Callable[[], None]) -> None:
        self._clock = clock
        self._lags = lags
        self._beat = beat
        self._next = Deadline(clock)
        self._due = 0.0
        self.lag_seconds = 0.0

    def start(self) -> None:
        self._due = self._clock.seconds() + _SECONDS
        self._next.within(_SECONDS, self._look)

    def stop(self) -> None:
        self._next.cancel()

    def _look(self) -> None:
        self.lag_seconds = max(0.0, self._clock.seconds() - self._due)
        self._lags.observe(self.lag_seconds)
        self.start()
        self._beat()
