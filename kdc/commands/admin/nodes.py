"""``nodes``: the KDCs that share the principals."""

from __future__ import annotations

import sys
import time
from typing import Any

from kdc.commands.admin.command import RequestCommand
from kdc.errors import ExitStatus
from kdc.terminal import answer as tell
from kdc.terminal import harmless, say, span

__all__ = ["NodesCommand"]

_ROW = "{:<20} {:<10} {:>10} {:>9} {:<9} {:<16} {:<16} {}"


class NodesCommand(RequestCommand):
    """``nodes``"""

    longdesc = (
        "The KDCs of this realm that run, as they told of themselves some seconds ago: * is the one"
        " that was asked; version, the latest change that each has, how long ago it was sure of"
        " that, since when it runs, hash of its policy, its master keys, its addresses.  What is"
        " wrong with one, such as another master key or policy than the others have, is said"
        " below, and the exit status is 3.  Which is not there does not run, or is cut off."
    )
    synopsis = "kdc admin nodes [--json]"
    command = "nodes"

    def run(self) -> int:
        if sys.stdout.isatty() and not self.given("json"):  # a script has no use for it
            heads = ("NODE", "VERSION", "CHANGE", "CONFIRMED", "SINCE", "POLICY", "MASTER KEYS")
            tell(_ROW.format(*heads, "ADDRESSES"))
        troubles: list[str] = []
        for answer in self.store.ask({"command": self.command}):
            self.show(answer, self.line(answer))
            called = answer.get("node") or f"/{answer['id']}"
            troubles += [f"{called}: {trouble}" for trouble in answer["troubles"]]
        for trouble in troubles:
            say(harmless(trouble))
        return int(ExitStatus.KDC if troubles else ExitStatus.DONE)

    def line(self, answer: dict[str, Any]) -> str:
        if "node" not in answer:
            return harmless(f"{'?':<20} {answer['id']}")
        row = _ROW.format(
            f"{answer['node']}{'*' if answer['this'] else ''}",
            answer["version"],
            answer["generation"],
            f"{answer['confirmed_age']:.1f} s",
            span(max(0, time.time() - answer["since"])),
            answer["policy"] or "-",
            "+".join(answer["master_keys"]) or "-",
            " ".join(answer["addresses"]) or "-",
        )
        return harmless(row)
