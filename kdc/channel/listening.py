"""A principal that can be reached: a port, the services behind it, and its epoch at the KDC."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IAddress, IProtocolFactory

from kdc.channel.figures import ChannelFigures
from kdc.channel.reach import Direct, Way
from kdc.channel.receiver import ChannelListener
from kdc.channel.reception import Reception
from kdc.channel.relayed import Relayed
from kdc.channel.services import Service
from kdc.channel.standing import EndWatch
from kdc.client.client import KDCClient, RealmClient
from kdc.errors import ErrorKind, KDCError, LocalIOError
from kdc.net import clock
from kdc.net.sockets import listen_at
from kdc.net.waiting import Waiters
from kdc.protocol.epoch_sets import EpochSets
from kdc.protocol.handshake import HeldEpochs
from kdc.protocol.relay import Reach

if TYPE_CHECKING:
    from kdc.channel.receptions import Receptions

__all__ = ["Listening"]


class Listening:
    """Offers ``services`` under the client's name at the endpoint ``listen``.

    ``listen`` is a Twisted endpoint string, ``otherwise`` another one for when that port
    is in use.  Each service has its rule, and who
    may use none gets no answer to the handshake.  ``advertise`` is
    the address that senders are told, empty for the one the KDC sees.
    ``status`` is given one line for people whenever something changes;
    `reachable` returns when senders can reach us for the first time.
    ``reach`` says whether a relay is used, and ``relay`` is its name; as the client if None.
    ``ending`` is told once a day that our time at the KDC ends soon; None: nobody looks.
    ``front`` makes what the port is given of what takes channels there.
    """

    def __init__(
        self,
        client: RealmClient,
        services: dict[str, Service],
        listen: str,
        *,
        otherwise: str = "",
        advertise: str = "",
        status: Callable[[str], None] = lambda line: None,
        reach: Reach | None = None,
        relay: str | None = None,
        ending: Callable[[str], None] | None = None,
        front: Callable[[ChannelListener], IProtocolFactory] = lambda listener: listener,
    ) -> None:
        self.services = services
        self._reachable: bool | Exception = False
        self._waiting = Waiters()
        self._client = client
        self._listen = listen
        self._otherwise = otherwise
        self._advertise = advertise
        self._status = status
        self._reach = reach or client.reach
        self._relay = relay or client.relay
        self._sets = EpochSets(len(client.nodes)) if len(client.nodes) > 1 else None
        self._listener = ChannelListener(
            client.keys.realm,
            services,
            timers=client.reactor,
            random=os.urandom,
            now_milliseconds=clock.milliseconds,
            epochs=self._sets,
        )
        self._front = front(self._listener)
        self._end_watch = None if ending is None else EndWatch(client, ending)
        self._port: Any = None
        self._reception: Reception | Receptions | None = None
        self._said_of_relay = ""

    @property
    def address(self) -> IAddress:
        """Where the port is bound."""
        bound: IAddress = self._port.getHost()
        return bound

    @property
    def port_number(self) -> int:
        """0 for a port that has no number."""
        return int(getattr(self._port.getHost(), "port", 0))

    @property
    def figures(self) -> ChannelFigures:
        """At any time."""
        listener, reception = self._listener, self._reception
        return ChannelFigures(
            listener.open_count,
            listener.opened_count,
            {**listener.refused},
            0 if reception is None else reception.kdc_links,
            0 if reception is None else reception.relay_links,
        )

    @property
    def epochs(self) -> HeldEpochs:
        """The key sets that tickets for us are sealed under."""
        return self._listener.epochs

    async def bind(self) -> None:
        """Take the port; raises `LocalIOError` or `ConfigurationError`."""
        try:
            self._port = await self._at(self._listen)
        except LocalIOError as error:
            if error.kind is not ErrorKind.RECEIVER_PORT_IN_USE or not self._otherwise:
                raise
            self._port = await self._at(self._otherwise)
            self._status(f"{error}: taking another port, {self.port_number}")

    async def _at(self, description: str) -> Any:
        return await listen_at(
            self._client.reactor,
            description,
            self._front,
            hint="is another receiver using that port?",
            kind=ErrorKind.RECEIVER_PORT_IN_USE,
        )

    async def run(self) -> None:
        """Be reachable until `close`; raises `KDCError` when there is no point in going on."""
        self._reception = self._made_reception()
        try:
            await self._reception.run()
        finally:
            if self._end_watch is not None:
                self._end_watch.end()

    def _made_reception(self) -> Reception | Receptions:
        if self._sets is None:
            (node,) = self._client.nodes
            return Reception(
                node,
                self._listener,
                port=self.port_number,
                way=self._way(node),
                begun=lambda: self._begun(1),
                lost=self._lost,
            )
        from kdc.channel.receptions import Receptions  # which few need

        return Receptions(
            self._client,
            self._listener,
            self._sets,
            port=self.port_number,
            way=self._way,
            begun=self._begun,
            lost=self._lost,
        )

    def _way(self, node: KDCClient) -> Way:
        place = self._advertise, self.port_number
        if self._reach is Reach.DIRECT:
            return Direct(*place)
        return Relayed(
            node,
            self._listener,
            self._reach,
            address=place[0],
            port=place[1],
            relay=self._relay,
            status=self._of_relay,
        )

    def _of_relay(self, line: str) -> None:
        """Of one relay there is a link for each KDC; what is the same of all is said once."""
        if self._sets is None or line != self._said_of_relay:
            self._said_of_relay = line
            self._status(line)

    async def reachable(self) -> None:
        """Return when the KDC knows where we are; raises what `failed` was told."""
        if self._reachable is False:
            await self._waiting.wait()
        if isinstance(self._reachable, Exception):
            raise self._reachable

    def failed(self, error: Exception) -> None:
        """There will be no epoch any more: tell who waits for one."""
        self._settle(error)

    def leave(self) -> None:
        """Leave the KDC: nobody new is sent here, whoever was may still come."""
        if self._reception is not None:
            self._reception.stop()

    async def close(self) -> None:
        """Leave the KDC and give up the port; open channels go on."""
        self.leave()
        if self._port is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)

    async def when_idle(self) -> None:
        """Return when no channel is open."""
        await self._listener.when_idle()

    def _begun(self, count: int) -> None:
        if self._port is None:
            return
        where = self.address
        host, number = getattr(where, "host", where), getattr(where, "port", "")
        kdcs = len(self._client.nodes)
        of = "" if kdcs == 1 else f" ({count} of {kdcs} KDCs)"
        self._status(f"receiving on {host} port {number}{of}")
        self._settle(True)
        if self._end_watch is not None:
            self._end_watch.begin()

    def _lost(self, error: KDCError, seconds: float) -> None:
        self._status(f"{error}; trying again in {seconds:.1f} s")

    def _settle(self, state: bool | Exception) -> None:
        self._reachable = state
        self._waiting.release()
