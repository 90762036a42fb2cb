"""Blocking calls off the reactor thread, which keep it waiting as little as can be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

__all__ = ["in_thread", "take_short_turns"]

# Whatever waits for the interpreter waits so long at most: a request to the KDC does so some times.
# With half a millisecond one in a hundred waited for 1.3 to 2.4 ms in all, with a tenth for 0.3;
# the thread that works takes as long with either.
_TURN_SECONDS = 0.0001


def take_short_turns() -> None:
    """Have a thread that works hand over the interpreter after a tenth of a millisecond.

    Python's own 5 ms are too much where a thread goes through a million principals: the
    reactor gives the interpreter away at each call of the system, and would have to wait
    for it each time.  Of the whole process, so for programs of our own only.
    """
    sys.setswitchinterval(_TURN_SECONDS)


def in_thread(reactor: Any, pool: ThreadPool | None = None) -> Callable[..., Deferred[Any]]:
    """Return what makes a call in a thread of ``pool``, the reactor's own if None.

    It fires with what the call returns, and fails with what it raises.
    """
    return lambda call, *args: deferToThreadPool(
        reactor, pool or reactor.getThreadPool(), call, *args
    )
