"""Run tests and name the ten that took longest: ``python -m tests.support.slowest tests.store``."""

from __future__ import annotations

import sys
import time

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

__all__ = ["main"]

SHOWN = 10


class _Timed(TreeReporter):
    """Says how each test went, as usual, and at the end how long the slowest took."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def startTest(self, method: object) -> None:
        self._begun[method.id()] = time.monotonic()  # type: ignore[attr-defined]
        super().startTest(method)

    def stopTest(self, method: object) -> None:
        name = method.id()  # type: ignore[attr-defined]
        self._took[name] = time.monotonic() - self._begun[name]
        super().stopTest(method)

    def done(self) -> None:
        super().done()
        for name in sorted(self._took, key=self._took.__getitem__, reverse=True)[:SHOWN]:
            self._write(f"{self._took[name]:8.2f} s  {name}\n")


def main(names: list[str]) -> int:
    """Run what is named, one after the other; return the exit status."""
    suite = TestLoader().loadByNames(names, recurse=True)
    runner = TrialRunner(_Timed)
    result = runner.run(suite)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["tests"]))
