"""What a KDC is told of Kerberos; nothing of Kerberos is loaded for it."""

from __future__ import annotations

import attrs

from kdc.limits import Rate

__all__ = ["SETTINGS", "KerberosSettings"]

_BURST_SECONDS = 2


@attrs.frozen
class KerberosSettings:
    """``endpoints``: Twisted endpoint strings, and of UDP what `kdc.server._kerberos_ports` reads.

    ``tickets``: where people and machines come for tickets and keytabs over a channel.
    ``advice``: what is said to who asks with a password, which nobody has here.
    """

    endpoints: tuple[str, ...] = ()
    tickets: str = ""
    advice: str = ""
    life: int = 10 * 3600
    renewable_life: int = 7 * 86_400
    advertise_fast: bool = False
    datagrams_per_second: int = 2000
    requests_per_second_per_address: int = 200
    connections: int = 256
    connections_per_address: int = 16
    failures_per_minute: int = 10  # per name and address
    request_seconds: float = 10.0
    idle_seconds: float = 30.0

    @property
    def datagrams(self) -> Rate:
        return Rate(self.datagrams_per_second, 1, _BURST_SECONDS * self.datagrams_per_second)

    @property
    def of_address(self) -> Rate:
        count = self.requests_per_second_per_address
        return Rate(count, 1, _BURST_SECONDS * count)

    @property
    def failures(self) -> Rate:
        return Rate(self.failures_per_minute, 60, self.failures_per_minute)


# By the names that the configuration file has for them: the least and the most that they can be.
SETTINGS = {
    "life": (60, 7 * 86_400),
    "renewable-life": (60, 31 * 86_400),
    "datagrams-per-second": (1, 10**6),
    "requests-per-second-per-address": (1, 10**6),
    "connections": (1, 10**5),
    "connections-per-address": (1, 10**5),
    "failures-per-minute": (1, 10**6),
}
