"""``dump``: the database as portable text."""

from __future__ import annotations

from kdc.commands.admin.command import AdminCommand
from kdc.terminal import answer as tell
from kdc.terminal import harmless

__all__ = ["DumpCommand"]


class DumpCommand(AdminCommand):
    """``dump``"""

    synopsis = "kdc admin dump [--secrets]"
    longdesc = "Write the database as portable text to standard output."
    optFlags = [["secrets", None, "with the keys: whoever reads it can guess every passphrase"]]

    def run(self) -> int:
        for answer in self.store.ask({"command": "dump", "secrets": bool(self["secrets"])}):
            tell(harmless(answer["line"]))
        return 0
