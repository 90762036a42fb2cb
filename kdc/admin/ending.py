"""When a principal or an invitation ends."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from kdc.admin._request import AdminAnswer, Context, Request, done, name_in, nothing, whole_in
from kdc.errors import ConfigurationError, RefusedByPolicy
from kdc.store import Change, Record, Replace, Status, Store, change_record

__all__ = ["MAX_SECONDS", "expire"]

MAX_SECONDS = 100 * 366 * 86_400
_MAX_TIME = 10**11


def expire(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """Let it end ``at`` a time, or ``in_seconds``; never, with neither.

    In so many seconds: whenever the principal gets other keys, they begin anew.  An
    invitation always has an end.
    """
    at = whole_in(request, "at", 1, _MAX_TIME, 0)
    seconds = whole_in(request, "in_seconds", 1, MAX_SECONDS, 0)
    if at and seconds:
        raise ConfigurationError("an end is at a time, or so many seconds from now")
    end = context.now + seconds if seconds else at

    def change(now: Record) -> Change | None:
        if now.status is Status.DELETED:
            raise RefusedByPolicy(f"{now.name} is {now.status.value}")
        if now.status is Status.INVITED:
            if not end:
                raise RefusedByPolicy("an invitation always has an end")
            new = attrs.evolve(now, invitation_end_time=end)
        else:
            new = attrs.evolve(now, expiry_time=end, renewal_seconds=seconds)
        if new == now:
            return None
        return Replace(attrs.evolve(new, changed_time=context.now), now.generation)

    name = name_in(request)
    if not change_record(store, name, change):
        yield nothing(name, "that is its end" if end else "it has no end")
        return
    context.audit("admin-expires", name, str(end or "never"))
    yield {**done(name), **({"expiry": end} if end else {})}
