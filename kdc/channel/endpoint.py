"""Twisted endpoints whose connections are secure channels between principals.

`ChannelClientEndpoint` connects to a principal by name.  `Reception` keeps a
`ChannelListener` reachable: an epoch at the KDC, renewed in time, and begun
again after the KDC was away.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kdc.channel._channel import ClosedEarly
from kdc.channel._sender import SenderChannel
from kdc.channel.receiver import ChannelListener
from kdc.channel.services import DEFAULT_SERVICE
from kdc.client.client import KDCClient
from kdc.client.link import KDCLink
from kdc.errors import (
    AuthenticationRefused,
    ConfigurationError,
    KDCError,
    KDCUnreachable,
    PeerUnavailable,
    Superseded,
    TooBusy,
    WrongIdentity,
)
from kdc.net import clock
from kdc.net.retry import backoff, reason_of
from kdc.net.waiting import Deadline
from kdc.protocol.handshake import Epoch
from kdc.protocol.kdc_exchange import Grant

__all__ = ["ChannelClientEndpoint", "Reception"]

_TRIES_SECONDS = 10.0
_MOST_BACKOFF_SECONDS = 60.0
_RENEW_SECONDS = 24 * 3600.0
_FATAL = (AuthenticationRefused, WrongIdentity, ConfigurationError, Superseded)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class ChannelClientEndpoint:
    """A principal, by name.

    ``address`` is where to look for it instead of where the KDC says: a hint
    only, since whoever answers has to prove who it is.  ``connect`` fires with
    the application's protocol when the peer has done so, not when TCP is up; it
    fails with a `KDCError`.
    """

    client: KDCClient
    peer: str
    service: str = DEFAULT_SERVICE
    address: str = ""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        reactor = self.client.reactor
        deadline = reactor.seconds() + _TRIES_SECONDS
        attempt = 0
        while True:
            grant = await self.client.grant(self.peer)
            try:
                return await self._present(grant, factory)
            except ClosedEarly:
                # A receiver with too many newcomers closes just so.  Never the
                # same key twice: the next try asks for another.
                pause = backoff(attempt)
                attempt += 1
                if reactor.seconds() + pause > deadline:
                    raise
                await deferLater(reactor, pause)

    async def _present(self, grant: Grant, factory: IProtocolFactory) -> IProtocol:
        reactor, reply = self.client.reactor, grant.reply
        address = self.address or reply.address
        if not address or not reply.port:
            raise PeerUnavailable(f"{grant.receiver} gave no address to be reached at")
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(reactor, address, reply.port)
        # A factory lives as long as its connection: it must not keep the session key.
        sender = SenderChannel(grant, self.service, factory, reactor)
        raw = Factory.forProtocol(lambda: sender)
        raw.noisy = False
        try:
            channel: Any = await endpoint.connect(raw)
        except (ConnectError, ConnectionClosed, TimeoutError, OSError) as error:
            # Reset before we came to write: it has too many newcomers, as in `_connect`.
            reset = getattr(error, "osError", None) == errno.ECONNRESET
            raise (ClosedEarly if reset else PeerUnavailable)(
                f"{grant.receiver} cannot be reached at {address} port {reply.port}:"
                f" {reason_of(error)}",
                hint="is its receiver still running, and no firewall in between?",
            ) from None
        opened: IProtocol = await channel.opened
        return opened


class Reception:
    """Keeps ``listener`` reachable under the client's name.

    ``port`` is where the listener listens; ``address`` what senders are told,
    empty for the address that the KDC sees.  ``begun`` is called whenever the
    KDC begins an epoch for us, ``lost`` with why it cannot be reached now and
    after how many seconds it will be tried again.
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
        begun: Callable[[], None] = lambda: None,
        lost: Callable[[KDCError, float], None] = lambda error, seconds: None,
    ) -> None:
        self._client = client
        self._listener = listener
        self._port = port
        self._address = address
        self._random = random
        self._begun = begun
        self._lost = lost
        self._link: KDCLink | None = None
        self._stopped = False
        self._wake: Deferred[None] | None = None
        self._forgetting = Deadline(client.reactor)

    async def run(self) -> None:
        """Stay reachable until `stop`.

        Returns after `stop`; raises `KDCError` when there is no point in going
        on: refused, wrong KDC, or superseded.
        """
        attempt = 0
        try:
            while not self._stopped:
                try:
                    await self._begin()
                    attempt = 0
                    await self._stay()
                except _FATAL:
                    self._listener.epochs.clear()
                    raise
                except KDCError as error:
                    if self._stopped:
                        return
                    pause = self._pause(error, attempt)
                    attempt += 1
                    self._lost(error, pause)
                    await self._sleep(pause)
        finally:
            self._forgetting.cancel()

    def stop(self) -> None:
        """Leave the KDC; channels that are open go on."""
        self._stopped = True
        if self._link is not None:
            self._link.close()
        if self._wake is not None and not self._wake.called:
            self._wake.callback(None)

    async def _begin(self) -> None:
        self._link = await self._client.link()
        if self._stopped:
            self._link.close()
            return
        self._listener.due = self._due
        await self._renew()
        self._begun()

    async def _renew(self) -> None:
        """Begin an epoch, the first on this connection or the next."""
        static = X25519PrivateKey.from_private_bytes(self._random(32))
        sent = clock.milliseconds()
        link = self._living
        reply = await link.receive_under(
            static.public_key().public_bytes_raw(), self._address, self._port
        )
        keys = self._client.keys
        epoch = Epoch(
            realm=keys.realm,
            receiver=keys.name,
            reply_key=keys.reply_key,
            static=static,
            reply=reply,
            sent_milliseconds=sent,
        )
        self._listener.epochs.begin(epoch, clock.milliseconds())
        self._forget()

    async def _stay(self) -> None:
        """Return when stopped; raise when the KDC is gone or another took our name."""
        link = self._living
        while link.alive and not self._stopped:
            _ = link.lost.addBoth(self._wakeup)
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
            self._listener.epochs.retire(clock.milliseconds())
            self._forget()
            raise KDCUnreachable(f"the connection to the KDC at {self._client.where} was lost")

    def _forget(self) -> None:
        """Forget the keys of old epochs when their time has come, also if nobody comes then."""
        remaining = self._listener.epochs.forget(clock.milliseconds())
        if remaining is not None:
            self._forgetting.within(remaining / 1000, self._forget)

    @property
    def _living(self) -> KDCLink:
        if self._link is None:
            raise RuntimeError("not connected")
        return self._link

    def _due(self) -> None:
        self._wakeup(None)

    def _wakeup(self, result: Any) -> Any:
        if self._wake is not None and not self._wake.called:
            self._wake.callback(None)
        return result

    async def _sleep(self, seconds: float) -> None:
        self._wake = Deferred()
        timer = self._client.reactor.callLater(seconds, self._wakeup, None)
        try:
            await self._wake
        finally:  # cancelled, too
            if timer.active():
                timer.cancel()

    def _pause(self, error: KDCError, attempt: int) -> float:
        pause = backoff(attempt, first=0.5, most=_MOST_BACKOFF_SECONDS)
        return max(pause, float(error.retry_after)) if isinstance(error, TooBusy) else pause
