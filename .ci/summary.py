#!/usr/bin/env python3
"""Read trial's output; print ``N passed, N failed, N skipped``.

Exits 1 if anything failed, if no test ran, or if trial did not get as far as
its summary: an output cut short must not count as a success.
"""

from __future__ import annotations

import re
import sys

FAILED = ("failures", "errors", "unexpectedSuccesses")
SKIPPED = ("skips", "expectedFailures")


def count(output: str) -> tuple[int, int, int] | None:
    """Return how many tests passed, failed and were skipped; None without a summary."""
    summaries = re.findall(r"^(PASSED|FAILED)(?: \(([^()]*)\))?$", output, re.MULTILINE)
    if not summaries:
        return None
    verdict, results = summaries[-1]
    numbers = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", results)}
    failed = sum(numbers.get(name, 0) for name in FAILED)
    skipped = sum(numbers.get(name, 0) for name in SKIPPED)
    # Trial's verdict stands even if its numbers were ever named otherwise.
    return numbers.get("successes", 0), max(failed, int(verdict == "FAILED")), skipped


def main() -> int:
    counted = count(sys.stdin.read())
    if counted is None:
        print("summary: trial did not finish", file=sys.stderr)
        return 1
    passed, failed, skipped = counted
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
