"""What is over is gone at once at a receiver, too: no channel, nor its keys, stays behind."""

from __future__ import annotations

import gc
from typing import Any

from kdc.channel._channel import Channel
from kdc.protocol.records import RecordStream
from kdc.protocol.relay import Reach
from kdc.relay._port import Joined
from tests.support.edge import Recorder, factory_of
from tests.support.relay import RelayTestCase

# A stream of records has the keys of its channel.
_KINDS = (Channel, RecordStream, Joined)


def _there() -> int:
    """How many there are, those that nobody can reach as well."""
    return sum(isinstance(each, _KINDS) for each in gc.get_objects())


class GoneTests(RelayTestCase):
    """The receiver can be reached at its own port, and through the relay."""

    def setUp(self) -> None:
        super().setUp()
        self.bob = self.listen("bob", silent=False)
        self.network.advance(4)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        self.before = _there()

    def reached(self, reach: Reach) -> Any:
        """The transport of a channel that works."""
        near = Recorder()
        self.successResultOf(self.reach("bob", near, reach=reach))
        near.out.write(b"ping")
        self.network.settle()
        self.assertEqual(bytes(near.received), b"ping")
        return near.out

    def assert_gone(self) -> None:
        self.network.settle()
        self.assertEqual(_there(), self.before)

    def test_ended(self) -> None:
        for reach in (Reach.DIRECT, Reach.RELAY):
            self.reached(reach).loseConnection()
            self.assert_gone()

    def test_cut(self) -> None:
        for reach in (Reach.DIRECT, Reach.RELAY):
            self.reached(reach).abortConnection()
            self.assert_gone()

    def test_not_a_channel(self) -> None:
        """What is no 309, what is one that opens nothing, and who says nothing."""
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\x13\x01\x35\x01" + bytes(16), b""):
            host = self.host()
            stranger = Recorder()
            host.connectTCP(self.address_of(self.bob), 60000, factory_of(stranger))
            self.network.settle()
            stranger.out.write(said)
            self.network.advance(30)
            self.assertIsNotNone(stranger.lost)
            self.assert_gone()

    def test_it_would_be_seen(self) -> None:
        """What holds itself is counted, though nobody can reach it."""
        holds: list[object] = [RecordStream.__new__(RecordStream)]
        holds.append(holds)
        del holds
        self.assertEqual(_there(), self.before + 1)
