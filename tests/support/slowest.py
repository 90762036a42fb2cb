"""Run tests and name the ten that took longest: ``python -m tests.support.slowest tests.store``.

And the modules that took most CPU time, programs that they started included: that is the same
on a busy machine, or nearly.
"""

from __future__ import annotations

import collections
import os
import sys
import time

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

__all__ = ["main"]

SHOWN = 10
SHOWN_MODULES = 20


class _Timed(TreeReporter):
    """Says how each test went, as usual, and at the end how long the slowest took."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._spent: collections.Counter[str] = collections.Counter()

    def startTest(self, method: object) -> None:
        self._begun[method.id()] = time.monotonic()  # type: ignore[attr-defined]
        self._spent[module_of(method)] -= cpu_milliseconds()
        super().startTest(method)

    def stopTest(self, method: object) -> None:
        name = method.id()  # type: ignore[attr-defined]
        self._took[name] = time.monotonic() - self._begun[name]
        self._spent[module_of(method)] += cpu_milliseconds()
        super().stopTest(method)

    def done(self) -> None:
        super().done()
        for name in sorted(self._took, key=self._took.__getitem__, reverse=True)[:SHOWN]:
            self._write(f"{self._took[name]:8.2f} s  {name}\n")
        total = sum(self._spent.values()) / 1000
        self._write(f"{total:8.2f} s of CPU in all; most of it in\n")
        for module, milliseconds in self._spent.most_common(SHOWN_MODULES):
            self._write(f"{milliseconds / 1000:8.2f} s  {module}\n")


def module_of(method: object) -> str:
    name: str = method.id()  # type: ignore[attr-defined]
    return name.rsplit(".", 2)[0]


def cpu_milliseconds() -> int:
    """Return what we and the programs that have ended have taken."""
    return round(1000 * sum(os.times()[:4]))


def main(names: list[str]) -> int:
    """Run what is named, one after the other; return the exit status."""
    suite = TestLoader().loadByNames(names, recurse=True)
    runner = TrialRunner(_Timed)
    result = runner.run(suite)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["tests"]))
