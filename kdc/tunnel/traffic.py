"""How much goes through tunnels: what is open, and what has ended since the start."""

from __future__ import annotations

from typing import Protocol

import attrs

__all__ = ["Flow", "Traffic", "TunnelFigures"]


class Flow(Protocol):
    """One connection: how many bytes came from its one side, and how many from its other."""

    @property
    def received(self) -> int: ...

    @property
    def sent(self) -> int: ...


@attrs.frozen
class TunnelFigures:
    """Connections; ``broken`` are those that did not end in order.  Bytes are the peers' view:

    ``received`` is what they sent here.
    """

    open: int = 0
    closed: int = 0
    broken: int = 0
    received: int = 0
    sent: int = 0


class Traffic:
    """Adds up when somebody looks; a connection that carries something costs nothing here."""

    def __init__(self) -> None:
        self._open: dict[Flow, bool] = {}
        self._past = TunnelFigures()

    def began(self, flow: Flow, *, turned: bool = False) -> None:
        """``turned``: what it received came from here, and not from the peer."""
        self._open[flow] = turned

    def ended(self, flow: Flow, *, in_order: bool) -> None:
        turned, past = self._open.pop(flow), self._past
        received, sent = _of(flow, turned)
        self._past = TunnelFigures(
            0,
            past.closed + in_order,
            past.broken + (not in_order),
            past.received + received,
            past.sent + sent,
        )

    @property
    def figures(self) -> TunnelFigures:
        flows = [_of(flow, turned) for flow, turned in self._open.items()]
        return attrs.evolve(
            self._past,
            open=len(flows),
            received=self._past.received + sum(received for received, _ in flows),
            sent=self._past.sent + sum(sent for _, sent in flows),
        )


def _of(flow: Flow, turned: bool) -> tuple[int, int]:
    return (flow.sent, flow.received) if turned else (flow.received, flow.sent)
