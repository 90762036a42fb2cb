"""The KDCs that share a store: who they are, what is wrong with one, how soon a change counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kdc.admin._request import AdminAnswer, Context, Request
from kdc.errors import RefusedByPolicy
from kdc.store import Store, StoreUnavailable
from kdc.store.nodes import (
    LONGEST_BOUND_MILLISECONDS,
    Node,
    Nodes,
    SeenNode,
    UnreadableNode,
    slowest,
)

__all__ = ["in_force_seconds", "list_nodes", "rows_of", "troubles_of"]


def list_nodes(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """An answer for each that is there."""
    if store.nodes is None:
        raise RefusedByPolicy(
            "this KDC shares its principals with no other",
            hint="several KDCs of one realm have them in etcd",
        )
    yield from rows_of(store.nodes.read(), store.nodes)


def rows_of(seen: Sequence[SeenNode], of: Nodes) -> Iterator[AdminAnswer]:
    """Each with what is wrong with it."""
    for node in sorted(seen, key=lambda node: (_name(node), node.id)):
        troubles = troubles_of(node, seen, of)
        if isinstance(node, UnreadableNode):
            yield {"id": node.id, "troubles": troubles}
            continue
        yield {
            "id": node.id,
            "node": node.facts.name,
            "this": node.id == of.own_id,
            "version": node.facts.version,
            "addresses": list(node.facts.addresses),
            "generation": node.generation,
            "confirmed_age": node.age_milliseconds / 1000,
            "confirm_within": node.bound_milliseconds / 1000,
            "since": node.since_time,
            "master_keys": list(node.key_ids),
            "policy": node.facts.policy,
            "troubles": troubles,
        }


def troubles_of(node: SeenNode, seen: Sequence[SeenNode], of: Nodes) -> list[str]:
    """What is wrong with one of the nodes that are ``seen``."""
    if isinstance(node, UnreadableNode):
        return [f"cannot be read: {node.why}"]
    others = [each for each in seen if isinstance(each, Node)]
    troubles = []
    if not node.current:
        seconds = node.age_milliseconds // 1000
        troubles.append(f"gives no keys: for {seconds} s it was not sure to lack nothing")
    if of.master_key_id not in node.key_ids:
        troubles.append(f"has not the master key that is in use, {of.master_key_id}")
    elsewhere = {key_id for each in others for key_id in each.key_ids}
    troubles += [
        f"has not the master key {key_id}, which others have"
        for key_id in sorted(elsewhere - {of.master_key_id, *node.key_ids})
    ]
    if node.facts.policy != _usual([each.facts.policy for each in others]):
        troubles.append("has another policy than most")
    if [each.facts.name for each in others].count(node.facts.name) > 1:
        troubles.append("is not the only one of this name: one may have just ended")
    return troubles


def in_force_seconds(store: Store) -> int:
    """After how long what has just been changed counts at every KDC; 0: it does already."""
    nodes = store.nodes
    if nodes is None:
        return 0
    try:
        bound = slowest(nodes.read(), nodes.bound_milliseconds)
    except StoreUnavailable:
        # The change is made all the same: nobody may be told less than it may take.
        bound = LONGEST_BOUND_MILLISECONDS
    return -(-bound // 1000)


def _usual(policies: list[str]) -> str:
    """The one that most have; of two that are equally many the first in order."""
    counts = Counter(sorted(policies))
    return counts.most_common(1)[0][0]


def _name(node: SeenNode) -> str:
    return node.facts.name if isinstance(node, Node) else "~"
