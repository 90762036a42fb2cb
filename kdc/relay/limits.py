"""What a relay lets others cost it."""

from __future__ import annotations

import attrs

from kdc.limits import Rate

__all__ = ["LIMITED", "LIMITS", "RelayLimits", "RelaySettings", "lowest"]


@attrs.frozen
class RelayLimits:
    """Every one can be configured; none but ``bytes_per_second`` (0: off) can be removed.

    Who comes when one is reached is refused; whoever is there already notices
    nothing, but a principal's next link takes the place of its oldest.
    ``joined`` are pairs of connections, those included that still wait for their
    receiver; ``joined_per_address`` counts the sender's.
    """

    links: int = 4096
    links_per_principal: int = 4
    links_per_address: int = 1024
    epochs_per_link: int = 16
    joined: int = 1024
    joined_per_principal: int = 256
    joined_per_address: int = 256
    bytes_per_second: int = 0  # per receiving principal
    idle_seconds: float = 900.0
    first_seconds: float = 5.0
    token_seconds: float = 10.0
    unproven: int = 512
    unproven_per_address: int = 64
    dials_per_minute: int = 6  # per principal

    @property
    def dials(self) -> Rate:
        return Rate(self.dials_per_minute, 60, self.dials_per_minute)

    @property
    def carried(self) -> Rate:
        # More than is read at a time: what is taken beyond it would not be held against anybody.
        return Rate(self.bytes_per_second, 1, max(self.bytes_per_second, 1 << 20))


# As they are called where they are configured.
LIMITS = {field.name.replace("_", "-"): field for field in attrs.fields(RelayLimits)}

# Those at which somebody is refused, has to make room, or is given up.
LIMITED = (
    *("links", "links_per_principal", "links_per_address", "epochs_per_link"),
    *("joined", "joined_per_principal", "joined_per_address"),
    *("unproven", "first_seconds", "token_seconds", "idle_seconds", "dials_per_minute"),
)


def lowest(name: str) -> int:
    """The least that one can be: 0 switches off what is off by default, and nothing else."""
    return 0 if LIMITS[name].default == 0 else 1


@attrs.frozen
class RelaySettings:
    """``listen``: a Twisted endpoint string; ``advertise``: the address that others are told."""

    listen: str
    advertise: str = ""
    limits: RelayLimits = attrs.field(factory=RelayLimits)
