"""Whether something that is offered is wanted: rules, or a person at a terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool

from kdc.errors import RefusedByPolicy
from kdc.terminal import amount, confirm, counted, shown
from kdc.transfer._screen import Screen
from kdc.transfer.messages import Offer

__all__ = ["Consent", "described"]

T = TypeVar("T")

_MAX_NAMES = 5
_LEAST_COLUMNS = 16
_ACCEPT = "Accept? [y/N] "
_NOBODY = "nobody is there to be asked"


def described(offer: Offer, columns: int) -> str:
    """What is offered, in ``columns``: names are cut to what is left of them.

    How much it is stands on the next line if there is no room for it on this one.
    """
    if offer.text:
        return f"a text ({amount(offer.size or 0)})"
    details = []
    if offer.items is not None and offer.items > offer.total:
        details.append(counted(offer.items, "file or directory", "files and directories"))
    details.append("size not known" if offer.size is None else amount(offer.size))
    rest = f" ({', '.join(details)})"
    if columns - len(rest) < _LEAST_COLUMNS + len(f" and {offer.total} more"):
        return _names(offer, columns) + "\n " + rest
    return _names(offer, columns - len(rest)) + rest


def _names(offer: Offer, columns: int) -> str:
    """As many of the first names as there is room for, but one at least."""
    for count in range(min(len(offer.names), _MAX_NAMES), 0, -1):
        more = f" and {offer.total - count} more" if offer.total > count else ""
        each = (columns - len(more) - 2 * (count - 1)) // count
        names = [shown(name, max(each, _LEAST_COLUMNS)) for name in offer.names[:count]]
        if each >= _LEAST_COLUMNS or sum(map(len, names)) <= each * count:
            break
    return ", ".join(names) + more


@attrs.define
class Consent:
    """Decides about offers.

    ``accept_from``: these senders only, if any is named.  ``ask``: a person
    decides, one question at a time on the ``screen``.
    """

    reactor: Any
    accept_from: frozenset[str] = frozenset()
    ask: bool = False
    _screen: Screen = attrs.field(factory=Screen)
    _lock: DeferredLock = attrs.field(factory=DeferredLock, init=False)
    _closing: threading.Event = attrs.field(factory=threading.Event, init=False)

    async def __call__(self, sender: str, offer: Offer) -> None:
        """Raises `RefusedByPolicy` if it is not wanted."""
        if self.accept_from and sender not in self.accept_from:
            raise RefusedByPolicy("it takes nothing from you")
        if self.ask:
            await self._lock.acquire()
            await self._question(sender, offer)

    def close(self) -> None:
        """No answer is waited for any more."""
        self._closing.set()

    async def _question(self, sender: str, offer: Offer) -> None:
        given_up = threading.Event()
        answered: Deferred[bool] = Deferred(lambda _: given_up.set())
        thread = deferToThreadPool(
            self.reactor,
            self.reactor.getThreadPool(),
            _ask,
            lambda columns: _question(sender, offer, columns),
            lambda: given_up.is_set() or self._closing.is_set(),
        )
        self._screen.begin_question()
        # Whoever asks may leave before the question does, which is taken back.
        _ = thread.addBoth(self._gone).addCallbacks(
            lambda answer: None if answered.called else answered.callback(answer),
            lambda failure: None if answered.called else answered.errback(failure),
        )
        if not await answered:
            raise RefusedByPolicy("somebody there said no")

    def _gone(self, result: T) -> T:
        """The terminal is free for the next."""
        self._screen.end_question()
        self._lock.release()
        return result


def _question(sender: str, offer: Offer, columns: int) -> str:
    """What the sender has chosen stands on a line of its own, which the terminal does not wrap."""
    told = f"{sender} wants to send "
    return f"{told}{described(offer, columns - len(told) - 1)}\n{_ACCEPT}"


def _ask(question: Callable[[int], str], given_up: Callable[[], bool]) -> bool:
    """Raises `RefusedByPolicy` if there is nobody to be asked."""
    answer = confirm(question, given_up, "(the sender has gone)")
    if answer is None:
        raise RefusedByPolicy(_NOBODY)
    return answer
