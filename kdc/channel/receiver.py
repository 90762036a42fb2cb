"""The end of a channel that was asked for, and the listener that makes one for each connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from kdc.channel._channel import Channel, Phase
from kdc.channel.figures import REASONS
from kdc.channel.services import Service, ServiceStatus, service_name
from kdc.channel.transport import PrincipalAddress
from kdc.errors import PeerUnavailable, Refusal, RemoteProtocolError
from kdc.limits import ConnectionLimiter, Rate, TokenBuckets
from kdc.net import clock
from kdc.net.log import Logger
from kdc.net.newcomers import DISPLACED_SECONDS, Newcomers
from kdc.net.sockets import host_of
from kdc.net.waiting import Waiters
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.handshake import MAX_PRESENT, Accepted, Epochs, HeldEpochs
from kdc.protocol.records import RecordStream

__all__ = ["ChannelListener"]

PRESENT_SECONDS = 5.0
_MAX_UNPROVEN = 64
_MAX_UNPROVEN_PER_ADDRESS = 8
# So many channels of one sender at a time: each costs descriptors and memory here.
_MAX_CHANNELS_PER_SENDER = 128
# Refusals that are told in the log: enough to see what goes on, not enough to fill a disk.
_TOLD = Rate(10, 1, 200)


class _ReceiverChannel(Channel):
    """The side that was asked for; the application learns of it once a record has opened."""

    def __init__(self, listener: ChannelListener, address: str, port: int) -> None:
        super().__init__(listener.timers, FrameBuffer(MAX_PRESENT))
        self._listener = listener
        self._address = address
        self._port = port
        self._sender = ""

    def connectionMade(self) -> None:
        super().connectionMade()
        self._within(PRESENT_SECONDS, self._late)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._listener.forget(self, self._sender)
        super().connectionLost(reason)

    def _shake(self, body: bytes) -> None:
        if any(dialled(body) for dialled in self._listener.dialled):
            self.fail(PeerUnavailable("that was the relay, to see whether it gets here"))
            return
        accepted = self._listener.accept(self, body)
        self._sender = accepted.sender
        self._stream = accepted.stream
        cast(Any, self.transport).write(accepted.answer)
        # A copied first message gets this far, so the clock goes on.
        self._within(PRESENT_SECONDS, self._late)

    def _first_data(self, data: bytes) -> None:
        self._deadline.cancel()
        peer = PrincipalAddress(self._sender, self._listener.realm, self._address, self._port)
        status, application = self._listener.choose(data, peer)
        stream = cast(RecordStream, self._stream)
        cast(Any, self.transport).writeSequence(stream.send_data(bytes([status])))
        if application is None:
            self._captured = None
            self._refuse(status, data)
        else:
            self._listener.opened(self)
            self._open(application, peer)

    def _refuse(self, status: ServiceStatus, service: bytes) -> None:
        self._listener.tell(
            "{sender} from {address}: {status} {service}",
            sender=self._sender,
            address=self._address,
            status=status.name.lower(),
            service=service[:64],
        )
        self._listener.refused[status.name.lower()] += 1
        self._phase = Phase.CLOSED
        # The status has to arrive: no reset because of what is still unread.
        cast(Any, self.transport).loseWriteConnection()
        self._within(PRESENT_SECONDS, lambda: cast(Any, self.transport).abortConnection())

    def _never_opened(self, error: BaseException) -> None:
        if not isinstance(error, PeerUnavailable):
            self._listener.distrusted(self._address, error)

    def displaced(self) -> None:
        """Its place is a newcomer's: prove at once, or go."""
        self._within(DISPLACED_SECONDS, self.crowded_out)

    def crowded_out(self) -> None:
        self.fail(RemoteProtocolError(Refusal.RATE, "proved nothing while others came"))

    def _late(self) -> None:
        self.fail(RemoteProtocolError(Refusal.MALFORMED, "no whole first message in time"))


class ChannelListener(Factory["_ReceiverChannel"]):
    """Takes connections from senders: what a receiver's port is given.

    ``services``: what is offered, by name; "" is the default one.  Who may use
    none of them gets no answer to the handshake, and so learns nothing, not
    even that somebody is here; the same for the channels over ``most`` of one
    sender's.
    """

    noisy = False
    log = Logger()

    def __init__(
        self,
        realm: str,
        services: dict[str, Service],
        *,
        timers: IReactorTime,
        random: Callable[[int], bytes],
        now_milliseconds: Callable[[], int] = clock.milliseconds,
        epochs: HeldEpochs | None = None,
        limiter: ConnectionLimiter[_ReceiverChannel] | None = None,
        most: int = _MAX_CHANNELS_PER_SENDER,
    ) -> None:
        self.realm = realm
        self.services = services
        self.epochs: HeldEpochs = Epochs() if epochs is None else epochs
        self.timers = timers
        self.newcomers: Newcomers[_ReceiverChannel] = Newcomers(
            limiter or ConnectionLimiter(_MAX_UNPROVEN, _MAX_UNPROVEN_PER_ADDRESS)
        )
        self.due: Callable[[], None] = lambda: None
        # Each says whether a first message is no sender's, but a relay's that was asked to come.
        self.dialled: list[Callable[[bytes], bool]] = []
        self._random = random
        self._most = most
        self._answered: Counter[str] = Counter()
        self._now = now_milliseconds
        self._told = TokenBuckets(_TOLD, capacity=1)
        self._untold = 0
        self._channels: set[_ReceiverChannel] = set()
        # Since the start.
        self.opened_count = 0
        self.refused = dict.fromkeys(REASONS, 0)
        self._idle = Waiters()

    def buildProtocol(self, addr: Any) -> _ReceiverChannel:
        address = host_of(addr)
        channel = _ReceiverChannel(self, address, getattr(addr, "port", 0))
        self.newcomers.admit(channel, address)
        return channel

    def accept(self, channel: _ReceiverChannel, body: bytes) -> Accepted:
        now = self._now()
        accepted = self.epochs.accept(
            body, now_milliseconds=now, allow=self._has_room, random=self._random
        )
        self.newcomers.release(channel)
        self._answered[accepted.sender] += 1
        if self.epochs.due(now):
            self.due()
        return accepted

    def _allowed(self, sender: str) -> bool:
        return any(service.allow(sender) for service in self.services.values())

    def _has_room(self, sender: str) -> bool:
        if self._answered[sender] >= self._most:
            raise RemoteProtocolError(Refusal.RATE, f"{sender} has {self._most} channels already")
        return self._allowed(sender)

    def choose(self, name: bytes, peer: PrincipalAddress) -> tuple[ServiceStatus, IProtocol | None]:
        """Find the service that the sender named."""
        service = self.services.get(service_name(name))
        if service is None:
            return ServiceStatus.NO_SERVICE, None
        if not service.allow(peer.name):
            return ServiceStatus.NOT_ALLOWED, None
        application = service.factory.buildProtocol(peer)
        if application is None:
            return ServiceStatus.NOT_ALLOWED, None
        return ServiceStatus.ACCEPTED, application

    @property
    def open_count(self) -> int:
        return len(self._channels)

    def distrusted(self, address: str, error: BaseException) -> None:
        self.refused[_reason(error)] += 1
        self.tell("refused a connection from {address}: {error}", address=address, error=error)

    def tell(self, line: str, **values: Any) -> None:
        """Note a refusal in the log; many of them are only counted."""
        if self._told.take(None, self._now()):
            self._untold += 1
            return
        if self._untold:
            self.log.info("{count} more refusals were not told", count=self._untold)
            self._untold = 0
        self.log.info(line, **values)

    def opened(self, channel: _ReceiverChannel) -> None:
        self._channels.add(channel)
        self.opened_count += 1

    def forget(self, channel: _ReceiverChannel, sender: str) -> None:
        self.newcomers.release(channel)
        if sender:
            self._answered[sender] -= 1
            if not self._answered[sender]:
                del self._answered[sender]
        self._channels.discard(channel)
        if not self._channels:
            self._idle.release()

    async def when_idle(self) -> None:
        """Return when no channel is open."""
        if self._channels:
            await self._idle.wait()


def _reason(error: BaseException) -> str:
    refusal = error.refusal if isinstance(error, RemoteProtocolError) else None
    name = "" if refusal is None else refusal.name.lower()
    return name if name in REASONS else "unavailable"
