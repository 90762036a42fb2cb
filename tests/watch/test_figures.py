"""Counters and histograms: what is counted, and that nobody can make them grow."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.watch import health
from kdc.watch.figures import Figures, Sampled
from kdc.watch.heart import Heart
from kdc.watch.prometheus import exposition


class FiguresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.figures = Figures()

    def test_counter(self) -> None:
        """Every value is there from the start, so that a rate can be taken of the first one."""
        counter = self.figures.counter("a_total", "A.", kind=("x", "y"), outcome=("done",))
        counter.add("x", "done")
        counter.add("x", "done", by=2)
        self.assertEqual(counter.counts, {("x", "done"): 3, ("y", "done"): 0})
        self.assertEqual(counter.total, 3)

    def test_no_stranger_makes_it_grow(self) -> None:
        """However many values are made up, they are one more row."""
        counter = self.figures.counter("a_total", "A.", kind=("x",))
        histogram = self.figures.histogram("b_seconds", "B.", kind=("x",))
        for number in range(100):
            counter.add(f"made-up-{number}")
            histogram.observe(1.0, f"made-up-{number}")
        self.assertEqual(counter.counts, {("x",): 0, ("other",): 100})
        self.assertEqual(set(histogram.spreads), {("x",), ("other",)})

    def test_histogram(self) -> None:
        """A value on a bound is below it; what is above all bounds has its own place."""
        histogram = self.figures.histogram("b_seconds", "B.")
        for value in (0.0, 0.00001, 0.00002, 99.0):
            histogram.observe(value)
        counts = histogram.spreads[()].counts
        self.assertEqual((counts[0], counts[1], counts[-1], sum(counts)), (2, 1, 1, 4))

    def test_once(self) -> None:
        """Two families of one name would not be told apart."""
        self.figures.counter("a_total", "A.")
        self.assertRaises(ValueError, self.figures.counter, "a_total", "Another.")


class ExpositionTests(SynchronousTestCase):
    def test_text(self) -> None:
        """Counts, buckets that add up, and what is looked up when it is asked for."""
        figures = Figures()
        figures.counter("kdc_a_total", "A.", kind=("x",)).add("x")
        figures.histogram("kdc_b_seconds", "B.").observe(0.3)
        there = [5.0]
        figures.sampled([Sampled.of("kdc_c", "C.", lambda: there[0])])
        write = exposition(figures)
        if write is None:
            raise SkipTest("prometheus-client is not installed")
        there[0] = 7
        lines = write().decode().splitlines()
        for line in (
            'kdc_a_total{kind="x"} 1.0',
            "# TYPE kdc_b_seconds histogram",
            'kdc_b_seconds_bucket{le="0.25"} 0.0',
            'kdc_b_seconds_bucket{le="0.5"} 1.0',
            'kdc_b_seconds_bucket{le="+Inf"} 1.0',
            "kdc_b_seconds_sum 0.3",
            "kdc_c 7.0",
        ):
            self.assertIn(line, lines)


class HealthTests(SynchronousTestCase):
    def test_ready(self) -> None:
        """Each part says what is wrong with it; one that is not well is enough."""
        answer = health.ready({"store": lambda: "", "log": lambda: "disk full"})
        self.assertEqual(answer.status, 503)
        told = json.loads(answer.body)
        self.assertEqual(told["checks"], {"store": "ok", "log": "disk full"})
        answer = health.ready({"store": lambda: ""})
        self.assertEqual((answer.status, json.loads(answer.body)["status"]), (200, "ready"))

    def test_heart(self) -> None:
        """A timer that comes late tells for how long the reactor was kept."""
        clock: Any = Clock()
        lags = Figures().histogram("l_seconds", "L.")
        beats: list[float] = []
        heart = Heart(clock, lags, lambda: beats.append(clock.seconds()))
        heart.start()
        clock.advance(1)
        self.assertEqual((beats, heart.lag_seconds), ([1.0], 0.0))
        clock.advance(3.5)
        self.assertEqual(heart.lag_seconds, 2.5)
        self.assertEqual(json.loads(health.alive(2.5).body)["reactor_lag_seconds"], 2.5)
        heart.stop()
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(sum(lags.spreads[()].counts), 2)
