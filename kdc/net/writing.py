"""Writing without waiting for the reactor's next turn, where that can be.

Twisted's transports keep what they are given, ask the system whether it takes it, and send in
the next turn: for whoever sends record after record that is most of the work.  Where nothing waits
to be sent already, the system is given it at once, and only what it does not take is kept.

It relies on names that Twisted does not promise: `fits` tells whether they are what they were,
and where they are not everything is written as Twisted has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor

__all__ = ["fits", "is_bare", "write_at_once"]

_NAMES = ("dataBuffer", "_tempDataLen", "writeSomeData", "connected", "disconnecting")


def fits(transport: Any = None) -> bool:
    """Whether Twisted's transports have what `write_at_once` relies on."""
    example = FileDescriptor(cast(Any, object())) if transport is None else transport
    return all(hasattr(example, name) for name in _NAMES)


_fits = fits()


def is_bare(transport: Any) -> bool:
    """Whether ``transport`` sends as it is what it is given, as TCP does and TLS does not."""
    return isinstance(transport, FileDescriptor) and not getattr(transport, "TLS", False)


def write_at_once(transport: Any, pieces: Iterable[bytes | memoryview], *, bare: bool) -> None:
    """Write ``pieces`` to a transport; ``bare``: see `is_bare`.

    Each piece that is no `bytes` may change when the next is taken: what has to wait is copied.
    Order, back-pressure and errors are the transport's, as if it had been given all of it.
    """
    waiting = iter(pieces)
    if bare and _fits and _is_idle(transport):
        for piece in waiting:
            sent = transport.writeSomeData(piece)
            if not isinstance(sent, int):
                sent = 0  # the connection is lost: the reactor finds that again, and tells it
            if sent < len(piece):
                transport.writeSequence((bytes(piece[sent:]), *map(bytes, waiting)))
                return
        return
    transport.writeSequence(list(map(bytes, waiting)))


def _is_idle(transport: Any) -> bool:
    """Whether it is open, and nothing is still to be sent."""
    return (
        bool(transport.connected)
        and not transport.disconnecting
        and not transport.dataBuffer
        and not transport._tempDataLen
    )
