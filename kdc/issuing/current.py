"""Whether what a KDC has in memory is new enough to decide by.

Where several machines have one store, one of them may be cut off from the others,
and does not hear that somebody was disabled.  So each asks again and again for what
is new; when that was too long ago, nothing is decided at all.
"""

from __future__ import annotations

from collections.abc import Callable

from kdc.issuing.decisions import Now
from kdc.store import Store

__all__ = ["always_current", "confirmed_within"]


def always_current(now: Now) -> bool:
    """For a store that nobody else can change."""
    return True


def confirmed_within(store: Store, milliseconds: int) -> Callable[[Now], bool]:
    """Return what tells whether ``store`` was confirmed that short a time ago.

    A change that was acknowledged anywhere at t is then part of whatever is
    decided later than ``milliseconds`` after t.
    """

    def current(now: Now) -> bool:
        confirmed = store.confirmed_milliseconds
        return confirmed is None or now.milliseconds - confirmed <= milliseconds

    return current
