"""Prometheus' own tools, where they are installed (Debian: prometheus)."""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.processes import PATIENCE_SECONDS

__all__ = ["tool"]


def tool(case: SynchronousTestCase, *argv: str, given: str = "") -> str:
    """Return what it says; it has to succeed."""
    try:
        done = subprocess.run(
            argv,
            check=False,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    except FileNotFoundError:
        raise SkipTest(f"{argv[0]} is not installed (Debian: prometheus)") from None
    case.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    return done.stdout + done.stderr
