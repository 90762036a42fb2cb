"""Who is there, as a KDC's directory answers it: lines of JSON, docs/protocol.md section 6.5.

    {"name":"bob","receiving":true,"address":"192.0.2.7","port":60000}
    {"name":"carol","receiving":false,"address":"","port":0}
    {"more":false}

There is one way only to write an answer, and whatever is written otherwise is
refused.  Pure: no I/O.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import attrs

from kdc.errors import malformed
from kdc.protocol.codec import ADDRESS
from kdc.protocol.names import check_name

__all__ = [
    "DIRECTORY",
    "MAX_ANSWER",
    "MAX_PRESENCES",
    "SERVICE",
    "DirectoryAnswer",
    "Presence",
    "decode_answer",
    "end_line",
    "lines_of",
    "wait_line",
]

SERVICE = "kdc.who"
# The name of the directory, unless it was given another.
DIRECTORY = "directory"
MAX_PRESENCES = 100_000
MAX_ANSWER = 1 << 24
_MAX_WAIT_SECONDS = 3600


@attrs.frozen
class Presence:
    """A principal that is registered, and where it receives, if it does.

    The address is empty if the KDC knows none that means anything elsewhere.
    """

    name: str
    receiving: bool = False
    address: str = ""
    port: int = 0


@attrs.frozen
class DirectoryAnswer:
    """``more``: there are others besides; ``wait_seconds``: ask again then, this is no answer."""

    presences: tuple[Presence, ...] = ()
    more: bool = False
    wait_seconds: int = 0


def lines_of(presences: Iterable[Presence]) -> bytes:
    """Return some lines of an answer; all of them come in the order of their names."""
    return b"".join(_line(attrs.asdict(presence)) for presence in presences)


def end_line(*, more: bool = False) -> bytes:
    """The last line of an answer."""
    return _line({"more": more})


def wait_line(seconds: int) -> bytes:
    """The only line for who asks too often."""
    return _line({"wait": max(1, min(seconds, _MAX_WAIT_SECONDS))})


def decode_answer(
    text: bytes, most: int = MAX_PRESENCES, limit: int = MAX_ANSWER
) -> DirectoryAnswer:
    """Take ``limit`` bytes at most, which name ``most``; raises `RemoteProtocolError`."""
    try:
        if len(text) > limit or text.count(b"\n") > most + 1:
            raise ValueError("it is too long")
        *lines, last, rest = text.decode("ascii").split("\n")
        presences = tuple(_presence(json.loads(line)) for line in lines)
        answer = _ended(presences, json.loads(last))
        again = lines_of(presences) + (
            wait_line(answer.wait_seconds) if answer.wait_seconds else end_line(more=answer.more)
        )
        if rest or again != text:
            raise ValueError("it is not in its one form")
    except (ValueError, TypeError, RecursionError) as error:
        raise malformed(f"the directory's answer: {str(error)[:200]!r}") from None
    names = [presence.name for presence in presences]
    if any(one >= other for one, other in itertools.pairwise(names)):
        raise malformed("the directory's answer: its names are not in order")
    return answer


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _presence(fields: Any) -> Presence:
    presence = Presence(**fields)
    kinds = [type(value) for value in attrs.astuple(presence)]
    if kinds != [str, bool, str, int]:
        raise ValueError("a line with a value of another kind")
    check_name(presence.name)
    if not presence.receiving and (presence.address or presence.port):
        raise ValueError("the address of somebody who does not receive")
    if not 0 <= presence.port <= 0xFFFF:
        raise ValueError("not a port")
    ADDRESS.check(presence.address)
    return presence


def _ended(presences: tuple[Presence, ...], fields: Any) -> DirectoryAnswer:
    if not isinstance(fields, dict):
        raise ValueError("it has no end")
    if fields.keys() == {"more"} and type(fields["more"]) is bool:
        return DirectoryAnswer(presences, fields["more"])
    if fields.keys() == {"wait"} and type(fields["wait"]) is int and not presences:
        return DirectoryAnswer(wait_seconds=fields["wait"])
    raise ValueError("it has no end")
