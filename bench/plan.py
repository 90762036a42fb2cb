"""How much is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

__all__ = ["FULL", "QUICK", "SHORT", "Plan"]


def _numbers(given: Iterable[int]) -> tuple[int, ...]:
    return tuple(given)


@attrs.frozen
class Plan:
    """Counts of one run; what takes long is bounded here, and nowhere else."""

    rounds: int
    peers: bool  # other programs, too
    principals: tuple[int, ...] = attrs.field(converter=_numbers)
    cpu_seconds: float  # of the server, for each row of exchanges, all rounds together
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
    connections: tuple[int, ...] = attrs.field(converter=_numbers)
    watched_turns: int
    watched_keys: int  # in each of them
    file_sizes: tuple[int, ...] = attrs.field(converter=_numbers)  # of the growth plot, in bytes
    profile_seconds: int  # about so long for each, or 0
    background: tuple[int, ...] = attrs.field(converter=_numbers)  # principals
    senders: tuple[int, ...] = attrs.field(converter=_numbers)  # to one receiver at once
    tunnelled: tuple[int, ...] = attrs.field(converter=_numbers)  # connections at once
    many_files: int

    def each(self, us: float, rounds: int = 0) -> int:
        """So many in a round, of what costs a server about ``us``, are enough for a row."""
        return max(1, math.ceil(self.cpu_seconds * 1e6 / us / (rounds or self.rounds)))

    @property
    def few(self) -> int:
        """Rounds of what takes long."""
        return min(3, self.rounds)


FULL = Plan(
    rounds=3,
    peers=True,
    principals=(10, 10_000, 1_000_000),
    cpu_seconds=2.1,
    transfer_mib=1024,
    peer_transfer_mib=1024,
    small_messages=60,
    tunnel_mib=1024,
    receivers=(100, 1000, 10_000),
    idle_channels=10_000,
    relay_mib=1024,
    linked=1000,
    joined=200,
    idle_seconds=70,
    connections=(1, 10, 100, 1000),
    watched_turns=8,
    watched_keys=15_000,
    file_sizes=(1, 1 << 10, 1 << 20, 1 << 26, 1 << 30),
    profile_seconds=5,
    background=(1_000_000,),
    senders=(1000, 5000),
    tunnelled=(5000,),
    many_files=100_000,
)
SHORT = attrs.evolve(
    FULL,
    rounds=1,
    principals=(10, 100_000),
    cpu_seconds=0.5,
    small_messages=16,
    receivers=(1000,),
    idle_channels=2000,
    linked=200,
    idle_seconds=15,
    connections=(1, 10, 100),
    watched_turns=2,
    watched_keys=10_000,
    file_sizes=(1, 1 << 20, 1 << 26),
    profile_seconds=2,
    background=(100_000,),
    senders=(1000,),
    tunnelled=(1000,),
    many_files=10_000,
)
QUICK = Plan(
    rounds=1,
    peers=False,
    principals=(10, 10_000),
    cpu_seconds=0.1,
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
    connections=(),
    watched_turns=2,
    watched_keys=5_000,
    file_sizes=(1, 1 << 20, 1 << 24),
    profile_seconds=0,
    background=(),
    senders=(200,),
    tunnelled=(200,),
    many_files=2000,
)
