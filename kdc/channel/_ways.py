"""The way to a receiver: its own address first, then the realm's relay.

Both lead to the same receiver or to somebody who cannot prove to be it, so it
does not matter which is taken; what has been sent on one is never sent again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure

from kdc.channel._channel import ClosedEarly
from kdc.channel.reach import Place, place_of_relay
from kdc.client.client import RealmClient
from kdc.errors import KDCError, PeerUnavailable
from kdc.net.retry import reason_of
from kdc.net.sockets import tcp_endpoint
from kdc.net.waiting import Deadline, Waiters
from kdc.protocol.relay import Reach

__all__ = ["DIRECT_SECONDS", "Ways"]

# So long the address itself is tried before the relay is asked for.
DIRECT_SECONDS = 3.0
_REFUSED = (ConnectError, ConnectionClosed, TimeoutError, OSError)


class Ways:
    """Makes the TCP connections of one sender, each for a key of its own, to ``peer``."""

    def __init__(
        self,
        client: RealmClient,
        peer: str,
        reach: Reach,
        relay: str,
        *,
        dial: Callable[[Any, str, int, IProtocolFactory], Deferred[Any]] | None = None,
    ) -> None:
        self._connect_to = dial or _connect_to
        self._client = self._node = client
        self._peer = peer
        self._reach = reach
        self._relay = relay
        self._failed: PeerUnavailable | None = None

    async def connect(
        self, factory: IProtocolFactory, place: Place, node: RealmClient | None = None
    ) -> Any:
        """Return the protocol of ``factory``, connected once.  ``place`` is the peer's own.

        ``node`` is the KDC that has told us: its relay knows the same epoch of the peer.  Raises
        `KDCError`.
        """
        self._node = node or self._client
        if self._reach is Reach.RELAY:
            return await self._through(await self._place_of_relay(), factory)
        if self._reach is Reach.DIRECT or self._failed is None:
            connecting = _Connecting(self._dial(place, factory), self._client.reactor)
            try:
                return await self._directly(connecting, factory, place)
            except CancelledError:
                connecting.drop()
                raise
            finally:
                connecting.end()
        return await self._through(await place_of_relay(self._node, self._relay), factory)

    async def _directly(
        self, connecting: _Connecting, factory: IProtocolFactory, place: Place
    ) -> Any:
        if self._reach is Reach.AUTO:
            await connecting.within(DIRECT_SECONDS)
            failed = connecting.expected()
            if failed is None or not self._reset(failed):
                relay = None if connecting.made else await self._another_way(place)
                # It may have come about meanwhile: then its first message is out.
                if relay is not None and not connecting.made:
                    connecting.end()
                    self._failed = self._unreachable(place, connecting.expected())
                    return await self._through(relay, factory)
        await connecting.within(None)
        failed = connecting.expected()
        if failed is not None:
            raise self._unreachable(place, failed)
        return connecting.made

    async def _another_way(self, place: Place) -> Place | None:
        """Where the relay is, if there is one for us and it was not just that."""
        try:
            relay = await place_of_relay(self._node, self._relay)
        except KDCError:
            return None
        return None if relay == place else relay

    async def _place_of_relay(self) -> Place:
        try:
            return await place_of_relay(self._node, self._relay)
        except PeerUnavailable as error:
            raise PeerUnavailable(
                f"there is no relay to reach {self._peer} by: {error}",
                hint="whether the realm has one is its operator's to say",
            ) from None

    async def _through(self, relay: Place, factory: IProtocolFactory) -> Any:
        try:
            return await self._dial(relay, factory)
        except _REFUSED as error:
            host, port = relay
            nor = f"the relay at {host} port {port} cannot be reached: {reason_of(error)}"
            raise PeerUnavailable(
                nor if self._failed is None else f"{self._failed}; {nor}",
                hint="is the relay still running, and no firewall in between?",
            ) from None

    def _dial(self, place: Place, factory: IProtocolFactory) -> Deferred[Any]:
        address, port = place
        if not address or not port:
            raise PeerUnavailable(f"{self._peer} gave no address to be reached at")
        return self._connect_to(self._client.reactor, address, port, factory)

    def _unreachable(self, place: Place, failed: Exception | None) -> PeerUnavailable:
        address, port = place
        late = f"no answer within {DIRECT_SECONDS:.0f} s"
        why = late if failed is None else reason_of(failed)
        # Reset before we came to write: it has too many newcomers, and closes just so.
        reset = failed is not None and self._reset(failed)
        return (ClosedEarly if reset else PeerUnavailable)(
            f"{self._peer} cannot be reached at {address} port {port}: {why}",
            hint="is its receiver still running, and no firewall in between?",
        )

    @staticmethod
    def _reset(error: Exception) -> bool:
        return getattr(error, "osError", None) == errno.ECONNRESET


def _connect_to(reactor: Any, address: str, port: int, factory: IProtocolFactory) -> Deferred[Any]:
    connecting: Deferred[Any] = tcp_endpoint(reactor, address, port).connect(factory)
    return connecting


class _Connecting:
    """One attempt, which can be looked at while it goes on."""

    def __init__(self, attempt: Deferred[Any], timers: Any) -> None:
        self.made: Any = None
        self.failed: Exception | None = None
        self._attempt = attempt
        self._given_up = False
        self._over = Waiters()
        self._late = Deadline(timers)
        _ = attempt.addBoth(self._done)

    async def within(self, seconds: float | None) -> None:
        """Return when it is decided, or after so long."""
        if self._decided:
            return
        if seconds is not None:
            self._late.within(seconds, self._over.release)
        try:
            await self._over.wait()
        finally:
            self._late.cancel()

    def expected(self) -> Exception | None:
        """Why it failed, if that is what the network does; raises anything else."""
        if self.failed is not None and not isinstance(self.failed, _REFUSED):
            raise self.failed
        return self.failed

    def end(self) -> None:
        """Give it up, if it has not come to anything."""
        if not self._decided:
            self._given_up = True
            self._attempt.cancel()

    def drop(self) -> None:
        """Nobody wants it any more, not even if it has come about."""
        if self.made is not None:
            self.made.transport.abortConnection()

    @property
    def _decided(self) -> bool:
        return self.made is not None or self.failed is not None

    def _done(self, result: Any) -> None:
        if self._given_up:
            return
        if isinstance(result, Failure):
            self.failed = cast(Exception, result.value)
        else:
            self.made = result
        self._over.release()
