"""A network in memory, and on it a KDC, its clients and channels between them.

Time is a `Clock`, bytes move when the test says so, and whoever holds a `Wire`
can do to it what somebody in between could: look, change, stall, cut.  Nothing
here is a fake of what is tested: TLS is TLS, and all protocols are the real ones.
"""

from __future__ import annotations

import datetime as dt
import functools
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TCPTimedOutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kdc.channel._sender import SenderChannel
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.receiver import ChannelListener
from kdc.channel.reception import Reception
from kdc.channel.services import Service
from kdc.channel.transport import IStreamProtocol
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Identity, Pin
from kdc.client.link import KDCLink
from kdc.issuing.decisions import Audit, Enrolment, Now
from kdc.issuing.issuer import Issuer
from kdc.issuing.realm import Realm as IssuingRealm
from kdc.limits import Limits
from kdc.net import clock
from kdc.protocol.kdc_exchange import Grant
from kdc.protocol.records import AckStatus
from kdc.server._connections import KDCFactory
from kdc.server._handshakes import tls_factory
from kdc.server._store_writer import StoreWriter
from kdc.server.certificate import ServerTLS, make_certificate
from kdc.store import Change, Create, Record, Result, Status, StoreUnavailable
from kdc.store.memory import MemoryStore
from tests.support.core import Realm, SeededRandom, keys_of

__all__ = [
    "KDC",
    "KDC_HOST",
    "KDC_PORT",
    "NOW",
    "RECEIVER_HOST",
    "ChannelTestCase",
    "EdgeTestCase",
    "HalfRecorder",
    "Host",
    "Network",
    "Recorder",
    "StreamRecorder",
    "Wire",
    "certificate",
    "factory_of",
    "strange_certificate",
]

KDC_HOST, KDC_PORT = "192.0.2.88", 88
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_BUFFER = 1 << 16
T = TypeVar("T")


class _Socket:
    """Remembers what was set on it; ``full`` if it takes nothing at once."""

    def __init__(self, wire: Wire) -> None:
        self.options: dict[int, int] = {}
        self._wire = wire
        self.full = False

    def send(self, data: bytes | memoryview) -> int:
        """Take as much as there is room for, as the system does."""
        wire = self._wire
        room = wire.bufferSize - len(wire.waiting)
        if not wire.connected:
            raise BrokenPipeError
        if self.full or room <= 0:
            raise BlockingIOError
        wire.write(bytes(data[:room]))
        return min(room, len(data))

    def fileno(self) -> int:
        return 0

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[option] = value


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


@implementer(ITransport, IConsumer, IPushProducer)
class Wire:
    """One end of a TCP connection.

    ``sent`` is all that was ever handed to it, ``tamper`` what is done to that
    on its way, ``stalled`` whether it gets anywhere.  After ``cut_after`` bytes
    the attacker closes the connection, to both ends properly.

    As in Twisted, a protocol that hears of half-closes hears of nothing else: when
    both halves are closed it has to lose the connection itself.
    """

    peer: Wire

    def __init__(self, host: IPv4Address | IPv6Address) -> None:
        self.host = host
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self.reading = True
        self.stalled = False
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.cut_after: int | None = None
        self.sent = bytearray()
        self.waiting = bytearray()
        self.producer: Any = None
        self.socket = _Socket(self)
        self.no_delay = self.keep_alive = False
        self.bufferSize = _BUFFER  # Twisted's name: read at a time, and written before a pause
        self._moved = 0
        self._streaming = self._producer_paused = self._drained = False
        self._ending = self._ended = self._peer_ended = self._aborted = False

    # what a transport is

    def write(self, data: bytes) -> None:
        if type(data) is not bytes:
            raise TypeError(f"{type(data).__name__} is not bytes")
        if not self.connected or self._ending or (self.disconnecting and self.producer is None):
            return
        self.sent += data
        self.waiting += data
        if self.producer is not None and self._streaming and len(self.waiting) > self.bufferSize:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self._ending = True

    def abortConnection(self) -> None:
        self._aborted = self.disconnecting = True
        self.waiting.clear()

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self.peer.host

    def getHost(self) -> IPv4Address | IPv6Address:
        return self.host

    def getHandle(self) -> _Socket:
        return self.socket

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive = enabled

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is a producer already")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if self.connected and not self._aborted:
            self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    # what the network does with it

    def step(self) -> bool:
        """Do one thing that is due here; say whether there was one."""
        if not self.connected:
            return False
        if self._aborted:
            self.finish(ConnectionAborted())
            self.peer.finish(ConnectionLost())
            return True
        return self._move() or self._produce() or self._end() or self._notice_end()

    def finish(self, error: Exception) -> None:
        """The connection is gone here."""
        if not self.connected:
            return
        self.connected = self.reading = False
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self.protocol = self.protocol, None  # as Twisted does
        if protocol is not None:
            protocol.connectionLost(Failure(error))

    def _move(self) -> bool:
        if not self.waiting or self.stalled:
            return False
        if not self.peer.connected:
            # As TCP does: what comes to one that has closed is answered with a reset.
            self.finish(ConnectionLost())
            return True
        if not self.peer.reading:
            return False
        chunk = bytes(self.waiting[: self.peer.bufferSize])
        del self.waiting[: len(chunk)]
        if self.cut_after is not None:
            chunk = chunk[: self.cut_after - self._moved]
        self._moved += len(chunk)
        self._drained = not self.waiting
        chunk = self.tamper(chunk)
        if chunk:
            self.peer.protocol.dataReceived(chunk)
        if self._moved == self.cut_after:
            self.finish(ConnectionDone())
            self.peer.finish(ConnectionDone())
        return True

    def _produce(self) -> bool:
        due = self._producer_paused if self._streaming else self._drained
        if self.producer is None or self.waiting or not due:
            return False
        self._producer_paused = self._drained = False
        self.producer.resumeProducing()
        return True

    def _end(self) -> bool:
        if self.waiting or self.producer is not None:
            return False
        if self.disconnecting:
            # As TCP does: closing with something unread is a reset.
            if self.peer.waiting:
                self.peer.finish(ConnectionLost())
            if not self._ended:
                self.peer._peer_ended = True
            self.finish(ConnectionDone())
            return True
        if self._ending and not self._ended:
            self._ended = self.peer._peer_ended = True
            half = IHalfCloseableProtocol(self.protocol, None)
            if half is not None:
                half.writeConnectionLost()
            return True
        return False

    def _notice_end(self) -> bool:
        if not self._peer_ended or not self.reading or self.peer.waiting:
            return False
        self._peer_ended = False
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            if not self._ended:
                self.peer._peer_ended = True
            self.finish(ConnectionDone())
        else:
            half.readConnectionLost()
        return True


@attrs.define(eq=False)
class _Port:
    network: Network
    host: str
    number: int
    factory: Any

    def getHost(self) -> Any:
        return _address(self.host, self.number)

    def stopListening(self) -> None:
        del self.network.ports[self.host, self.number]


class Network(Clock):
    """Hosts by address, ports, connections in the order in which they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[tuple[str, int], _Port] = {}
        # Hosts behind something that lets nothing in, and answers nothing.
        self.silent: set[str] = set()
        self.wires: list[Wire] = []
        self._next_port = 32768

    def milliseconds(self) -> int:
        return 3_000_000 + round(1000 * self.seconds())

    def listen(self, host: str, number: int, factory: Any) -> _Port:
        self.ports[host, number] = port = _Port(self, host, number, factory)
        return port

    def connect(self, source: str, host: str, number: int, protocol: Any) -> Wire:
        """Return the client's end of a new connection, which ``protocol`` has got."""
        port = self.ports.get((host, number))
        if port is None:
            raise ConnectionRefusedError
        self._next_port += 1
        here, there = Wire(_address(source, self._next_port)), Wire(_address(host, number))
        here.peer, there.peer = there, here
        there.protocol = port.factory.buildProtocol(here.host)
        here.protocol = protocol
        self.wires += [here, there]
        protocol.makeConnection(here)
        if there.protocol is None:
            there.protocol = Recorder()
            there.loseConnection()
        else:
            there.protocol.makeConnection(there)
        return here

    def settle(self) -> None:
        """Let everything happen that needs no more time."""
        for _ in range(100_000):
            Clock.advance(self, 0)
            moved = [wire.step() for wire in list(self.wires)]
            self.wires = [wire for wire in self.wires if wire.connected]
            if not any(moved):
                return
        raise RuntimeError("it never comes to rest")

    def advance(self, amount: float) -> None:
        """Let time pass, in small steps, and everything happen that is due."""
        end = self.seconds() + amount
        self.settle()
        while self.seconds() < end:
            due = min([call.getTime() for call in self.getDelayedCalls()] + [end])
            Clock.advance(self, max(min(due, end) - self.seconds(), 0))
            self.settle()


@implementer(IReactorTime)
class Host:
    """A reactor on the host at ``address``."""

    def __init__(self, network: Network, address: str) -> None:
        self.network = network
        self.address = address

    def seconds(self) -> float:
        return self.network.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        return self.network.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Any:
        return self.network.getDelayedCalls()

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        connector: Any = _Connector(host, port)
        factory.doStart()
        if host in self.network.silent and host != self.address:
            factory.startedConnecting(connector)
            connector.wait(self.network, timeout, factory)
            return connector
        try:
            self.network.connect(
                self.address, host, port, factory.buildProtocol(_address(host, port))
            )
        except ConnectionRefusedError as error:
            factory.clientConnectionFailed(connector, Failure(error))
        return connector


@attrs.define
class _Connector:
    host: str
    port: int
    _late: Any = None
    _factory: Any = None

    def wait(self, network: Network, seconds: float, factory: Any) -> None:
        """Nothing is heard of it until the time is up."""
        self._factory = factory
        self._late = network.callLater(seconds, self._fail, TCPTimedOutError())

    def _fail(self, error: Exception) -> None:
        self._late = None
        self._factory.clientConnectionFailed(self, Failure(error))

    def getDestination(self) -> Any:
        return _address(self.host, self.port)

    def stopConnecting(self) -> None:
        if self._late is None:
            raise RuntimeError("it is connected, or refused, at once")
        self._late.cancel()
        self._fail(UserError())


# what connects


class Recorder(Protocol):
    """Remembers what came, and how it ended."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.made = 0
        self.lost: BaseException | None = None

    def connectionMade(self) -> None:
        self.made += 1

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason.value

    @property
    def out(self) -> Any:
        """The transport."""
        return cast(Any, self.transport)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """One that goes on when the other side has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[str] = []

    def readConnectionLost(self) -> None:
        self.ends.append("read")

    def writeConnectionLost(self) -> None:
        self.ends.append("write")


@implementer(IStreamProtocol)
class StreamRecorder(HalfRecorder):
    """One that says itself when it has stored what came: when ``stored`` fires."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: Deferred[AckStatus] = Deferred()
        self.acknowledgements: list[AckStatus] = []

    async def endReceived(self) -> AckStatus:
        self.ends.append("end")
        return await self.stored

    def acknowledged(self, status: AckStatus) -> None:
        self.acknowledgements.append(status)


class _Once(Factory[Any]):
    noisy = False

    def __init__(self, protocols: tuple[IProtocol, ...]) -> None:
        self._left = list(protocols)

    def buildProtocol(self, addr: Any) -> Any:
        return self._left.pop(0) if self._left else None


def factory_of(*protocols: IProtocol) -> Factory[Any]:
    """A factory that gives these, one after the other, and then none."""
    return _Once(protocols)


@functools.cache
def certificate(*names: str) -> tuple[bytes, bytes]:
    """A key and its self-signed certificate, the same each time for the same names."""
    return make_certificate(names or (KDC_HOST,), NOW)


def strange_certificate() -> bytes:
    """The same certificate, of an X.509 version that does not exist: OpenSSL takes it."""
    version, another = bytes.fromhex("a003020102"), bytes.fromhex("a003020107")
    der = ssl.PEM_cert_to_DER_cert(certificate()[1].decode())
    return ssl.DER_cert_to_PEM_cert(der.replace(version, another, 1)).encode()


class _Disk:
    """Where the store's changes wait; ``busy`` is who holds them up."""

    def __init__(self) -> None:
        self.slow = False
        self.full = False
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, call: Any, *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, lambda: call(*args)))
        if not self.slow:
            self.work()
        return done

    def work(self) -> None:
        waiting, self.waiting = self.waiting, []
        for done, call in waiting:
            if self.full:
                done.errback(StoreUnavailable("no space left on device"))
            else:
                done.callback(call())


class KDC:
    """A KDC on the network: the real server, with a store in memory."""

    def __init__(
        self,
        network: Network,
        *,
        limits: Limits | None = None,
        enrolment: Enrolment = Enrolment.OPEN,
        store: MemoryStore | None = None,
        tls: ServerTLS | None = None,
        host: str = KDC_HOST,
    ) -> None:
        self.network = network
        self.host = host
        self.store = MemoryStore() if store is None else store
        self.disk = _Disk()
        self.audit: list[Audit] = []
        self.random = SeededRandom("KDC" if host == KDC_HOST else f"KDC {host}")
        self.realm = IssuingRealm(
            "LOCAL",
            find=self.store.get,
            audit=self.audit.append,
            random=self.random,
            enrolment=enrolment,
            limits=limits,
        )
        self.tls = ServerTLS(*certificate()) if tls is None else tls
        self.factory = KDCFactory(
            Issuer(self.realm),
            StoreWriter(self.store, self.disk.run),
            clock=network,
            limits=limits,
            now=lambda: Now(network.milliseconds(), 1_700_000_000),
        )
        self.store.watch(self.factory.record_changed)
        self.port = network.listen(host, KDC_PORT, tls_factory(self.factory, self.tls, network))

    @property
    def identity(self) -> Pin:
        return Pin(self.tls.fingerprint)

    def stop(self) -> None:
        """As when its process is killed."""
        self.port.stopListening()
        for wire in list(self.network.wires):
            if (wire.host.host, wire.host.port) == (self.host, KDC_PORT):
                wire.abortConnection()
        self.network.settle()

    def add(self, name: str, secret: str = "first") -> Record:
        keys = keys_of(name, secret)
        record = Record(name, Status.ACTIVE, verify_key=keys.verify_key, reply_key=keys.reply_key)
        return cast(Record, self.apply(Create(record, self.random(16))).record)

    def apply(self, change: Change) -> Result:
        """A change by the operator."""
        return self.store.apply([change])[0]

    def events(self) -> list[str]:
        return [line.event for line in self.audit]


class EdgeTestCase(SynchronousTestCase):
    """A network with a KDC on it.  At the end of a test no timer may be left."""

    limits: Limits | None = None

    def setUp(self) -> None:
        self.network = Network()
        self.patch(clock, "milliseconds", self.network.milliseconds)
        self.kdc = KDC(self.network, limits=self.limits)
        self._addresses = (f"192.0.2.{n}" for n in range(100, 255))

    def host(self, address: str | None = None) -> Host:
        return Host(self.network, address or next(self._addresses))

    def client(
        self,
        name: str,
        *,
        secret: str = "first",
        address: str | None = None,
        identity: Identity | None = None,
        tls: Any = None,
        port: int = KDC_PORT,
        kdc: str = KDC_HOST,
    ) -> KDCClient:
        """A client that the KDC may or may not know."""
        host = self.host(address)
        return KDCClient(
            reactor=host,
            endpoint=TCP4ClientEndpoint(host, kdc, port),
            tls=tls or ClientTLS(identity or self.kdc.identity, KDC_HOST),
            keys=keys_of(name, secret),
            where=f"{kdc} port {port}",
            random=SeededRandom(f"{name} {host.address}"),
        )

    def known_client(self, name: str, **options: Any) -> KDCClient:
        """A client that has registered, whenever that was."""
        if self.kdc.store.get(name) is None:
            self.kdc.add(name, options.get("secret", "first"))
        return self.client(name, **options)

    def begin(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Start ``work``, and let happen what needs no time."""
        running = Deferred.fromCoroutine(work)
        self.network.settle()
        return running

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns without any time passing."""
        return self.successResultOf(self.begin(work))

    def failure(self, expected: type[Exception], work: Coroutine[Any, Any, Any]) -> Any:
        """Return the error of that type in which ``work`` ends without any time passing."""
        return self.failureResultOf(self.begin(work), expected).value

    def login(self, name: str, **options: Any) -> KDCLink:
        """An authenticated connection."""
        return self.do(self.known_client(name, **options).login())

    def assert_well(self) -> None:
        """The KDC still does for a newcomer what it is there for."""
        name = f"newcomer-{self.network._next_port}"
        client = self.client(name, address="203.0.113.5")
        self.do(client.register("", 0))
        self.do(self.do(client.link()).receive_under(bytes([9]) + bytes(31), "", 60000))
        client.close()
        self.network.settle()

    def dial(self, address: str = "198.51.100.66", port: int = KDC_PORT) -> Recorder:
        """A bare TCP connection to the KDC."""
        recorder = Recorder()
        self.network.connect(address, KDC_HOST, port, recorder)
        self.network.settle()
        return recorder

    def receive(
        self, name: str, service: Service | dict[str, Service], *, port: int = 60000
    ) -> tuple[Reception, ChannelListener, Deferred[None]]:
        """Keep a listener reachable under this name."""
        services = service if isinstance(service, dict) else {"": service}
        client = self.known_client(name)
        listener = ChannelListener(
            "LOCAL",
            services,
            timers=self.network,
            random=SeededRandom(f"{name} listener"),
            now_milliseconds=self.network.milliseconds,
        )
        self.network.listen(client.reactor.address, port, listener)
        reception = Reception(client, listener, port=port, random=SeededRandom(f"{name} epochs"))
        running = self.begin(reception.run())
        return reception, listener, running

    def connect(self, sender: str, receiver: str, protocol: IProtocol, service: str = "") -> Any:
        """Open a channel from one principal to another."""
        endpoint = ChannelClientEndpoint(self.known_client(sender), receiver, service)
        connecting = endpoint.connect(factory_of(protocol))
        self.network.settle()
        return connecting


RECEIVER_HOST, RECEIVER_PORT = "192.0.2.9", 60000


class ChannelTestCase(SynchronousTestCase):
    """Channels to bob, without the KDC's part on the network."""

    def setUp(self) -> None:
        self.network = Network()
        self.realm = Realm()
        self.bob = self.realm.receiver("bob")
        self._began, self._first_now = self.network.milliseconds(), self.realm.now.milliseconds
        self.services: dict[str, Service] = {}
        self.listener = self.listen(RECEIVER_PORT)

    def listen(self, port: int) -> ChannelListener:
        listener = ChannelListener(
            "LOCAL",
            self.services,
            timers=self.network,
            random=SeededRandom("bob"),
            now_milliseconds=self._now,
        )
        listener.epochs = self.bob.epochs
        self.network.listen(RECEIVER_HOST, port, listener)
        return listener

    def _now(self) -> int:
        """Bob's clock; the KDC's goes on with the same time that passes."""
        passed = self.network.milliseconds() - self._began
        self.realm.advance((self._first_now + passed - self.realm.now.milliseconds) / 1000)
        return self.bob.now()

    def offer(self, protocol: IProtocol, name: str = "", **options: Any) -> None:
        """Have bob answer the next channel with ``protocol``."""
        self.services[name] = Service(factory_of(protocol), **options)

    def grant(self, name: str = "alice") -> Grant:
        """A fresh key for one channel to bob."""
        self._now()
        connection = self.realm.login(keys_of(name))
        grant = connection.grant("bob")
        connection.lose()
        # The realm has a clock of its own; a sender looks at the machine's.
        return attrs.evolve(grant, asked_milliseconds=clock.milliseconds())

    def present(self) -> bytes:
        """A 309 that would be good, once."""
        return self.grant().presentation().present()

    def sender(
        self,
        protocol: IProtocol,
        service: str = "",
        *,
        name: str = "alice",
    ) -> SenderChannel:
        """The sender's end of a channel, not connected yet."""
        return SenderChannel(self.grant(name), service, factory_of(protocol), self.network)

    def dial(self, protocol: Any, address: str = "192.0.2.1", port: int = RECEIVER_PORT) -> Wire:
        """Connect to bob's port; nothing has moved yet."""
        return self.network.connect(address, RECEIVER_HOST, port, protocol)

    def pair(
        self, one: IProtocol, other: IProtocol, service: str = "", *, name: str = "alice"
    ) -> tuple[SenderChannel, Wire]:
        """An open channel from ``one`` to ``other``."""
        self.offer(other, service)
        channel = self.sender(one, service, name=name)
        wire = self.dial(channel)
        self.network.settle()
        self.successResultOf(channel.opened)
        return channel, wire

    def assert_well(self) -> None:
        """A normal sender still gets through to bob, whole."""
        one, other = Recorder(), Recorder()
        self.pair(one, other, name="carol")
        one.out.write(b"still there?")
        one.out.loseConnection()
        self.network.settle()
        self.assertEqual(bytes(other.received), b"still there?")
        self.assertIsInstance(one.lost, ConnectionDone)
        self.assertIsInstance(other.lost, ConnectionDone)

    def assert_quiet(self) -> None:
        """No connection and no timer is left."""
        self.assertEqual(self.network.wires, [])
        self.assertEqual(self.network.getDelayedCalls(), [])
