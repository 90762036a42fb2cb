"""One defence less, as data."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["TOP", "Mutant", "mutated", "of"]

TOP = Path(__file__).parent.parent.parent.parent


@attrs.frozen
class Mutant:
    """Where it is asked for, what it defends, and the code with it and without it."""

    section: str
    defence: str
    path: str
    old: str
    new: str
    tests: str


def of(path: str, tests: str, *each: tuple[str, str, str, str]) -> list[Mutant]:
    """The mutants of one file that the same tests ought to notice."""
    return [Mutant(section, what, path, old, new, tests) for section, what, old, new in each]


def mutated(mutant: Mutant, text: str) -> str:
    """Return the file without that defence; it must stand there exactly once."""
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(f"{mutant.path}: {count} times: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)
