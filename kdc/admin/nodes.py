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
    newer_key_ids,
    slowest,
)

__all__ = [
    "check_keys",
    "in_force_seconds",
    "list_nodes",
    "new_master_key",
    "rows_of",
    "troubles_of",
]


def list_nodes(store: Store, request: Request, context: Context) -> Iterator[AdminAnswer]:
    """An answer for each that is there."""
    nodes = _shared(store)
    yield from rows_of(nodes.read(), nodes)


def new_master_key(store: Store) -> str:
    """Put another key into the key file of this node; return what it is called."""
    return _shared(store).new_master_key()


def check_keys(store: Store) -> None:
    """Refuse to go over to another master key unless every node has it.

    Where it was gone over to already, all that is left is to drop the old one here.
    """
    nodes = store.nodes
    if nodes is None:
        return
    in_use, ours = nodes.master_key_id, nodes.own_key_ids
    newer = newer_key_ids(ours, in_use)
    if not newer:
        if len(ours) > 1:
            return
        raise RefusedByPolicy(
            "there is no new master key yet",
            hint="make one in the key file of one node, copy that file to every other node, by a"
            " safe way, and have each read it",
        )
    others = [node for node in nodes.read() if node.id != nodes.own_id]
    without = [node for node in others if not _has(node, newer[0])]
    if without:
        raise RefusedByPolicy(
            f"not every node has the new master key {newer[0]}: "
            + ", ".join(sorted(map(_called, without))),
            hint="copy the key file there, by a safe way, and have it read; a node that has ended"
            " is not waited for longer than its lease, half a minute",
        )


def _shared(store: Store) -> Nodes:
    if store.nodes is None:
        raise RefusedByPolicy(
            "this KDC shares its principals with no other",
            hint="several KDCs of one realm have them in etcd",
        )
    return store.nodes


def _has(node: SeenNode, key_id: str) -> bool:
    return isinstance(node, Node) and key_id in node.key_ids


def _called(node: SeenNode) -> str:
    return node.facts.name if isinstance(node, Node) else f"{node.id!r} ({node.why})"


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
    elsewhere = {
        key_id for each in others for key_id in newer_key_ids(each.key_ids, of.master_key_id)
    }
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
