"""TLS handshakes take turns, by address."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kdc.limits import Limits
from kdc.server._handshakes import Turns
from tests.support.edge import KDC_HOST, KDC_PORT, EdgeTestCase, Recorder, Wire


def turn(clock: Clock) -> None:
    """What is due now, as in one turn of a reactor: what that makes due has its turn later."""
    due = [call for call in clock.calls if call.getTime() <= clock.seconds()]
    for call in due:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args)


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.begun: list[str] = []

    def take(self, prefix: str) -> None:
        if self.turns.take(prefix, lambda: self.begin(prefix)):
            self.begin(prefix)

    def begin(self, prefix: str) -> bool:
        self.begun.append(prefix)
        return True

    def turn(self) -> list[str]:
        """What began in the next turn of the reactor."""
        before = len(self.begun)
        turn(self.clock)
        return self.begun[before:]

    def test_nobody_waits_for_nothing(self) -> None:
        """Where nobody waits, it is everybody's turn at once."""
        for prefix in ("a", "a", "b"):
            self.take(prefix)
            self.assertEqual(self.turn(), [])
        self.assertEqual(self.begun, ["a", "a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_in_a_turn(self) -> None:
        """However many come together, one begins in a turn, and in the end all have."""
        for _ in range(4):
            self.take("a")
        self.assertEqual(self.begun, ["a"])
        self.assertEqual([self.turn() for _ in range(5)], [["a"], ["a"], ["a"], [], []])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_addresses_in_turn(self) -> None:
        """Who comes last, from an address of its own, waits for one of each other address."""
        for prefix in "aaaabbbbc":
            self.take(prefix)
        self.assertEqual("".join(each for _ in range(9) for each in self.turn()), "abcababb")

    def test_what_comes_of_a_turn(self) -> None:
        """One that begins in a turn and makes another wait keeps the order."""
        self.take("a")

        def again() -> bool:
            self.take("c")
            return True

        self.turns.take("b", again)
        self.assertEqual([self.turn(), self.turn()], [[], ["c"]])

    def test_who_has_gone(self) -> None:
        """Whoever does not want his turn any more costs nobody else one."""
        self.take("a")
        for _ in range(100):
            self.turns.take("a", lambda: False)
        self.take("a")
        self.take("b")
        self.assertEqual([self.turn(), self.turn(), self.turn()], [["b"], ["a"], []])


class HandshakeTests(EdgeTestCase):
    limits = Limits(unauthenticated=8, unauthenticated_per_address=4)

    def dial_many(self, count: int, address: str) -> list[Recorder]:
        """So many connections, before the reactor has had a turn."""
        recorders = [Recorder() for _ in range(count)]
        for recorder in recorders:
            self.network.connect(address, KDC_HOST, KDC_PORT, recorder)
        return recorders

    def waiting(self) -> list[Wire]:
        """The KDC's ends that are not read from yet."""
        return [
            wire for wire in self.network.wires if wire.host.port == KDC_PORT and not wire.reading
        ]

    def test_in_turn(self) -> None:
        """Of many that come together one is begun with, the others wait, and nothing is read."""
        recorders = self.dial_many(4, "198.51.100.1")
        self.assertEqual(len(self.waiting()), 3)
        for left in (2, 1, 0):
            turn(self.network)
            self.assertEqual(len(self.waiting()), left)
        self.network.settle()
        self.assertEqual([each.lost for each in recorders], [None] * 4)
        self.assertTrue(self.login("alice", address="198.51.100.2").alive)

    def test_another_address(self) -> None:
        """Somebody from elsewhere is not behind all of them."""
        self.dial_many(4, "198.51.100.1")
        self.dial_many(1, "203.0.113.1")
        other = self.network.wires[-1]
        self.assertFalse(other.reading)
        turn(self.network)
        turn(self.network)
        self.assertTrue(other.reading)
        self.assertEqual(len(self.waiting()), 2)

    def test_displaced_before_its_turn(self) -> None:
        """One that has to make room while it waits is closed, and takes nobody's turn."""
        recorders = self.dial_many(6, "198.51.100.1")
        self.network.settle()
        lost = [each.lost is not None for each in recorders]
        self.assertEqual(lost, [True, True, False, False, False, False])
        self.assertEqual(len(self.kdc.factory.limiter), 4)
        self.assertEqual(self.waiting(), [])

    def test_gone_before_its_turn(self) -> None:
        """Who does not wait for his turn is forgotten, and nothing is made for him."""
        recorders = self.dial_many(3, "198.51.100.1")
        waiting = self.waiting()
        before = len(waiting)
        for recorder in recorders:
            recorder.out.abortConnection()
        for wire in list(self.network.wires):
            wire.step()  # before anybody's turn comes
        self.network.settle()
        self.assertEqual(before, 2)
        self.assertEqual([wire.protocol for wire in waiting], [None, None])
        self.assertEqual(len(self.kdc.factory.limiter), 0)
        self.assertTrue(self.login("alice", address="198.51.100.1").alive)
