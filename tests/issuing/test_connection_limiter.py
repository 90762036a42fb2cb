"""How many connections may be open that have proved nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.limits import ConnectionLimiter
from tests.support.core import PROPERTY


class ConnectionLimiterTests(SynchronousTestCase):
    def test_total(self) -> None:
        """So many in all, wherever they come from; each that goes makes room for one."""
        limiter = ConnectionLimiter(3, 2)
        addresses = [f"192.0.2.{n}" for n in range(4)]
        self.assertEqual([limiter.admit(a) for a in addresses], [True, True, True, False])
        limiter.release("192.0.2.0")
        self.assertTrue(limiter.admit("192.0.2.9"))
        self.assertFalse(limiter.admit("192.0.2.9"))

    def test_per_address(self) -> None:
        """So many for one address, however it is written."""
        limiter = ConnectionLimiter(100, 2)
        self.assertTrue(limiter.admit("192.0.2.1"))
        self.assertTrue(limiter.admit("::ffff:192.0.2.1"))
        self.assertFalse(limiter.admit("192.0.2.1"))
        self.assertTrue(limiter.admit("192.0.2.2"))

    def test_per_network(self) -> None:
        """An IPv6 /64 counts as one address."""
        limiter = ConnectionLimiter(100, 2)
        self.assertTrue(limiter.admit("2001:db8::1"))
        self.assertTrue(limiter.admit("2001:db8::ffff:1"))
        self.assertFalse(limiter.admit("2001:db8::2"))
        self.assertTrue(limiter.admit("2001:db8:0:1::1"))

    @PROPERTY
    @given(st.lists(st.tuples(st.booleans(), st.sampled_from(["192.0.2.1", "2001:db8::1", ""]))))
    def test_nothing_is_left(self, steps: list[tuple[bool, str]]) -> None:
        """Whatever comes and goes, the count is right, and who has gone is forgotten."""
        limiter = ConnectionLimiter(5, 3)
        inside: list[str] = []
        for coming, address in steps:
            if coming and limiter.admit(address):
                inside.append(address)
            elif not coming and address in inside:
                inside.remove(address)
                limiter.release(address)
            self.assertEqual(len(limiter), len(inside))
            self.assertLessEqual(len(inside), 5)
            self.assertTrue(all(inside.count(each) <= 3 for each in inside))
        for address in inside:
            limiter.release(address)
        self.assertEqual((len(limiter), limiter._open), (0, {}))
