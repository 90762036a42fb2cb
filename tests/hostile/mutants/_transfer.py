"""docs/protocol.md section 6.4: what is sent and received."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/transfer/names.py",
        "tests.transfer.test_names",
        (
            "sending",
            "a path leads nowhere else",
            """    elif found := re.search(r"[/\\\\]", name):\n        why = f"it has a {found.group()} in it, which leads elsewhere"\n""",
            "",
        ),
        (
            "sending",
            "a name commands no terminal",
            """    elif found := OBEYED.search(name):\n        why = f"it has U+{ord(found.group()):04X} in it, which a terminal would obey"\n""",
            "",
        ),
        (
            "sending",
            "a name is no option and not hidden",
            """    if name.startswith((".", "-")):\n        raise ValueError(f"not a safe file name: {shown(name)}: it begins with {name[0]}")\n""",
            "",
        ),
    ),
]
