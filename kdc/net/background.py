"""Work that nobody waits for: its errors are logged rather than lost."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kdc.net.log import Logger

__all__ = ["background"]

_log = Logger()


def background(work: Coroutine[Deferred[Any], Any, Any], what: str) -> None:
    """Run ``work`` to its end; log what it raises as a failure of ``what``.

    Whatever can be expected to go wrong is the caller's to handle: what gets
    here is a defect.
    """

    def report(failure: Failure) -> None:
        _log.failure("{what} failed", failure, what=what)

    _ = Deferred.fromCoroutine(work).addErrback(report)
