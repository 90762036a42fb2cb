"""Where Kerberos requests come in: frames, crowds, silence, and peers that do not read."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, LocalIOError
from kdc.kerberos.errors import Code
from kdc.kerberos.messages import KRB_ERROR
from kdc.server._kerberos_ports import KerberosPorts, _Datagrams
from tests.server.test_kerberos import as_req
from tests.support.kerberos_store import ADDRESS, StoreOfTest


class Reactor(MemoryReactorClock):
    """With ports for datagrams, which are only noted."""

    def listenUDP(self, number: int, protocol: Any, **options: Any) -> Any:
        return self.listenTCP(number, protocol)

    turns = 0

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:
        self.turns += delay == 0
        return super().callLater(delay, callable, *args, **kw)


class Wire(StringTransport):
    """One connection; what it is told to do is noted."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def answers(self) -> list[bytes]:
        data, found = self.value(), []
        while data:
            length = int.from_bytes(data[:4], "big")
            found.append(data[4 : 4 + length])
            data = data[4 + length :]
        return found


def framed(request: bytes) -> bytes:
    return len(request).to_bytes(4, "big") + request


class PortsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        self.start()

    def start(self, **settings: Any) -> None:
        self.case = StoreOfTest(
            endpoints=("udp:88:interface=127.0.0.1", "tcp:88:interface=127.0.0.1"), **settings
        )
        self.ports = KerberosPorts(self.case.realm, self.reactor)
        self.factory = self.reactor.tcpServers[-1][1]

    def connect(self, host: str = ADDRESS) -> tuple[Any, Wire]:
        wire = Wire(peerAddress=IPv4Address("TCP", host, 1))
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(wire)
        return protocol, wire

    def turn(self, seconds: float = 0) -> None:
        self.reactor.advance(seconds)

    def test_requests(self) -> None:
        """However they are cut, each has its answer, one in a turn of the reactor."""
        data = framed(as_req("web1")) + framed(as_req("nobody"))
        protocol, wire = self.connect()
        for each in data:
            protocol.dataReceived(bytes((each,)))
            self.turn()
        self.assertEqual(
            [KRB_ERROR.decode(answer).code for answer in wire.answers()],
            [Code.PREAUTH_REQUIRED, Code.CLIENT_UNKNOWN],
        )
        protocol, wire = self.connect()
        protocol.dataReceived(data * 20)
        self.assertEqual((wire.answers(), wire.producerState), ([], "paused"))
        before = self.reactor.turns
        self.turn()
        self.assertEqual((len(wire.answers()), wire.producerState), (40, "producing"))
        self.assertEqual(self.reactor.turns - before, 39)  # and one was due already

    def test_too_long(self) -> None:
        """A length beyond 64 KiB, with the reserved bit or without, is an error and the end."""
        for length in (65_536, 1 << 31, (1 << 32) - 1):
            protocol, wire = self.connect()
            protocol.dataReceived(length.to_bytes(4, "big") + b"x")
            (answer,) = wire.answers()
            self.assertEqual(KRB_ERROR.decode(answer).code, Code.FIELD_TOO_LONG)
            self.assertTrue(wire.disconnecting)
            protocol.dataReceived(framed(as_req("web1")))
            self.turn()
            self.assertEqual(len(wire.answers()), 1)
            protocol.connectionLost()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_silence(self) -> None:
        """Who says nothing, half of something, or nothing more, is dropped in time."""
        for said in (b"", b"\0", framed(as_req("web1"))[:-1]):
            protocol, wire = self.connect()
            protocol.dataReceived(said)
            self.turn(9.9)
            self.assertFalse(wire.aborted)
            self.turn(0.2)
            self.assertTrue(wire.aborted)
            protocol.connectionLost()
        protocol, wire = self.connect()
        for byte in framed(as_req("web1"))[:9]:
            protocol.dataReceived(bytes((byte,)))
            self.turn(2)
        self.assertTrue(wire.aborted)
        protocol.connectionLost()
        protocol, wire = self.connect()
        protocol.dataReceived(framed(as_req("web1")))
        self.turn()
        self.turn(29)
        self.assertFalse(wire.aborted)
        self.turn(2)
        self.assertTrue(wire.aborted)
        protocol.connectionLost()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_who_does_not_read(self) -> None:
        """He is answered no more until he does."""
        protocol, wire = self.connect()
        protocol.pauseProducing()
        protocol.dataReceived(framed(as_req("web1")))
        self.turn()
        self.assertEqual(wire.answers(), [])
        protocol.resumeProducing()
        self.turn()
        self.assertEqual(len(wire.answers()), 1)

    def test_what_comes_from_who_does_not_read(self) -> None:
        """It stays where it is, and nothing of it is kept here: he may send as much as he likes."""
        protocol, wire = self.connect()
        protocol.dataReceived(framed(as_req("web1"))[:-1])
        protocol.pauseProducing()
        protocol.dataReceived(framed(as_req("web1"))[-1:])
        self.assertEqual(wire.producerState, "paused")
        protocol.resumeProducing()
        self.assertEqual(wire.producerState, "paused")  # this one is answered first
        self.turn()
        self.assertEqual((len(wire.answers()), wire.producerState), (1, "producing"))
        # He stops reading in the middle of an answer.
        write = wire.write

        def full(data: bytes) -> None:
            write(data)
            protocol.pauseProducing()

        wire.write = full  # type: ignore[method-assign]
        protocol.dataReceived(framed(as_req("web1")) * 2)
        self.turn()
        self.turn()
        self.assertEqual((len(wire.answers()), wire.producerState), (2, "paused"))
        protocol.resumeProducing()
        self.turn()
        self.assertEqual(len(wire.answers()), 3)

    def test_crowds(self) -> None:
        """Beyond what one address may have, and all may, who has been there longest has to go."""
        self.start(connections=3, connections_per_address=2)
        wires = [self.connect(host)[1] for host in ("a", "a", "a", "b", "b")]
        self.assertEqual([wire.aborted for wire in wires], [True, True, False, False, False])

    def test_too_fast(self) -> None:
        """Who asks more than his share over connections is dropped."""
        self.start(requests_per_second_per_address=3)
        protocol, wire = self.connect()
        protocol.dataReceived(framed(as_req("web1")) * 20)
        for _ in range(20):
            self.turn()
        self.assertEqual((len(wire.answers()), wire.aborted), (6, True))

    def test_datagrams(self) -> None:
        """Each is answered where it came from, or not at all."""
        protocol = self.datagrams()
        protocol.datagramReceived(as_req("web1"), (ADDRESS, 7))
        for _ in range(2):
            protocol.datagramReceived(b"", (ADDRESS, 7))
            protocol.datagramReceived(b"\x6arubbish", (ADDRESS, 7))
        self.assertEqual([to for _, to in protocol.transport.sent], [(ADDRESS, 7)])

    def datagrams(self) -> Any:
        class Transport:
            maxThroughput = 1 << 18

            def __init__(self) -> None:
                self.sent: list[tuple[bytes, Any]] = []

            def write(self, data: bytes, to: Any) -> None:
                if not to[1]:
                    raise OSError(errno.EINVAL, "Invalid argument")
                self.sent.append((data, to))

        protocol: Any = _Datagrams(self.case.realm, self.reactor)
        protocol.transport = Transport()
        return protocol

    def test_no_way_back(self) -> None:
        """What says that it is from nowhere has no answer, is counted, and leaves no traceback."""
        protocol = self.datagrams()
        protocol.datagramReceived(as_req("web1"), (ADDRESS, 0))
        self.assertEqual(self.case.realm.counts["datagram", "unsent"], 1)

    def test_datagrams_in_turns(self) -> None:
        """However fast they come, and empty too, others have their turn after a few of them."""
        from twisted.internet import reactor

        real: Any = reactor
        taken: list[int] = []
        endless = 1000

        class Ever:
            """What there is to read has no end, or the test would have none."""

            def __getattr__(self, name: str) -> Any:
                return getattr(socket, name)

            def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
                taken.append(size)
                if len(taken) > endless:
                    raise BlockingIOError(errno.EAGAIN, "none")
                return b"", (ADDRESS, 7)

        protocol = _Datagrams(self.case.realm, self.reactor)
        port = real.listenUDP(0, protocol, interface="127.0.0.1")
        socket = port.socket
        self.addCleanup(port.stopListening)
        port.socket = Ever()
        for turn in (1, 2, 3):
            port.doRead()
            self.assertEqual(len(taken), 16 * turn)
            self.turn()
        port.doRead()
        protocol.stopProtocol()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """Whoever is connected is dropped, and the ports are free."""
        _, wire = self.connect()
        self.successResultOf(Deferred.fromCoroutine(self.ports.stop()))
        self.assertTrue(wire.aborted)

    def test_places(self) -> None:
        """What is no place for datagrams is refused, and one that is taken is told of."""
        for bad in ("udp:", "udp:x", "udp:70000", "udp:88:x=1", "udp:88:interface", "udp:\u0663"):
            case = StoreOfTest(endpoints=(bad,))
            self.assertRaises(ConfigurationError, KerberosPorts, case.realm, self.reactor)
        from twisted.internet import reactor

        taken: Any = reactor
        port = taken.listenUDP(0, _Datagrams(self.case.realm, taken), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        case = StoreOfTest(endpoints=(f"udp:{number}:interface=127.0.0.1",))
        error = self.assertRaises(LocalIOError, KerberosPorts, case.realm, taken)
        self.assertIn(f"udp:{number}", str(error))
