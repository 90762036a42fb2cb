"""What a relay tells whoever watches it, be it the KDC's own or a process of its own.

It names nobody: no principal, no address; a limit is one of those that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kdc.relay.limits import LIMITED
from kdc.relay.relay import Figures
from kdc.watch.figures import Sampled

__all__ = ["relay_facts", "relay_figures"]

# (what a relay calls it, its name here, what it is, whether it grows)
_NUMBERS = (
    ("links", "kdc_relay_links", "Receivers that are linked.", False),
    ("joined", "kdc_relay_joined", "Connections that are joined to their receiver.", False),
    ("waiting", "kdc_relay_waiting", "Connections that wait for their receiver.", False),
    ("joins", "kdc_relay_joins_total", "Connections that were joined to their receiver.", True),
    ("bytes", "kdc_relay_bytes_total", "Bytes that were carried, both ways.", True),
)


def relay_figures(read: Callable[[], Figures | None]) -> Iterator[Sampled]:
    """The families of a relay; ``read`` returns None once it is there no more."""
    for field, name, text, grows in _NUMBERS:
        yield Sampled.of(name, text, _reader(read, field), grows=grows)
    yield Sampled(
        "kdc_relay_limited_total",
        "How often somebody was refused, had to make room or was given up, by the limit.",
        lambda: {(limit,): count for limit, count in _limited(read).items()},
        ("limit",),
        True,
    )


def _reader(read: Callable[[], Figures | None], field: str) -> Callable[[], float]:
    return lambda: float(getattr(read(), field, 0))


def _limited(read: Callable[[], Figures | None]) -> dict[str, int]:
    figures = read()
    return {limit: figures.limited[limit] if figures else 0 for limit in LIMITED}


def relay_facts(figures: Figures) -> Sequence[tuple[str, str]]:
    """The same for people; of the limits those that were reached."""
    return [
        ("linked receivers", f"{figures.links:,}"),
        ("joined connections", f"{figures.joined:,}"),
        ("waiting for their receiver", f"{figures.waiting:,}"),
        ("joined since the start", f"{figures.joins:,}"),
        ("bytes carried", f"{figures.bytes:,}"),
        *(
            (f"limit {limit.replace('_', ' ')} reached", f"{count:,}")
            for limit, count in figures.limited.items()
            if count
        ),
    ]
