"""Where Kerberos requests come in: UDP, and TCP as RFC 4120 section 7.2.2 frames it."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.errors import ConfigurationError, ErrorKind, LocalIOError
from kdc.limits import ConnectionLimiter
from kdc.net.sockets import host_of, listen_at, passed_descriptor
from kdc.net.waiting import Deadline
from kdc.server._kerberos import KerberosRealm
from kdc.server._residents import at_once

__all__ = ["KerberosPorts"]

_MAX_REQUEST = 65_535
_LENGTH_BYTES = 4
_PASSED = "udp:systemd="
# So many datagrams are taken before others get their turn: some milliseconds.
_IN_A_TURN = 16
_READ_BYTES = 1 << 18


class _Datagrams(DatagramProtocol):
    """Each is a request, and has an answer or none; a few in a turn of the reactor."""

    noisy = False

    def __init__(self, realm: KerberosRealm, timers: Any) -> None:
        self._realm = realm
        self._timers = timers
        self._taken = 0
        self._due: Any = None

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._take_turns()
        answer = self._realm.datagram(datagram, addr[0])
        if answer is None:
            return
        try:
            cast(Any, self.transport).write(answer, addr)
        except OSError:
            # There is no way to where it says that it is from, as to port 0.
            self._realm.counts["datagram", "unsent"] += 1

    def stopProtocol(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _take_turns(self) -> None:
        """Have Twisted, which reads until so many bytes have come, stop after a few datagrams.

        It would read on for as long as they come faster than they are taken: empty ones for ever.
        """
        self._taken += 1
        if self._due is None:
            self._due = self._timers.callLater(0, self._turn)
        if self._taken == _IN_A_TURN:
            cast(Any, self.transport).maxThroughput = 0

    def _turn(self) -> None:
        self._due = None
        self._taken = 0
        cast(Any, self.transport).maxThroughput = _READ_BYTES


@implementer(IPushProducer)
class _Connection(Protocol):
    """Requests one after the other, one in a turn of the reactor."""

    def __init__(self, factory: _Connections) -> None:
        self._factory = factory
        self._received = bytearray()
        self._due: Any = None
        self._reads = True  # whether the peer takes what it is sent
        self._ended = False  # nothing that it sends counts any more
        self._late = Deadline(factory.timers)

    @property
    def _transport(self) -> Any:
        return cast(Any, self.transport)

    def connectionMade(self) -> None:
        self._address = host_of(self._transport.getPeer())
        self._transport.registerProducer(self, True)
        self._late.within(self._factory.realm.settings.request_seconds, self.drop)
        displaced = self._factory.limiter.admit(self, self._address)
        if displaced is not None:
            displaced.drop()

    def dataReceived(self, data: bytes) -> None:
        if not self._ended:
            self._received += data
            self._next()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = True
        self._factory.limiter.release(self)
        self._late.cancel()
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def pauseProducing(self) -> None:
        self._reads = False

    def resumeProducing(self) -> None:
        self._reads = True
        if self._due is None and not self._ended:
            self._transport.resumeProducing()
            self._next()

    def stopProducing(self) -> None:
        """The connection is gone, and `connectionLost` will tell."""

    def drop(self) -> None:
        self._ended = True
        self._transport.abortConnection()

    def _next(self) -> None:
        """Have the next request answered, once it is there and the peer has the last answer."""
        if self._ended or self._due is not None:
            return
        if not self._reads:
            # Nor is more read of who does not: it would all be kept.
            self._transport.pauseProducing()
            return
        if len(self._received) < _LENGTH_BYTES:
            return
        length = int.from_bytes(self._received[:_LENGTH_BYTES], "big")
        if length > _MAX_REQUEST:  # the reserved highest bit included
            self._answer(self._factory.realm.too_long())
            self._ended = True
            self._transport.loseConnection()
        elif len(self._received) >= _LENGTH_BYTES + length:
            # Not at once: there may be hundreds behind it, and others wait, too.
            self._transport.pauseProducing()
            self._due = self._factory.timers.callLater(0, self._turn, length)

    def _turn(self, length: int) -> None:
        self._due = None
        realm = self._factory.realm
        if not realm.may_ask(self._address):
            self.drop()
            return
        end = _LENGTH_BYTES + length
        request = bytes(self._received[_LENGTH_BYTES:end])
        del self._received[:end]
        self._late.within(realm.settings.idle_seconds, self.drop)
        self._answer(realm.request(request, self._address))
        self._transport.resumeProducing()
        self._next()

    def _answer(self, answer: bytes) -> None:
        self._transport.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)


class _Connections(Factory["_Connection"]):
    noisy = False

    def __init__(self, realm: KerberosRealm, timers: Any) -> None:
        self.realm = realm
        self.timers = timers
        settings = realm.settings
        self.limiter: ConnectionLimiter[_Connection] = ConnectionLimiter(
            settings.connections, settings.connections_per_address
        )

    def buildProtocol(self, addr: Any) -> _Connection:
        return _Connection(self)


class KerberosPorts:
    """Bound when it is made, or `KDCError` is raised."""

    def __init__(self, realm: KerberosRealm, reactor: Any) -> None:
        self.realm = realm
        self._reactor = reactor
        self._ports: list[Any] = []
        self._connections = _Connections(realm, reactor)
        try:
            for endpoint in realm.settings.endpoints:
                self._listen(endpoint)
        except BaseException:
            for port in self._ports:
                port.stopListening()
            raise

    @property
    def addresses(self) -> list[Any]:
        return [port.getHost() for port in self._ports]

    def govern(self) -> None:
        """The realm has other settings."""
        settings = self.realm.settings
        self._connections.limiter.allow(settings.connections, settings.connections_per_address)

    async def stop(self) -> None:
        while self._ports:
            stopped = self._ports.pop().stopListening()
            if isinstance(stopped, Deferred):
                await stopped
        for connection in self._connections.limiter.members():
            connection.drop()

    def _listen(self, endpoint: str) -> None:
        if endpoint.startswith("udp:"):
            self._ports.append(self._listen_udp(endpoint))
            return

        async def bind() -> None:
            port = await listen_at(
                self._reactor,
                endpoint,
                self._connections,
                hint="is another KDC for Kerberos using that port?",
                kind=ErrorKind.KDC_PORT_IN_USE,
            )
            self._ports.append(port)

        at_once(bind())

    def _listen_udp(self, endpoint: str) -> Any:
        protocol = _Datagrams(self.realm, self._reactor)
        if endpoint.startswith(_PASSED):
            descriptor, family = _passed(self._reactor, endpoint.removeprefix(_PASSED))
            return self._reactor.adoptDatagramPort(
                descriptor, family, protocol, maxPacketSize=_MAX_REQUEST
            )
        number, interface = _place_of(endpoint)
        try:
            return self._reactor.listenUDP(
                number, protocol, interface=interface, maxPacketSize=_MAX_REQUEST
            )
        except CannotListenError as error:
            cause = error.socketError
            raise LocalIOError(
                f"cannot listen on {endpoint}: {getattr(cause, 'strerror', None) or cause}",
                hint="is another KDC for Kerberos using that port, and may this user have it?",
            ) from None


def _passed(reactor: Any, name: str) -> tuple[int, socket.AddressFamily]:
    """The socket for datagrams that systemd has handed over under that name, and its family."""
    descriptor = passed_descriptor(reactor, name)
    with socket.socket(fileno=os.dup(descriptor)) as passed:
        inet = passed.family in (socket.AF_INET, socket.AF_INET6)
        if not inet or passed.type != socket.SOCK_DGRAM:
            raise ConfigurationError(
                f"what systemd hands over as {name!r} is no UDP socket",
                hint="a .socket unit of its own has ListenDatagram= and that FileDescriptorName=",
            )
        return descriptor, socket.AddressFamily(passed.family)


def _place_of(endpoint: str) -> tuple[int, str]:
    """What ``udp:PORT[:interface=ADDRESS]`` says."""
    words = endpoint.replace("\\:", "\0").split(":")
    named = dict(word.partition("=")[::2] for word in words[2:])
    # With no address behind it, it would be every one that there is.
    known = named.keys() <= {"interface"} and all(named.values())
    if not words[1].isascii() or not words[1].isdigit() or int(words[1]) > 65_535 or not known:
        raise ConfigurationError(
            f"{endpoint[:80]!r} is no place for datagrams",
            hint="it is udp:PORT, udp:PORT:interface=ADDRESS or udp:systemd=NAME",
        )
    return int(words[1]), named.get("interface", "").replace("\0", ":")
