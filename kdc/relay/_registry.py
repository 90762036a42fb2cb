"""Who is linked, which epochs are whose, and who waits for whom.  Pure: no I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from kdc.errors import RefusedByPolicy
from kdc.limits import address_prefix
from kdc.protocol.relay import TOKEN_BYTES, Verdict
from kdc.relay.limits import LIMITED, RelayLimits

__all__ = ["Owns", "Registry"]

L = TypeVar("L")
S = TypeVar("S")
# Whether an epoch is this principal's; None where nobody here can know.
Owns = Callable[[str, bytes], bool | None]


@attrs.define
class _Linked:
    principal: str
    address: str
    claimed: set[bytes] = attrs.field(factory=set, repr=False)


@attrs.frozen
class _Joining:
    """One sender, from when its receiver was called to when it is gone."""

    principal: str
    address: str
    token: bytes = attrs.field(repr=False)


class Registry(Generic[L, S]):
    """``L`` is what a link is to the caller, ``S`` what a sender is; ``now`` is in milliseconds.

    ``owns`` is asked of every claim.  Where it cannot tell, the first claim
    holds for as long as its link lives: who claims another's epoch gains that
    the other is not reached, and nothing else.
    """

    def __init__(
        self,
        limits: RelayLimits,
        random: Callable[[int], bytes],
        owns: Owns = lambda principal, epoch_id: None,
    ) -> None:
        self.limits = limits
        self._random = random
        self._owns = owns
        self._links: dict[L, _Linked] = {}
        self._linked: Counter[str] = Counter()
        self._linked_from: Counter[str] = Counter()
        self._claims: dict[bytes, L] = {}
        self._joining: dict[S, _Joining] = {}
        self._joined: Counter[str] = Counter()
        self._joined_from: Counter[str] = Counter()
        self._waiting: dict[bytes, tuple[S, int]] = {}
        # How often somebody had to do without, by the limit.
        self.limited = dict.fromkeys(LIMITED, 0)
        self.joins = 0  # since the start

    @property
    def links(self) -> int:
        return len(self._links)

    @property
    def joined(self) -> int:
        return len(self._joining) - len(self._waiting)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # links and what they claim

    def link(self, link: L, principal: str, address: str) -> L | None:
        """Take one more; return the one that has made room for it; raises `RefusedByPolicy`.

        That is the oldest of a principal that has as many as it may: whoever comes
        from ever other networks leaves links behind that nobody knows to be dead.
        """
        prefix = address_prefix(address)
        full = self._linked[principal] >= self.limits.links_per_principal
        oldest = self._oldest(principal) if full else None
        links, there = len(self._links), self._linked_from[prefix]
        if oldest is not None:
            links, there = links - 1, there - (self._links[oldest].address == prefix)
        self._refuse_at("links", links, "receivers are linked")
        self._refuse_at("links_per_address", there, f"links from {prefix}")
        if oldest is not None:
            self.limited["links_per_principal"] += 1
            self.unlink(oldest)
        self._links[link] = _Linked(principal, prefix)
        self._linked[principal] += 1
        self._linked_from[prefix] += 1
        return oldest

    def _oldest(self, principal: str) -> L:
        return next(link for link, it in self._links.items() if it.principal == principal)

    def unlink(self, link: L) -> None:
        """It is gone, and with it all that it had claimed; who is joined stays so."""
        linked = self._links.pop(link, None)
        if linked is None:
            return
        _less(self._linked, linked.principal)
        _less(self._linked_from, linked.address)
        for epoch_id in linked.claimed:
            del self._claims[epoch_id]

    def claim(self, link: L, epoch_id: bytes) -> int:
        """Send those to ``link`` who want this epoch; return a `Verdict`."""
        linked = self._links[link]
        holder = self._claims.get(epoch_id)
        if holder is link:
            return Verdict.YES
        if len(linked.claimed) >= self.limits.epochs_per_link:
            self.limited["epochs_per_link"] += 1
            return Verdict.TOO_MANY
        owned = self._owns(linked.principal, epoch_id)
        if owned is None:
            # A link of one's own that is dead, and not known to be, holds nobody up.
            owned = holder is None or self._links[holder].principal == linked.principal
        if not owned:
            return Verdict.NOT_YOURS
        if holder is not None:
            self.release(holder, epoch_id)
        linked.claimed.add(epoch_id)
        self._claims[epoch_id] = link
        return Verdict.YES

    def release(self, link: L, epoch_id: bytes) -> None:
        """Forget a claim of ``link``, if that is one."""
        if self._claims.get(epoch_id) is link:
            del self._claims[epoch_id]
            self._links[link].claimed.discard(epoch_id)

    def holder(self, epoch_id: bytes) -> L | None:
        """Whom to call for this epoch."""
        return self._claims.get(epoch_id)

    def principal_of(self, link: L) -> str:
        return self._links[link].principal

    # senders, and those who come for them

    def call(self, link: L, sender: S, address: str, now: int) -> bytes:
        """Count a sender that wants ``link``; return the token to come with.

        Raises `RefusedByPolicy`.
        """
        principal, prefix = self._links[link].principal, address_prefix(address)
        self._refuse_at("joined", len(self._joining), "connections are joined")
        self._refuse_at("joined_per_principal", self._joined[principal], f"joined to {principal}")
        self._refuse_at("joined_per_address", self._joined_from[prefix], f"joined from {prefix}")
        token = self._random(TOKEN_BYTES)
        self._joining[sender] = _Joining(principal, prefix, token)
        self._joined[principal] += 1
        self._joined_from[prefix] += 1
        self._waiting[token] = sender, now + round(1000 * self.limits.token_seconds)
        return token

    def come(self, token: bytes, now: int) -> S | None:
        """Return the sender that this token was made for, once and in time only."""
        sender, until = self._waiting.pop(token, (None, now))
        if sender is None or now > until:
            return None
        self.joins += 1
        return sender

    def forget(self, sender: S) -> None:
        """It is gone, joined or not."""
        joining = self._joining.pop(sender, None)
        if joining is None:
            return
        self._waiting.pop(joining.token, None)
        _less(self._joined, joining.principal)
        _less(self._joined_from, joining.address)

    def _refuse_at(self, limit: str, count: int, what: str) -> None:
        if count >= getattr(self.limits, limit):
            self.limited[limit] += 1
            raise RefusedByPolicy(f"as many as are allowed: {count} {what}")


def _less(counter: Counter[str], key: str) -> None:
    """One less, and nothing is kept of those with none."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
