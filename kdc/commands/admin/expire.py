"""``expire``: when a principal or an invitation ends."""

from __future__ import annotations

import calendar
import contextlib
import time
from typing import Any

from twisted.python import usage

from kdc.commands.admin.command import EndingCommand
from kdc.commands.options import seconds_of
from kdc.terminal import date, harmless, shown

__all__ = ["ExpireCommand"]

_FORMS = ("%Y-%m-%d", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ")


class ExpireCommand(EndingCommand):
    """``expire NAME --at TIME | --in TIME | --never``"""

    synopsis = "kdc admin expire NAME --at DATE | --in TIME | --never"
    longdesc = (
        "Let a principal, or an invitation that is not used yet, end at a time (2027-01-31, or"
        " 2027-01-31T18:00Z; in UTC), or so long from now (12h, 90d).  Afterwards the KDC refuses"
        " it, and says why.  An end that was given with --in begins anew whenever the principal"
        " changes its key, as kdcclient renew does; one that was given with --at does not."
    )
    command = "expire"
    optParameters = [
        ["at", None, None, "a date, or a time, in UTC"],
        ["in", None, None, "a time from now, such as 12h or 90d"],
    ]
    optFlags = [["never", None, "it has no end any more"]]

    def request(self) -> dict[str, Any]:
        if sum(bool(self[key]) for key in ("at", "in", "never")) != 1:
            raise usage.UsageError("give one of --at, --in and --never")
        asked = super().request()
        if self["at"]:
            return {**asked, "at": unix_time_of(self["at"])}
        if self["in"]:
            seconds = seconds_of(self["in"])
            if not seconds:
                raise usage.UsageError(
                    f"--in is a time such as 12h or 90d, not {shown(self['in'])}"
                )
            return {**asked, "in_seconds": seconds}
        return asked

    def line(self, answer: dict[str, Any]) -> str:
        if answer.get("done") and answer.get("expiry"):
            return harmless(f"{answer['name']}: ends {date(answer['expiry'])}")
        return super().line(answer)


def unix_time_of(text: str) -> int:
    """Raises `UsageError` for what is no time, or before 1970."""
    for form in _FORMS:
        with contextlib.suppress(ValueError, OverflowError):
            found = calendar.timegm(time.strptime(text, form))
            if found > 0:
                return found
    raise usage.UsageError(
        f"--at is a date such as 2027-01-31, or 2027-01-31T18:00Z, not {shown(text)}"
    )
