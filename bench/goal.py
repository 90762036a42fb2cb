"""One goal, beside what came out."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bench.figures import number

__all__ = ["Goal", "bounded", "known"]


@attrs.frozen
class Goal:
    """``met`` is None where something needed for it could not be measured."""

    text: str
    figure: str
    met: bool | None
    why: str = ""


def bounded(
    text: str, value: float | None, unit: str, good: Callable[[float], bool], why: str = ""
) -> Goal:
    if value is None:
        return Goal(text, "-", None)
    return Goal(text, f"{number(value)} {unit}", good(value), why)


def known(*values: float | None) -> list[float] | None:
    present = [value for value in values if value is not None]
    return present if len(present) == len(values) else None
