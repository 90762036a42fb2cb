"""Blocking calls off the reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

__all__ = ["in_thread"]


def in_thread(reactor: Any) -> Callable[..., Deferred[Any]]:
    return lambda call, *args: deferToThreadPool(reactor, reactor.getThreadPool(), call, *args)
