"""How many connections may be open that have not shown who they are."""

from __future__ import annotations

from kdc.limits import address_prefix

__all__ = ["ConnectionLimiter"]


class ConnectionLimiter:
    """So many in all, and so many for one address (IPv6: one /64)."""

    def __init__(self, total: int, per_address: int) -> None:
        self.allow(total, per_address)
        self._open: dict[str, int] = {}
        self._count = 0

    def allow(self, total: int, per_address: int) -> None:
        """Other limits; who is counted stays."""
        self._total = total
        self._per_address = per_address

    def __len__(self) -> int:
        return self._count

    def admit(self, address: str) -> bool:
        """Count one more from ``address``, unless that would be too many."""
        prefix = address_prefix(address)
        if self._count >= self._total or self._open.get(prefix, 0) >= self._per_address:
            return False
        self._open[prefix] = self._open.get(prefix, 0) + 1
        self._count += 1
        return True

    def release(self, address: str) -> None:
        """Forget one that `admit` has counted: it has shown who it is, or has gone."""
        prefix = address_prefix(address)
        self._count -= 1
        self._open[prefix] -= 1
        if not self._open[prefix]:
            del self._open[prefix]
