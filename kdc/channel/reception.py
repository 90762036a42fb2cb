"""Keeping a receiver reachable: an epoch at the KDC, renewed in time, and begun again."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kdc.channel.reach import Direct, Way
from kdc.channel.receiver import ChannelListener
from kdc.client.client import KDCClient
from kdc.client.link import KDCLink
from kdc.errors import (
    AuthenticationRefused,
    ConfigurationError,
    KDCError,
    KDCUnreachable,
    Superseded,
    TooBusy,
    WrongIdentity,
)
from kdc.net import clock
from kdc.net.log import Logger
from kdc.net.retry import backoff
from kdc.net.waiting import Timers, Waiters
from kdc.protocol.handshake import Epoch, Epochs

__all__ = ["FATAL", "Reception"]

_MOST_BACKOFF_SECONDS = 60.0
_RENEW_SECONDS = 24 * 3600.0
FATAL = (AuthenticationRefused, WrongIdentity, ConfigurationError, Superseded)


class Reception:
    """Keeps ``listener`` reachable under the client's name.

    ``port`` is where the listener listens; ``address`` what senders are told,
    empty for the address that the KDC sees; or both come from ``way``.
    ``begun`` is called whenever the KDC begins an epoch for us, ``lost`` with why
    it cannot be reached now and after how many seconds it will be tried again.
    Where the name is kept reachable at several KDCs, ``epochs`` are those of this one, and
    ``tolerated`` says of what would be the end that it is a loss like others.
    """

    log = Logger()

    def __init__(
        self,
        client: KDCClient,
        listener: ChannelListener,
        *,
        port: int,
        address: str = "",
        random: Callable[[int], bytes] = os.urandom,
        way: Way | None = None,
        begun: Callable[[], None] = lambda: None,
        lost: Callable[[KDCError, float], None] = lambda error, seconds: None,
        epochs: Epochs | None = None,
        tolerated: Callable[[KDCError], bool] = lambda error: False,
    ) -> None:
        self._client = client
        self._listener = listener
        self._epochs = cast(Epochs, listener.epochs) if epochs is None else epochs
        self._tolerated = tolerated
        self._way = way or Direct(address, port)
        self._announced = address, port
        self._random = random
        self._begun = begun
        self._lost = lost
        self._link: KDCLink | None = None
        self._known = self._stopped = self._open = False
        self._wake = Waiters()
        self._timers = Timers(client.reactor)
        self._alarm = self._timers.deadline()
        self._forgetting = self._timers.deadline()

    @property
    def kdc_links(self) -> int:
        """How many KDCs send those to us who ask for us."""
        return int(self._known and self._link is not None and self._link.alive)

    @property
    def relay_links(self) -> int:
        return self._way.links

    async def run(self) -> None:
        """Stay reachable until `stop`.

        Returns after `stop`; raises `KDCError` when there is no point in going
        on: refused, wrong KDC, or superseded.
        """
        attempt = 0
        try:
            while not self._stopped:
                try:
                    if not self._open:
                        await self.begin()
                    self._open, attempt = False, 0
                    await self._stay()
                except KDCError as error:
                    if isinstance(error, FATAL):
                        self._epochs.clear()
                        self._way.holds([])
                        if not self._tolerated(error):
                            raise
                    if self._stopped:
                        return
                    pause = self.pause(error, attempt)
                    attempt += 1
                    self._lost(error, pause)
                    await self._sleep(pause)
        finally:
            self.stop()  # nor is anybody to be called by a relay
            self._timers.end()

    def stop(self) -> None:
        """Leave the KDC; channels that are open go on."""
        self._stopped = True
        self._way.stop()
        if self._link is not None:
            self._link.close()
        self._wake.release()

    async def begin(self) -> None:
        """Be reachable for as long as the connection lasts, once; raises `KDCError`.

        To be followed by `run`, which goes on from there.
        """
        self._known = False
        self._link = await self._client.link()
        if self._stopped:
            self._link.close()
            return
        self._way.changed = self._wake.release
        if self._epochs is self._listener.epochs:
            self._listener.due = self._wake.release
        await self._way.ready()
        await self._renew()
        self._known = self._open = True
        self._begun()

    def renew_if_due(self) -> None:
        """Begin the next epoch if it is time for that at this KDC."""
        if self._epochs.due(clock.milliseconds()):
            self._wake.release()

    async def _renew(self) -> None:
        """Begin an epoch, the first on this connection or the next."""
        static = X25519PrivateKey.from_private_bytes(self._random(32))
        sent = clock.milliseconds()
        link = self._living
        place = self._announced = self._way.place
        reply = await link.receive_under(static.public_key().public_bytes_raw(), *place)
        keys = self._client.keys
        epoch = Epoch(
            realm=keys.realm,
            receiver=keys.name,
            reply_key=keys.reply_key,
            static=static,
            reply=reply,
            sent_milliseconds=sent,
        )
        self._epochs.begin(epoch, clock.milliseconds())
        self._forget()

    async def _stay(self) -> None:
        """Return when stopped; raise when the KDC is gone or another took our name."""
        link = self._living
        while link.alive and not self._stopped:
            _ = link.lost.addBoth(self._wakeup)
            if self._way.place == self._announced:
                await self._sleep(_RENEW_SECONDS)
            if link.alive and not self._stopped:
                await self._renew()
        if link.superseded:
            raise Superseded(
                f"somebody began to receive as {self._client.keys.name} elsewhere;"
                " this receiver has stopped",
                hint="if that was not you, the key is stolen: change it at once",
            )
        if not self._stopped:
            self._epochs.retire(clock.milliseconds())
            self._forget()
            raise KDCUnreachable(f"the connection to the KDC at {self._client.where} was lost")

    def _forget(self) -> None:
        """Forget the keys of old epochs when their time has come, also if nobody comes then."""
        remaining = self._epochs.forget(clock.milliseconds())
        self._way.holds(self._epochs.ids)
        if remaining is not None:
            self._forgetting.within(remaining / 1000, self._forget)

    @property
    def _living(self) -> KDCLink:
        if self._link is None:
            raise RuntimeError("not connected")
        return self._link

    def _wakeup(self, result: Any) -> Any:
        self._wake.release()
        return result

    async def _sleep(self, seconds: float) -> None:
        """Return after so long, or as soon as there is something to do."""
        self._alarm.within(seconds, self._wake.release)
        try:
            await self._wake.wait()
        finally:  # cancelled, too
            self._alarm.cancel()

    @staticmethod
    def pause(error: KDCError, attempt: int) -> float:
        """How long until it is tried again."""
        pause = backoff(attempt, first=0.5, most=_MOST_BACKOFF_SECONDS)
        return max(pause, float(error.retry_after)) if isinstance(error, TooBusy) else pause
