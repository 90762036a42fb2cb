"""Who wants to know of some of the lines on their way to the activity log."""

from __future__ import annotations

from collections.abc import Callable

from kdc.issuing.decisions import Audit

__all__ = ["Listener", "Listeners"]

Listener = Callable[[Audit], None]


class Listeners:
    """Each hears of the events that it was added for; then ``last`` of every line.

    Of most lines, one for each key, nobody wants to know: they cost one look.
    """

    def __init__(self, last: Listener) -> None:
        self._last = last
        self._of: dict[str, tuple[Listener, ...]] = {}

    def add(self, listener: Listener, *events: str) -> None:
        for event in events:
            self._of[event] = (*self._of.get(event, ()), listener)

    def tell(self, line: Audit) -> None:
        for listener in self._of.get(line.event, ()):
            listener(line)
        self._last(line)
