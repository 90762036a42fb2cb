"""How much is measured."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

__all__ = ["FULL", "QUICK", "Plan"]


def _numbers(given: Iterable[int]) -> tuple[int, ...]:
    return tuple(given)


@attrs.frozen
class Plan:
    """Counts of one run; what takes long is bounded here, and nowhere else."""

    rounds: int
    peers: bool  # other programs, too
    principals: tuple[int, ...] = attrs.field(converter=_numbers)
    keys: int  # issued in one measurement
    connects: int
    registrations: int
    transfer_mib: int
    peer_transfer_mib: int
    small_messages: int
    tunnel_mib: int
    receivers: tuple[int, ...] = attrs.field(converter=_numbers)
    idle_channels: int
    relay_mib: int
    linked: int
    joined: int  # transfers through a relay at once
    idle_seconds: int  # twice
    tickets: int  # of Kerberos, in one measurement
    watched_turns: int
    watched_keys: int  # in each of them
    file_sizes: tuple[int, ...] = attrs.field(converter=_numbers)  # of the growth plot, in bytes
    profile_seconds: int  # about so long for each, or 0

    @property
    def few(self) -> int:
        """Rounds of what takes long."""
        return min(4, self.rounds)


FULL = Plan(
    rounds=6,
    peers=True,
    principals=(10, 10_000, 1_000_000),
    keys=24_000,
    connects=600,
    registrations=800,
    transfer_mib=1024,
    peer_transfer_mib=1024,
    small_messages=200,
    tunnel_mib=1024,
    receivers=(100, 1000, 10_000),
    idle_channels=10_000,
    relay_mib=1024,
    linked=1000,
    joined=200,
    idle_seconds=70,
    tickets=3000,
    watched_turns=20,
    watched_keys=30_000,
    file_sizes=(1, 1 << 10, 1 << 20, 1 << 26, 1 << 30),
    profile_seconds=8,
)
QUICK = Plan(
    rounds=1,
    peers=False,
    principals=(10, 10_000),
    keys=1600,
    connects=80,
    registrations=64,
    transfer_mib=64,
    peer_transfer_mib=64,
    small_messages=5,
    tunnel_mib=64,
    receivers=(100,),
    idle_channels=500,
    relay_mib=256,
    linked=50,
    joined=20,
    idle_seconds=2,
    tickets=400,
    watched_turns=2,
    watched_keys=5_000,
    file_sizes=(1, 1 << 20, 1 << 24),
    profile_seconds=0,
)
