"""How many connections may be open that have proved nothing, and which of them make room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.limits import ConnectionLimiter
from tests.support.core import PROPERTY


class ConnectionLimiterTests(SynchronousTestCase):
    def coming(self, limiter: ConnectionLimiter[str], *addresses: str) -> list[str | None]:
        """One from each, called "0 its-address" and so on; return whom each displaces."""
        return [limiter.admit(f"{n} {address}", address) for n, address in enumerate(addresses)]

    def test_total(self) -> None:
        """So many in all; then the oldest of the address that has most makes room."""
        limiter: ConnectionLimiter[str] = ConnectionLimiter(5, 3)
        self.assertEqual(self.coming(limiter, "a", "b", "b", "c", "b"), [None] * 5)
        self.assertEqual(limiter.admit("x", "d"), "1 b")
        self.assertEqual(len(limiter), 5)
        limiter.release("x")
        self.assertIsNone(limiter.admit("y", "d"))

    def test_per_address(self) -> None:
        """So many for one address, however it is written; its own oldest makes room."""
        limiter: ConnectionLimiter[str] = ConnectionLimiter(100, 2)
        found = self.coming(limiter, "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "192.0.2.1")
        self.assertEqual(found, [None, None, None, "0 192.0.2.1"])

    def test_per_network(self) -> None:
        """An IPv6 /64 counts as one address."""
        limiter: ConnectionLimiter[str] = ConnectionLimiter(100, 2)
        found = self.coming(
            limiter, "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "2001:db8::2"
        )
        self.assertEqual(found, [None, None, None, "0 2001:db8::1"])

    def test_many_with_one_each(self) -> None:
        """Where all addresses have one, the one that came first makes room."""
        limiter: ConnectionLimiter[str] = ConnectionLimiter(3, 3)
        self.coming(limiter, "a", "b", "c")
        limiter.release("0 a")
        limiter.admit("again", "a")
        self.assertEqual(limiter.admit("x", "d"), "1 b")

    def test_full_and_its_own_share_used(self) -> None:
        """Who has his share and comes when all is full displaces his own."""
        limiter: ConnectionLimiter[str] = ConnectionLimiter(4, 2)
        self.coming(limiter, "a", "a", "b", "b")
        self.assertEqual(limiter.admit("x", "b"), "2 b")

    def test_new_limits(self) -> None:
        """Smaller limits end nobody at once; each who comes displaces one."""
        limiter: ConnectionLimiter[str] = ConnectionLimiter(4, 4)
        self.coming(limiter, "a", "a", "a")
        limiter.allow(1, 1)
        self.assertEqual(limiter.admit("x", "b"), "0 a")

    @PROPERTY
    @given(st.lists(st.tuples(st.booleans(), st.sampled_from(["192.0.2.1", "2001:db8::1", ""]))))
    def test_nothing_is_left(self, steps: list[tuple[bool, str]]) -> None:
        """Whatever comes and goes: the count is right, and who has gone is forgotten."""
        limiter: ConnectionLimiter[int] = ConnectionLimiter(5, 3)
        inside: dict[int, str] = {}
        for number, (coming, address) in enumerate(steps):
            if coming:
                displaced = limiter.admit(number, address)
                if displaced is not None:
                    del inside[displaced]
                inside[number] = address
            elif inside:
                limiter.release(gone := next(iter(inside)))
                limiter.release(gone)
                del inside[gone]
            self.assertEqual(len(limiter), len(inside))
            self.assertLessEqual(len(inside), 5)
            held = list(inside.values())
            self.assertTrue(all(held.count(each) <= 3 for each in held))
        for number in inside:
            limiter.release(number)
        self.assertEqual((len(limiter), limiter._crowds, limiter._prefixes), (0, {}, {}))
