"""The gateway: what each failure is taken for, and that a hostile etcd gets nowhere."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, LocalIOError
from kdc.store.etcd.api import Denied, EtcdSettings, Gateway, Unknown, Unsent
from kdc.store.etcd.wire import (
    BadAnswer,
    Keys,
    head_of,
    page_of,
    transaction_answer,
    watched,
)
from tests.support.authority import Authority
from tests.support.processes import reserved_port

SECRET = "not-to-be-told"


@attrs.define
class Asked:
    path: str
    body: Any
    token: str | None


class Server:
    """Answers each request with what a test says; keeps what was asked."""

    def __init__(self, answer: Callable[[Asked], tuple[int, bytes]]) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = json.loads(self.rfile.read(length))
                asked = Asked(self.path, body, self.headers.get("Authorization"))
                outer.asked.append(asked)
                status, text = answer(asked)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that breaks off is what many of these tests are about."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        # A client that keeps its connection must not keep us.
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.member = ("127.0.0.1", self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def refused(code: int, message: str) -> tuple[int, bytes]:
    return 400, json.dumps({"code": code, "message": message}).encode()


class GatewayTests(SynchronousTestCase):
    def gateway(self, *members: tuple[str, int], **settings: Any) -> Gateway:
        made = EtcdSettings(members, **settings)
        gateway = Gateway(made, made.context())
        self.addCleanup(gateway.close)
        return gateway

    def server(self, answer: Callable[[Asked], tuple[int, bytes]]) -> Server:
        server = Server(answer)
        self.addCleanup(server.close)
        return server

    def answering(self, status: int, text: bytes) -> Gateway:
        return self.gateway(self.server(lambda asked: (status, text)).member)

    def test_an_answer(self) -> None:
        """It is what etcd says, and several share a connection."""
        gateway = self.answering(200, b'{"a": 1}')
        self.assertEqual(gateway.post("/v3/kv/range", {}, 5), {"a": 1})
        self.assertEqual(gateway.post("/v3/kv/range", {}, 5), {"a": 1})

    def test_nobody_there(self) -> None:
        """Nothing was sent; the next member is asked the next time."""
        server = self.server(lambda asked: (200, b"{}"))
        gateway = self.gateway(("127.0.0.1", reserved_port()), server.member)
        self.assertRaises(Unsent, gateway.post, "/v3/kv/range", {}, 5)
        self.assertEqual(gateway.post("/v3/kv/range", {}, 5), {})

    def test_an_answer_that_does_not_come(self) -> None:
        """The server is silent, or ends the connection: nobody knows what it did."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        silent = self.gateway(("127.0.0.1", listening.getsockname()[1]))
        self.assertRaises(Unknown, silent.post, "/v3/kv/txn", {}, 0.05)
        self.assertRaises(Unknown, self.answering(0, b"").post, "/v3/kv/txn", {}, 5)

    def test_answers_that_are_none(self) -> None:
        """Not JSON, not an object, nested without end: unknown, and no traceback."""
        for text in (b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a": NaN'):
            self.assertRaises(Unknown, self.answering(200, text).post, "/v3/kv/txn", {}, 5)
            self.assertRaises(Unknown, self.answering(500, text).post, "/v3/kv/txn", {}, 5)

    def test_what_etcd_refuses(self) -> None:
        """Some refusals say for certain that nothing was done; the others do not."""
        for code in (3, 7, 8):
            status, text = refused(code, "no")
            self.assertRaises(Denied, self.answering(status, text).post, "/v3/kv/txn", {}, 5)
        for code in (2, 4, 11, 14):
            status, text = refused(code, "no")
            self.assertRaises(Unknown, self.answering(status, text).post, "/v3/kv/txn", {}, 5)

    def test_a_refusal_is_cut_and_quoted(self) -> None:
        """What a hostile etcd writes into an error cannot fill or steer a terminal."""
        status, text = refused(3, "\x1b[2J" + "x" * 2000)
        error = self.assertRaises(Denied, self.answering(status, text).post, "/v3/kv/txn", {}, 5)
        self.assertNotIn("\x1b", str(error))
        self.assertLess(len(str(error)), 400)

    def test_login(self) -> None:
        """A token is fetched first, and again when etcd does not know it any more."""
        tokens = iter(("one", "two"))
        good = "one"

        def answer(asked: Asked) -> tuple[int, bytes]:
            if asked.path == "/v3/auth/authenticate":
                return 200, json.dumps({"token": next(tokens)}).encode()
            return (200, b"{}") if asked.token == good else refused(16, "invalid auth token")

        server = self.server(answer)
        gateway = self.gateway(server.member, user="kdc", password=SECRET)
        gateway.post("/v3/kv/range", {}, 5)
        good = "two"
        gateway.post("/v3/kv/range", {}, 5)
        paths = [asked.path for asked in server.asked]
        self.assertEqual(paths.count("/v3/auth/authenticate"), 2)

    def test_a_password_that_is_wrong(self) -> None:
        """It is denied, and no error and no repr shows the password."""
        server = self.server(lambda asked: refused(3, "authentication failed"))
        settings = EtcdSettings((server.member,), user="kdc", password=SECRET)
        gateway = Gateway(settings, None)
        self.addCleanup(gateway.close)
        error = self.assertRaises(Denied, gateway.post, "/v3/kv/range", {}, 5)
        self.assertNotIn(SECRET, f"{error!r} {settings!r} {vars(gateway)!r}")

    def test_an_etcd_that_wants_a_user(self) -> None:
        """Without one that is what the error says."""
        status, text = refused(16, "user name is empty")
        error = self.assertRaises(Denied, self.answering(status, text).post, "/v3/kv/range", {}, 5)
        self.assertIn("a user", str(error))

    def test_a_token_is_no_header(self) -> None:
        """A token with a new line in it would be a header of etcd's own."""
        server = self.server(lambda asked: (200, json.dumps({"token": "a\r\nB: c"}).encode()))
        gateway = self.gateway(server.member, user="kdc", password=SECRET)
        self.assertRaises(Unsent, gateway.post, "/v3/kv/range", {}, 5)

    def test_interrupted(self) -> None:
        """Whoever waits is woken by another thread, and nothing is asked any more."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        gateway = self.gateway(("127.0.0.1", listening.getsockname()[1]))
        raised: list[type[Exception]] = []

        def ask() -> None:
            try:
                gateway.post("/v3/kv/range", {}, 3600)
            except Unknown as error:
                raised.append(type(error))

        thread = threading.Thread(target=ask)
        thread.start()
        accepted, _ = listening.accept()
        with contextlib.closing(accepted):
            accepted.recv(1)
            gateway.interrupt()
            thread.join()
        self.assertEqual(raised, [Unknown])
        self.assertRaises(Unsent, gateway.post, "/v3/kv/range", {}, 5)

    def test_interrupted_before_there_is_a_connection(self) -> None:
        """Whoever is still connecting asks nothing either, and keeps nothing open."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        settings = EtcdSettings((("127.0.0.1", listening.getsockname()[1]),))

        class Meanwhile:
            """What TLS is begun with, when the connection is there."""

            post_handshake_auth, verify_mode, check_hostname = None, ssl.CERT_REQUIRED, True

            def wrap_socket(self, plain: Any, **options: Any) -> Any:
                gateway.interrupt()
                return plain

        context: Any = Meanwhile()
        gateway = Gateway(settings, context)
        self.assertRaises(Unsent, gateway.post, "/v3/kv/range", {}, 30)
        accepted, _ = listening.accept()
        with contextlib.closing(accepted):
            self.assertEqual(accepted.recv(1), b"")

    def test_without_tls_only_this_machine(self) -> None:
        """Elsewhere anybody on the way could be etcd; a bad certificate is said to be one."""
        self.assertRaises(ConfigurationError, EtcdSettings((("192.0.2.1", 2379),)).context)
        self.assertIsNone(EtcdSettings((("127.0.0.1", 2379),)).context())
        nothing = Path(self.mktemp())
        settings = EtcdSettings((("192.0.2.1", 2379),), ca=nothing)
        self.assertRaises(LocalIOError, settings.context)
        nothing.write_text("no certificate", encoding="ascii")
        self.assertRaises(LocalIOError, settings.context)

    def test_our_own_key(self) -> None:
        """One that others can read, or that wants a passphrase, is refused; nobody is asked."""
        authority = Authority(Path(self.mktemp()))
        members = (("127.0.0.1", 2379),)
        settings = EtcdSettings(members, authority.ca, *authority.issue("kdc"))
        key = settings.key
        assert key is not None
        self.assertIsNotNone(settings.context())
        key.chmod(0o640)
        refused = self.assertRaises(ConfigurationError, settings.context)
        self.assertIn("can be read by others", str(refused))
        locked = authority.issue("locked", passphrase=SECRET)
        settings = EtcdSettings(members, authority.ca, *locked)
        self.assertRaises(LocalIOError, settings.context)


class WireTests(SynchronousTestCase):
    """Whatever etcd says is what it should be, or refused."""

    def test_answers_of_other_types(self) -> None:
        """Numbers that are none, lists that are none, values that are too long."""
        hostile: tuple[Any, ...] = (1, {}, [1], [{"mod_revision": 5}], [{"mod_revision": "-1"}])
        for pairs in hostile:
            self.assertRaises(BadAnswer, head_of, {"kvs": pairs})
            self.assertRaises(BadAnswer, page_of, {"kvs": pairs, "header": []})
        for value in ("a", 1, None, "A" * 8192):
            self.assertRaises(BadAnswer, page_of, {"kvs": [{"key": "YQ==", "value": value}]})
        self.assertRaises(BadAnswer, transaction_answer, {"succeeded": False, "responses": 1})
        self.assertEqual(transaction_answer({"succeeded": 1}), (False, 0))
        self.assertEqual(transaction_answer({"succeeded": False, "responses": []}), (False, 0))
        two: dict[str, Any] = {"responses": [{}, {}]}
        self.assertRaises(BadAnswer, transaction_answer, two)

    def test_events_of_other_types(self) -> None:
        """Of a watch, too; and revisions that go back."""
        for result in (1, {"events": 1}, {"events": [{"kv": 1}]}, {"compact_revision": 1}):
            self.assertRaises(BadAnswer, watched, {"result": result})
        back = [{"kv": {"key": "YQ==", "mod_revision": number}} for number in ("2", "1")]
        self.assertRaises(BadAnswer, watched, {"result": {"events": back}})
        self.assertTrue(watched({"error": {}}).ended)
        self.assertTrue(watched({"result": {"canceled": True}}).ended)

    def test_keys_of_others(self) -> None:
        """A key that is no principal's is not taken for one."""
        keys = Keys("LOCAL")
        self.assertRaises(BadAnswer, keys.name, b"/kdc/LOCAL/other")
        self.assertEqual(keys.name(keys.line(b"alice")), b"alice")
        self.assertTrue(keys.head < keys.lines < keys.end)
