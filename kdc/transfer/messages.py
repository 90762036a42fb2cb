"""What is said in a transfer: what a sender offers and sends, and what a receiver answers.

Each message is a JSON object behind its length, docs/protocol.md section 6.4:

    u16 length | JSON object

The peer chooses all of it, so whatever is not exactly what it should be is
refused.  Pure: no I/O.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import attrs

from kdc.errors import malformed
from kdc.hostile_text import harmless
from kdc.protocol.records import AckStatus
from kdc.transfer.names import OBEYED, safe_name, safe_path

__all__ = [
    "MAX_HELD_BYTES",
    "MAX_ITEMS",
    "MAX_MESSAGE",
    "MAX_NAMES",
    "MAX_TEXT",
    "SERVICE",
    "Accept",
    "Answer",
    "Held",
    "Item",
    "Kind",
    "Offer",
    "Omitted",
    "Refuse",
    "Remark",
    "Why",
    "decode_answer",
    "decode_item",
    "decode_offer",
    "remark_of",
]

SERVICE = "kdc.send"
MAX_MESSAGE = 16_384
MAX_NAMES = 16
MAX_ITEMS = 1_000_000
MAX_TEXT = 1 << 20
MAX_HELD_BYTES = 8 << 20  # of messages about what is there already
_MAX_SIZE = 1 << 62
_MAX_REASON = 200
_DIGEST = re.compile("[0-9a-f]{64}")
_REMARK = "kdc.send "
_NOTHING = hashlib.sha256().hexdigest()
T = TypeVar("T")


class Kind(enum.Enum):
    FILE = "file"
    DIRECTORY = "directory"
    TEXT = "text"


class Why(enum.Enum):
    """Why something that was offered does not come."""

    CHANGED = "changed"  # each time it was read
    GONE = "gone"
    UNREADABLE = "unreadable"


# Made once: there may be a message for each of very many files.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _message(fields: dict[str, Any]) -> bytes:
    text = _ENCODER.encode(fields).encode()
    return len(text).to_bytes(2, "big") + text


@attrs.frozen
class Item:
    """One thing that is sent.  ``name`` is a relative path below its top-level name.

    ``size`` in bytes, None if it is not known: then it goes on to the end of the
    stream.  ``start``: so many bytes the receiver has already, and the rest follows.
    The last three only for a receiver that understands them: ``mode`` are the
    permission bits, ``modified`` is in nanoseconds since 1970, and what is ``sparse``
    had holes where there are zeros.
    """

    kind: Kind
    name: str
    size: int | None = None
    executable: bool = False
    start: int = 0
    mode: int | None = None
    modified: int | None = None
    sparse: bool = False
    parts: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "parts", safe_path(self.name))
        if self.kind is Kind.DIRECTORY and (self.size != 0 or self.executable):
            raise ValueError("a directory has no bytes of its own")
        if self.kind is Kind.TEXT and not (
            len(self.parts) == 1 and self.size is not None and self.size <= MAX_TEXT
        ):
            raise ValueError(f"a text has a known size of at most {MAX_TEXT} bytes")
        if not 0 <= self.start <= (self.size or 0):
            raise ValueError("it begins behind its end")
        if self.mode is not None and not 0 <= self.mode <= 0o777:
            raise ValueError("more of a mode than permissions")
        if self.kind is Kind.TEXT and self.details:
            raise ValueError("a text is no file that could have them")
        if self.sparse and self.kind is not Kind.FILE:
            raise ValueError("only files have holes")

    @property
    def details(self) -> dict[str, Any]:
        """What not every receiver understands, and is only said if it is so."""
        all_of_them = {"mode": self.mode, "modified": self.modified, "sparse": self.sparse or None}
        return {name: value for name, value in all_of_them.items() if value is not None}

    def encode(self) -> bytes:
        return _message(
            {
                "kind": self.kind.value,
                "name": self.name,
                "size": self.size,
                "executable": self.executable,
                "from": self.start,
                **self.details,
            }
        )


@attrs.frozen
class Omitted:
    """Something that was offered does not come; or the file that has just come was none.

    ``again``: that file is nothing, and comes again.
    """

    name: str = attrs.field(validator=lambda _, __, value: safe_path(value))
    why: Why
    again: bool = False

    def encode(self) -> bytes:
        return _message(
            {"kind": "omitted", "name": self.name, "why": self.why.value, "again": self.again}
        )


@attrs.frozen
class Offer:
    """What a sender is about to send.  No more than that may follow.

    ``names``: the first of the top-level names, in their order, and ``more`` how
    many there are besides.  ``items`` and ``size`` (bytes of content) are None if
    they are not known.  ``text``: it is one text.
    """

    names: tuple[str, ...]
    more: int = 0
    items: int | None = None
    size: int | None = None
    text: bool = False

    def __attrs_post_init__(self) -> None:
        names = tuple(map(safe_name, self.names))
        if not 1 <= len(names) <= MAX_NAMES or len(set(names)) != len(names):
            raise ValueError(f"an offer has 1 to {MAX_NAMES} different names")
        if self.more and len(names) < MAX_NAMES:
            raise ValueError("more names than are named")
        if self.text and (self.total != 1 or self.size is None or self.size > MAX_TEXT):
            raise ValueError(f"a text stands alone and has at most {MAX_TEXT} bytes")

    @property
    def total(self) -> int:
        """How many top-level names there are."""
        return len(self.names) + self.more

    def encode(self) -> bytes:
        return _message(
            {
                "names": list(self.names),
                "more": self.more,
                "items": self.items,
                "size": self.size,
                "text": self.text,
            }
        )


@attrs.frozen
class Held:
    """The receiver has the first ``size`` bytes of this, from a transfer that was cut."""

    name: str = attrs.field(validator=lambda _, __, value: safe_path(value))
    size: int
    sha256: str

    def encode(self) -> bytes:
        return _message(
            {"answer": "have", "name": self.name, "size": self.size, "sha256": self.sha256}
        )


@attrs.frozen
class Accept:
    """The receiver wants it."""

    def encode(self) -> bytes:
        return _message({"answer": "accept"})


@attrs.frozen
class Refuse:
    """The receiver does not want it, or cannot go on.  ``reason`` is for people, or empty."""

    status: AckStatus
    reason: str = ""

    def encode(self) -> bytes:
        reason = harmless(self.reason)[:_MAX_REASON]
        return _message({"answer": "refuse", "status": int(self.status), "reason": reason})


class Remark(enum.Enum):
    """What else a receiver says of itself before it accepts; a sender may pass it over.

    It is told as that nothing is held of a name that no sender needs: whoever does not
    know the word understands it so.
    """

    OMISSIONS = "omissions"  # it understands `Omitted`
    DETAILS = "details"  # and what an `Item` may have besides: mode, time, holes
    PASSES_ON = "passes on"  # what it gets goes to a program or a device, not onto a disk

    def encode(self) -> bytes:
        return Held(_REMARK + self.value, 0, _NOTHING).encode()


def remark_of(held: Held) -> str | None:
    """The word of a remark, None if it is none."""
    is_remark = held.name.startswith(_REMARK) and not held.size
    return held.name.removeprefix(_REMARK) if is_remark else None


Answer: TypeAlias = Held | Accept | Refuse


def decode_offer(text: bytes) -> Offer:
    """Raises `RemoteProtocolError`."""

    def build(fields: dict[str, Any]) -> Offer:
        _exactly(fields, "names", "more", "items", "size", "text")
        names = fields["names"]
        if not isinstance(names, list):
            raise ValueError("names is not a list")
        return Offer(
            tuple(_text(name) for name in names[: MAX_NAMES + 1]),
            _number(fields["more"]),
            _number_or_none(fields["items"]),
            _number_or_none(fields["size"]),
            _truth(fields["text"]),
        )

    return _decoded("offer", text, build)


def decode_item(text: bytes) -> Item | Omitted:
    """Raises `RemoteProtocolError`."""

    def build(fields: dict[str, Any]) -> Item | Omitted:
        if fields.get("kind") == "omitted":
            _exactly(fields, "kind", "name", "why", "again")
            why = Why(_text(fields["why"]))
            return Omitted(_text(fields["name"]), why, _truth(fields["again"]))
        details = {name: fields.pop(name) for name in _DETAILS if name in fields}
        _exactly(fields, "kind", "name", "size", "executable", "from")
        return Item(
            Kind(_text(fields["kind"])),
            _text(fields["name"]),
            _number_or_none(fields["size"]),
            _truth(fields["executable"]),
            _number(fields["from"]),
            **{name: _DETAILS[name](value) for name, value in details.items()},
        )

    return _decoded("item", text, build)


def decode_answer(text: bytes) -> Answer:
    """Raises `RemoteProtocolError`."""
    return _decoded("answer", text, _answer)


def _answer(fields: dict[str, Any]) -> Answer:
    what = _text(fields.get("answer"))
    if what == "accept":
        _exactly(fields, "answer")
        return Accept()
    if what == "have":
        _exactly(fields, "answer", "name", "size", "sha256")
        digest = _text(fields["sha256"])
        if not _DIGEST.fullmatch(digest):
            raise ValueError("sha256 is not a digest")
        return Held(_text(fields["name"]), _number(fields["size"]), digest)
    if what == "refuse":
        _exactly(fields, "answer", "status", "reason")
        status, reason = AckStatus(_number(fields["status"])), _text(fields["reason"])
        if status is AckStatus.STORED or len(reason) > _MAX_REASON or OBEYED.search(reason):
            raise ValueError("a refusal has a status and a short reason")
        return Refuse(status, reason)
    raise ValueError("there is no such answer")


def _decoded(what: str, text: bytes, build: Callable[[dict[str, Any]], T]) -> T:
    try:
        fields = _DECODER.decode(text.decode())
        if not isinstance(fields, dict):
            raise ValueError("it is not an object")
        return build(fields)
    except (ValueError, RecursionError) as error:
        raise malformed(f"{what}: {harmless(str(error)[:200])}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two members of one name could be read in two ways."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a member that stands there twice")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct)


def _exactly(fields: dict[str, Any], *names: str) -> None:
    if fields.keys() != set(names):
        raise ValueError(f"it must have {', '.join(names)}, and nothing else")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text where one should be")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_SIZE:
        raise ValueError("not a number of bytes or items")
    return value


def _time(value: Any) -> int:
    if type(value) is not int or not -_MAX_SIZE <= value <= _MAX_SIZE:
        raise ValueError("not a time")
    return value


def _true(value: Any) -> bool:
    if value is not True:
        raise ValueError("it is said only if it is so")
    return True


def _number_or_none(value: Any) -> int | None:
    return None if value is None else _number(value)


_DETAILS: dict[str, Callable[[Any], Any]] = {"mode": _number, "modified": _time, "sparse": _true}
