"""What a receiver tells whoever watches it, be it of files, of tunnels or a relay.

It names nobody: no principal, no address; a reason is one of those that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kdc.channel.figures import ChannelFigures
from kdc.transfer.receiver import TransferFigures
from kdc.tunnel.traffic import TunnelFigures
from kdc.watch.figures import Sampled

__all__ = [
    "channel_facts",
    "channel_figures",
    "transfer_facts",
    "transfer_figures",
    "tunnel_facts",
    "tunnel_figures",
]

Facts = Sequence[tuple[str, str]]


def channel_figures(read: Callable[[], ChannelFigures]) -> Iterator[Sampled]:
    yield Sampled.of(
        "kdc_receiver_kdc_links",
        "KDCs that send those here who ask for this receiver.",
        lambda: read().kdc_links,
    )
    yield Sampled.of(
        "kdc_receiver_relay_links",
        "Relays that this receiver is linked to.",
        lambda: read().relay_links,
    )
    yield Sampled.of("kdc_channels", "Channels that are open.", lambda: read().open)
    yield Sampled.of(
        "kdc_channels_opened_total",
        "Channels that were opened.",
        lambda: read().opened,
        grows=True,
    )
    yield Sampled(
        "kdc_channels_refused_total",
        "Channels that were not opened, by the reason.",
        lambda: {(reason,): count for reason, count in read().refused.items()},
        ("reason",),
        True,
    )


def channel_facts(now: ChannelFigures) -> Facts:
    return [
        ("KDCs that send others here", f"{now.kdc_links:,}"),
        ("links to relays", f"{now.relay_links:,}"),
        ("open channels", f"{now.open:,}"),
        ("opened since the start", f"{now.opened:,}"),
        *(
            (f"refused: {reason.replace('_', ' ')}", f"{count:,}")
            for reason, count in now.refused.items()
            if count
        ),
    ]


def transfer_figures(read: Callable[[], TransferFigures]) -> Iterator[Sampled]:
    yield Sampled.of(
        "kdc_transfers_under_way", "Transfers that are under way.", lambda: read().under_way
    )
    yield Sampled(
        "kdc_transfers_total",
        "Transfers that have ended, by what became of them.",
        lambda: {(outcome,): count for outcome, count in read().ended.items()},
        ("outcome",),
        True,
    )
    yield Sampled.of(
        "kdc_transfer_received_bytes_total",
        "Bytes that came in transfers, whatever became of them.",
        lambda: read().bytes,
        grows=True,
    )


def transfer_facts(now: TransferFigures) -> Facts:
    return [
        ("under way", f"{now.under_way:,}"),
        *((outcome, f"{count:,}") for outcome, count in now.ended.items()),
        ("bytes received", f"{now.bytes:,}"),
    ]


def tunnel_figures(read: Callable[[], TunnelFigures]) -> Iterator[Sampled]:
    yield Sampled.of("kdc_tunnel_connections", "Connections through tunnels.", lambda: read().open)
    yield Sampled(
        "kdc_tunnel_connections_ended_total",
        "Connections through tunnels that have ended, in order or not.",
        lambda: {("closed",): read().closed, ("broken",): read().broken},
        ("outcome",),
        True,
    )
    yield Sampled(
        "kdc_tunnel_bytes_total",
        "Bytes through tunnels: what peers sent, and what was sent to them.",
        lambda: {("received",): read().received, ("sent",): read().sent},
        ("direction",),
        True,
    )


def tunnel_facts(now: TunnelFigures) -> Facts:
    return [
        ("open connections", f"{now.open:,}"),
        ("ended in order", f"{now.closed:,}"),
        ("broken", f"{now.broken:,}"),
        ("bytes from peers", f"{now.received:,}"),
        ("bytes to peers", f"{now.sent:,}"),
    ]
