"""Ports at endpoint strings, and sockets that systemd has opened."""

from __future__ import annotations

import select
import shutil
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, MemoryReactorClock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.errors import ConfigurationError, ErrorKind, LocalIOError
from kdc.net.sockets import connect_to, listen_at, notice_dead_peers
from tests.support.processes import (
    KDC,
    PATIENCE_SECONDS,
    TWISTD,
    Program,
    ProgramTestCase,
    RunningKDC,
)

KIND = ErrorKind.RECEIVER_PORT_IN_USE
# What systemd does: the socket is descriptor 3, and the variables name the process itself.
ACTIVATE = (
    sys.executable,
    "-c",
    (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "own = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'kdc'}\n"
        "os.execve(sys.argv[2], sys.argv[2:], {**os.environ, **own})"
    ),
)


class OnlyIPv6:
    """Each name is this address, and nothing else; an address is itself."""

    address = "2001:db8::5"

    def resolveHostName(
        self, receiver: Any, hostName: str, portNumber: int = 0, *_: object, **__: object
    ) -> None:
        receiver.resolutionBegan(None)
        address: Any = IPv6Address("TCP", self.address, portNumber)
        if isIPAddress(hostName):
            address = IPv4Address("TCP", hostName, portNumber)
        elif isIPv6Address(hostName):
            address = IPv6Address("TCP", hostName, portNumber)
        receiver.addressResolved(address)
        receiver.resolutionComplete()


class ConnectToTests(SynchronousTestCase):
    def connected(self, description: str) -> list[tuple[str, int]]:
        reactor = MemoryReactorClock()
        reactor.nameResolver = cast(Any, OnlyIPv6())
        connecting = connect_to(reactor, description).connect(Factory.forProtocol(Protocol))
        self.assertNoResult(connecting)
        return [(host, port) for host, port, *_ in reactor.tcpClients]

    def test_names(self) -> None:
        """A service's host may have an IPv6 address only."""
        for description in ("tcp:db.example:5432", "tcp:host=db.example:port=5432:timeout=3"):
            self.assertEqual(self.connected(description), [(OnlyIPv6.address, 5432)])

    def test_addresses(self) -> None:
        """IPv6 addresses in brackets, as people write them, or with backslashes, as Twisted has."""
        for description, host in (
            ("tcp:[::1]:80", "::1"),
            ("tcp:\\:\\:1:80", "::1"),
            ("tcp:host=[::1]:port=80", "::1"),
            ("tcp:127.0.0.1:80:bindAddress=127.0.0.1", "127.0.0.1"),
        ):
            self.assertEqual(self.connected(description), [(host, 80)], description)

    def test_refused(self) -> None:
        """What is no endpoint is refused before anything is connected."""
        for description in (
            *("", "tcp", "tcp:", "tcp:h", "tcp:h:x", "tcp:h:0", "tcp:h:65536", "tcp:h:80:90"),
            *("tcp:a b:80", "tcp:::1:80", "tcp:[::1:80", "tcp:h:80:what=1", "tcp:h:80:timeout=x"),
            *("tcp:http://h:80", "h:80", "unix:", "tcp:-h:80", "tcp:h:80:", "nonsense:1"),
        ):
            error = self.assertRaises(ConfigurationError, connect_to, MemoryReactor(), description)
            self.assertIn("not an endpoint", str(error))


class KeepaliveTests(SynchronousTestCase):
    def test_not_all_at_once(self) -> None:
        """Dead peers are found within 100 s, and thousands are not probed at one moment."""
        first = []
        for _ in range(40):
            ours = socket.socket()
            self.addCleanup(ours.close)
            transport = Connection(ours, Protocol(), MemoryReactor())
            notice_dead_peers(transport)
            self.assertTrue(ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            idle, interval, count = (
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            self.assertLessEqual(idle + interval * count, 100)
            first.append(idle)
        self.assertGreater(len(set(first)), 20)


class ListenTests(SynchronousTestCase):
    """What people type, and what they are told."""

    def listen(self, description: str, reactor: Any = None) -> Any:
        return Deferred.fromCoroutine(
            listen_at(
                reactor or MemoryReactor(), description, Factory(), hint="choose another", kind=KIND
            )
        )

    def test_listens(self) -> None:
        """A port is opened where the string says."""
        reactor = MemoryReactor()
        port = self.successResultOf(self.listen("tcp:88:interface=127.0.0.1", reactor))
        self.assertEqual(port.getHost().port, 88)
        self.assertEqual(reactor.tcpServers[0][3], "127.0.0.1")

    def test_a_burst_waits(self) -> None:
        """A burst of connections waits to be accepted, as many as the system allows up to 1,024."""
        from twisted.internet import reactor

        most = min(1024, int(Path("/proc/sys/net/core/somaxconn").read_text()))
        for description, backlog in (("tcp:0", most), ("tcp:0:backlog=7", 7)):
            opened = self.listen(f"{description}:interface=127.0.0.1", reactor)
            port = self.successResultOf(opened)
            self.addCleanup(port.stopListening)
            told = port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            # tcpi_sacked, which of a listening socket is the length of its queue
            self.assertEqual(struct.unpack_from("I", told, 28)[0], backlog)

    def test_in_turns(self) -> None:
        """Of those who wait no more than eight are taken in a turn of the reactor, always."""
        from twisted.internet import reactor

        made: list[Protocol] = []

        def protocol() -> Protocol:
            made.append(Protocol())
            return made[-1]

        opened = Deferred.fromCoroutine(
            listen_at(reactor, "tcp:0:interface=127.0.0.1", Factory.forProtocol(protocol))
        )
        port = self.successResultOf(opened)
        self.addCleanup(port.stopListening)
        for _ in range(50):
            caller = socket.create_connection(("127.0.0.1", port.getHost().port))
            self.addCleanup(caller.close)
        counts = []
        for _ in range(7):
            port.doRead()  # as the reactor does
            counts.append(len(made))
        self.assertEqual(counts, [8, 16, 24, 32, 40, 48, 50])
        for each in made:
            cast(Any, each.transport).abortConnection()

    def test_no_endpoint(self) -> None:
        """Whatever is wrong with the string, it is shown, and it is a matter of configuration."""
        for description in (
            "",
            ":",
            "tcp:",
            "tcp:x",
            "tcp:1:2:3:4",
            "nonsense:1",
            "ssl:0:privateKey=missing.pem",
            "systemd:domain=INET",
            "systemd:index=0",
        ):
            error = self.failureResultOf(self.listen(description), ConfigurationError).value
            self.assertIn(f"not an endpoint: {description!r}", str(error))
            self.assertNotIn("()", str(error))  # of Python's own functions nothing is said

    def test_not_handed_over(self) -> None:
        """Without a socket from systemd it is said what is missing."""
        for description in ("systemd:domain=INET:index=0", "systemd:domain=INET6:name=kdc"):
            error = self.failureResultOf(self.listen(description), ConfigurationError).value
            self.assertIn("systemd has not handed over", str(error))
            self.assertIn(".socket unit", error.hint)

    def test_cannot_listen(self) -> None:
        """A port in use comes with the hint, which is not for other reasons."""
        from twisted.internet import reactor

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            busy = self.listen(f"tcp:{number}:interface=127.0.0.1", reactor)
            error = self.failureResultOf(busy, LocalIOError).value
        self.assertIn("Address already in use", str(error))
        self.assertEqual((error.hint, error.kind), ("choose another", KIND))
        nowhere = self.listen("tcp:0:interface=192.0.2.1", reactor)
        error = self.failureResultOf(nowhere, LocalIOError).value
        self.assertIn("Cannot assign requested address", str(error))
        self.assertEqual((error.hint, error.kind), ("", None))
        far = self.listen("tcp:999999", reactor)
        self.failureResultOf(far, ConfigurationError)


class ActivationTests(ProgramTestCase):
    """A KDC whose port systemd holds, in processes."""

    def setUp(self) -> None:
        super().setUp()
        self.socket = socket.socket()
        self.addCleanup(self.socket.close)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        self.number = self.socket.getsockname()[1]

    def start(self, endpoint: str, program: tuple[str, ...] = KDC, **how: Any) -> Program:
        options = ("-p", endpoint, "-f", "pwd.txt", "-o", "out.txt", "--enrol", "open")
        fd = self.socket.fileno()
        return self.scratch.start(
            *ACTIVATE, str(fd), *program, *options, **{"pass_fds": (fd,), **how}
        )

    def test_by_number_and_name(self) -> None:
        """It listens on the socket that it was given, and works."""
        for endpoint in ("systemd:domain=INET:index=0", "systemd:domain=INET:name=kdc"):
            kdc = RunningKDC(self.start(endpoint))
            self.assertEqual((kdc.host, kdc.port), ("127.0.0.1", self.number))
            self.one_transfer(kdc)
            self.assertEqual(kdc.program.stop(), 0)

    def test_nobody_is_refused_meanwhile(self) -> None:
        """Who connects before it has started, or between two of it, is served when it has."""
        program = (*TWISTD, "-n", "--pidfile=", "kdc")
        endpoint = "systemd:domain=INET:name=kdc"
        for name in ("bob", "carol"):
            early = self.client(
                *("register", "-n", name, "-a", "127.0.0.1", "-p", str(self.number)),
                *("--accept-new", *self.key(name)),
            )
            waiting, _, _ = select.select([self.socket], [], [], PATIENCE_SECONDS)
            self.assertEqual(waiting, [self.socket])
            kdc = self.start(endpoint, program, merged=True)
            self.assert_ends(early, 0, f"registered {name}")
            self.assertEqual(kdc.stop(), -signal.SIGTERM)

    def test_another_name(self) -> None:
        """A name that is not its socket's is a mistake that is told; nothing else is said."""
        self.assert_brief(self.start("systemd:domain=INET:name=other"), 1, "not handed over")

    def test_by_systemd_itself(self) -> None:
        """The same as systemd's own tool starts it, at the first connection."""
        tool = shutil.which("systemd-socket-activate")
        if tool is None:
            raise SkipTest("systemd-socket-activate is not here")
        self.socket.close()
        kdc = self.scratch.start(
            *(tool, f"--listen=127.0.0.1:{self.number}", "--fdname=kdc"),
            *(f"--setenv={name}" for name in ("PYTHONPATH", "HOME", "LANG")),
            *(*KDC, "-p", "systemd:domain=INET:name=kdc", "--enrol", "open", "-f", "pwd.txt"),
        )
        kdc.expect("Listening on")
        self.assert_ends(
            self.client(
                *("register", "-n", "bob", "-a", "127.0.0.1", "-p", str(self.number)),
                *("--accept-new", *self.key("bob")),
            ),
            0,
        )
        self.assertEqual(kdc.stop(), 0)
