"""``dump``: the database as portable text."""

from __future__ import annotations

from kdc.commands.admin.command import AdminCommand

__all__ = ["DumpCommand"]


class DumpCommand(AdminCommand):
    """``dump``"""

    synopsis = "kdc admin dump [--secrets]"
    longdesc = "Write the database as portable text to standard output."
    optFlags = [["secrets", None, "with the keys: whoever reads it can guess every passphrase"]]

    def run(self) -> int:
        for answer in self.store.ask({"command": "dump", "secrets": bool(self["secrets"])}):
            print(answer["line"])
        return 0
