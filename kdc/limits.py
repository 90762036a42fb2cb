"""Limits of what a client may cost, and the buckets that keep them.

docs/protocol.md section 10 gives the defaults.  All of it is bounded itself:
a flood of names or addresses takes a fixed amount of memory.
"""

from __future__ import annotations

import functools
import ipaddress
import math
from typing import Generic, TypeVar

import attrs

__all__ = ["Arrivals", "ConnectionLimiter", "Limits", "Rate", "TokenBuckets", "address_prefix"]

# What somebody owes is forgotten after so long, however much it was.
_OWED_SECONDS = 60
# Connections are taken for so long at once, if nobody came before.
_BURST_SECONDS = 5
_MAX_KNOWN_ADDRESSES = 65_536
T = TypeVar("T")


@attrs.frozen
class Rate:
    """So many a period, all of them at once if nothing was asked before."""

    count: float
    period_seconds: float
    burst: float


@attrs.frozen
class Limits:
    """The KDC's limits; every one can be configured, none removed."""

    tls_seconds: float = 10.0
    first_frame_seconds: float = 10.0
    idle_seconds: float = 900.0
    unauthenticated: int = 256
    unauthenticated_per_address: int = 16
    arrivals_per_second: int = 200  # from strangers; as many where somebody has logged in
    arrivals_per_second_per_address: int = 20
    failures_per_minute: int = 10  # per name and address
    failures_per_minute_per_name: int = 60  # from addresses where it never succeeded
    registrations_per_minute: int = 5  # per address
    keys_per_second: int = 50  # per principal; other work for it counts as several
    keys_burst: int = 500
    connections_per_principal: int = 100

    @property
    def arrivals(self) -> Rate:
        count = self.arrivals_per_second
        return Rate(count, 1, count * _BURST_SECONDS)

    @property
    def arrivals_of_address(self) -> Rate:
        count = self.arrivals_per_second_per_address
        return Rate(count, 1, count * _BURST_SECONDS)

    @property
    def failures(self) -> Rate:
        return Rate(self.failures_per_minute, 60, self.failures_per_minute)

    @property
    def failures_of_name(self) -> Rate:
        return Rate(self.failures_per_minute_per_name, 60, self.failures_per_minute_per_name)

    @property
    def registrations(self) -> Rate:
        return Rate(self.registrations_per_minute, 60, self.registrations_per_minute)

    @property
    def keys(self) -> Rate:
        return Rate(self.keys_per_second, 1, self.keys_burst)


class TokenBuckets:
    """One bucket a key, ``capacity`` keys at most; the least recently used goes first."""

    def __init__(self, rate: Rate, capacity: int = 65_536) -> None:
        self._per_millisecond = rate.count / rate.period_seconds / 1000
        self._burst = rate.burst
        self._capacity = capacity
        self._buckets: dict[object, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: object, now_milliseconds: int) -> int:
        """Take one token.  Return 0, or after how many seconds to try again."""
        tokens = self._tokens(key, now_milliseconds)
        wait = self._wait(tokens)
        self._keep(key, tokens if wait else tokens - 1, now_milliseconds)
        return wait

    def charge(self, key: object, tokens: float, now_milliseconds: int) -> int:
        """Take so many, there or not; return after how many milliseconds they will have been there.

        Of what is missing no more than a minute's is held against anybody.
        """
        least = -self._per_millisecond * 1000 * _OWED_SECONDS
        left = max(self._tokens(key, now_milliseconds) - tokens, least)
        self._keep(key, left, now_milliseconds)
        return self._until_there(left)

    def owed(self, key: object, now_milliseconds: int) -> int:
        """Return in how many milliseconds all that was taken will have been there."""
        return self._until_there(self._tokens(key, now_milliseconds))

    def _until_there(self, left: float) -> int:
        return math.ceil(-left / self._per_millisecond) if left < 0 else 0

    def give_back(self, key: object, now_milliseconds: int) -> None:
        """Put back one token that was taken."""
        if key in self._buckets:
            tokens = min(self._tokens(key, now_milliseconds) + 1, self._burst)
            self._keep(key, tokens, now_milliseconds)

    def wait(self, key: object, now_milliseconds: int) -> int:
        """Return what `take` would, and take nothing."""
        return self._wait(self._tokens(key, now_milliseconds))

    def _keep(self, key: object, tokens: float, now_milliseconds: int) -> None:
        self._buckets.pop(key, None)  # so that the dict is in order of use
        self._buckets[key] = (tokens, now_milliseconds)
        if len(self._buckets) > self._capacity:
            del self._buckets[next(iter(self._buckets))]

    def _tokens(self, key: object, now_milliseconds: int) -> float:
        entry = self._buckets.get(key)
        if entry is None:
            return self._burst
        tokens, then = entry
        return min(self._burst, tokens + (now_milliseconds - then) * self._per_millisecond)

    def _wait(self, tokens: float) -> int:
        if tokens >= 1:
            return 0
        return math.ceil((1 - tokens) / self._per_millisecond / 1000)


@functools.lru_cache(maxsize=4096)  # a client is asked for it at each step of its way in
def address_prefix(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return address


class ConnectionLimiter(Generic[T]):
    """Those who have proved nothing yet: so many in all, so many of one address (IPv6: one /64).

    A newcomer is never turned away.  Where there are too many, the one that has
    been there longest has to go, of the newcomer's own address if that has its
    share, else of the address that has most: so whoever proves quickly gets in,
    however many sit there in silence.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self.allow(total, per_address)
        # Each address's in the order in which they came.
        self._crowds: dict[str, dict[T, None]] = {}
        self._prefixes: dict[T, str] = {}

    def allow(self, total: int, per_address: int) -> None:
        """Other limits; who is counted stays."""
        self._total = total
        self._per_address = per_address

    def __len__(self) -> int:
        return len(self._prefixes)

    def members(self) -> list[T]:
        """Those who are counted."""
        return list(self._prefixes)

    def admit(self, newcomer: T, address: str) -> T | None:
        """Count one more from ``address``; return whom to end for it, who is not counted now."""
        prefix = address_prefix(address)
        crowd: dict[T, None] = self._crowds.get(prefix, {})
        displaced = None
        if len(crowd) < self._per_address and len(self) >= self._total:
            crowd = max(self._crowds.values(), key=len)
        if len(crowd) >= self._per_address or len(self) >= self._total:
            displaced = next(iter(crowd))
            self.release(displaced)
        self._crowds.setdefault(prefix, {})[newcomer] = None
        self._prefixes[newcomer] = prefix
        return displaced

    def release(self, member: T) -> None:
        """Forget one that has shown who it is, or has gone, if it is counted at all."""
        prefix = self._prefixes.pop(member, None)
        if prefix is not None:
            del self._crowds[prefix][member]
            if not self._crowds[prefix]:
                del self._crowds[prefix]


class Arrivals:
    """Whether one more connection is taken from an address: each may cost a TLS handshake.

    One that proves who it is gives its place back: from then on its principal is
    charged for what it does.  A stranger's address has its share of what strangers have
    in all.  One where somebody has proved has its share whatever others do, and what such
    addresses have in all beyond theirs.
    """

    def __init__(self, limits: Limits, max_known: int = _MAX_KNOWN_ADDRESSES) -> None:
        self._known: dict[str, None] = {}
        self._max_known = max_known
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """Count by these from now on, from nothing; where somebody has logged in stays known."""
        self._of_address = TokenBuckets(limits.arrivals_of_address)
        self._of_all = TokenBuckets(limits.arrivals, capacity=2)

    def admit(self, address: str, now_milliseconds: int) -> bool:
        """Take one more, or say that it is too many."""
        prefix = address_prefix(address)
        known = prefix in self._known
        spent = self._of_address.wait(prefix, now_milliseconds)
        if spent and not known:
            return False
        # Where somebody has logged in, the address's own share does not depend on others.
        if (spent or not known) and self._of_all.take(known, now_milliseconds):
            return False
        if not spent:
            self._of_address.take(prefix, now_milliseconds)
        return True

    def proved(self, address: str, now_milliseconds: int) -> None:
        """One that was taken from there has shown who it is."""
        prefix = address_prefix(address)
        if prefix not in self._known:
            self._of_all.give_back(False, now_milliseconds)
        self._of_address.give_back(prefix, now_milliseconds)
        self._known.pop(prefix, None)  # so that the dict is in order of use
        self._known[prefix] = None
        if len(self._known) > self._max_known:
            del self._known[next(iter(self._known))]
