"""A limit on the rate of a transfer, at either end."""

from __future__ import annotations

from kdc.errors import IntegrityError
from kdc.net.pace import Pace
from kdc.transfer.sender import Interrupted
from tests.transfer.test_transfer import TransferTestCase

RATE = 100_000
CONTENT = bytes(range(256)) * 4000  # ten seconds of it


class LimitTests(TransferTestCase):
    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 20)):
            self.network.advance(0.05)
            self.network.settle()

    def test_sender(self) -> None:
        """As much is sent as the limit allows in that time, and in the end all is there."""
        self.pace = Pace(RATE, self.network)
        protocol, _, wire = self.send(self.file("f", CONTENT))
        for second in range(1, 10):
            self.pass_time(1)
            # With a moment's worth before it, one behind it, and what seals it.
            self.assertLessEqual(len(wire.sent), RATE * (second + 0.5) + 10_000)
            self.assertGreater(len(wire.sent), RATE * (second - 0.5))
            self.assertNoResult(protocol.done)
        self.pass_time(2)
        self.assertEqual(self.successResultOf(protocol.done).total_bytes, len(CONTENT))
        self.assertEqual(self.arrived(), {"f": CONTENT})

    def test_receiver(self) -> None:
        """A receiver that reads no faster stops a sender that has no limit."""
        self.receive(pace=Pace(RATE, self.network))
        protocol, _, _ = self.send(self.file("f", CONTENT))
        self.pass_time(5)
        self.assertNoResult(protocol.done)
        self.pass_time(8)
        self.assertEqual(self.successResultOf(protocol.done).total_bytes, len(CONTENT))
        self.assertEqual(self.arrived(), {"f": CONTENT})

    def test_cut(self) -> None:
        """A connection that is lost in a pause ends the transfer at once, and leaves no timer."""
        self.pace = Pace(RATE, self.network)
        self.receive(pace=Pace(RATE // 2, self.network))
        protocol, _, wire = self.send(self.file("f", CONTENT))
        self.pass_time(1)
        wire.abortConnection()
        self.network.settle()
        self.failed(Interrupted, protocol)
        self.assertIsInstance(self.broken[0].error, IntegrityError)
        self.assertEqual((protocol._next.running, protocol._paced), (False, None))
