"""``show``: one principal."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import NamedCommand, lines
from kdc.terminal import date

__all__ = ["ShowCommand"]


class ShowCommand(NamedCommand):
    """``show NAME``"""

    synopsis = "kdc admin show NAME"
    command = "show"

    def line(self, answer: dict[str, Any]) -> str:
        shown = dict(answer)
        for key in answer.keys() & {"changed", "expiry", "invitation_end", "last_seen"}:
            shown[key] = "" if answer[key] is None else date(answer[key])
        return lines(shown)
