"""Whether something that is offered is wanted: rules, or a person at a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import threading
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool

from kdc.errors import RefusedByPolicy
from kdc.terminal import amount
from kdc.transfer.messages import Offer

__all__ = ["Consent", "described"]

_LOOK_SECONDS = 0.2
_MAX_ANSWER = 1000


def described(offer: Offer) -> str:
    """What is offered, on one line."""
    if offer.text:
        return f"a text ({amount(offer.size or 0)})"
    names = ", ".join(offer.names[:5])
    if offer.total > len(offer.names[:5]):
        names += f" and {offer.total - len(offer.names[:5])} more"
    details = []
    if offer.items is not None and offer.items > offer.total:
        details.append(f"{offer.items} files and directories")
    details.append("size not known" if offer.size is None else amount(offer.size))
    return f"{names} ({', '.join(details)})"


@attrs.define
class Consent:
    """Decides about offers.

    ``accept_from``: these senders only, if any is named.  ``ask``: a person
    decides, one question at a time.
    """

    reactor: Any
    accept_from: frozenset[str] = frozenset()
    ask: bool = False
    _lock: DeferredLock = attrs.field(factory=DeferredLock, init=False)
    _closing: threading.Event = attrs.field(factory=threading.Event, init=False)

    async def __call__(self, sender: str, offer: Offer) -> None:
        """Raises `RefusedByPolicy` if it is not wanted."""
        if self.accept_from and sender not in self.accept_from:
            raise RefusedByPolicy("it takes nothing from you")
        if self.ask:
            await self._lock.acquire()
            try:
                await self._question(f"{sender} wants to send {described(offer)}.  Accept? [y/N] ")
            finally:
                self._lock.release()

    def close(self) -> None:
        """No answer is waited for any more."""
        self._closing.set()

    async def _question(self, text: str) -> None:
        given_up = threading.Event()
        answered: Deferred[bool] = Deferred(lambda _: given_up.set())
        thread = deferToThreadPool(
            self.reactor,
            self.reactor.getThreadPool(),
            _ask,
            text,
            lambda: given_up.is_set() or self._closing.is_set(),
        )
        _ = thread.addCallbacks(
            lambda answer: None if answered.called else answered.callback(answer),
            lambda failure: None if answered.called else answered.errback(failure),
        )
        if not await answered:
            raise RefusedByPolicy("somebody there said no")


def _ask(text: str, given_up: Any) -> bool:
    """Ask at the terminal; False if nobody is there, or it does not matter any more."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # In the background, reading would stop us.
        if os.tcgetpgrp(fd) != os.getpgrp():
            raise RefusedByPolicy("nobody is there to be asked")
        termios.tcflush(fd, termios.TCIFLUSH)  # what was typed before answers nothing
        os.write(fd, text.encode(errors="replace"))
        while not given_up():
            if select.select([fd], [], [], _LOOK_SECONDS)[0]:
                return os.read(fd, _MAX_ANSWER).strip().lower() in (b"y", b"yes")
        os.write(fd, b"\n(the sender has gone)\n")
    except (OSError, termios.error):
        return False
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    return False
