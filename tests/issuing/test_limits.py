"""Limits: what they allow, when they allow it again, and that they are bounded themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.limits import Limits, Rate, TokenBuckets, address_prefix
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
        """What is taken beyond what is there has to be waited for, a whole burst at most."""
        buckets = TokenBuckets(Rate(2, 1, 10))
        self.assertEqual([buckets.charge("a", 5, 0) for _ in range(3)], [0, 0, 2500])
        self.assertEqual(buckets.charge("a", 5, 2500), 2500)
        self.assertEqual([buckets.charge("b", 10, 0), buckets.charge("b", 1, 0)], [0, 500])
        self.assertEqual(buckets.charge("b", 1000, 0), 5000)
        self.assertEqual(buckets.charge("b", 0, 10_000), 0)

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
