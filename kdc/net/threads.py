"""Blocking calls off the reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

__all__ = ["in_thread"]


def in_thread(reactor: Any, pool: ThreadPool | None = None) -> Callable[..., Deferred[Any]]:
    """Return what makes a call in a thread of ``pool``, the reactor's own if None.

    It fires with what the call returns, and fails with what it raises.
    """
    return lambda call, *args: deferToThreadPool(
        reactor, pool or reactor.getThreadPool(), call, *args
    )
