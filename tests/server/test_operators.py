"""The operator's socket: who may speak, what is heard, and that slow or odd clients harm nobody."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from kdc.admin.wire import MAX_REQUEST, SocketPath, answer_line, ask, connect, end_line
from kdc.errors import ErrorKind, ExitStatus, KDCError, LocalIOError, RefusedByPolicy
from kdc.server._operators import AdminFactory, lines_of
from tests.support.processes import PATIENCE_SECONDS

ANSWERS: list[dict[str, Any]] = [
    {"name": "bob", "status": "active"},
    {"status": 7, "error": "a principal's status is not the command's"},
    {"end": {"status": 0}, "answer": {}},
]


class Desk:
    """Answers every request with ``ANSWERS``, a line at a time, or as a test wants it."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, Any], int]] = []
        self.asked = 0
        self.error: Exception | None = None
        self.endless = False

    def begin(self, request: dict[str, Any], uid: int) -> Callable[[], Deferred[bytes]]:
        self.requests.append((request, uid))
        answers = iter(ANSWERS)

        def more() -> Deferred[bytes]:
            self.asked += 1
            if self.error is not None:
                raise self.error
            if self.endless:
                return succeed(answer_line({"name": "x" * 1000}))
            return succeed(lines_of(iter([answer])) if (answer := next(answers, None)) else b"")

        return more


class MemoryTests(SynchronousTestCase):
    """Without a network, and with a clock that is told to go on."""

    def setUp(self) -> None:
        self.desk = Desk()
        self.uid = os.geteuid()
        self.factory = AdminFactory(self.desk.begin, lambda transport: self.uid)
        self.clock = Clock()

    def client(self) -> tuple[Any, StringTransport]:
        protocol: Any = self.factory.buildProtocol(None)
        protocol.callLater = self.clock.callLater
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def said(self, transport: StringTransport) -> list[dict[str, Any]]:
        return [json.loads(line) for line in transport.value().splitlines()]

    def gone(self, transport: StringTransport) -> bool:
        return bool(transport.disconnecting or transport.disconnected)

    def test_answer(self) -> None:
        """All answers, whatever they hold, then the end; then the connection closes."""
        protocol, transport = self.client()
        protocol.dataReceived(b'{"command": "list"}\n')
        self.assertEqual(
            self.said(transport), [*({"answer": a} for a in ANSWERS), {"end": {"status": 0}}]
        )
        self.assertTrue(self.gone(transport))
        self.assertEqual(self.desk.requests, [({"command": "list"}, self.uid)])
        self.assertIsNone(transport.producer)

    def test_cut_anywhere(self) -> None:
        """How the bytes of a request are cut makes no difference."""
        protocol, transport = self.client()
        for byte in b'{"command": "list"}\n':
            self.assertEqual(transport.value(), b"")
            protocol.dataReceived(bytes([byte]))
        self.assertEqual(len(self.said(transport)), 4)

    def test_one_request(self) -> None:
        """What follows the request is not heard."""
        protocol, transport = self.client()
        protocol.dataReceived(b'{"command": "list"}\n{"command": "delete"}\n')
        protocol.dataReceived(b'{"command": "delete"}\n')
        self.assertEqual([request for request, _ in self.desk.requests], [{"command": "list"}])
        self.assertEqual(len(self.said(transport)), 4)

    def test_refusal(self) -> None:
        """An error is the last line, with its status and what to do."""
        self.desk.error = RefusedByPolicy("no", hint="ask again")
        protocol, transport = self.client()
        protocol.dataReceived(b"{}\n")
        end = {"status": 8, "error": "no", "hint": "ask again", "kind": None, "facts": {}}
        self.assertEqual(self.said(transport), [{"end": end}])
        self.assertTrue(self.gone(transport))

    def test_garbage(self) -> None:
        """What is no request is told so; nothing begins, nothing is logged as a defect."""
        for line in (
            b"",
            b"list",
            b"[]",
            b"7",
            b'"list"',
            b"null",
            b"\xff\xfe\x00",
            b'{"command": "list"',
            b"[" * 60_000,
            b"GET / HTTP/1.1\r",
        ):
            protocol, transport = self.client()
            protocol.dataReceived(line + b"\n")
            (said,) = self.said(transport)
            self.assertEqual(said["end"]["status"], ExitStatus.USAGE, line[:20])
            self.assertIn("not a request", said["end"]["error"])
            self.assertTrue(self.gone(transport))
        self.assertEqual(self.desk.requests, [])

    def test_oversize(self) -> None:
        """More than a request can be is not kept, and the client is told."""
        for line in (b"x" * (MAX_REQUEST + 1), b"x" * (MAX_REQUEST + 1) + b"\n"):
            protocol, transport = self.client()
            for at in range(0, len(line), 5000):
                protocol.dataReceived(line[at : at + 5000])
            said = self.said(transport)
            self.assertEqual([end["end"]["error"] for end in said], ["the request is too long"])
            self.assertTrue(self.gone(transport))
        self.assertEqual(self.desk.requests, [])

    def test_strangers(self) -> None:
        """Only root and the KDC's own user are heard; others are logged."""
        for uid in (os.geteuid() + 1, 65_534, -1):
            self.uid = uid
            with capturedLogs() as logs:
                protocol, transport = self.client()
                protocol.dataReceived(b'{"command": "list"}\n')
            self.assertTrue(self.gone(transport))
            self.assertEqual(transport.value(), b"")
            self.assertEqual([event["uid"] for event in logs], [uid])
        self.assertEqual(self.desk.requests, [])
        for uid in (0, os.geteuid()):
            self.uid = uid
            protocol, transport = self.client()
            protocol.dataReceived(b'{"command": "list"}\n')
            self.assertEqual(self.desk.requests.pop()[1], uid)

    def test_silence(self) -> None:
        """Who asks nothing within ten seconds is dropped, however busy he seems."""
        protocol, transport = self.client()
        for _ in range(9):
            self.clock.advance(1)
            protocol.dataReceived(b" ")
        self.assertFalse(self.gone(transport))
        self.clock.advance(1)
        self.assertTrue(self.gone(transport))
        self.assertEqual(transport.value(), b"")

    def test_slow_work(self) -> None:
        """A command may take its time, and nothing else is begun meanwhile."""
        waiting: Deferred[bytes] = Deferred()
        begun: list[Any] = []

        def begin(request: Any, uid: int) -> Callable[[], Deferred[bytes]]:
            begun.append(request)
            return lambda: waiting

        self.factory.begin = begin
        protocol, transport = self.client()
        for number in range(3):
            protocol.dataReceived(b'{"number": %d}\n' % number)
        self.clock.advance(3600)
        self.assertEqual(begun, [{"number": 0}])
        self.assertFalse(self.gone(transport))
        waiting.callback(b"")
        self.assertEqual(self.said(transport), [{"end": {"status": 0}}])

    def test_slow_reader(self) -> None:
        """For who does not read, nothing more is made; after a minute he is dropped."""
        self.desk.endless = True
        protocol, transport = self.client()
        write = transport.write

        def full(data: bytes) -> None:
            write(data)
            if len(transport.value()) > 10_000:
                protocol.pauseProducing()

        self.patch(transport, "write", full)
        protocol.dataReceived(b"{}\n")
        first = self.desk.asked
        self.assertLess(first, 20)
        self.clock.advance(59)
        self.assertFalse(self.gone(transport))
        transport.clear()
        protocol.resumeProducing()
        self.assertGreater(self.desk.asked, first)
        self.assertLess(self.desk.asked, 40)
        self.clock.advance(59)
        self.assertFalse(self.gone(transport))
        self.clock.advance(1)
        self.assertTrue(self.gone(transport))
        self.lose(protocol)

    def test_gone(self) -> None:
        """For who has left, nothing more is made."""
        self.desk.endless = True
        protocol, transport = self.client()
        self.patch(transport, "write", lambda data: protocol.pauseProducing())
        protocol.dataReceived(b"{}\n")
        self.assertEqual(self.desk.asked, 1)
        self.lose(protocol)
        self.assertEqual(self.desk.asked, 1)
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_all(self) -> None:
        """When the KDC stops, nobody is kept."""
        clients = [self.client() for _ in range(3)]
        self.factory.close_all()
        for protocol, transport in clients:
            self.assertTrue(self.gone(transport))
            self.lose(protocol)
        self.assertEqual(self.factory.connections, set())

    def test_defect(self) -> None:
        """A defect of ours is logged, and the client is not left waiting."""
        self.desk.error = ZeroDivisionError()
        protocol, transport = self.client()
        protocol.dataReceived(b"{}\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(transport.value(), b"")
        self.assertTrue(self.gone(transport))

    def test_interface(self) -> None:
        """A connection is what Twisted takes it for."""
        protocol, _ = self.client()
        self.assertTrue(verifyObject(IPushProducer, protocol))
        protocol.stopProducing()
        self.lose(protocol)

    def lose(self, protocol: Any) -> None:
        from twisted.internet.error import ConnectionDone

        protocol.connectionLost(Failure(ConnectionDone()))


class SocketTests(TestCase):
    """On real sockets."""

    def setUp(self) -> None:
        self.desk = Desk()
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def serve(self, store: Path) -> AdminFactory:
        factory = AdminFactory(self.desk.begin)
        path = SocketPath(store)
        port = cast(Any, reactor).listenUNIX(path.open(), factory, mode=0o600)
        self.addCleanup(path.close)
        self.addCleanup(port.stopListening)
        return factory

    async def ask(self, store: Path) -> list[dict[str, Any]]:
        def blocking() -> list[dict[str, Any]]:
            connected = connect(store)
            if connected is None:
                self.fail("nobody there")
            return list(ask(connected, {"command": "list"}))

        return await deferToThread(blocking)

    async def test_kernel_says_who(self) -> None:
        """The server knows the user at the other end by the kernel's word."""
        store = self.directory / "pwd.txt"
        self.serve(store)
        self.assertEqual(await self.ask(store), ANSWERS)
        self.assertEqual(self.desk.requests, [({"command": "list"}, os.geteuid())])

    async def test_long_path(self) -> None:
        """A path that is longer than the system takes works all the same."""
        deep = self.directory / ("x" * 120) / ("y" * 120)
        deep.mkdir(parents=True)
        self.assertIsNone(connect(deep / "pwd.txt"))
        self.serve(deep / "pwd.txt")
        self.assertEqual(await self.ask(deep / "pwd.txt"), ANSWERS)
        mode = (deep / "pwd.txt.admin").stat().st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(mode & 0o777, 0o600)

    async def test_many_answers(self) -> None:
        """An answer much larger than any buffer arrives whole, and is not held in memory."""
        total = 20_000
        left = [total]
        most = [0]

        def begin(request: dict[str, Any], uid: int) -> Callable[[], Deferred[bytes]]:
            def more() -> Deferred[bytes]:
                some = min(left[0], 100)
                left[0] -= some
                return succeed(b"".join(answer_line({"name": "n" * 100}) for _ in range(some)))

            return more

        store = self.directory / "pwd.txt"
        factory = self.serve(store)
        factory.begin = begin

        def slowly() -> int:
            connected = connect(store)
            if connected is None:
                self.fail("nobody there")
            count = 0
            for count, _ in enumerate(ask(connected, {}), 1):
                if count == 1:
                    # Until nothing more comes: what is not read is not made.
                    before = -1
                    while before != left[0]:
                        before = left[0]
                        reactor_turns()
                    most[0] = total - left[0]
            return count

        def reactor_turns() -> None:
            from twisted.internet.threads import blockingCallFromThread

            for _ in range(50):
                blockingCallFromThread(cast(Any, reactor), lambda: None)

        self.assertEqual(await deferToThread(slowly), total)
        self.assertLess(most[0], total // 2)

    def test_nobody_there(self) -> None:
        """No socket, one that a dead KDC left behind, no directory: there is no running KDC."""
        store = self.directory / "pwd.txt"
        self.assertIsNone(connect(store))
        self.assertIsNone(connect(self.directory / "no" / "pwd.txt"))
        self.assertIsNone(connect(self.directory / ("x" * 200) / "pwd.txt"))
        where = SocketPath(store)
        self.addCleanup(where.close)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(where.open())
            dead.listen()
        self.assertTrue(where.path.exists())
        self.assertIsNone(connect(store))


class AskTests(SynchronousTestCase):
    """What the tool makes of an answer."""

    def answered(self, *lines: bytes) -> list[dict[str, Any]]:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_SECONDS)
        with theirs:
            theirs.sendall(b"".join(lines))
            theirs.shutdown(socket.SHUT_WR)
            return list(ask(ours, {}))

    def test_whole(self) -> None:
        """All answers up to the end line."""
        lines = [answer_line(answer) for answer in ANSWERS]
        self.assertEqual(self.answered(*lines, end_line(), b"and no further"), ANSWERS)

    def test_error(self) -> None:
        """The error that the KDC found, as if it were ours."""
        known: dict[str, Any] = {"kind": ErrorKind.TICKETS_LEFT, "facts": {"seconds": "60"}}
        for error in (
            RefusedByPolicy("no", hint="try", **known),
            LocalIOError("no room"),
        ):
            raised = self.assertRaises(KDCError, self.answered, end_line(error))
            self.assertEqual(
                (str(raised), raised.hint, raised.exit_status, raised.kind, raised.facts),
                (str(error), error.hint, error.exit_status, error.kind, error.facts),
            )

    def test_error_of_another_version(self) -> None:
        """A kind that we do not know, or none at all, leaves text and hint."""
        others: list[dict[str, Any]] = [
            {},
            {"kind": "OF_TOMORROW", "facts": None},
            {"kind": 7, "facts": {"a": 1}},
        ]
        for more in others:
            end = {"status": 8, "error": "no", "hint": "try", **more}
            line = json.dumps({"end": end}).encode() + b"\n"
            raised = self.assertRaises(KDCError, self.answered, line)
            self.assertEqual((str(raised), raised.hint, raised.kind), ("no", "try", None))

    def test_not_whole(self) -> None:
        """An answer that ends early is an error, never taken for all."""
        whole = answer_line(ANSWERS[0]) + end_line()
        for length in range(len(whole) - 2):
            self.assertRaises(LocalIOError, self.answered, whole[:length])

    def test_not_ours(self) -> None:
        """So is what no KDC of ours says."""
        for line in (
            b"\xff\n",
            b"{}\n",
            b"[]\n",
            b"7\n",
            b'{"end": {}}\n',
            b'{"end": 7}\n',
            b'{"end": {"status": 99}}\n',
            b'{"end": {"status": "8"}}\n',
        ):
            self.assertRaises(LocalIOError, self.answered, line)

    def test_levels(self) -> None:
        """Nothing of this is logged."""
        with capturedLogs() as logs:
            self.answered(end_line())
        self.assertEqual([e for e in logs if e["log_level"] >= LogLevel.warn], [])
