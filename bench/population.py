"""Principals for the servers under measurement: names, keys, stores full of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

from kdc.protocol.crypto import Digest, LongTermKeys, long_term_keys
from kdc.store import Create, Record, Status
from kdc.store.flatfile._store import FlatFileStore

__all__ = ["ABLE", "REALM", "batches", "fill", "keys_of", "name_of", "sample"]

REALM = "LOCAL"
# So many of a store's principals can log in; the others fill it.
ABLE = 256
_BATCH = 1000


def name_of(number: int) -> str:
    return f"user{number:08d}"


def keys_of(number: int) -> LongTermKeys:
    digest = hashlib.sha256(f"bench {number}".encode()).digest()
    return long_term_keys(Digest(digest), REALM, name_of(number))


def sample(count: int, principals: int, seed: int = 1) -> list[int]:
    """``count`` of the numbers below ``principals``, spread over all of them, always the same."""
    dice = random.Random(seed)
    if principals <= count:
        return [number % principals for number in range(count)]
    return dice.sample(range(principals), count)


def able(principals: int) -> list[int]:
    """Who can log in, of a store of so many."""
    return sample(min(ABLE, principals), principals)


def _record(number: int, real: bool) -> Record:
    verify_key = reply_key = hashlib.sha256(number.to_bytes(8, "big")).digest()
    if real:
        keys = keys_of(number)
        verify_key, reply_key = keys.verify_key, keys.reply_key
    return Record(
        name_of(number), Status.ACTIVE, "10.4.5.11", 35678, verify_key, reply_key, changed_time=1
    )


def batches(principals: int, size: int, *, everybody: bool = False) -> Iterator[list[Create]]:
    """What registers so many, so many at a time; with ``everybody``, all of them can log in."""
    who = set(able(principals))
    for at in range(0, principals, size):
        yield [
            Create(_record(n, everybody or n in who), hashlib.md5(b"%d" % n).digest())  # noqa: S324 - a token, no secret
            for n in range(at, min(at + size, principals))
        ]


def fill(path: Path, principals: int, everybody: bool = False) -> None:
    """Make a store of ``principals``; with ``everybody``, all of them can log in."""
    store = FlatFileStore.open(path, realm=REALM)
    for batch in batches(principals, _BATCH, everybody=everybody):
        store.apply(batch)
    store.close()
