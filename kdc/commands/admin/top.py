"""``top``: what the running KDC does, in a terminal, again and again."""

from __future__ import annotations

import sys
import time
from typing import Any

from kdc.admin.wire import ask, connect
from kdc.commands.admin.command import AdminCommand
from kdc.commands.admin.top_screen import screen
from kdc.commands.full_screen import FullScreen, full_screen
from kdc.commands.options import whole_number
from kdc.errors import KDCError, LocalIOError

__all__ = ["TopCommand"]

_NO_ROWS = 10**9


class TopCommand(AdminCommand):
    """``top``"""

    synopsis = "kdc admin top [--seconds N] [--json]"
    longdesc = (
        "What the running KDC does: who receives, keys a second, refusals, store, certificate,"
        " limits, the last lines of its log.  In a terminal it is kept up to date until q or"
        " Ctrl-C; elsewhere it is printed once.  The KDC needs no --status for it."
    )
    optParameters = [["seconds", None, "1", "how long it stays as it is, 1 to 3600"]]

    def run(self) -> int:
        seconds = whole_number(self["seconds"], 1, 3600, "--seconds")
        if sys.stdout.isatty() and not self.given("json"):
            with full_screen() as terminal:
                self._watch(terminal, seconds)
            return 0
        answer = self._ask()
        self.show(answer, "\n".join(screen(answer, None, 0, _NO_ROWS)))
        return 0

    def _ask(self) -> dict[str, Any]:
        path = self.store.path
        connected = connect(path)
        if connected is None:
            raise LocalIOError(f"no KDC runs on {path}", hint="start it, or name its database: -f")
        for answer in ask(connected, {"command": "top"}):
            return answer
        raise LocalIOError("the running KDC told nothing")

    def _watch(self, terminal: FullScreen, seconds: float) -> None:
        answer = self._ask()
        before: dict[str, Any] | None = None
        gone = ""
        while True:
            columns, rows = terminal.size
            lines = screen(answer, before, columns, rows - bool(gone))
            terminal.draw([gone, *lines] if gone else lines)
            if _ends(terminal.key(seconds)):
                return
            try:
                newer = self._ask()
            except KDCError as error:
                at = time.strftime("%H:%M:%S", time.gmtime())
                gone = gone or f"GONE at {at}Z, this was before: {error}"
                continue
            gone, before, answer = "", answer, newer


def _ends(typed: str) -> bool:
    return bool(typed) and typed[0] in "qQ\x1b\x03\x04" and len(typed) == 1
