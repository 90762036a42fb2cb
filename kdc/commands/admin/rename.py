"""``rename``, which is refused: a key belongs to a name."""

from __future__ import annotations

from kdc.commands.admin.command import RequestCommand

__all__ = ["RenameCommand"]


class RenameCommand(RequestCommand):
    """``rename OLD NEW``"""

    synopsis = "kdc admin rename OLD NEW"
    longdesc = "Refused, and says why."
    command = "rename"

    def parseArgs(self, *names: str) -> None:
        """Whatever they are."""
