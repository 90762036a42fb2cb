"""What the fuzzer feeds, and what it has found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.logger import globalLogPublisher

__all__ = ["Found", "Target", "defects_of"]


class Found(AssertionError):
    """An input that a reader takes wrongly."""


@attrs.frozen
class Target:
    """``read`` takes any bytes; ``seeds`` are good ones; ``refusals`` what it may raise."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    refusals: tuple[type[Exception], ...]


def defects_of(act: Callable[[], object]) -> None:
    """Raise `Found` for what ``act`` logs as a failure."""
    defects: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_failure") is not None:
            defects.append(event["log_failure"])

    observer = cast(Any, observe)
    globalLogPublisher.addObserver(observer)
    try:
        act()
    finally:
        globalLogPublisher.removeObserver(observer)
    if defects:
        raise Found(defects[0].getTraceback())
