"""What is over is gone at once: no connection, nor its keys, stays until garbage is collected."""

from __future__ import annotations

import gc
from collections.abc import Callable

from kdc.issuing.session import Session
from kdc.server._connections import KDCProtocol
from tests.server.test_connections import PUBLIC, ServerTestCase
from tests.support.edge import Recorder

# A session has the keys of its connection.
_KINDS = (KDCProtocol, Session)


def _there() -> int:
    """How many there are, those that nobody can reach as well."""
    return sum(type(each) in _KINDS for each in gc.get_objects())


class GoneTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        self.before = _there()

    def end(self) -> None:
        for wire in self.served:
            wire.abortConnection()
        self.network.settle()

    def assert_gone(self, live: Callable[[], object]) -> None:
        """All that ``live`` connects ends by itself, or is ended in this way."""
        live()
        self.network.settle()
        self.assertEqual(self.served, [])
        self.assertEqual(_there(), self.before)

    def test_ended_by_the_client(self) -> None:
        def live() -> None:
            self.login("alice").close()

        self.assert_gone(live)

    def test_cut(self) -> None:
        """Whoever it is that cuts it."""

        def live() -> None:
            self.do(self.login("bob").receive_under(PUBLIC, "", 60000))
            self.end()

        self.assert_gone(live)

    def test_ended_by_the_kdc(self) -> None:
        """For a broken frame, a wrong proof, and because it has nothing to do any more."""

        def live() -> None:
            self.say(self.secured(), b"\xff\xff\xff\xff")
            client = self.secured()
            self.say(client, self.exchange(client, "alice", "wrong").authenticate().data)
            del client
            self.login("bob")
            self.kdc.factory.close_all()

        self.assert_gone(live)

    def test_aborted(self) -> None:
        """In the middle of the handshake, before the first frame, and when it is idle."""

        def live() -> None:
            self.dial()
            self.secured()
            self.login("alice")
            self.network.advance(2 * self.kdc.factory.limits.idle_seconds)

        self.assert_gone(live)

    def test_no_tls(self) -> None:
        def live() -> None:
            client: Recorder = self.dial()
            client.out.write(b"GET / HTTP/1.1\r\n\r\n")

        self.assert_gone(live)

    def test_it_would_be_seen(self) -> None:
        """What holds itself is counted, though nobody can reach it."""
        holds: list[object] = [Session.__new__(Session)]
        holds.append(holds)
        del holds
        self.assertEqual(_there(), self.before + 1)
