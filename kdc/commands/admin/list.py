"""``list``: all principals."""

from __future__ import annotations

import sys
import time
from typing import Any

from kdc.commands.admin.command import RequestCommand
from kdc.terminal import answer as tell
from kdc.terminal import date, harmless

__all__ = ["ListCommand"]

_ROW = "{:<24} {:<8} {:<17} {}"


class ListCommand(RequestCommand):
    """``list``"""

    longdesc = (
        "All principals, one a line: status; whether it receives now or, if not, when it was with"
        " the KDC last, as far as a running KDC knows since it was started; and the address that"
        " was told last."
    )
    synopsis = "kdc admin list [--status STATUS] [--prefix TEXT]"
    command = "list"
    optParameters = [
        ["status", None, None, "only those that are active, disabled, invited or deleted"],
        ["prefix", None, None, "only names that begin so"],
    ]

    def request(self) -> dict[str, Any]:
        return {"status": self["status"], "prefix": self["prefix"]}

    def run(self) -> int:
        if sys.stdout.isatty() and not self.given("json"):  # a script has no use for it
            tell(_ROW.format("NAME", "STATUS", "SEEN", "ADDRESS"))
        return super().run()

    def line(self, answer: dict[str, Any]) -> str:
        at = answer.get("last_seen")
        seen = "online" if answer.get("online") else "-" if at is None else date(at)
        place = answer["address"] or "-"
        if answer["address"] and answer["port"]:
            place = f"[{place}]:{answer['port']}" if ":" in place else f"{place}:{answer['port']}"
        over = 0 < answer.get("expiry", 0) < time.time()
        status = "expired" if over and answer["status"] == "active" else answer["status"]
        return harmless(_ROW.format(answer["name"], status, seen, place))
