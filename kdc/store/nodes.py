"""What each of several KDCs that share a store tells the others of itself.  Pure.

It is for operators, and for whoever is about to change the master key: no decision of the
protocol rests on it.  What is read here is hostile, whoever wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import attrs

from kdc.protocol.names import check_name

__all__ = [
    "LONGEST_BOUND_MILLISECONDS",
    "MAX_NODE_BYTES",
    "MOST_ADDRESSES",
    "MOST_NODES",
    "Node",
    "NodeFacts",
    "Nodes",
    "SeenNode",
    "UnreadableNode",
    "newer_key_ids",
    "read_node",
    "slowest",
    "written_node",
]

MOST_NODES = 64  # so many are looked at; there are three, or five
MAX_NODE_BYTES = 4096
MOST_ADDRESSES = 16
LONGEST_BOUND_MILLISECONDS = 60_000
_MOST_KEYS = 8
_ID = re.compile(r"[0-9a-f]{16}")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")
_ADDRESS = re.compile(r"[0-9A-Za-z._:\[\]-]{1,270}")
_POLICY = re.compile(r"([0-9a-f]{16})?")
_MAX_NUMBER = 10**18 - 1


@attrs.frozen
class NodeFacts:
    """What a running KDC knows of itself and its store does not.

    ``name``: what operators call it.  ``addresses``: where clients reach it.  ``policy``: a
    hash of what it lets clients do.
    """

    name: str
    version: str
    addresses: tuple[str, ...] = ()
    policy: str = ""


@attrs.frozen
class Node:
    """One KDC that runs, or did when this was written.

    ``id``: another one at each start.  ``key_ids``: of the master keys that its key file has.
    ``age_milliseconds``: how long ago it was sure to lack nothing, when this was written;
    ``bound_milliseconds``: how long ago that may be, for it to give keys.  ``since_time``: when
    it was started, in Unix seconds.
    """

    id: str
    facts: NodeFacts
    key_ids: tuple[str, ...]
    generation: int
    age_milliseconds: int
    bound_milliseconds: int
    since_time: int

    @property
    def current(self) -> bool:
        """Whether it gave keys when this was written."""
        return self.age_milliseconds <= self.bound_milliseconds


@attrs.frozen
class UnreadableNode:
    """Something that is in the place of a node, and is none that this version knows."""

    id: str
    why: str


SeenNode: TypeAlias = Node | UnreadableNode


class Nodes(Protocol):
    """The KDCs that share a store, as they tell of themselves.

    ``own_id``: which of them we are.  ``bound_milliseconds``: after so long we give no key
    without making sure that we lack nothing.
    """

    own_id: str
    bound_milliseconds: int

    @property
    def seen(self) -> Sequence[SeenNode]:
        """Those that were there a moment ago, from memory."""

    @property
    def trouble(self) -> str:
        """Why others may not see us just now, or we them; or nothing."""

    @property
    def master_key_id(self) -> str:
        """What the key that the store is sealed under is called."""

    @property
    def own_key_ids(self) -> Sequence[str]:
        """Of the keys that our key file has now, in its order."""

    def new_master_key(self) -> str:
        """Put a newer key into our key file, unless it has one; return what it is called.

        It is for `kdc.store.Store.rotate_master_key`, once every node has that file.
        Blocks.  Raises `StoreUnavailable`.
        """

    def announce(self, facts: NodeFacts) -> None:
        """From now on, until the store is closed, tell the others this of ourselves."""

    def read(self) -> Sequence[SeenNode]:
        """Look who is there now, ourselves too.  Blocks.  Raises `StoreUnavailable`."""


def newer_key_ids(key_ids: Sequence[str], in_use: str) -> tuple[str, ...]:
    """Return those that a key file has before the one that is in use: a new one comes first.

    Behind it are those that were in use before; nothing is ever sealed under them again.
    """
    known = tuple(key_ids)
    return known[: known.index(in_use)] if in_use in known else known


def slowest(nodes: Sequence[SeenNode], own_milliseconds: int) -> int:
    """Return after how long a change counts at every node: the greatest of their bounds."""
    bounds = [node.bound_milliseconds for node in nodes if isinstance(node, Node)]
    return max(own_milliseconds, *bounds, 0)


def written_node(node: Node) -> bytes:
    values = attrs.asdict(node)
    del values["id"]  # it is the key
    return json.dumps({"format": 1, **values.pop("facts"), **values}).encode()


def read_node(node_id: str, text: bytes) -> SeenNode:
    """Read what stands under ``node_id``; fields that are not known here are passed over."""
    if _ID.fullmatch(node_id) is None:
        return UnreadableNode(node_id[:16], "its key is not a node's")
    try:
        if len(text) > MAX_NODE_BYTES:
            raise ValueError("it is too long")
        return _node(node_id, json.loads(text))
    except RecursionError:
        return UnreadableNode(node_id, "it is not JSON")
    except ValueError as error:
        json_error = isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
        return UnreadableNode(node_id, "it is not JSON" if json_error else str(error))


def _node(node_id: str, values: Any) -> Node:
    if not isinstance(values, dict):
        raise ValueError("it is not an object")
    if type(values.get("format")) is not int or values["format"] != 1:
        raise ValueError("it is of another version")
    facts = NodeFacts(
        check_name(_text(values, "name", re.compile(".{1,64}"))),
        _text(values, "version", _VERSION),
        _texts(values, "addresses", _ADDRESS, MOST_ADDRESSES),
        _text(values, "policy", _POLICY),
    )
    return Node(
        node_id,
        facts,
        _texts(values, "key_ids", _ID, _MOST_KEYS),
        _number(values, "generation", _MAX_NUMBER),
        _number(values, "age_milliseconds", _MAX_NUMBER),
        _number(values, "bound_milliseconds", LONGEST_BOUND_MILLISECONDS),
        _number(values, "since_time", _MAX_NUMBER),
    )


def _text(values: dict[str, Any], field: str, wanted: re.Pattern[str]) -> str:
    return _fitting(field, values.get(field), wanted.fullmatch)


def _texts(
    values: dict[str, Any], field: str, wanted: re.Pattern[str], most: int
) -> tuple[str, ...]:
    found = values.get(field)
    if not isinstance(found, list) or len(found) > most:
        raise ValueError(f"its {field} is no list of at most {most}")
    return tuple(_fitting(field, each, wanted.fullmatch) for each in found)


def _fitting(field: str, value: Any, fits: Callable[[str], Any]) -> str:
    if not isinstance(value, str) or not fits(value):
        raise ValueError(f"its {field} is not one")
    return value


def _number(values: dict[str, Any], field: str, most: int) -> int:
    value = values.get(field)
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"its {field} is no number up to {most}")
    return value
