"""What a KDC that shares its store tells the others of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Protocol

import attrs
from twisted.internet.address import IPv4Address, IPv6Address

from kdc import __version__
from kdc.client.addresses import typed_as
from kdc.issuing.decisions import Enrolment, Permit
from kdc.issuing.permits import Permits
from kdc.limits import Limits
from kdc.relay.limits import RelayLimits
from kdc.store.nodes import MOST_ADDRESSES, NodeFacts

__all__ = ["node_facts", "policy_hash"]


class Told(Protocol):
    """What of a KDC's settings the others are told, or a hash of it."""

    @property
    def node(self) -> str: ...

    @property
    def hosts(self) -> tuple[str, ...]: ...

    @property
    def enrolment(self) -> Enrolment: ...

    @property
    def lifetime_seconds(self) -> int: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def permits(self) -> Permit: ...

    @property
    def relay_limits(self) -> RelayLimits: ...


def node_facts(settings: Told, ports: Iterable[Any]) -> NodeFacts:
    """``ports``: those that are bound."""
    bound = [port.getHost() for port in ports]
    places = [
        typed_as((host, where.port))
        for where in bound
        if isinstance(where, IPv4Address | IPv6Address)
        for host in settings.hosts or (where.host,)
    ]
    addresses = tuple(places[:MOST_ADDRESSES])
    return NodeFacts(settings.node, __version__, addresses, policy_hash(settings))


def policy_hash(settings: Told) -> str:
    """Equal where clients may do the same, however that was said: by options, in which file."""
    permits = settings.permits
    said = [
        settings.enrolment.value,
        settings.lifetime_seconds,
        attrs.asdict(settings.limits),
        # Their order counts.
        list(permits.rules.items()) if isinstance(permits, Permits) else [],
        attrs.asdict(settings.relay_limits),
    ]
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
