"""Keeping a receiver reachable at several KDCs of its realm: an epoch at each of them.

Each KDC keeps a name reachable for whoever came last, and whoever was there before is told to
stop.  So two receivers of one name that begin at the same moment would end each other if they
went to the KDCs in different orders: everybody begins at the first that can be reached, in
their sorted order, and goes to the others from there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kdc.channel.reach import Way
from kdc.channel.receiver import ChannelListener
from kdc.channel.reception import FATAL, Reception
from kdc.client.client import KDCClient, RealmClient
from kdc.errors import KDCError, Superseded
from kdc.net.waiting import Deadline, Waiters
from kdc.protocol.epoch_sets import EpochSets

__all__ = ["Receptions"]

_OR_ONE_TWICE = "; or are two of the addresses one KDC's?  Then take one of them away"


class Receptions:
    """A `Reception` at each KDC of ``client``; ``sets`` are the listener's epochs.

    ``way`` makes the way to us that a KDC is told, and ``port`` is the listener's.  ``begun``
    is given at how many KDCs we are reachable, whenever that is another number, ``lost`` what
    `Reception` gives it: of a KDC that stays away while others are there, once.
    """

    def __init__(
        self,
        client: RealmClient,
        listener: ChannelListener,
        sets: EpochSets,
        *,
        port: int,
        way: Callable[[KDCClient], Way],
        begun: Callable[[int], None] = lambda count: None,
        lost: Callable[[KDCError, float], None] = lambda error, seconds: None,
    ) -> None:
        self._sets = sets
        self._begun = begun
        self._lost = lost
        self._listener = listener
        self._open: set[int] = set()
        self._away: set[int] = set()
        self._stopped = False
        self._error: BaseException | None = None
        self._wake = Waiters()
        self._alarm = Deadline(client.reactor)
        self._running: list[Deferred[None]] = []
        self._receptions = [
            Reception(
                node,
                listener,
                port=port,
                way=way(node),
                begun=functools.partial(self._begun_at, number),
                lost=functools.partial(self._lost_at, number),
                epochs=epochs,
                tolerated=functools.partial(self._tolerated_at, number),
            )
            for number, (node, epochs) in enumerate(zip(client.nodes, sets.each, strict=True))
        ]

    @property
    def kdc_links(self) -> int:
        """How many KDCs send those to us who ask for us."""
        return sum(reception.kdc_links for reception in self._receptions)

    @property
    def relay_links(self) -> int:
        """How many links to relays there are, one for each KDC at most."""
        return sum(reception.relay_links for reception in self._receptions)

    async def run(self) -> None:
        """Stay reachable until `stop`.

        Returns after `stop`; raises `KDCError` when there is no point in going on anywhere:
        superseded at one of them, or refused by all that are there.
        """
        try:
            self._listener.due = self._due
            await self._begin_somewhere()
            for reception in self._receptions:
                if not self._stopped:
                    self._keep(reception)
            while self._running:
                await self._wake.wait()
        finally:
            self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Leave the KDCs; channels that are open go on."""
        self._stopped = True
        for reception in self._receptions:
            reception.stop()
        for running in list(self._running):
            running.cancel()
        self._alarm.end()
        self._wake.release()

    async def _begin_somewhere(self) -> None:
        """Be reachable at the first that can be reached; raises `KDCError`."""
        attempt = 0
        while not self._stopped:
            errors: list[KDCError] = []
            for reception in self._receptions:
                if self._stopped:
                    return
                try:
                    await reception.begin()
                except Superseded:
                    raise
                except KDCError as error:
                    errors.append(error)
                else:
                    return
            if not self._stopped:
                await self._begin_later(errors, attempt)
            attempt += 1

    async def _begin_later(self, errors: list[KDCError], attempt: int) -> None:
        """Nobody is there whom we could ask; raises what will not be another answer."""
        for error in errors:
            if isinstance(error, FATAL):
                raise error
        pause, error = min(
            ((Reception.pause(error, attempt), error) for error in errors), key=lambda each: each[0]
        )
        self._lost(error, pause)
        self._alarm.within(pause, self._wake.release)
        try:
            await self._wake.wait()
        finally:
            self._alarm.cancel()

    def _keep(self, reception: Reception) -> None:
        running = Deferred.fromCoroutine(reception.run())
        self._running.append(running)

        def ended(result: Failure | None) -> None:
            self._running.remove(running)
            if isinstance(result, Failure) and not self._stopped:
                self._failed(result)
            self._wake.release()

        _ = running.addBoth(ended)

    def _failed(self, failure: Failure) -> None:
        """It is over at one, and so at all."""
        error = failure.value
        if isinstance(error, Superseded):
            error = Superseded(str(error), hint=f"{error.hint}{_OR_ONE_TWICE}")
        self._error = error
        self._sets.clear()
        self.stop()

    def _due(self) -> None:
        for reception in self._receptions:
            reception.renew_if_due()

    def _begun_at(self, number: int) -> None:
        self._away.discard(number)
        self._open.add(number)
        self._begun(len(self._open))

    def _lost_at(self, number: int, error: KDCError, seconds: float) -> None:
        was_open, first = number in self._open, number not in self._away
        self._open.discard(number)
        self._away.add(number)
        if first or not self._open:
            self._lost(error, seconds)
        if was_open and self._open:
            self._begun(len(self._open))

    def _tolerated_at(self, number: int, error: KDCError) -> bool:
        """One that refuses us may not have heard yet of what another knows."""
        if isinstance(error, Superseded):
            return False
        others = set(range(len(self._receptions))) - {number}
        return bool(self._open & others) or not others <= self._away
