"""The head: the one key that each change compares and replaces; see docs/cluster.md.

It numbers the changes, says which batch it came with, and authenticates all lines
at once by their sum.  The sum is sealed: who saw it would learn each line's value
from two heads, and could look for other lines of the same sum.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable

import attrs

from kdc.protocol.crypto import AESGCM, InvalidTag
from kdc.store.sealed.masterkey import mac_key

__all__ = [
    "BATCH_BYTES",
    "BadHead",
    "Closed",
    "Head",
    "HeadKeys",
    "closed",
    "generation_of_head",
    "key_id_of_head",
]

BATCH_BYTES = 16
_NONCE_BYTES = 12
_SUM_BYTES = 32
_MODULUS = 1 << 8 * _SUM_BYTES
_NUMBER = rb"(0|[1-9][0-9]{0,18})"
_HEAD_TEXT = (
    rb"(kdc-head:1:([0-9a-f]{16}):([0-9a-f]{16}):"
    + _NUMBER
    + rb":"
    + _NUMBER
    + rb":"
    + _NUMBER
    + rb":([0-9a-f]{32}):)([A-Za-z0-9+/]{80}):"
)
_HEAD = re.compile(_HEAD_TEXT)
# While the store is being moved no node may decide anything.  What the head was before stays
# there: the lines can be checked against it, and nothing older is loaded over them.
_CLOSED = re.compile(
    rb"kdc-(loading|closed):1:([0-9a-f]{16}):([0-9a-f]{16}):((?:%s)?)" % _HEAD_TEXT
)


class BadHead(ValueError):
    """It is not what a KDC of this store wrote."""


@attrs.frozen
class Closed:
    """What stands in the place of a head while the store is moved: ``loading`` or ``closed``.

    ``before``: the last head, sealed as it was, if there was one.
    """

    state: str
    store_id: str
    key_id: str
    before: bytes = attrs.field(default=b"", repr=False)

    def text(self) -> bytes:
        return f"kdc-{self.state}:1:{self.store_id}:{self.key_id}:".encode() + self.before


def closed(value: bytes) -> Closed | None:
    """Return what this says if it is no head but stands in the place of one."""
    match = _CLOSED.fullmatch(value)
    if match is None:
        return None
    return Closed(match[1].decode(), match[2].decode(), match[3].decode(), match[4])


def key_id_of_head(value: bytes) -> tuple[str, str]:
    """Return the store's identity and the master key's name; raises `BadHead`."""
    match = _HEAD.fullmatch(value)
    if match is None:
        raise BadHead("the head is not one that this version wrote")
    return match[2].decode(), match[3].decode()


def generation_of_head(value: bytes) -> int:
    """Return which generation a head says that it is; raises `BadHead`."""
    match = _HEAD.fullmatch(value)
    if match is None:
        raise BadHead("the head is not one that this version wrote")
    return int(match[5])


@attrs.frozen
class Head:
    """``after``: the generation before this batch; ``generation``: the one after it."""

    store_id: str
    key_id: str
    after: int
    generation: int
    count: int
    batch: bytes = attrs.field(repr=False)

    def text(self) -> bytes:
        return (
            f"kdc-head:1:{self.store_id}:{self.key_id}:{self.after}:{self.generation}"
            f":{self.count}:{self.batch.hex()}:"
        ).encode()


class HeadKeys:
    """Seals and opens the heads of one store under one master key, and sums its lines."""

    def __init__(self, master: bytes, store_id: str) -> None:
        self._aead = AESGCM(mac_key(master, store_id, "head"))
        self._sum_key = mac_key(master, store_id, "sum")

    def value(self, line: bytes) -> int:
        """What one line adds to the sum."""
        digest = hashlib.blake2b(line, key=self._sum_key, digest_size=_SUM_BYTES).digest()
        return int.from_bytes(digest, "big")

    def total(self, lines: Iterable[bytes]) -> int:
        return sum(map(self.value, lines)) % _MODULUS

    def moved(self, total: int, gone: Iterable[bytes], come: Iterable[bytes]) -> int:
        """Return the sum when some lines have gone and others have come."""
        return (total + self.total(come) - self.total(gone)) % _MODULUS

    def seal(self, head: Head, total: int, random: Callable[[int], bytes]) -> bytes:
        text, nonce = head.text(), random(_NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, total.to_bytes(_SUM_BYTES, "big"), text)
        return text + base64.b64encode(nonce + sealed) + b":"

    def open(self, value: bytes) -> tuple[Head, int]:
        """Return the head and its sum; raises `BadHead`."""
        match = _HEAD.fullmatch(value)
        if match is None:
            raise BadHead("the head is not one that this version wrote")
        sealed = base64.b64decode(match[8])
        try:
            total = self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], match[1])
        except InvalidTag:
            raise BadHead("the head is not authentic") from None
        after, generation, count = int(match[4]), int(match[5]), int(match[6])
        head = Head(
            match[2].decode(),
            match[3].decode(),
            after,
            generation,
            count,
            bytes.fromhex(match[7].decode()),
        )
        return head, int.from_bytes(total, "big")
