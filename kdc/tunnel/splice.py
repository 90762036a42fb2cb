"""Tunnels: any program's TCP or unix connections through a channel, service by service.

`expose` offers a local endpoint to peers; `forward` gives a peer's service a
local endpoint; `pipe` connects it to standard input and output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone, TimeoutError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from kdc.channel.transport import PrincipalAddress
from kdc.errors import KDCError, PeerUnavailable
from kdc.net.background import background
from kdc.net.splice import SpliceEnd, StraightEnd, error_of
from kdc.terminal import counted
from kdc.tunnel.traffic import Traffic

# So many keys are asked for at a time: a KDC that paces us would answer more of them too late.
_CONNECTING = 16
# A receiver keeps 128 channels of one sender at a time, other services' and transfers included.
_MOST = 120

__all__ = ["expose_factory", "forward_factory", "join_to"]


async def join_to(end: SpliceEnd, target: IStreamClientEndpoint) -> KDCError | None:
    """Connect to ``target`` for ``end``; if that fails, cut it and return why."""
    factory: Factory[SpliceEnd] = Factory.forProtocol(StraightEnd)
    factory.noisy = False
    try:
        end.join(cast(SpliceEnd, await target.connect(factory)))
    except KDCError as error:
        failed = error
    except (ConnectError, ConnectionClosed, TimeoutError, OSError) as error:
        failed = PeerUnavailable(f"cannot connect: {error}")
    else:
        return None
    end.broken = failed
    end.cut()
    return failed


class _SpliceFactory(Factory[SpliceEnd]):
    """Each connection gets one of its own to ``target``."""

    noisy = False

    turned = False  # whether what comes from the target is what the peer sent

    def __init__(
        self,
        target: IStreamClientEndpoint,
        what: str,
        tell: Callable[[str], None],
        traffic: Traffic,
    ) -> None:
        self._target = target
        self._what = what
        self._tell = tell
        self._traffic = traffic

    def _joined(self, end: SpliceEnd) -> None:
        self._traffic.began(end, turned=self.turned)
        background(self._join(end), self._what)

    async def _join(self, end: SpliceEnd) -> None:
        await join_to(end, self._target)

    def _ended(self, end: SpliceEnd, reason: Failure) -> None:
        in_order = end.broken is None and reason.check(ConnectionDone) is not None
        self._traffic.ended(end, in_order=in_order)


class _ExposeFactory(_SpliceFactory):
    def buildProtocol(self, addr: Any) -> SpliceEnd:
        peer = cast(PrincipalAddress, addr)
        what = f"{self._what}: {peer.name} from {peer.host} port {peer.port}"
        self._tell(f"{what}: connected")

        def gone(end: SpliceEnd, reason: Failure) -> None:
            self._ended(end, reason)
            self._tell(f"{what}: {_farewell(end, reason)}")

        return SpliceEnd(self._joined, gone)


class _ForwardFactory(_SpliceFactory):
    """Connections come as fast as programs like, and wait here until a channel can be had.

    A channel costs the KDC a key, which it makes at a certain rate, and a peer keeps so
    many of one sender's at a time.
    """

    turned = True

    def __init__(self, *args: Any, connecting: int, most: int) -> None:
        super().__init__(*args)
        self._turns = DeferredSemaphore(connecting)
        self._places = DeferredSemaphore(most)
        self._placed: set[SpliceEnd] = set()
        self._told = False

    def buildProtocol(self, addr: Any) -> SpliceEnd:
        return StraightEnd(self._joined, self._gone)

    async def _join(self, end: SpliceEnd) -> None:
        if not self._places.tokens and not self._told:
            self._told = True
            self._tell(f"{self._what}: {self._places.limit} connections are open, more wait")
        await self._places.acquire()
        if end.lost:
            self._places.release()
            return
        self._placed.add(end)
        await self._turns.acquire()
        try:
            if not end.lost:
                await super()._join(end)
        finally:
            self._turns.release()

    def _gone(self, end: SpliceEnd, reason: Failure) -> None:
        self._ended(end, reason)
        if end in self._placed:
            self._placed.remove(end)
            self._places.release()
        if end.broken is not None:
            self._tell(f"{self._what}: {end.broken}")


def _farewell(end: SpliceEnd, reason: Failure) -> str:
    amounts = f"{counted(end.received, 'byte')} in, {counted(end.sent, 'byte')} out"
    if reason.check(ConnectionDone):
        return f"closed after {amounts}"
    return f"broken after {amounts}: {end.broken or error_of(reason)}"


def expose_factory(
    target: IStreamClientEndpoint,
    what: str,
    tell: Callable[[str], None],
    traffic: Traffic | None = None,
) -> IProtocolFactory:
    """What to offer as a service: each channel gets a connection of its own to ``target``.

    ``tell`` is given a line whenever a channel opens or closes, with the
    principal that opened it; ``traffic`` adds up.
    """
    return _ExposeFactory(target, what, tell, traffic or Traffic())


def forward_factory(
    target: IStreamClientEndpoint,
    what: str,
    tell: Callable[[str], None],
    traffic: Traffic | None = None,
    *,
    connecting: int = _CONNECTING,
    most: int = _MOST,
) -> IProtocolFactory:
    """What to listen with locally: each connection gets a channel of its own to ``target``.

    ``tell`` is given a line for each that could not be opened, or broke.  At ``most`` so
    many are open at a time, ``connecting`` of them on their way; the others wait.
    """
    traffic = traffic or Traffic()
    return _ForwardFactory(target, what, tell, traffic, connecting=connecting, most=most)
