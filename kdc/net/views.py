"""Protocols that take what arrives without a copy of it."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocol
from zope.interface import Interface

__all__ = ["ITakesViews"]


class ITakesViews(IProtocol, Interface):
    """A protocol whose ``dataReceived`` takes a `memoryview`, too.

    It is of bytes that never change, however long it is kept.
    """
