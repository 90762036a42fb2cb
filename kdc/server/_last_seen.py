"""When each principal was with the KDC last, since it was started; for operators.

In memory only: a log-in is not worth a change of the store.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kdc.issuing.decisions import Audit
from kdc.server._listeners import Listeners

__all__ = ["LastSeen"]


@attrs.define
class LastSeen:
    """Reads what is on its way to the activity log, as `kdc.issuing.realm.Realm` writes it.

    Only those who have proved who they are are in it, so it is no longer than the store.
    """

    _now: Callable[[], float]
    _times: dict[str, int] = attrs.field(init=False, factory=dict)

    def hear(self, listeners: Listeners) -> None:
        listeners.add(self._seen, "authenticated", "epoch-ended")
        listeners.add(self._is_new, "registered")

    def _seen(self, audit: Audit) -> None:
        if not audit.unproven:
            self._times[audit.principal] = int(self._now())

    def _is_new(self, audit: Audit) -> None:
        """A name that was free: who had it is somebody else."""
        self._times.pop(audit.principal, None)

    def of(self, name: str) -> int | None:
        """In Unix seconds; in any thread."""
        return self._times.get(name)
