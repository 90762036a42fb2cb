"""Counters and histograms with a bounded number of values.  Pure.

Whoever counts adds here; who reads sees it in a form that nothing else depends on.  A value of a
label comes from a list that was given at the start: what is in none is "other", so no stranger
can make this grow, and no name of anybody can come in.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

import attrs

__all__ = [
    "OTHER",
    "SECONDS",
    "Counter",
    "Figures",
    "Histogram",
    "Labels",
    "Sampled",
    "Spread",
]

OTHER = "other"
# Bounds for what takes from some microseconds to some seconds.
SECONDS = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
Labels: TypeAlias = tuple[str, ...]


def _rows(labels: Mapping[str, Sequence[str]]) -> Iterator[Labels]:
    return itertools.product(*labels.values())


class Counter:
    """Only grows.  ``labels``: the values that each label can have."""

    def __init__(self, name: str, text: str, labels: Mapping[str, Sequence[str]]) -> None:
        self.name, self.text, self.labels = name, text, tuple(labels)
        self.counts: dict[Labels, float] = dict.fromkeys(_rows(labels), 0)
        self._other: Labels = (OTHER,) * len(labels)

    def add(self, *values: str, by: float = 1) -> None:
        if values not in self.counts:
            values = self._other
        self.counts[values] = self.counts.get(values, 0) + by

    @property
    def total(self) -> float:
        return sum(self.counts.values())


class Spread:
    """How often each bound was kept: ``counts`` has one place more, for what is above all.

    Whoever notes something with every request holds on to one: nothing is looked up then, and
    what can be added up when somebody asks is not added up before.
    """

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Histogram:
    """How long something took, how large something was."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Mapping[str, Sequence[str]],
        bounds: Sequence[float] = SECONDS,
    ) -> None:
        self.name, self.text, self.labels, self.bounds = name, text, tuple(labels), tuple(bounds)
        self.spreads = {row: Spread(self.bounds) for row in _rows(labels)}
        self._other: Labels = (OTHER,) * len(labels)

    def of(self, *values: str) -> Spread:
        """Return what holds the row of these labels."""
        spread = self.spreads.get(values)
        return spread or self.spreads.setdefault(self._other, Spread(self.bounds))

    def observe(self, value: float, *values: str) -> None:
        self.of(*values).note(value)


@attrs.frozen
class Sampled:
    """What somebody else knows already: looked up when it is asked for.

    ``grows``: it is a count since the start, rather than what there is just now.
    """

    name: str
    text: str
    read: Callable[[], Mapping[Labels, float]]
    labels: Labels = ()
    grows: bool = False

    @classmethod
    def of(cls, name: str, text: str, read: Callable[[], float], *, grows: bool = False) -> Sampled:
        """One number, without labels."""
        return cls(name, text, lambda: {(): read()}, (), grows)


F = TypeVar("F", Counter, Histogram, Sampled)


class Figures:
    """All families of one service, in the order in which they were added."""

    def __init__(self) -> None:
        self.families: dict[str, Counter | Histogram | Sampled] = {}

    def counter(self, name: str, text: str, **labels: Sequence[str]) -> Counter:
        return self._add(Counter(name, text, labels))

    def histogram(self, name: str, text: str, **labels: Sequence[str]) -> Histogram:
        return self._add(Histogram(name, text, labels))

    def sampled(self, families: Iterable[Sampled]) -> None:
        for family in families:
            self._add(family)

    def _add(self, family: F) -> F:
        if family.name in self.families:
            raise ValueError(f"there is a {family.name} already")
        self.families[family.name] = family
        return family
