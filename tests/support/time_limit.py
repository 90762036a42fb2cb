"""A test that hangs fails, saying where; how fast the machine is never fails one.

``install`` is called once, when ``tests`` is imported, and so in each process
of trial.  Whoever waits for something in a test waits until it happens.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from typing import Any

from hypothesis import HealthCheck, settings
from twisted.trial.unittest import SynchronousTestCase, TestCase

__all__ = ["SECONDS", "install"]

# Generous: nothing of ours takes a twentieth of it on a quiet machine.
SECONDS = float(os.environ.get("TEST_SECONDS", "600"))


class _Hang(AssertionError):
    """Raised where the test stands still, so that its traceback says where that is."""


def _ring(*_: object) -> None:
    raise _Hang(f"the test has not ended after {SECONDS:g} seconds")


def _limited(run: Any) -> Any:
    @functools.wraps(run)
    def limited(self: SynchronousTestCase, result: Any) -> Any:
        # Only the main thread gets signals.  What waits for Deferreds has trial's own limit.
        if isinstance(self, TestCase) or threading.current_thread() is not threading.main_thread():
            return run(self, result)
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            return run(self, result)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return limited


def install() -> None:
    """Limit every test, and have Hypothesis judge what is right, not what is quick."""
    # The same examples each time: a failure is the code's, never the day's.
    settings.register_profile(
        "kdc",
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("kdc")
    TestCase.timeout = SECONDS  # type: ignore[attr-defined]
    if not hasattr(SynchronousTestCase.run, "__wrapped__"):
        SynchronousTestCase.run = _limited(SynchronousTestCase.run)  # type: ignore[method-assign]
