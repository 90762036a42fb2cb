"""The list of mutants as docs/security.md has it."""

from __future__ import annotations

from collections.abc import Iterable

from tests.hostile.mutants._mutant import Mutant

__all__ = ["table"]


def table(mutants: Iterable[Mutant]) -> str:
    """Return a table in Markdown: for each file what has to go for a test to fail."""
    rows: dict[str, list[str]] = {}
    for mutant in mutants:
        rows.setdefault(mutant.path.removeprefix("kdc/"), []).append(
            f"{mutant.defence} ({mutant.section})"
        )
    lines = ["| in `kdc/` | without it a test fails |", "| --- | --- |"]
    lines += [f"| `{path}` | {'; '.join(each)} |" for path, each in rows.items()]
    return "\n".join(lines) + "\n"
