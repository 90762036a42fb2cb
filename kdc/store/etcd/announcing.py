"""Tells the other KDCs of this one, under a lease that ends when it does; and reads of them.

These keys are outside the range that is watched: nothing that is in them changes a principal.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable

import attrs

from kdc.store import StoreUnavailable
from kdc.store.etcd.api import EtcdError, Link
from kdc.store.etcd.wire import Answer, BadAnswer, kept_of, lease_of, page_of
from kdc.store.nodes import (
    MAX_NODE_BYTES,
    MOST_NODES,
    Node,
    NodeFacts,
    SeenNode,
    UnreadableNode,
    read_node,
    written_node,
)

__all__ = ["Announcing", "NodeKeys"]

_LEASE_SECONDS = 30
_CALL_SECONDS = 2.0
_AGAIN_SECONDS = 1.0


@attrs.frozen
class NodeKeys:
    """Where the nodes of a realm are."""

    realm: str

    @property
    def first(self) -> bytes:
        return f"/kdc-nodes/{self.realm}/".encode()

    @property
    def end(self) -> bytes:
        return f"/kdc-nodes/{self.realm}0".encode()

    def key(self, node_id: str) -> bytes:
        return self.first + node_id.encode()


class Announcing:
    """See `kdc.store.nodes.Nodes`; any thread may call.  Without `announce` it only reads.

    ``own`` makes what is told of this node, as it is then.
    """

    def __init__(
        self,
        link: Link,
        realm: str,
        *,
        own: Callable[[NodeFacts], Node],
        own_id: str,
        bound_milliseconds: int,
        master_key_id: Callable[[], str],
        own_key_ids: Callable[[], tuple[str, ...]],
        new_master_key: Callable[[], str],
    ) -> None:
        self.own_id = own_id
        self.bound_milliseconds = bound_milliseconds
        self.seen: list[SeenNode] = []
        self.trouble = ""
        self._master_key_id = master_key_id
        self._own_key_ids = own_key_ids
        self._new_master_key = new_master_key
        self._link = link
        self._keys = NodeKeys(realm)
        self._own = own
        # A node that is cut off must be seen for as long as it may give keys.
        self._lease_seconds = max(_LEASE_SECONDS, 2 * bound_milliseconds // 1000)
        self._lease = 0
        self._asking = threading.Lock()
        self._facts: NodeFacts | None = None
        self._wanted = threading.Event()
        self._ended = False

    @property
    def master_key_id(self) -> str:
        return self._master_key_id()

    @property
    def own_key_ids(self) -> tuple[str, ...]:
        return self._own_key_ids()

    def new_master_key(self) -> str:
        key_id = self._new_master_key()
        self.tell()
        return key_id

    def tell(self) -> None:
        """Something of us is another now: the others are told at once."""
        self._wanted.set()

    def announce(self, facts: NodeFacts) -> None:
        """From now on, and at once, this is what others are told."""
        self._facts = facts
        self._wanted.set()

    def run(self) -> None:
        """Do it again and again, until `end`; for a thread of its own."""
        while not self._ended:
            seconds = self._lease_seconds / 3 if self.once() else _AGAIN_SECONDS
            self._wanted.wait(seconds)
            self._wanted.clear()
        self.withdraw()

    def end(self) -> None:
        self._ended = True
        self._wanted.set()

    def once(self) -> bool:
        """Renew the lease and what stands under it, and look who else is there.

        False if that failed, and is better tried again soon.
        """
        with self._asking:
            try:
                if self._facts is not None:
                    self._keep_lease()
                    self._put(self._own(self._facts))
                self.seen = self._read()
            except (EtcdError, BadAnswer) as error:
                self.trouble = str(error)
                return False
            self.trouble = ""
            return True

    def read(self) -> list[SeenNode]:
        with self._asking:
            try:
                self.seen = self._read()
            except (EtcdError, BadAnswer) as error:
                raise StoreUnavailable(
                    f"etcd does not tell which nodes there are: {error}",
                    hint="see whether most of its members run, and whether we may read /kdc-nodes/",
                ) from None
            return self.seen

    def withdraw(self) -> None:
        """Be there no more, as far as one try goes; the lease ends by itself otherwise."""
        with self._asking:
            lease, self._lease = self._lease, 0
            if lease:
                try:
                    self._post("/v3/lease/revoke", {"ID": str(lease)})
                except EtcdError as error:
                    self.trouble = str(error)

    def close(self) -> None:
        self._link.close()

    def _keep_lease(self) -> None:
        if self._lease and not kept_of(self._post("/v3/lease/keepalive", {"ID": str(self._lease)})):
            self._lease = 0
        if not self._lease:
            self._lease = lease_of(self._post("/v3/lease/grant", {"TTL": str(self._lease_seconds)}))

    def _put(self, own: Node) -> None:
        body = {
            "key": _text(self._keys.key(own.id)),
            "value": _text(written_node(own)),
            "lease": str(self._lease),
        }
        self._post("/v3/kv/put", body)

    def _read(self) -> list[SeenNode]:
        asked = {
            "key": _text(self._keys.first),
            "range_end": _text(self._keys.end),
            "limit": str(MOST_NODES),
        }
        page = page_of(self._post("/v3/kv/range", asked), cut=MAX_NODE_BYTES + 1)
        seen = [
            read_node(key.removeprefix(self._keys.first).decode("ascii", "replace"), value)
            for key, value, _ in page.pairs
        ]
        if page.more:
            seen.append(UnreadableNode("", f"there are more than {MOST_NODES}"))
        return seen

    def _post(self, path: str, body: Answer) -> Answer:
        return self._link.post(path, body, _CALL_SECONDS)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
