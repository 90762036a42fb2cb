"""What a person at the receiver sees: lines, how far a transfer is, a question; one at a time."""

from __future__ import annotations

import collections
from collections.abc import Callable

import attrs

from kdc.net.exit_status import say
from kdc.transfer.messages import Offer
from kdc.transfer.progress import Progress

__all__ = ["Screen"]

# A person may be away while others are served: of more lines the last are told.
_MOST_HELD = 1000


@attrs.define
class Screen:
    """Nothing is written into a question: until it is gone, lines are held back."""

    _progress: Progress = attrs.field(factory=lambda: Progress("", None))
    _asking: bool = False
    _held: collections.deque[Callable[[], object]] = attrs.field(
        factory=lambda: collections.deque(maxlen=_MOST_HELD)
    )

    def say(self, line: str) -> None:
        self.tell(lambda: say(line))

    def tell(self, write: Callable[[], object]) -> None:
        """Let something be written, in lines of its own."""
        if self._asking:
            self._held.append(write)
            return
        self._progress.close()
        write()

    def begin_question(self) -> None:
        """The terminal is somebody else's now."""
        self._progress.close()
        self._asking = True

    def end_question(self) -> None:
        self._asking = False
        while self._held:
            self.tell(self._held.popleft())

    def close(self) -> None:
        """Nobody will answer any more: what was held back is told now."""
        if self._asking and self._held:
            say("")
        self.end_question()

    def watch(self, sender: str, offer: Offer) -> _Onlooker:
        """There is one line to draw: of several that come at once the last shows."""
        self._progress.close()
        self._progress = Progress(f"from {sender}:", offer.size)
        return _Onlooker(self, self._progress)

    def draw(self, progress: Progress, done: int, name: str) -> None:
        if progress is self._progress and not self._asking:
            progress.update(done, name)


@attrs.frozen
class _Onlooker:
    """Draws how far one transfer is."""

    _screen: Screen
    _progress: Progress

    def update(self, done: int, name: str) -> None:
        self._screen.draw(self._progress, done, name)

    def close(self) -> None:
        self._progress.close()
