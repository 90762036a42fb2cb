"""docs/protocol.md section 6.4: what is sent and received."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/transfer/messages.py",
        "tests.transfer.test_messages",
        (
            "sending",
            "a path leads nowhere else",
            """if name in (".", "..") or "/" in name or "\\\\" in name or not name.isprintable():""",
            "if not name.isprintable():",
        ),
        ("sending", "a name commands no terminal", " or not name.isprintable():", ":"),
        (
            "sending",
            "a name is no option and not hidden",
            """    if name.startswith((".", "-")):\n        raise ValueError(f"not a safe file name: {shown(name)}")\n""",
            "",
        ),
    ),
]
