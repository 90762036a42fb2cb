"""``disable``, ``enable``, ``delete``, ``purge``: who gets keys, and which names are taken."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import NamedCommand

__all__ = ["DeleteCommand", "DisableCommand", "EnableCommand", "PurgeCommand"]


class DisableCommand(NamedCommand):
    """``disable NAME``"""

    synopsis = "kdc admin disable NAME"
    command = "disable"


class EnableCommand(NamedCommand):
    """``enable NAME``"""

    synopsis = "kdc admin enable NAME"
    command = "enable"


class DeleteCommand(NamedCommand):
    """``delete NAME``"""

    synopsis = "kdc admin delete NAME"
    longdesc = "Delete a principal; its name stays reserved until it is purged."
    command = "delete"


class PurgeCommand(NamedCommand):
    """``purge NAME``"""

    synopsis = "kdc admin purge NAME"
    longdesc = (
        "Free the name of a deleted principal or of an invitation.  With --force at once: for up to"
        " an hour there can be tickets for the deleted owner, whose senders would take a new owner"
        " of the name for him."
    )
    command = "purge"
    optFlags = [["force", None, "do not wait until no ticket for the old owner can be left"]]

    def request(self) -> dict[str, Any]:
        return {**super().request(), "force": bool(self["force"])}
