#!/usr/bin/env python3
"""Read trial's output; print ``N passed, N failed, N skipped``.

Exits 1 if anything failed, if no test ran, or if trial did not get as far as
its summary: an output cut short must not count as a success.

With ``--red``: print in few lines what is wrong in an output that is not as it
should be, of trial or of anything else.
"""

from __future__ import annotations

import re
import sys

FAILED = ("failures", "errors", "unexpectedSuccesses")
SKIPPED = ("skips", "expectedFailures")
NAME = re.compile(r"tests(?:\.\w+)+\.test_\w+")
# A line of this project, rather than of Python or Twisted, in a traceback.
OURS = re.compile(r'/((?:kdc|tests|bench|docs)/\S+", line \d+, in (?!test$).*)')


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


def shortened(output: str, most: int = 40, width: int = 160) -> list[str]:
    """Return the lines that tell what is wrong: each failed test's name, place and error.

    Of an output that has none of them, its last lines.
    """
    told = []
    for section in re.split(r"^(?:={79}|-{79})$", output, flags=re.MULTILINE)[1:]:
        if not section.lstrip().startswith(("[FAIL]", "[ERROR]")):
            continue
        lines = section.strip().splitlines()
        places = [number for number, line in enumerate(lines) if line.startswith('  File "')]
        error = places[-1] + 2 if places else 1
        told += [line for line in lines if NAME.fullmatch(line)]
        told += [f"  {place[1]}" for number in places if (place := OURS.search(lines[number]))][-3:]
        told += [line for line in lines[error : error + 6] if not NAME.fullmatch(line)]
    if not told:
        return [line[:width] for line in output.splitlines()[-20:]]
    cut = [f"... and {len(told) - most} lines more"] if len(told) > most else []
    return [line[:width] for line in told[:most] + cut]


def main() -> int:
    if sys.argv[1:] == ["--red"]:
        print("\n".join(shortened(sys.stdin.read())))
        return 0
    counted = count(sys.stdin.read())
    if counted is None:
        print("summary: trial did not finish", file=sys.stderr)
        return 1
    passed, failed, skipped = counted
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
