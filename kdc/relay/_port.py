"""The relay's port: who comes there is told apart, and those who belong together are joined.

Of each connection so much is read that it is known what becomes of it, never
more than 64 bytes; what follows is read by nobody, only carried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from kdc.channel.receiver import ChannelListener
from kdc.errors import RefusedByPolicy, RemoteProtocolError
from kdc.limits import ConnectionLimiter, TokenBuckets
from kdc.net.newcomers import DISPLACED_SECONDS, Newcomers
from kdc.net.pace import Brake
from kdc.net.sockets import host_of, notice_dead_peers, read_at_once
from kdc.net.splice import SpliceEnd, StraightEnd
from kdc.net.waiting import Deadline
from kdc.protocol.names import plain_address
from kdc.protocol.relay import FIRST_BYTES, Call, Presented, Token, first_of
from kdc.relay._links import LinkEnd
from kdc.relay._registry import Registry
from kdc.relay.limits import RelayLimits

__all__ = ["CARRIED_AT_ONCE", "Port"]

CARRIED_AT_ONCE = 1 << 18


class Port(Factory["_Arrival"]):
    """What the relay's TCP port is given; ``listener`` takes the links, which are channels."""

    noisy = False

    def __init__(
        self,
        registry: Registry[LinkEnd, Joined],
        listener: ChannelListener,
        *,
        timers: Any,
        now: Callable[[], int],
        tell: Callable[[str], None],
    ) -> None:
        self.registry = registry
        self.listener = listener
        self.timers = timers
        self.now = now
        self.tell = tell
        limits = registry.limits
        self.newcomers: Newcomers[_Arrival] = Newcomers(
            ConnectionLimiter(limits.unproven, limits.unproven_per_address)
        )
        self.limit(limits)
        self.arriving: set[_Arrival] = set()
        self.open: set[Joined] = set()
        self.bytes = 0

    def limit(self, limits: RelayLimits) -> None:
        self.newcomers.limiter.allow(limits.unproven, limits.unproven_per_address)
        self.carried = TokenBuckets(limits.carried) if limits.bytes_per_second else None

    def buildProtocol(self, addr: Any) -> _Arrival:
        arrival = _Arrival(self, addr)
        self.newcomers.admit(arrival, host_of(addr))
        return arrival

    def carrying(self, principal: str, early: bytes = b"") -> Joined:
        """Return one end of what is carried for ``principal``: a sender's has said something."""
        return Joined(self, principal, early)

    def close_all(self) -> None:
        for arrival in list(self.arriving):
            arrival.crowded_out()
        for end in list(self.open):
            end.cut()

    def refused(self, address: str, error: Exception) -> None:
        self.tell(f"refused a connection from {address}: {error}")


class _Arrival(Protocol):
    """A connection of which it is not known yet what it is."""

    def __init__(self, port: Port, address: Any) -> None:
        self._port = port
        self._address = address
        self._data = b""
        self._deadline = Deadline(port.timers)

    @property
    def _raw(self) -> Any:
        return cast(Any, self.transport)

    def connectionMade(self) -> None:
        self._port.arriving.add(self)
        notice_dead_peers(self._raw)
        read_at_once(self._raw, FIRST_BYTES)
        self._deadline.within(self._port.registry.limits.first_seconds, self._too_slow)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            first = first_of(self._data)
            if first is not None:
                self._known()
                self._go_on(first)
        except (RemoteProtocolError, RefusedByPolicy) as error:
            self._port.refused(host_of(self._address), error)
            self.crowded_out()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._known()

    def _too_slow(self) -> None:
        self._port.registry.limited["first_seconds"] += 1
        self.crowded_out()

    def displaced(self) -> None:
        self._port.registry.limited["unproven"] += 1
        self._deadline.within(DISPLACED_SECONDS, self.crowded_out)

    def crowded_out(self) -> None:
        self._known()
        self._raw.abortConnection()

    def _known(self) -> None:
        self._deadline.cancel()
        self._port.arriving.discard(self)
        self._port.newcomers.release(self)

    def _go_on(self, first: Presented | Token) -> None:
        port, registry = self._port, self._port.registry
        if isinstance(first, Token):
            sender = registry.come(first.token, port.now())
            if sender is None:
                raise RefusedByPolicy("a token that is not one, was used, or is too old")
            sender.join(cast(Joined, self._becomes(port.carrying(sender.principal))))
            return
        if port.listener.epochs.knows(first.epoch_id):
            channel: Any = self._becomes(port.listener.buildProtocol(self._address))
            channel.dataReceived(self._data)
            return
        link = registry.holder(first.epoch_id)
        if link is None or not link.hears:
            raise RefusedByPolicy("nobody here is in that epoch")
        self._call(link, first.epoch_id)

    def _call(self, link: LinkEnd, epoch_id: bytes) -> None:
        port, registry = self._port, self._port.registry
        host, number = host_of(self._address), getattr(self._address, "port", 0)
        sender = port.carrying(registry.principal_of(link), self._data)
        token = registry.call(link, sender, host, port.now())
        self._becomes(sender)
        sender.wait(registry.limits.token_seconds)
        link.call(Call(epoch_id, token, _shown(host), number))

    def _becomes(self, protocol: Any) -> Any:
        """Have ``protocol`` take this connection over."""
        raw = self._raw
        raw.protocol = protocol
        protocol.makeConnection(raw)
        return protocol


def _shown(host: str) -> str:
    """The address as it can be told: nothing if it means something here only."""
    try:
        return plain_address(host)
    except ValueError:
        return ""


class Joined(StraightEnd):
    """One of two connections that belong together: a sender's, or its receiver's.

    ``early`` is what the sender has said before there was anybody to hear it.
    """

    def __init__(self, port: Port, principal: str, early: bytes = b"") -> None:
        super().__init__()
        self.principal = principal
        self._port = port
        self._early = early
        self._deadline = Deadline(port.timers)
        self._resting = Deadline(port.timers)
        self._full: IPushProducer
        self._rest: IPushProducer
        self._seen = -1  # nobody has looked
        self._read_ended = self._shut = False

    def connectionMade(self) -> None:
        self._port.open.add(self)
        super().connectionMade()
        read_at_once(self._transport, CARRIED_AT_ONCE)
        brake = Brake(self._transport)
        self._full, self._rest = brake.hold(), brake.hold()

    def wait(self, seconds: float) -> None:
        """Give the receiver so long to come."""
        self._deadline.within(seconds, self._nobody_came)

    def _nobody_came(self) -> None:
        self._port.registry.limited["token_seconds"] += 1
        self.cut()

    def join(self, other: SpliceEnd) -> None:
        super().join(other)
        early, self._early = self._early, b""
        self.dataReceived(early)
        for end in (self, other):
            cast(Joined, end)._look()

    def dataReceived(self, data: bytes | memoryview) -> None:
        super().dataReceived(data)
        port = self._port
        port.bytes += len(data)
        if port.carried is not None:
            rest = port.carried.charge(self.principal, len(data), port.now())
            if rest:
                self._rest.pauseProducing()
                self._resting.within(rest / 1000, self._rest.resumeProducing)

    @property
    def _producer(self) -> Any:
        return self._full

    # Whoever closes the two halves of a TCP connection one by one has not closed it: nobody is told
    # that it is over, and its descriptor stays, until somebody says so.

    def readConnectionLost(self) -> None:
        self._read_ended = True
        super().readConnectionLost()
        self._close_if_ended()

    def writeConnectionLost(self) -> None:
        # Our end is out only now: what was still to be written before it has gone.
        self._shut = self._write_ended
        super().writeConnectionLost()
        self._close_if_ended()

    def _close_if_ended(self) -> None:
        if self._read_ended and self._shut:
            self._transport.loseConnection()

    def _look(self) -> None:
        """Where nothing moved since the last look, nobody is there any more."""
        moved = self.received + self.sent
        if self._seen == moved:
            self._port.registry.limited["idle_seconds"] += 1
            cast(Joined, self._other)._deadline.cancel()  # it is cut with this one
            self.cut()
            return
        self._seen = moved
        self._deadline.within(self._port.registry.limits.idle_seconds, self._look)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._deadline.cancel()
        self._resting.cancel()
        self._port.open.discard(self)
        self._port.registry.forget(self)
