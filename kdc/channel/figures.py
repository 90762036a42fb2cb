"""What a receiver's end of it all amounts to: numbers, for whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kdc.channel.services import ServiceStatus
from kdc.errors import Refusal

__all__ = ["NOTHING", "REASONS", "ChannelFigures"]

# Why a channel can be refused: what is wrong with the first message, or what its sender wants.
REASONS = (
    *(refusal.name.lower() for refusal in Refusal if refusal is not Refusal.NOT_ALLOWED),
    *(status.name.lower() for status in ServiceStatus if status is not ServiceStatus.ACCEPTED),
    "unavailable",
)


@attrs.frozen
class ChannelFigures:
    """What there is just now; and since the start what was opened, and refused for which reason.

    ``kdc_links``: through how many KDCs we are reached; ``relay_links``: through how many relays.
    """

    open: int
    opened: int
    refused: Mapping[str, int]
    kdc_links: int
    relay_links: int


NOTHING = ChannelFigures(0, 0, dict.fromkeys(REASONS, 0), 0, 0)
