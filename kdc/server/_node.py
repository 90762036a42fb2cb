"""What a KDC that shares its store tells the others of itself, and whoever watches it of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import attrs
from twisted.internet.address import IPv4Address, IPv6Address

from kdc import __version__
from kdc.admin.nodes import rows_of, troubles_of
from kdc.client.addresses import typed_as
from kdc.issuing.decisions import Enrolment, Permit
from kdc.issuing.permits import Permits
from kdc.limits import Limits
from kdc.relay.limits import RelayLimits
from kdc.store.nodes import MOST_ADDRESSES, NodeFacts, Nodes
from kdc.watch.figures import Sampled

__all__ = ["node_facts", "nodes_figures", "nodes_shown", "policy_hash"]

_MOST = 300  # characters of what is told of one


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


def nodes_shown(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Each of those that were there a moment ago, in a line, and what is wrong with it."""
    if nodes.trouble:
        yield "trouble", f"what is here may be old: {nodes.trouble[:_MOST]}"
    for row in rows_of(nodes.seen, nodes):
        troubles = "; ".join(row["troubles"])
        if "node" not in row:
            yield f"/{row['id']}", troubles[:_MOST]
            continue
        said = (
            f"{row['version']}, change {row['generation']:,}, sure {row['confirmed_age']:.1f} s ago"
        )
        name = f"{row['node']}{' (this one)' if row['this'] else ''}"
        yield name, f"{said}: {troubles}"[:_MOST] if troubles else said


def nodes_figures(nodes: Nodes) -> Iterator[Sampled]:
    yield Sampled.of(
        "kdc_store_nodes", "KDCs that share the store and run.", lambda: len(nodes.seen)
    )
    yield Sampled.of(
        "kdc_store_nodes_troubled",
        "Those of them with which something is wrong, such as another master key.",
        lambda: sum(bool(troubles_of(node, nodes.seen, nodes)) for node in nodes.seen),
    )
    yield Sampled.of(
        "kdc_store_nodes_up",
        "1 if the others can be seen, and see us.",
        lambda: int(not nodes.trouble),
    )
