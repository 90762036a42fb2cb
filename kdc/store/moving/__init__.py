"""Moving a whole store: from its file into etcd, and back.

At no moment, and after no crash, can both be opened: what stands in the place of etcd's
head is refused by every node until the file has another name, and before the file
is written nothing is changed in etcd any more.  Cut short anywhere, the same again
completes it.  The lines stay byte for byte, so nothing of any principal is lost;
generations go on.
"""

from __future__ import annotations

from kdc.store.moving._back import from_etcd
from kdc.store.moving._sides import Move, Sides
from kdc.store.moving._there import to_etcd

__all__ = ["Move", "Sides", "from_etcd", "to_etcd"]
