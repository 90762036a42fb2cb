"""``disable``, ``enable``, ``delete``, ``purge``: who gets keys, and which names are taken."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import EndingCommand, NamedCommand

__all__ = ["DeleteCommand", "DisableCommand", "EnableCommand", "PurgeCommand"]


class DisableCommand(EndingCommand):
    """``disable NAME``"""

    synopsis = "kdc admin disable NAME [--wait]"
    longdesc = (
        "Let a principal get no keys.  Where several KDCs share the principals one of them may be"
        " cut off just now: it is said within how long it counts there, too, and with --wait that"
        " is waited for."
    )
    command = "disable"


class EnableCommand(NamedCommand):
    """``enable NAME``"""

    synopsis = "kdc admin enable NAME"
    command = "enable"


class DeleteCommand(EndingCommand):
    """``delete NAME``"""

    synopsis = "kdc admin delete NAME [--wait]"
    longdesc = "Delete a principal; its name stays reserved until it is purged."
    command = "delete"


class PurgeCommand(EndingCommand):
    """``purge NAME``"""

    synopsis = "kdc admin purge NAME [--force] [--wait]"
    longdesc = (
        "Free the name of a deleted principal or of an invitation.  With --force at once: for up to"
        " an hour there can be tickets for the deleted owner, whose senders would take a new owner"
        " of the name for him."
    )
    command = "purge"
    optFlags = [["force", None, "do not wait until no ticket for the old owner can be left"]]

    def request(self) -> dict[str, Any]:
        return {**super().request(), "force": bool(self["force"])}
