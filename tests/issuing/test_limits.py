"""Limits: what they allow, when they allow it again, and that they are bounded themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.limits import Arrivals, Limits, Rate, TokenBuckets, address_prefix
from tests.support.core import PROPERTY

TEN_A_MINUTE = Rate(10, 60, 10)


class TokenBucketsTests(SynchronousTestCase):
    def test_burst_then_steady(self) -> None:
        """All of a period's at once, then one after each part of it."""
        buckets = TokenBuckets(TEN_A_MINUTE)
        self.assertEqual([buckets.take("a", 0) for _ in range(12)], [0] * 10 + [6, 6])
        self.assertEqual(buckets.take("a", 5_999), 1)
        self.assertEqual(buckets.take("a", 6_000), 0)
        self.assertEqual(buckets.take("a", 6_001), 6)

    def test_saved_up_to_the_burst(self) -> None:
        """Who was silent for a day has a full bucket, not a day's worth."""
        buckets = TokenBuckets(TEN_A_MINUTE)
        buckets.take("a", 0)
        day = 24 * 3600 * 1000
        self.assertEqual([bool(buckets.take("a", day)) for _ in range(11)], [False] * 10 + [True])

    def test_each_key_its_own(self) -> None:
        """One client's haste costs no other."""
        buckets = TokenBuckets(TEN_A_MINUTE)
        for _ in range(20):
            buckets.take("a", 0)
        self.assertEqual(buckets.take("b", 0), 0)

    def test_looking_takes_nothing(self) -> None:
        """`wait` tells what `take` would, and changes nothing."""
        buckets = TokenBuckets(TEN_A_MINUTE)
        self.assertEqual([buckets.wait("a", 0) for _ in range(20)], [0] * 20)
        self.assertEqual(len(buckets), 0)
        for _ in range(10):
            buckets.take("a", 0)
        self.assertEqual([buckets.wait("a", 0) for _ in range(3)], [6] * 3)

    def test_charge(self) -> None:
        """What is taken beyond what is there has to be waited for, a minute at most."""
        buckets = TokenBuckets(Rate(2, 1, 10))
        self.assertEqual([buckets.charge("a", 5, 0) for _ in range(3)], [0, 0, 2500])
        self.assertEqual(buckets.charge("a", 5, 2500), 2500)
        self.assertEqual([buckets.charge("b", 10, 0), buckets.charge("b", 1, 0)], [0, 500])
        self.assertEqual(buckets.charge("b", 1000, 0), 60_000)
        self.assertEqual([buckets.owed("b", now) for now in (0, 59_999, 60_000)], [60_000, 1, 0])
        self.assertEqual(buckets.charge("b", 1, 60_000), 500)
        self.assertEqual(buckets.owed("nobody", 0), 0)

    def test_given_back(self) -> None:
        """A token that was given back can be taken again, and makes no burst larger."""
        buckets = TokenBuckets(Rate(1, 1, 2))
        for _ in range(5):
            self.assertEqual(buckets.take("a", 0), 0)
            buckets.give_back("a", 0)
        buckets.give_back("a", 0)
        buckets.give_back("b", 0)
        for key in ("a", "b"):
            self.assertEqual([buckets.take(key, 0) for _ in range(3)], [0, 0, 1])

    def test_boundary(self) -> None:
        """One whole token is enough, and nothing less is."""
        buckets = TokenBuckets(Rate(1, 1, 1))
        self.assertEqual(buckets.take("a", 0), 0)
        self.assertEqual([buckets.take("a", now) for now in (999, 1000, 1001)], [1, 0, 1])

    def test_bounded(self) -> None:
        """A flood of keys takes a fixed amount of memory; who is active is not forgotten."""
        buckets = TokenBuckets(TEN_A_MINUTE, capacity=100)
        for _ in range(10):
            buckets.take("victim", 0)
        for number in range(1000):
            buckets.take(number, 0)
            self.assertEqual(bool(buckets.take("victim", 0)), True)
        self.assertEqual(len(buckets), 100)

    def test_default_capacity(self) -> None:
        """65,536 keys, if nothing else is said."""
        buckets = TokenBuckets(TEN_A_MINUTE)
        for number in range(65_537):
            buckets.take(number, 0)
        self.assertEqual(len(buckets), 65_536)

    @PROPERTY
    @given(
        st.sampled_from([TEN_A_MINUTE, Rate(5, 60, 5), Rate(60, 60, 60), Rate(50, 1, 500)]),
        st.lists(st.integers(0, 30_000), max_size=60),
    )
    def test_waiting_as_told_is_enough(self, rate: Rate, pauses: list[int]) -> None:
        """Who waits as long as he is told is served; nobody is served faster than the rate."""
        buckets, now, served = TokenBuckets(rate), 0, 0
        for pause in pauses:
            now += pause
            wait = buckets.take("a", now)
            served += not wait
            if wait:
                now += 1000 * wait
                self.assertEqual(buckets.take("a", now), 0)
                served += 1
        allowed = rate.burst + rate.count * now / 1000 / rate.period_seconds
        self.assertLessEqual(served, allowed + 1e-6)


class LimitsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """The limits of protocol section 10."""
        limits = Limits()
        self.assertEqual(limits.failures, Rate(10, 60, 10))
        self.assertEqual(limits.failures_of_name, Rate(60, 60, 60))
        self.assertEqual(limits.registrations, Rate(5, 60, 5))
        self.assertEqual(limits.keys, Rate(50, 1, 500))
        self.assertEqual((limits.tls_seconds, limits.first_frame_seconds), (10, 10))
        self.assertEqual((limits.unauthenticated, limits.unauthenticated_per_address), (256, 16))
        self.assertEqual(limits.idle_seconds, 15 * 60)
        self.assertEqual(limits.connections_per_principal, 100)
        self.assertEqual(limits.arrivals, Rate(200, 1, 1000))
        self.assertEqual(limits.arrivals_of_address, Rate(20, 1, 100))


class ArrivalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        limits = Limits(arrivals_per_second=4, arrivals_per_second_per_address=2)
        self.arrivals = Arrivals(limits, max_known=2)

    def taken(self, *addresses: str, now: int = 0) -> int:
        return sum(self.arrivals.admit(address, now) for address in addresses)

    def test_one_address(self) -> None:
        """What an address has at once, and then its rate; another is not affected."""
        self.assertEqual(self.taken(*["192.0.2.1"] * 50), 10)
        self.assertEqual(self.taken("192.0.2.2"), 1)
        self.assertEqual(self.taken(*["192.0.2.1"] * 50, now=1000), 2)

    def test_one_network(self) -> None:
        """A /64 of IPv6 is one address."""
        self.assertEqual(self.taken(*(f"2001:db8::{n}" for n in range(1, 50))), 10)

    def test_strangers(self) -> None:
        """All addresses together that nobody has logged in from; what is refused takes nothing."""
        self.assertEqual(self.taken(*(f"192.0.2.{n}" for n in range(1, 200))), 20)
        self.assertEqual(self.taken("198.51.100.1"), 0)
        self.assertEqual(self.taken(*["198.51.100.1"] * 50, now=10_000), 10)

    def test_where_one_has_logged_in(self) -> None:
        """There the strangers elsewhere do not matter; it has more than its own share."""
        self.assertEqual(self.taken("203.0.113.1"), 1)
        self.arrivals.proved("203.0.113.1", 0)
        self.taken(*(f"192.0.2.{n}" for n in range(1, 200)))
        self.assertEqual(self.taken("198.51.100.1"), 0)
        self.assertEqual(self.taken(*["203.0.113.1"] * 50), 10 + 20)
        self.assertEqual(self.taken(*["203.0.113.1"] * 50, now=1000), 2 + 4)

    def test_where_several_have_logged_in(self) -> None:
        """Each has its own share, whatever the others do; what is beyond that they share."""
        homes = ("203.0.113.1", "203.0.113.2")
        for home in homes:
            self.arrivals.proved(home, 0)
        self.assertEqual(self.taken(*[homes[0]] * 50), 10 + 20)
        self.assertEqual(self.taken(*[homes[1]] * 50), 10)
        self.assertEqual([self.taken(*[home] * 50, now=500) for home in homes], [1 + 2, 1])

    def test_proofs_beyond_the_share(self) -> None:
        """Any number of clients that prove come from one address, with others at work there."""
        self.arrivals.proved("203.0.113.1", 0)
        self.taken(*["203.0.113.1"] * 28)
        for _ in range(100):
            self.assertEqual(self.taken("203.0.113.1"), 1)
            self.arrivals.proved("203.0.113.1", 0)

    def test_proofs_cost_nothing(self) -> None:
        """Who proves takes nothing from anybody."""
        for address in ("192.0.2.1", "192.0.2.2"):
            for _ in range(100):
                self.assertEqual(self.taken(address), 1)
                self.arrivals.proved(address, 0)
        self.assertEqual(self.taken(*(f"198.51.100.{n}" for n in range(1, 200))), 20)

    def test_bounded(self) -> None:
        """So many addresses are known, the latest; limits that are read again change nothing."""
        for number in (1, 2, 1, 3):
            self.arrivals.proved(f"192.0.2.{number}", 0)
        self.arrivals.limit(Limits(arrivals_per_second=1, arrivals_per_second_per_address=1))
        self.assertEqual(self.taken(*(f"198.51.100.{n}" for n in range(1, 200))), 5)
        self.assertEqual([self.taken(f"192.0.2.{n}") for n in (1, 2, 3)], [1, 0, 1])


class AddressPrefixTests(SynchronousTestCase):
    def test_prefixes(self) -> None:
        """An IPv4 address, or the /64 that one household of IPv6 has."""
        for address, prefix in (
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.2", "192.0.2.2"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("fe80::1%eth0", "fe80::"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("", ""),
            ("a.unix.socket", "a.unix.socket"),
        ):
            self.assertEqual(address_prefix(address), prefix)
