"""What is asked of etcd and what it answers, as its JSON gateway has them.  Pure.

Everything that came from etcd is hostile: it is bounded where it was read, and here
it is what is expected or `BadAnswer`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import attrs

__all__ = [
    "Answer",
    "BadAnswer",
    "Keys",
    "Page",
    "Revision",
    "Watched",
    "forget",
    "head_of",
    "kept_of",
    "lease_of",
    "number",
    "page_of",
    "read_head",
    "read_page",
    "transaction",
    "transaction_answer",
    "watch_request",
    "watched",
]

Answer: TypeAlias = Mapping[str, Any]
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_VALUE = 4096


class BadAnswer(Exception):
    """etcd said something that it does not say."""


@attrs.frozen
class Keys:
    """Where a realm's keys are: the head, and the lines behind it, in one range."""

    realm: str

    @property
    def head(self) -> bytes:
        return f"/kdc/{self.realm}/head".encode()

    @property
    def lines(self) -> bytes:
        return f"/kdc/{self.realm}/p/".encode()

    @property
    def end(self) -> bytes:
        """The first key that is none of these."""
        return f"/kdc/{self.realm}/p0".encode()

    def line(self, name: bytes) -> bytes:
        return self.lines + name

    def name(self, key: bytes) -> bytes:
        """Return whose line is under ``key``; raises `BadAnswer`."""
        if not key.startswith(self.lines):
            raise BadAnswer(f"there is a key that is no principal's: {key[:100]!r}")
        return key[len(self.lines) :]


@attrs.frozen
class Page:
    """Some keys in their order, all as they were at ``revision``."""

    revision: int
    # Key, value, the revision that wrote it.
    pairs: list[tuple[bytes, bytes, int]] = attrs.field(repr=False)
    more: bool


@attrs.frozen
class Revision:
    """What one revision changed in the watched range; None for a key that was deleted."""

    number: int
    changes: dict[bytes, bytes | None] = attrs.field(repr=False)


@attrs.frozen
class Watched:
    """One message of a watch; ``ended``: why it brings no more."""

    revisions: list[Revision]
    ended: str = ""


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _bytes(answer: Answer, field: str, cut: int | None = None) -> bytes:
    """Return what is in ``field``: as far as ``cut`` if it is longer, otherwise it is refused."""
    try:
        value = base64.b64decode(answer.get(field, ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise BadAnswer(f"{field} is not base64") from None
    if cut is None and len(value) > _MAX_VALUE:
        raise BadAnswer(f"{field} is too long")
    return value[:cut]


def number(answer: Answer, field: str) -> int:
    """Return a number, which the gateway writes as text and leaves out if it is 0."""
    value = answer.get(field, "0")
    if not isinstance(value, str) or _NUMBER.fullmatch(value) is None:
        raise BadAnswer(f"{field} is not a number")
    return int(value)


def _object(answer: Answer, field: str) -> Answer:
    value = answer.get(field, {})
    if not isinstance(value, dict):
        raise BadAnswer(f"{field} is not an object")
    return value


def _list(answer: Answer, field: str) -> list[Answer]:
    value = answer.get(field, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BadAnswer(f"{field} is not a list of objects")
    return value


def read_head(keys: Keys) -> Answer:
    """Ask for the head, as whatever most members have agreed on by now."""
    return {"key": _text(keys.head), "keys_only": True}


def head_of(answer: Answer) -> int:
    """Return the revision that wrote the head; 0 if there is none."""
    pairs = _list(answer, "kvs")
    return number(pairs[0], "mod_revision") if pairs else 0


def read_page(start: bytes, keys: Keys, limit: int, revision: int) -> Answer:
    """Ask for ``limit`` keys from ``start`` on, as they were at ``revision``; 0: as they are."""
    asked = {"key": _text(start), "range_end": _text(keys.end), "limit": str(limit)}
    return {**asked, "revision": str(revision)} if revision else asked


def page_of(answer: Answer, cut: int | None = None) -> Page:
    """With ``cut`` keys and values that are too long are taken as far as that."""
    pairs = [
        (_bytes(pair, "key", cut), _bytes(pair, "value", cut), number(pair, "mod_revision"))
        for pair in _list(answer, "kvs")
    ]
    return Page(
        number(_object(answer, "header"), "revision"), pairs, answer.get("more", False) is True
    )


def transaction(
    keys: Keys,
    head_revision: int,
    changes: Iterable[tuple[bytes, bytes | None]],
    head: bytes | None,
) -> Answer:
    """Put and delete keys, and the head last, if the head is still that of ``head_revision``.

    None leaves it as it is: only while the store is being loaded.
    """
    operations: list[Answer] = [
        {"request_delete_range": {"key": _text(key)}}
        if value is None
        else {"request_put": {"key": _text(key), "value": _text(value)}}
        for key, value in changes
    ]
    if head is not None:
        operations.append({"request_put": {"key": _text(keys.head), "value": _text(head)}})
    return _if_unchanged(keys, head_revision, operations)


def forget(keys: Keys, head_revision: int) -> Answer:
    """Remove the head, if it is still that of ``head_revision``."""
    return _if_unchanged(keys, head_revision, [{"request_delete_range": {"key": _text(keys.head)}}])


def _if_unchanged(keys: Keys, head_revision: int, operations: list[Answer]) -> Answer:
    compared = {
        "key": _text(keys.head),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(head_revision),
    }
    failure = [{"request_range": read_head(keys)}]
    return {"compare": [compared], "success": operations, "failure": failure}


def transaction_answer(answer: Answer) -> tuple[bool, int]:
    """Return whether it was carried out, and the revision of the head: ours, or what is there."""
    if answer.get("succeeded", False) is True:
        return True, number(_object(answer, "header"), "revision")
    found = _list(answer, "responses")
    if len(found) > 1:
        raise BadAnswer("there are several answers to one question")
    return False, head_of(_object(found[0], "response_range")) if found else 0


def lease_of(answer: Answer) -> int:
    """Return the lease that was granted."""
    lease = number(answer, "ID")
    if not lease:
        raise BadAnswer("no lease was granted")
    return lease


def kept_of(answer: Answer) -> bool:
    """Whether a lease that was renewed was still there."""
    return number(_object(answer, "result"), "TTL") > 0


def watch_request(keys: Keys, start_revision: int) -> Answer:
    return {
        "create_request": {
            "key": _text(keys.head),
            "range_end": _text(keys.end),
            "start_revision": str(start_revision),
        }
    }


def watched(answer: Answer) -> Watched:
    """Read one message of a watch; the changes of a revision are together."""
    if "error" in answer or "result" not in answer:
        return Watched([], "etcd ended the watch")
    result = _object(answer, "result")
    if number(result, "compact_revision"):
        return Watched([], "what was missed has been compacted away")
    if result.get("canceled"):
        return Watched([], "etcd cancelled the watch")
    revisions: list[Revision] = []
    for event in _list(result, "events"):
        pair = _object(event, "kv")
        at = number(pair, "mod_revision")
        if not revisions or revisions[-1].number != at:
            if revisions and at < revisions[-1].number:
                raise BadAnswer("revisions are out of order")
            revisions.append(Revision(at, {}))
        deleted = event.get("type", "PUT") == "DELETE"
        revisions[-1].changes[_bytes(pair, "key")] = None if deleted else _bytes(pair, "value")
    return Watched(revisions)
