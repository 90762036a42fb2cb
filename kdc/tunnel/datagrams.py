"""Datagrams through channels: each with its length before it, a channel for each who sends some.

As with UDP itself, any may be lost: what comes faster than the channel takes it is not kept.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, MessageLengthError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from kdc.channel.transport import PrincipalAddress
from kdc.errors import ConfigurationError, IntegrityError, KDCError, LocalIOError
from kdc.net.background import background
from kdc.net.sockets import endpoint_words
from kdc.net.waiting import Deadline
from kdc.tunnel.traffic import Traffic

__all__ = [
    "IDLE_SECONDS",
    "MOST_BYTES",
    "DatagramReader",
    "ExposedDatagrams",
    "ForwardedDatagrams",
    "framed",
    "is_udp",
    "listen_udp",
    "near_place",
    "place_of",
]

MOST_BYTES = 65_507  # of a datagram, over IPv4
IDLE_SECONDS = 120.0
MOST_MAPPINGS = 256
_MOST_WAITING = 16  # until the channel is open
_LENGTH_BYTES = 2
Place = tuple[str, int]


def framed(datagram: bytes) -> bytes:
    """A datagram as it goes over the channel."""
    return len(datagram).to_bytes(_LENGTH_BYTES, "big") + datagram


class DatagramReader:
    """Takes datagrams out of a channel's stream, which cuts it anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is whole.  Raises `IntegrityError` for a length that none can have."""
        stream, at = self._rest + data, 0
        while len(stream) >= at + _LENGTH_BYTES:
            begin = at + _LENGTH_BYTES
            length = int.from_bytes(stream[at:begin], "big")
            if length > MOST_BYTES:
                raise IntegrityError("the peer sends a datagram that is longer than any can be")
            if len(stream) < begin + length:
                break
            at = begin + length
            yield stream[begin:at]
        # Once for all of them: what is left is copied, and a peer may send very many small ones.
        self._rest = stream[at:]


class _ChannelEnd(Protocol):
    """The channel of one mapping.  It ends when nothing has passed for a while."""

    def __init__(
        self,
        timers: Any,
        idle_seconds: float,
        take: Callable[[bytes], None],
        gone: Callable[[Failure], None],
        traffic: Traffic,
    ) -> None:
        self._traffic = traffic
        self.received = self.sent = 0  # bytes of datagrams, from the peer and to it
        self._take = take
        self._gone = gone
        self._reader = DatagramReader()
        self._idle_seconds = idle_seconds
        self._idle = Deadline(timers)
        self._paused = False

    @property
    def _channel(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self._traffic.began(self)
        self._channel.registerProducer(self, True)
        self._passed()

    def send(self, datagram: bytes) -> None:
        """Pass it on, unless the channel has more than it can take already."""
        if not self._paused and len(datagram) <= MOST_BYTES:
            self._channel.write(framed(datagram))
            self.sent += len(datagram)
            self._passed()

    def dataReceived(self, data: bytes) -> None:
        self._passed()
        try:
            for datagram in self._reader.feed(data):
                self.received += len(datagram)
                self._take(datagram)
        except IntegrityError:
            self._channel.abortConnection()

    def close(self) -> None:
        self._idle.end()
        self._channel.unregisterProducer()
        self._channel.loseConnection()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self._paused = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._idle.end()
        self._paused = True
        self._traffic.ended(self, in_order=reason.check(ConnectionDone) is not None)
        self._gone(reason)

    def _passed(self) -> None:
        self._idle.within(self._idle_seconds, self.close)


class ExposedDatagrams(Factory[_ChannelEnd]):
    """What to offer as a service: each channel has a socket of its own, connected to ``place``."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        place: Place,
        what: str,
        tell: Callable[[str], None],
        idle_seconds: float = IDLE_SECONDS,
        traffic: Traffic | None = None,
    ) -> None:
        self._traffic = traffic or Traffic()
        self._reactor = reactor
        self._place = place
        self._what = what
        self._tell = tell
        self._idle_seconds = idle_seconds

    def buildProtocol(self, addr: PrincipalAddress) -> _ChannelEnd | None:  # type: ignore[override]
        what = f"{self._what}: {addr.name} from {addr.host} port {addr.port}"
        socket = _Connected(self._place)
        try:
            # The wildcard of the same family: the system chooses the address that leads there.
            wildcard = "::" if ":" in self._place[0] else "0.0.0.0"  # noqa: S104
            port = listen_udp(self._reactor, (wildcard, 0), socket)
        except LocalIOError as error:
            self._tell(f"{what}: {error}")
            return None

        def gone(reason: Failure) -> None:
            port.stopListening()
            self._tell(f"{what}: ended")

        seconds = self._idle_seconds
        socket.end = _ChannelEnd(self._reactor, seconds, socket.send, gone, self._traffic)
        self._tell(f"{what}: connected")
        return socket.end


class _Connected(DatagramProtocol):
    """A socket that takes datagrams from one place only."""

    noisy = False

    def __init__(self, place: Place) -> None:
        self._place = place
        self.end: _ChannelEnd

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.connect(*self._place)

    def send(self, datagram: bytes) -> None:
        _write(self.transport, datagram)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self.end.connected:
            self.end.send(datagram)

    def connectionRefused(self) -> None:
        """Nobody is there at the moment: who waits for an answer asks again."""


class ForwardedDatagrams(DatagramProtocol):
    """What to listen with: whoever sends something here gets a channel of his own to ``target``.

    Of ``most`` at a time: for one more the one that has been silent longest ends.
    """

    noisy = False

    def __init__(
        self,
        target: IStreamClientEndpoint,
        what: str,
        tell: Callable[[str], None],
        timers: Any,
        idle_seconds: float = IDLE_SECONDS,
        most: int = MOST_MAPPINGS,
        traffic: Traffic | None = None,
    ) -> None:
        self._traffic = traffic or Traffic()
        self._target = target
        self._what = what
        self._tell = tell
        self._timers = timers
        self._idle_seconds = idle_seconds
        self._most = most
        self._mappings: dict[Place, _Mapping] = {}  # the last that was used is the last

    def __len__(self) -> int:
        return len(self._mappings)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        mapping = self._mappings.pop(addr, None)
        if mapping is None:
            if len(self._mappings) >= self._most:
                self._mappings.pop(next(iter(self._mappings))).close()
            mapping = _Mapping(lambda data: _write(self.transport, data, addr))
            self._mappings[addr] = mapping
            background(self._open(mapping, addr), self._what)
        self._mappings[addr] = mapping
        mapping.send(datagram)

    def stopProtocol(self) -> None:
        mappings, self._mappings = self._mappings, {}
        for mapping in mappings.values():
            mapping.close()

    async def _open(self, mapping: _Mapping, addr: Place) -> None:
        def gone(reason: Failure) -> None:
            self._forget(mapping, addr)

        factory = Factory.forProtocol(
            lambda: _ChannelEnd(self._timers, self._idle_seconds, mapping.take, gone, self._traffic)
        )
        factory.noisy = False
        try:
            mapping.opening = self._target.connect(factory)
            mapping.opened(await mapping.opening)  # type: ignore[arg-type]
        except CancelledError:
            """Another one has taken its place before it was open."""
        except KDCError as error:
            self._forget(mapping, addr)
            self._tell(f"{self._what}: {error}")

    def _forget(self, mapping: _Mapping, addr: Place) -> None:
        if self._mappings.get(addr) is mapping:
            del self._mappings[addr]


class _Mapping:
    """One who sends datagrams: what waits for his channel, then the channel."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.take = take
        self.opening: Deferred[Any] | None = None
        self._waiting: list[bytes] = []
        self._end: _ChannelEnd | None = None
        self._closed = False

    def send(self, datagram: bytes) -> None:
        if self._end is not None:
            self._end.send(datagram)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(datagram)

    def opened(self, end: _ChannelEnd) -> None:
        self._end = end
        if self._closed:
            end.close()
            return
        waiting, self._waiting = self._waiting, []
        for datagram in waiting:
            end.send(datagram)

    def close(self) -> None:
        self._closed = True
        if self._end is not None:
            self._end.close()
        elif self.opening is not None:
            self.opening.cancel()


def _write(transport: Any, datagram: bytes, *to: Any) -> None:
    # One that the system does not take is lost, as on any other part of its way.
    with contextlib.suppress(OSError, MessageLengthError):
        transport.write(datagram, *to)


def is_udp(endpoint: str) -> bool:
    return endpoint.startswith("udp:")


def place_of(endpoint: str) -> Place:
    """Where ``udp:ADDRESS:PORT`` leads; raises `ConfigurationError`."""
    words = endpoint_words(endpoint)[1:]
    if len(words) != 2:
        raise _no_place(endpoint, "udp:ADDRESS:PORT")
    return _checked(endpoint, words[0], words[1], lowest=1)


def near_place(endpoint: str) -> Place:
    """Where ``udp:PORT`` listens, on this machine unless an ``interface`` is named."""
    number, *more = endpoint_words(endpoint)[1:] or [""]
    host = "127.0.0.1"
    if more:
        name, _, host = more[0].partition("=")
        if name != "interface" or len(more) > 1:
            raise _no_place(endpoint, "udp:PORT or udp:PORT:interface=ADDRESS")
    return _checked(endpoint, host, number, lowest=0)


def _checked(endpoint: str, host: str, number: str, *, lowest: int) -> Place:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise _no_place(endpoint, "an IP address") from None
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise _no_place(endpoint, "a port")
    if not lowest <= int(number) <= 65_535:
        raise _no_place(endpoint, "a port")
    return host, int(number)


def _no_place(endpoint: str, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"not a place for datagrams: {endpoint!r}: it wants {wanted}")


def listen_udp(reactor: Any, place: Place, protocol: DatagramProtocol) -> Any:
    """Return a port of datagrams; raises `LocalIOError`."""
    host, number = place
    try:
        return reactor.listenUDP(number, protocol, interface=host, maxPacketSize=MOST_BYTES)
    except CannotListenError as error:
        cause = getattr(error.socketError, "strerror", None) or error.socketError
        where = f"{host} port {number}"
        raise LocalIOError(f"cannot listen on {where} for datagrams: {cause}") from None
