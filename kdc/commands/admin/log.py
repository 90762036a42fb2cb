"""``log``: what has happened, from the activity log and those that were put aside."""

from __future__ import annotations

import fnmatch
import re
import sys
import time
from pathlib import Path

from twisted.python import usage

from kdc.admin.log_files import LogReader, Wanted
from kdc.admin.log_lines import EVENTS, stamp
from kdc.admin.wire import ask, connect
from kdc.client.settings import absolute
from kdc.commands.admin.command import AdminCommand
from kdc.commands.options import log_file, name_of, seconds_of
from kdc.errors import KDCError, LocalIOError
from kdc.terminal import say

__all__ = ["LogCommand"]

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z?)?")


class LogCommand(AdminCommand):
    """``log [FILE]``"""

    synopsis = (
        "kdc admin log [FILE] [--follow] [--since TIME] [--client NAME] [--event EVENT] [--json]"
    )
    longdesc = (
        "Print the activity log, oldest line first, with what logrotate has put aside and packed,"
        " whether it was written as text or as JSON.  Without FILE it is the one of --output, that"
        " of the running KDC, or out.txt beside the database.  No KDC need run."
    )
    optArguments = ("file",)
    optRepeated = ("event",)
    optFlags = [["follow", None, "go on with what is written from now on, until Ctrl-C"]]
    optParameters = [
        ["since", None, None, "nothing older: 90s, 10m, 2h, 7d, or a day or time of UTC in full"],
        ["client", None, None, "only lines about this principal"],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["event"] = set()

    def opt_event(self, value: str) -> None:
        """only this event, such as refused or 'admin-*'; may be repeated"""
        fitting = fnmatch.filter(EVENTS, value)
        if not fitting:
            raise usage.UsageError(
                f"there is no event {value[:40]!r}; there are {', '.join(EVENTS)}"
            )
        self["event"].update(fitting)

    def parseArgs(self, path: str = "") -> None:
        self["path"] = path

    def run(self) -> int:
        wanted = Wanted(
            _since(self["since"]),
            name_of(self["client"]) if self["client"] else "",
            frozenset(self["event"]),
        )
        reader = LogReader(self._path(), wanted, lambda line: say(f"kdc admin log: {line}"))
        for entry in reader.entries(time.sleep if self["follow"] else None):
            if entry is None:
                sys.stdout.flush()
            else:
                self.show(entry.values, str(entry))
        return 0

    def _path(self) -> Path:
        given = absolute(self["path"]) or log_file(self.given("output"))
        path = given or self._of_running_kdc() or self.store.path.with_name("out.txt")
        if str(path).startswith("/dev/"):
            raise LocalIOError(
                f"{path} cannot be read again",
                hint="look where the KDC's output goes, such as in systemd's journal",
            )
        return path

    def _of_running_kdc(self) -> Path | None:
        """Where its log is, if one runs that tells us."""
        if not self.store.exists:
            return None
        try:
            connected = connect(self.store.path)
            answers = [] if connected is None else list(ask(connected, {"command": "stats"}))
        except KDCError:
            # Who may read the log need not be one who may ask the KDC.
            return None
        return absolute(str(answers[0].get("log") or "")) if answers else None


def _since(typed: str | None) -> str:
    """The time as it stands in the log."""
    if typed is None:
        return ""
    seconds = seconds_of(typed)
    if seconds is not None:
        return f"{stamp(max(0, int(time.time()) - seconds))}.000Z"
    if _DAY.fullmatch(typed) is None:
        raise usage.UsageError(
            f"not a time such as 10m, 2h, 7d, 2026-11-23 or 2026-11-23T05:12: {typed[:40]!r}"
        )
    return typed.rstrip("Z")
