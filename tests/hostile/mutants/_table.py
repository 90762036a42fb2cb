"""The list of mutants as docs/security.md has it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.hostile.mutants._mutant import Mutant

__all__ = ["in_place", "table"]

_HEAD = "| in `kdc/` | without it a test fails |\n| --- | --- |\n"
_TABLE = re.compile(re.escape(_HEAD) + r"(\|.*\n)*")


def table(mutants: Iterable[Mutant]) -> str:
    """Return a table in Markdown: for each file what has to go for a test to fail."""
    rows: dict[str, list[str]] = {}
    for mutant in mutants:
        rows.setdefault(mutant.path.removeprefix("kdc/"), []).append(
            f"{mutant.defence} ({mutant.section})"
        )
    return _HEAD + "".join(f"| `{path}` | {'; '.join(each)} |\n" for path, each in rows.items())


def in_place(page: str, new: str) -> str:
    """Return ``page`` with ``new`` in the place of its table."""
    changed, count = _TABLE.subn(lambda _: new, page)
    if count != 1:
        raise ValueError(f"{count} tables")
    return changed
