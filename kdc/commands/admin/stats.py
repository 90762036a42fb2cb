"""``stats``: counts, and what the running KDC does."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import RequestCommand, lines

__all__ = ["StatsCommand"]


class StatsCommand(RequestCommand):
    """``stats``"""

    synopsis = "kdc admin stats"
    command = "stats"

    def line(self, answer: dict[str, Any]) -> str:
        return lines(answer)
