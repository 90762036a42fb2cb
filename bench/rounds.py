"""A run as it goes: what is asked for, what is there already, and how long the rest may take.

Every round is written down as it comes, a line of JSON each, so that a run that was cut short
can go on, and the document can be made of several runs.  The first line says what was to be
measured, and on what.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import attrs

from bench.figures import Figures, Results
from bench.plan import Plan
from bench.processes import Failed

__all__ = ["UNMEASURED", "Kept", "Run", "Wanted", "mend", "read"]

# What costs one row its figure, and not the others theirs.
UNMEASURED = (Failed, OSError, subprocess.SubprocessError)


@attrs.frozen
class Wanted:
    """``SECTION`` or ``SECTION/ROW``, several of them; a row by any part of its name."""

    what: tuple[str, ...] = ()

    def __call__(self, section: str, row: str = "") -> bool:
        if not self.what:
            return True
        for each in self.what:
            name, _, part = each.partition("/")
            if name == section and (not row or part in row):
                return True
        return False


@attrs.define
class Kept:
    """What a file of rounds holds."""

    plan: Plan
    results: Results
    seconds: float = 0.0
    rounds: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    took: dict[tuple[str, str], float] = attrs.field(factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        self.results.facts.update(line.get("facts", {}))
        if "section" not in line:
            return
        key = line["section"], line["row"]
        self.rounds[key] += 1
        self.seconds += line["seconds"]
        self.took[key] = self.took.get(key, 0.0) + line["seconds"]
        if "figures" in line:
            self.results.add(*key, line["figures"])
        else:
            self.results.without(*key, line["missing"])


def read(path: Path) -> Kept:
    """Read rounds; a last line that was cut off is none.  Raises `ValueError`, `OSError`."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        kept = Kept(Plan(**json.loads(lines[0])["plan"]), Results())
        for line in lines:
            kept.take(json.loads(line))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no rounds of these measurements: {error!r}") from None
    return kept


def mend(path: Path) -> None:
    """Take off half a line that a run has left which was cut short."""
    with path.open("r+b") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def _rounded(value: float) -> float:
    """More digits than that are noise, and make the file long."""
    return float(f"{value:.6g}")


@attrs.define
class Run(Results):
    """Results that are kept as they come, and go on from those that are there.

    ``before``: an earlier run of the same; it tells how long the rest may take.
    """

    file: IO[str] | None = None
    wanted: Wanted = Wanted()
    kept: Kept | None = None
    before: Kept | None = None
    show: Callable[[str], None] = lambda text: None
    clock: Callable[[], float] = time.monotonic
    _asked: Counter[tuple[str, str]] = attrs.field(factory=Counter, init=False)
    _spent: float = attrs.field(default=0.0, init=False)
    _foreseen: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        if self.kept is not None:
            self.samples, self.missing = self.kept.results.samples, self.kept.results.missing

    def begin(self, plan: Plan) -> None:
        """The first line of a new file."""
        self._write({"plan": attrs.asdict(plan)})

    def note(self, **facts: str) -> None:
        self.facts.update(facts)
        self._write({"facts": facts})

    def measure(self, section: str, row: str, call: Callable[[], Figures]) -> None:
        """Measure what is wanted and not there from the run that this one goes on with."""
        key = section, row
        if not self.wanted(section, row):
            return
        self._asked[key] += 1
        if self.kept is not None and self._asked[key] <= self.kept.rounds[key]:
            return
        self.show(f"{section}: {row}, round {self._asked[key]}{self._left()}")
        begun = self.clock()
        line: dict[str, Any] = {"section": section, "row": row}
        try:
            line["figures"] = {name: _rounded(value) for name, value in call().items()}
        except UNMEASURED as error:
            line["missing"] = str(error) or repr(error)
            self.without(section, row, line["missing"])
        else:
            self.add(section, row, line["figures"])
        seconds = self.clock() - begun
        self._count(key, seconds)
        self._write(line | {"seconds": round(seconds, 2)})

    def _count(self, key: tuple[str, str], seconds: float) -> None:
        self._spent += seconds
        if self.before is not None and self.before.rounds[key]:
            self._foreseen += self.before.took[key] / self.before.rounds[key]

    def _left(self) -> str:
        """How long the rest may take: as much more or less than before as what is done took."""
        if self.before is None or not self._foreseen:
            return ""
        whole = sum(s for key, s in self.before.took.items() if self.wanted(*key))
        done = self.kept.seconds if self.kept is not None else 0.0
        left = max(0.0, whole - done - self._foreseen) * self._spent / self._foreseen
        return f"; about {max(1, round(left / 60))} min left"

    def _write(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
