"""Figures in the form that Prometheus reads, made by its own library, which is an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kdc.watch.figures import Counter, Figures, Histogram, Sampled

__all__ = ["CONTENT_TYPE", "MISSING", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MISSING = (
    "the figures for Prometheus need its library, prometheus-client: install kdc-twisted[metrics]"
)


def exposition(figures: Figures) -> Callable[[], bytes] | None:
    """Return what writes all ``figures`` down as they are then; None without the library."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    except ImportError:
        return None

    registry = CollectorRegistry()
    registry.register(_Families(figures))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


class _Families:
    """What prometheus_client calls a collector."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        for family in self._figures.families.values():
            if isinstance(family, Histogram):
                yield _histogram(family)
            else:
                yield _plain(family)


def _plain(family: Counter | Sampled) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    grows = isinstance(family, Counter) or family.grows
    kind = CounterMetricFamily if grows else GaugeMetricFamily
    made = kind(family.name, family.text, labels=family.labels)
    rows = family.counts if isinstance(family, Counter) else family.read()
    for values, number in rows.items():
        made.add_metric(values, number)
    return made


def _histogram(family: Histogram) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    made = HistogramMetricFamily(family.name, family.text, labels=family.labels)
    for values, spread in family.spreads.items():
        buckets, below = [], 0
        for bound, count in zip((*family.bounds, float("inf")), spread.counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), below))
        made.add_metric(values, buckets, sum_value=spread.sum)
    return made
