"""``list``: all principals."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import RequestCommand, date
from kdc.terminal import harmless

__all__ = ["ListCommand"]


class ListCommand(RequestCommand):
    """``list``"""

    synopsis = "kdc admin list [--status STATUS] [--prefix TEXT]"
    command = "list"
    optParameters = [
        ["status", None, None, "only those that are active, disabled, invited or deleted"],
        ["prefix", None, None, "only names that begin so"],
    ]

    def request(self) -> dict[str, Any]:
        return {"status": self["status"], "prefix": self["prefix"]}

    def line(self, answer: dict[str, Any]) -> str:
        return harmless(
            f"{answer['name']:<24} {answer['status']:<9} {answer['address'] or '-':<22}"
            f" {answer['port']:>5}  {date(answer['changed'])}"
        )
