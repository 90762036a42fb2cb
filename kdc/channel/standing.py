"""What the KDC's directory tells its clients, and when our own time at the KDC ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kdc.channel.query import ask_resident
from kdc.client.client import RealmClient
from kdc.errors import KDCError
from kdc.net.log import Logger
from kdc.net.waiting import Timers
from kdc.protocol.directory import (
    DIRECTORY,
    MAX_STANDING,
    STANDING,
    Standing,
    decode_standing,
)
from kdc.terminal import date, span

__all__ = ["EndWatch", "ask_directory", "standing", "warning"]

WARNING_SECONDS = 14 * 86400
# Not all at once when many begin together.
_FIRST_LOOK_SECONDS = 600.0
_LOOK_SECONDS = 86400.0

Look = Callable[[RealmClient], Coroutine[Any, Any, Standing | None]]


async def ask_directory(client: RealmClient, directory: str, service: str, limit: int) -> bytes:
    """Return what the directory answers, ``limit`` bytes at most.  Raises `KDCError`."""
    return await ask_resident(client, directory, service, b"", limit)


async def standing(client: RealmClient, directory: str = DIRECTORY) -> Standing | None:
    """How long we are good for at this KDC; None if nobody there tells.

    That is so without a directory, with an older one, and where we may not ask it.
    """
    try:
        return decode_standing(await ask_directory(client, directory, STANDING, MAX_STANDING))
    except KDCError:
        return None


def warning(found: Standing | None) -> str:
    """One line for people if the end is near, otherwise nothing.

    How long that is, is by the KDC's clock alone: ours may be wrong.
    """
    left = None if found is None else found.seconds_left()
    if found is None or left is None or left >= WARNING_SECONDS:
        return ""
    what = "a new key moves that" if found.renewal else "only the KDC's operator can move that"
    return f"our time at the KDC ends in {span(left)}, {date(found.end)}: {what}"


class EndWatch:
    """Looks once a day when our time at the KDC ends; ``tell`` gets a line when that is near."""

    log = Logger()

    def __init__(
        self,
        client: RealmClient,
        tell: Callable[[str], None],
        *,
        look: Look = standing,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._tell = tell
        self._look = look
        self._chance = chance
        self._timers = Timers(client.reactor)
        self._next = self._timers.deadline()
        self._looking: Deferred[None] | None = None
        self._begun = False

    def begin(self) -> None:
        """Look soon, and from then on; nothing if that has begun already."""
        if not self._begun:
            self._begun = True
            self._next.within((0.5 + 0.5 * self._chance()) * _FIRST_LOOK_SECONDS, self._due)

    def end(self) -> None:
        """Look no more."""
        self._timers.end()
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    def _due(self) -> None:
        self._next.within((0.9 + 0.2 * self._chance()) * _LOOK_SECONDS, self._due)
        self._looking = Deferred.fromCoroutine(self._see())
        _ = self._looking.addErrback(self._failed)

    async def _see(self) -> None:
        line = warning(await self._look(self._client))
        self._looking = None
        if line:
            self._tell(line)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("looking for the end of our time at the KDC failed", failure)
